"""Rolling back: the inverse of what a batch really did at a target, as a correction that is planned like any batch.

What the batch created goes, what it changed or deleted comes back as it was, from the before-images in its plans. An
entity that is no longer as the batch left it is a conflict: it is listed, and left alone unless it is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.manifest import Correction, Manifest
from penstock.batch.rows import SCHEMAS, Kind
from penstock.errors import IllegalMove, NothingToDo, ObjectMissing
from penstock.identity.digest import DIGEST_BYTES
from penstock.identity.ids import BatchId, TargetId
from penstock.plan.operations import Action, Verdict
from penstock.ports.control import PlanExecution
from penstock.publish.state import FOLLOW_UPS, Intent, PublishState, PublishStatus
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.acts import By
from penstock.use_cases.batch_writer import KindRows
from penstock.use_cases.corrections import check_free, land_correction
from penstock.use_cases.fitting import fits_snapshot
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan, plan_chunks

MOST_LISTED = 1000
"""Conflicts that an answer lists; all are counted."""
_COLUMNS = [
    "operation_id",
    "action",
    "kind",
    "type_name",
    "key",
    "to_key",
    "before_attributes",
    "after_digest",
    "key_hi",
    "key_lo",
    "verdict",
]


@dataclass(frozen=True, kw_only=True)
class RollbackConflict:
    """Something that has changed since the batch left it."""

    kind: Kind
    type_name: str
    key: str
    to_key: str | None
    action: str
    """What the batch had done to it."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What rolling a batch back comes to."""

    batch_id: BatchId
    target_id: TargetId
    restored: int
    """Rows that come back as they were."""
    removed: int
    """Rows that go, because the batch had created them."""
    conflicts: int
    taken: int
    """Conflicts that were named, and so are rolled back all the same."""
    listed: tuple[RollbackConflict, ...]
    """The first conflicts that are left alone."""
    correction: Manifest | None
    """What was landed; None of a dry run."""


@dataclass
class _Inverse:
    """The inverse of a batch's executed operations, counted as it is read."""

    platform: Platform
    state: PublishState
    view: SnapshotView
    take: frozenset[str]
    counts: Counter[str] = field(default_factory=Counter)
    listed: list[RollbackConflict] = field(default_factory=list)

    def rows(self, executions: Sequence[PlanExecution]) -> Iterator[KindRows]:
        for execution in executions:
            for operations in self._effects(execution):
                yield from self._inverted(operations)

    def _effects(self, execution: PlanExecution) -> Iterator[pa.Table]:
        """Yield the operations of one plan that took effect, by the chunk."""
        state = self.state
        excepted = self.platform.control.plan_exceptions(
            state.batch_id, state.target_id, execution.plan_digest
        )
        failed = pa.array(
            [bytes.fromhex(e.operation_id) for e in excepted], pa.binary(DIGEST_BYTES)
        )
        plan = open_plan(
            self.platform.objects, execution.plan_path, expected_digest=execution.plan_digest
        )
        for chunk in plan_chunks(self.platform.objects, plan, columns=_COLUMNS):
            took = pc.equal(chunk["verdict"], Verdict.PLANNED.value)
            took = pc.and_(took, pc.invert(pc.is_in(chunk["operation_id"], value_set=failed)))
            yield chunk.filter(took)

    def _inverted(self, operations: pa.Table) -> Iterator[KindRows]:
        names = operations.select(["kind", "type_name"])
        for group in names.group_by(["kind", "type_name"]).aggregate([]).to_pylist():
            mask = pc.and_(
                pc.equal(operations["kind"], group["kind"]),
                pc.equal(operations["type_name"], group["type_name"]),
            )
            kind = Kind(group["kind"])
            rows = self._without_conflicts(
                kind, group["type_name"], operations.filter(mask).combine_chunks()
            )
            if len(rows):
                removes = pc.equal(rows["action"], Action.CREATE.value)
                gone = int(pc.sum(removes).as_py() or 0)
                self.counts["removed"] += gone
                self.counts["restored"] += len(rows) - gone
                yield kind, _as_rows(kind, rows, removes)

    def _without_conflicts(self, kind: Kind, type_name: str, operations: pa.Table) -> pa.Table:
        fits = fits_snapshot(self.view, operations, side="after_digest")
        named = np.array([key in self.take for key in operations["key"].to_pylist()], bool)
        self.counts["conflicts"] += int((~fits & ~named).sum())
        self.counts["taken"] += int((~fits & named).sum())
        for row in np.flatnonzero(~fits & ~named)[: MOST_LISTED - len(self.listed)].tolist():
            values = operations.slice(row, 1).to_pylist()[0]
            self.listed.append(
                RollbackConflict(
                    kind=kind,
                    type_name=type_name,
                    key=values["key"],
                    to_key=values["to_key"],
                    action=values["action"],
                )
            )
        return operations.filter(pa.array(fits | named))


def rollback(
    platform: Platform,
    batch: BatchId,
    target: TargetId,
    *,
    by: str,
    reason: str = "",
    take: Collection[str] = (),
    dry_run: bool = False,
) -> Rollback:
    """Land the inverse of what a batch did at a target, as a correction; ``take`` names keys in spite of conflicts.

    Raises ``Unsigned`` for an act by nobody, ``IllegalMove`` for a batch that is not COMPLETE, ``LaneBusy`` while the
    lane has one in hand, ``ObjectMissing`` if its plans have aged out, ``NothingToDo`` if nothing of it is left to roll
    back, ``ChangedMeanwhile`` if somebody has asked for it already. Of several who ask at once, one has it.
    """
    signed = By(actor=by, reason=reason or None)
    state = platform.control.get_state(batch, target)
    executions = _executed(platform, state)
    check_free(platform, state.source_id, target)
    view = KnownRows.open(platform, state.source_id, target).view
    inverse = _Inverse(platform, state, view, frozenset(take))
    correction = None
    if dry_run:
        for _ in inverse.rows(executions):
            pass
    if not dry_run:
        correction = _land(platform, state, inverse, executions, signed)
    return Rollback(
        batch_id=batch,
        target_id=target,
        restored=inverse.counts["restored"],
        removed=inverse.counts["removed"],
        conflicts=inverse.counts["conflicts"],
        taken=inverse.counts["taken"],
        listed=tuple(inverse.listed),
        correction=correction,
    )


def _land(
    platform: Platform,
    state: PublishState,
    inverse: _Inverse,
    executions: Sequence[PlanExecution],
    by: By,
) -> Manifest:
    original = platform.control.get_batch(state.batch_id).manifest
    try:
        return land_correction(
            platform,
            source=state.source_id,
            corrects=Correction(
                kind="rollback",
                batch_id=state.batch_id,
                target_id=state.target_id,
                requested_by=by.actor,
                reason=by.reason or "",
            ),
            rows=inverse.rows(executions),
            view=inverse.view,
            relationship_types=original.relationship_types,
        )
    except NothingToDo:
        raise NothingToDo(
            f"nothing that batch {state.batch_id!r} did to target {state.target_id!r} is as it left it "
            f"({inverse.counts['conflicts']:,} conflicts): it was rolled back already, or newer batches changed it all"
        ) from None


def _executed(platform: Platform, state: PublishState) -> list[PlanExecution]:
    """Return the plans that made a batch what it is at a target: the last of the batch itself, and its releases."""
    if state.status is not PublishStatus.COMPLETE:
        raise IllegalMove(
            f"batch {state.batch_id!r} is {state.status} for target {state.target_id!r}: only one that is COMPLETE can "
            "be rolled back"
        )
    executions = platform.control.list_executions(state.batch_id, state.target_id)
    begin = max((n for n, e in enumerate(executions) if e.intent not in FOLLOW_UPS), default=None)
    if begin is None:
        raise NothingToDo(
            f"no plan of batch {state.batch_id!r} was executed at target {state.target_id!r}"
        )
    chosen = [e for e in executions[begin:] if e.intent is not Intent.REPAIR]
    for execution in chosen:
        if platform.objects.stat(execution.plan_path) is None:
            raise ObjectMissing(
                f"{platform.objects.url(execution.plan_path)}, which holds what batch {state.batch_id!r} replaced, has "
                "aged out: republish the batch before it instead"
            )
    return chosen


def _as_rows(kind: Kind, operations: pa.Table, removes: pa.ChunkedArray) -> pa.Table:
    """Return operations as rows of a batch: before-images, and tombstones for what was created."""
    names = {
        "entity_type": "type_name",
        "entity_key": "key",
        "relationship_type": "type_name",
        "from_key": "key",
        "to_key": "to_key",
        "attributes": "before_attributes",
    }
    columns = [
        removes if name == "tombstone" else operations[names[name]] for name in SCHEMAS[kind].names
    ]
    return pa.table(columns, schema=SCHEMAS[kind])
