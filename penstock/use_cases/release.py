"""Releasing what guards held: from an approved plan to one that executes just that, in the same words.

The release keeps the operations of the plan that was approved, ids, contents and waves, so that what was approved is
what runs. Each is held against the snapshot once more: one whose entity is no longer as the approved plan took it to be
is left out, and stays held. What no approval releases (the guard ``protected``) stays held too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from penstock.use_cases.fitting import fits_snapshot
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan, plan_chunks

PURPOSE = "release"
_VERDICTS = ["operation_id", "verdict", "guard", "blocked_by"]
TypeKey = tuple[Kind, str]


@dataclass(frozen=True, kw_only=True)
class Release:
    """A plan that executes what was held."""

    plan: StoredPlan
    base: StoredPlan
    """The plan that was approved."""
    outdated: int
    """Held operations that are left out, because the snapshot is no longer what they were planned against."""


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

    The same plan, snapshot and ledger give the same bytes. Memory is by the chunk, and 16 bytes a held operation.
    """
    base = approved_plan(platform, state)
    known = KnownRows.open(platform, state.source_id, state.target_id)
    inputs = _inputs(platform, base, known.view)
    prefix = plan_prefix(state.batch_id, state.target_id, inputs)
    writer = PlanWriter(
        lambda path, data: platform.objects.put(prefix + path, data),
        chunk_operations=platform.chunk_operations,
    )
    released: Counter[tuple[TypeKey, str, str]] = Counter()
    outdated = 0
    for operations in _releasable(platform, base):
        fits = fits_snapshot(known.view, operations)
        outdated += int((~fits).sum())
        fitting = operations.filter(pa.array(fits))
        _count(released, fitting)
        writer.add(_planned(fitting))
    ledger = platform.control.get_ledger(state.batch_id, state.target_id)
    document = base.document.model_copy(
        update={
            "guards": (),
            "holds": (),
            "snapshot_version": known.view.version,
            "snapshot_digest": known.view.digest,
            "waves": writer.finish(),
            "ledger": _released_ledger(ledger, released),
            "derived_from": DerivedFrom(
                purpose=PURPOSE, plan_digest=base.document.digest, path=base.path
            ),
        }
    )
    platform.objects.put(prefix + PLAN_NAME, document.to_json())
    return Release(
        plan=StoredPlan(document=document, prefix=prefix),
        base=base,
        outdated=outdated,
    )


def _inputs(platform: Platform, base: StoredPlan, view: SnapshotView) -> bytes:
    parts = (PURPOSE, base.document.digest, view.digest, str(view.version))
    size = str(platform.chunk_operations)
    return digest.digest(digest.TAG_PLAN, *(part.encode() for part in (*parts, size)))


def _releasable(platform: Platform, base: StoredPlan) -> Iterator[pa.Table]:
    """Yield the held operations that an approval releases, and those that they alone block, by the chunk."""
    culprits = _culprits(platform, base)
    for chunk in plan_chunks(platform.objects, base):
        mask = pc.or_(_held(chunk), pc.is_in(chunk["blocked_by"], value_set=culprits))
        chosen = chunk.filter(pc.fill_null(mask, False))
        if len(chosen):
            yield chosen


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
    never = pc.is_in(chunk["guard"], value_set=pa.array(sorted(NEVER_RELEASED), pa.string()))
    return pc.and_(held, pc.invert(never))


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


def _count(released: Counter[tuple[TypeKey, str, str]], operations: pa.Table) -> None:
    columns = ["kind", "type_name", "verdict", "action"]
    for group in operations.group_by(columns).aggregate([([], "count_all")]).to_pylist():
        key = (Kind(group["kind"]), group["type_name"])
        released[key, group["verdict"], group["action"]] += group["count_all"]


_EFFECT = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted"}


def _released_ledger(
    ledger: Sequence[LedgerRow], released: Counter[tuple[TypeKey, str, str]]
) -> tuple[LedgerRow, ...]:
    """Return the batch's ledger as it will stand once what is released took effect."""
    moved: dict[TypeKey, Counter[str]] = {}
    for (key, verdict, action), n in released.items():
        counts = moved.setdefault(key, Counter())
        counts["held" if verdict == Verdict.HELD else "blocked"] -= n
        counts[_EFFECT[Action(action)]] += n
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
