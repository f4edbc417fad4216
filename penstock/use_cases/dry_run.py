"""Planning without executing, and comparing what two plans do. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.errors import PenstockError
from penstock.identity.ids import BatchId, TargetId
from penstock.ports.object_store import ObjectStore
from penstock.publish.state import PublishState
from penstock.use_cases.merges import Foresight
from penstock.use_cases.nothing_written import NothingWritten
from penstock.use_cases.plan_batch import StoredPlan, plan_batch
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import (
    COUNTED,
    OPERATION_COLUMNS,
    OperationCount,
    PlannedOperation,
    PlanOverview,
    planned_operation,
    state_of,
)
from penstock.use_cases.stored_plans import open_plan, plan_chunks

NOT_STORED = "not stored: a dry run"


def dry_run(
    platform: Platform, batch: BatchId, *, target: TargetId | None = None, operations: int = 20
) -> PlanOverview:
    """Plan an admitted batch against what its target is known to hold now, deletes included, and store nothing.

    Where people own fields, the target is read to tell what would be merged. Memory is by the chunk. Raises
    ``NotFound`` for a batch that was never admitted, and what planning raises.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    first: dict[str, list[PlannedOperation]] = {}
    state = state_of(platform, batch, target)
    foresight = Foresight(platform, state.source_id, state.target_id)

    def seen(path: str, chunk: pa.Table) -> None:
        for row in chunk.group_by(COUNTED).aggregate([([], "count_all")]).to_pylist():
            counts[tuple(row[name] for name in COUNTED)] += row["count_all"]
        kept = first.setdefault(path, [])
        rows = chunk.select(OPERATION_COLUMNS).slice(0, operations - len(kept)).to_pylist()
        kept += [planned_operation(row) for row in rows]
        _trim(first, operations)
        foresight.look(chunk)

    plan = _watched(platform, state, seen)
    return PlanOverview(
        document=plan.document,
        path=NOT_STORED,
        digest=plan.document.digest,
        counts=tuple(
            OperationCount(**dict(zip(COUNTED, key, strict=True)), operations=n)
            for key, n in sorted(counts.items())
        ),
        operations=tuple(each for path in sorted(first) for each in first[path]),
        merges=foresight.overview(limit=operations),
    )


def _trim(first: dict[str, list[PlannedOperation]], most: int) -> None:
    """Keep the first operations in the order of execution, which is that of the files' names."""
    for path in sorted(first):
        first[path] = first[path][:most]
        most -= len(first[path])


class _Watched(NothingWritten):
    """Shows the operations of each file that is put, and forgets it."""

    def __init__(self, objects: ObjectStore, seen: Callable[[str, pa.Table], None]) -> None:
        super().__init__(objects)
        self._seen = seen

    def put(self, key: str, data: bytes) -> None:
        """Show the chunks of a file of operations."""
        if not key.endswith(".parquet"):
            return
        file = pq.ParquetFile(pa.BufferReader(data))
        for group in range(file.num_row_groups):
            self._seen(key, file.read_row_group(group))


def _watched(
    platform: Platform, state: PublishState, seen: Callable[[str, pa.Table], None]
) -> StoredPlan:
    manifest = platform.control.get_batch(state.batch_id).manifest
    watched = replace(platform, objects=_Watched(platform.objects, seen))
    return plan_batch(watched, manifest, state.target_id)


# Comparing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ComparedPlan:
    """One of two plans that are compared."""

    batch_id: BatchId
    target_id: TargetId
    digest: str
    stored: bool
    """False where it was planned for the comparison, against what the target is known to hold now."""
    operations: int


@dataclass(frozen=True, kw_only=True)
class ComparedType:
    """How many operations on one type are in one plan, in both, or differ."""

    kind: str
    type_name: str
    only_first: int
    only_second: int
    differ: int
    same: int


@dataclass(frozen=True, kw_only=True)
class PlanDifference:
    """One entity or relationship that two plans do not treat alike."""

    kind: str
    type_name: str
    key: str
    to_key: str | None
    first: str | None
    """Action and verdict; None where the plan leaves it as it is."""
    second: str | None


@dataclass(frozen=True, kw_only=True)
class PlanComparison:
    """What two plans do, held against each other by entity and relationship."""

    first: ComparedPlan
    second: ComparedPlan
    types: tuple[ComparedType, ...]
    differences: tuple[PlanDifference, ...]
    """The first of them, by kind, type and key."""


_KEY = ["kind", "type_name", "key", "to_key"]
_SAID = ["action", "verdict", "after_digest"]


def compare_plans(
    platform: Platform,
    first: BatchId,
    second: BatchId,
    *,
    target: TargetId | None = None,
    differences: int = 20,
) -> PlanComparison:
    """Compare the plans of two batches; one that has none yet is planned for it, and nothing is stored.

    They are alike where they bring about the same content by the same action, with the same verdict. Memory is some
    hundred bytes for each operation of both plans.
    """
    sides = [_side(platform, state_of(platform, batch, target)) for batch in (first, second)]
    if sides[0][0].target_id != sides[1][0].target_id:
        raise PenstockError(
            f"batch {first!r} goes to {sides[0][0].target_id} and {second!r} to {sides[1][0].target_id}: name one "
            "target that both go to"
        )
    joined = sides[0][1].join(
        sides[1][1], _KEY, join_type="full outer", left_suffix="_1", right_suffix="_2"
    )
    joined = joined.append_column("how", _how(joined)).sort_by(
        [(name, "ascending") for name in _KEY]
    )
    differing = joined.filter(pc.not_equal(joined["how"], "same"))
    return PlanComparison(
        first=sides[0][0],
        second=sides[1][0],
        types=tuple(_types(joined)),
        differences=tuple(_difference(row) for row in differing.slice(0, differences).to_pylist()),
    )


def _side(platform: Platform, state: PublishState) -> tuple[ComparedPlan, pa.Table]:
    chunks: list[pa.Table] = []
    stored = state.execution_plan_path is not None
    if state.execution_plan_path is not None:
        path, digest = state.execution_plan_path, state.plan_digest
        plan = open_plan(platform.objects, path, expected_digest=digest)
        chunks += plan_chunks(platform.objects, plan, columns=[*_KEY, *_SAID])
    else:
        plan = _watched(
            platform, state, lambda _path, chunk: chunks.append(chunk.select([*_KEY, *_SAID]))
        )
    compared = ComparedPlan(
        batch_id=state.batch_id,
        target_id=state.target_id,
        digest=plan.document.digest,
        stored=stored,
        operations=plan.document.operations,
    )
    return compared, _joinable(chunks)


def _joinable(chunks: list[pa.Table]) -> pa.Table:
    """Return operations with columns that a join takes: a key that is null equals nothing."""
    schema = pa.schema([(name, pa.string()) for name in (*_KEY, "action", "verdict")])
    schema = schema.append(pa.field("after_digest", pa.binary()))
    tables = [
        pa.table(
            {
                name: pc.fill_null(
                    pc.cast(chunk[name], kind), pa.scalar("" if kind == pa.string() else b"", kind)
                )
                for name, kind in zip(schema.names, schema.types, strict=True)
            }
        )
        for chunk in chunks
    ]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _how(joined: pa.Table) -> pa.ChunkedArray:
    equal = [pc.equal(joined[f"{name}_1"], joined[f"{name}_2"]) for name in _SAID]
    same = pc.and_(pc.and_(equal[0], equal[1]), equal[2])
    return pc.case_when(
        pc.make_struct(pc.is_null(joined["action_2"]), pc.is_null(joined["action_1"]), same),
        "only_first",
        "only_second",
        "same",
        "differ",
    )


def _types(joined: pa.Table) -> Iterator[ComparedType]:
    counted: dict[tuple[str, str], Counter[str]] = {}
    groups = joined.group_by(["kind", "type_name", "how"]).aggregate([([], "count_all")])
    for row in groups.to_pylist():
        of_type = counted.setdefault((row["kind"], row["type_name"]), Counter())
        of_type[row["how"]] += row["count_all"]
    for (kind, type_name), how in sorted(counted.items()):
        yield ComparedType(
            kind=kind,
            type_name=type_name,
            **{name: how[name] for name in ("only_first", "only_second", "differ", "same")},
        )


def _difference(row: dict[str, str | None]) -> PlanDifference:
    def said(side: str) -> str | None:
        return (
            None
            if row[f"action_{side}"] is None
            else f"{row[f'action_{side}']}, {row[f'verdict_{side}']}"
        )

    return PlanDifference(
        kind=str(row["kind"]),
        type_name=str(row["type_name"]),
        key=str(row["key"]),
        to_key=row["to_key"] or None,
        first=said("1"),
        second=said("2"),
    )
