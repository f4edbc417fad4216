"""Releasing what guards held: from an approved plan to one that executes just that, in the same words.

The release keeps the operations of the plan that was approved, ids, contents and waves, so that what was approved is
what runs. Each is held against the snapshot once more: one whose entity is no longer as the approved plan took it to be
is left out, for a newer batch has decided about it. What no approval releases (the guard ``protected``) stays held. And
with an entity or a relationship that stays, the deletes of what contains it, or stands at its end, are left out too.
What is left out, and could have been released, is superseded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.errors import PlanChanged
from penstock.identity import digest
from penstock.plan.document import PLAN_NAME, DerivedFrom, plan_prefix
from penstock.plan.files import PlanWriter
from penstock.plan.guards import NEVER_RELEASED
from penstock.plan.ledger import LedgerRow
from penstock.plan.operations import DIGEST, OPERATION_SCHEMA, Action, Verdict
from penstock.publish.state import PublishState
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.fitting import fits_snapshot, is_known
from penstock.use_cases.holding import ancestors
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan, plan_chunks

PURPOSE = "release"
_VERDICTS = ["operation_id", "verdict", "guard", "blocked_by"]
TypeKey = tuple[Kind, str]
Counted = Counter[tuple[TypeKey, str, str]]
"""Operations by type, verdict and action."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A plan that executes what was held."""

    plan: StoredPlan
    base: StoredPlan
    """The plan that was approved."""
    superseded: int
    """Operations that are left out, because the snapshot is no longer what they were planned against."""


def approved_plan(platform: Platform, state: PublishState) -> StoredPlan:
    """Return the batch's own plan, whichever follow-up was planned since; raises ``PlanChanged`` if it was edited."""
    assert state.execution_plan_path is not None
    last = open_plan(platform.objects, state.execution_plan_path, expected_digest=state.plan_digest)
    wanted = state.base_plan_digest or state.plan_digest
    if last.document.digest == wanted:
        return last
    origin = last.document.derived_from
    if origin is None or origin.plan_digest != wanted:
        raise PlanChanged(
            f"{last.path} does not follow from plan {wanted}, which is the one of batch {state.batch_id}: republish "
            "the batch to plan it again"
        )
    return open_plan(platform.objects, origin.path, expected_digest=wanted)


def plan_release(platform: Platform, state: PublishState) -> Release:
    """Plan what guards held of a batch's plan, and store that plan; without operations where nothing fits any more.

    The same plan, snapshot and ledger give the same bytes. Memory is by the chunk, 16 bytes a held operation, and the
    keys above those that do not fit.
    """
    base = approved_plan(platform, state)
    known = KnownRows.open(platform, state.source_id, state.target_id)
    inputs = _inputs(platform, base, known.view)
    prefix = plan_prefix(state.batch_id, state.target_id, inputs)
    writer = PlanWriter(
        lambda path, data: platform.objects.put(prefix + path, data),
        chunk_operations=platform.chunk_operations,
    )
    released: Counted = Counter()
    superseded: Counted = Counter()
    culprits = _culprits(platform, base)
    staying = _Staying(known.view)
    for chunk in plan_chunks(platform.objects, base):
        staying.note(chunk.filter(_chosen(chunk, culprits)), chunk.filter(_never(chunk)))
    for operations in _releasable(platform, base, culprits):
        stays = staying.judge(operations)
        _count(superseded, operations.filter(pa.array(stays)))
        going = operations.filter(pa.array(~stays))
        _count(released, going)
        writer.add(_planned(going))
    ledger = platform.control.get_ledger(state.batch_id, state.target_id)
    document = base.document.model_copy(
        update={
            "guards": (),
            "holds": (),
            "snapshot_version": known.view.version,
            "snapshot_digest": known.view.digest,
            "waves": writer.finish(),
            "ledger": _released_ledger(ledger, released, superseded),
            "derived_from": DerivedFrom(
                purpose=PURPOSE, plan_digest=base.document.digest, path=base.path
            ),
        }
    )
    platform.objects.put(prefix + PLAN_NAME, document.to_json())
    return Release(
        plan=StoredPlan(document=document, prefix=prefix),
        base=base,
        superseded=superseded.total(),
    )


def _inputs(platform: Platform, base: StoredPlan, view: SnapshotView) -> bytes:
    parts = (PURPOSE, base.document.digest, view.digest, str(view.version))
    size = str(platform.chunk_operations)
    return digest.digest(digest.TAG_PLAN, *(part.encode() for part in (*parts, size)))


@dataclass
class _Staying:
    """What is no longer as the approved plan took it to be, and what has to stay with it."""

    view: SnapshotView
    above: set[str] = field(default_factory=set)
    """Keys of entities that contain something that stays, or stand at its ends."""

    def note(self, releasable: pa.Table, never: pa.Table) -> None:
        """Note what stays in the target of what is releasable, and of what is not."""
        outdated = releasable.filter(pa.array(~fits_snapshot(self.view, releasable)))
        stays = pa.concat_tables([outdated, never])
        stays = stays.filter(pa.array(is_known(self.view, stays)))
        for row in stays.select(["kind", "key", "to_key"]).to_pylist():
            ends = (row["key"], row["to_key"])
            self.above.update(ancestors(row["key"]) if row["kind"] == Kind.ENTITY else ends)

    def judge(self, operations: pa.Table) -> npt.NDArray[np.bool_]:
        """Say of each operation whether it is left out."""
        deletes = pc.and_(
            pc.equal(operations["kind"], Kind.ENTITY.value),
            pc.equal(operations["action"], Action.DELETE.value),
        )
        held_up = [key in self.above for key in operations["key"].to_pylist()]
        stays: npt.NDArray[np.bool_] = np.array(held_up, bool)
        stays &= np.asarray(deletes.to_numpy(), bool)
        stays |= ~fits_snapshot(self.view, operations)
        return stays


def _releasable(platform: Platform, base: StoredPlan, culprits: pa.Array) -> Iterator[pa.Table]:
    """Yield the held operations that an approval releases, and those that they alone block, by the chunk."""
    for chunk in plan_chunks(platform.objects, base):
        chosen = chunk.filter(_chosen(chunk, culprits))
        if len(chosen):
            yield chosen


def _chosen(chunk: pa.Table, culprits: pa.Array) -> pa.ChunkedArray:
    blocked = pc.is_in(chunk["blocked_by"], value_set=culprits)
    return pc.fill_null(pc.or_(_held(chunk), blocked), False)


def _culprits(platform: Platform, base: StoredPlan) -> pa.Array:
    """Return the ids of the operations that are released, which may block others in any later chunk."""
    found = [
        chunk.filter(_held(chunk))["operation_id"]
        for chunk in plan_chunks(platform.objects, base, columns=_VERDICTS)
    ]
    pieces = [piece for column in found for piece in column.chunks]
    return pa.chunked_array(pieces, DIGEST).combine_chunks()


def _held(chunk: pa.Table) -> pa.ChunkedArray:
    held = pc.equal(chunk["verdict"], Verdict.HELD.value)
    return pc.and_(held, pc.invert(_never(chunk)))


def _never(chunk: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(chunk["guard"], value_set=pa.array(sorted(NEVER_RELEASED), pa.string()))


def _planned(operations: pa.Table) -> pa.Table:
    n = len(operations)
    plain = {
        "verdict": pa.repeat(pa.scalar(str(Verdict.PLANNED)), n),
        "reason": pa.nulls(n, pa.string()),
        "guard": pa.nulls(n, pa.string()),
        "blocked_by": pa.nulls(n, DIGEST),
    }
    columns = [plain.get(name, operations[name]) for name in OPERATION_SCHEMA.names]
    return pa.table(columns, schema=OPERATION_SCHEMA)


def _count(counted: Counted, operations: pa.Table) -> None:
    columns = ["kind", "type_name", "verdict", "action"]
    for group in operations.group_by(columns).aggregate([([], "count_all")]).to_pylist():
        key = (Kind(group["kind"]), group["type_name"])
        counted[key, group["verdict"], group["action"]] += group["count_all"]


_EFFECT = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted"}


def _released_ledger(
    ledger: Sequence[LedgerRow], released: Counted, superseded: Counted
) -> tuple[LedgerRow, ...]:
    """Return the batch's ledger as it will stand once what is released took effect."""
    moved: dict[TypeKey, Counter[str]] = {}
    for counted in (released, superseded):
        for (key, verdict, action), n in counted.items():
            counts = moved.setdefault(key, Counter())
            counts["held" if verdict == Verdict.HELD else "blocked"] -= n
            counts[_EFFECT[Action(action)] if counted is released else "superseded"] += n
    return tuple(
        row.model_copy(
            update={
                name: getattr(row, name) + n for name, n in moved[row.kind, row.type_name].items()
            }
        )
        if (row.kind, row.type_name) in moved
        else row
        for row in ledger
    )
