"""The read side: what the command line and the pages ask the platform, answered in plain values.

Nothing here writes. An id that names nothing raises ``NotFound`` or ``UndeclaredSource``, a malformed one
``InvalidIdentifier``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from penstock.batch.source import SourceSpec
from penstock.errors import NotFound, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.document import PlanDocument
from penstock.plan.ledger import LedgerRow
from penstock.ports.attempts import PublishAttempt
from penstock.ports.control import BatchRecord, DeadLetter, OperationException
from penstock.publish.queue import QueuePlace
from penstock.publish.state import WAITING, PublishState
from penstock.use_cases.merges import MergeOverview, merges_of
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan, plan_chunks


@dataclass(frozen=True, kw_only=True)
class SourceOverview:
    """A declared source and how it stands."""

    spec: SourceSpec
    newest_batch: BatchId | None
    """By source timestamp."""
    newest_states: tuple[PublishState, ...]
    """Of the newest batch, one per target."""
    waiting: int
    """Publish states of this source in the queue."""


def source_overviews(
    platform: Platform, *, sources: Collection[SourceId] | None = None
) -> list[SourceOverview]:
    """Return the declared sources, by id; with ``sources`` these alone."""
    return [
        _source_overview(platform, spec)
        for spec in platform.control.list_sources()
        if sources is None or spec.source_id in sources
    ]


def _source_overview(platform: Platform, spec: SourceSpec) -> SourceOverview:
    newest = platform.control.list_batches(source=spec.source_id, limit=1)
    batch = newest[0].manifest.batch_id if newest else None
    waiting = platform.control.list_states(source=spec.source_id, statuses=sorted(WAITING))
    return SourceOverview(
        spec=spec,
        newest_batch=batch,
        newest_states=tuple(platform.control.list_states(batch=batch)) if batch else (),
        waiting=len(waiting),
    )


@dataclass(frozen=True, kw_only=True)
class BatchOverview:
    """An admitted batch and where it is on its way to each target."""

    record: BatchRecord
    states: tuple[PublishState, ...]


def batch_overviews(
    platform: Platform,
    *,
    source: SourceId | None = None,
    sources: Collection[SourceId] | None = None,
    limit: int = 100,
    after: BatchId | None = None,
) -> list[BatchOverview]:
    """Return batches, newest source timestamp first; with ``after`` those that follow this one.

    A source that is not declared any more still has its batches; one that never had any raises ``UndeclaredSource``.
    """
    records = platform.control.list_batches(
        source=source, sources=sources, limit=limit, after=after
    )
    if not records and source is not None:
        platform.control.get_source(source)
    return [
        BatchOverview(
            record=record,
            states=tuple(platform.control.list_states(batch=record.manifest.batch_id)),
        )
        for record in records
    ]


@dataclass(frozen=True, kw_only=True)
class TargetDetails:
    """What publishing one batch to one target came to so far."""

    state: PublishState
    ledger: tuple[LedgerRow, ...]
    """Empty until it is COMPLETE."""
    exceptions: tuple[OperationException, ...]
    """The first of what was planned and not applied."""


@dataclass(frozen=True, kw_only=True)
class BatchDetails:
    """Everything recorded of one batch."""

    record: BatchRecord
    targets: tuple[TargetDetails, ...]


def batch_details(platform: Platform, batch: BatchId, *, exceptions: int = 20) -> BatchDetails:
    """Return what is recorded of a batch, with at most so many exceptions per target."""
    record = platform.control.get_batch(batch)
    states = platform.control.list_states(batch=batch)
    return BatchDetails(
        record=record, targets=tuple(_target_details(platform, s, exceptions) for s in states)
    )


def _target_details(platform: Platform, state: PublishState, exceptions: int) -> TargetDetails:
    batch, target = state.batch_id, state.target_id
    return TargetDetails(
        state=state,
        ledger=tuple(platform.control.get_ledger(batch, target)),
        exceptions=tuple(platform.control.list_exceptions(batch, target, limit=exceptions)),
    )


def queue_places(platform: Platform) -> list[QueuePlace]:
    """Return every waiting batch in the order in which it would be claimed now."""
    return platform.control.explain_queue(now=platform.clock.now(), policy=platform.queue_policy)


def publish_states(
    platform: Platform,
    *,
    batch: BatchId | None = None,
    source: SourceId | None = None,
    target: TargetId | None = None,
    limit: int = 100,
) -> list[PublishState]:
    """Return publish states, newest source timestamp first; a batch that was never admitted raises."""
    if batch is not None:
        platform.control.get_batch(batch)
    states = platform.control.list_states(batch=batch, source=source, target=target, limit=limit)
    if not states and source is not None:
        platform.control.get_source(source)
    return states


def attempts_of(
    platform: Platform, states: Sequence[PublishState]
) -> dict[TargetId, list[PublishAttempt]]:
    """Return the attempts that failed of one batch's publish states, by target, oldest first."""
    return {
        state.target_id: platform.control.list_attempts(state.batch_id, state.target_id)
        for state in states
    }


def dead_letters(
    platform: Platform, *, source: SourceId | None = None, limit: int = 100
) -> list[DeadLetter]:
    """Return dead letters, newest first."""
    letters = platform.control.list_dead_letters(source=source, limit=limit)
    if not letters and source is not None:
        platform.control.get_source(source)
    return letters


# Plans ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OperationCount:
    """How many operations of a plan are alike."""

    kind: str
    type_name: str
    action: str
    verdict: str
    operations: int


@dataclass(frozen=True, kw_only=True)
class PlannedOperation:
    """One operation, without its attributes."""

    operation_id: str
    """32 hex digits."""
    wave: int
    action: str
    kind: str
    type_name: str
    key: str
    to_key: str | None
    changed: tuple[str, ...]
    """Top-level attributes that an update changes."""
    verdict: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class PlanOverview:
    """A stored plan, counted."""

    document: PlanDocument
    path: str
    digest: str
    counts: tuple[OperationCount, ...]
    operations: tuple[PlannedOperation, ...]
    """The first of them, in the order of execution."""
    merges: MergeOverview = MergeOverview()
    """What was decided about fields that somebody changed in the target; of a dry run, what would be."""


def state_of(platform: Platform, batch: BatchId, target: TargetId | None) -> PublishState:
    """Return a batch's publish state; without a target the only one there is, or an error that names them."""
    if target is not None:
        return platform.control.get_state(batch, target)
    platform.control.get_batch(batch)
    states = platform.control.list_states(batch=batch)
    if not states:
        raise NotFound(f"batch {batch!r} goes to no target")
    if len(states) > 1:
        names = ", ".join(sorted(state.target_id for state in states))
        raise PenstockError(f"batch {batch!r} goes to several targets: name one of {names}")
    return states[0]


def stored_plan(
    platform: Platform, batch: BatchId, target: TargetId | None
) -> tuple[PublishState, StoredPlan]:
    """Return a batch's publish state and its plan; raises ``NotFound`` while it has none."""
    state = state_of(platform, batch, target)
    if state.execution_plan_path is None:
        raise NotFound(
            f"batch {batch!r} has no plan for target {state.target_id!r}: it is {state.status}"
        )
    plan = open_plan(platform.objects, state.execution_plan_path, expected_digest=state.plan_digest)
    return state, plan


COUNTED = ["kind", "type_name", "action", "verdict"]
"""What operations are counted by."""
OPERATION_COLUMNS = [
    "operation_id",
    "wave",
    "action",
    "kind",
    "type_name",
    "key",
    "to_key",
    "changed",
    "verdict",
    "reason",
]
"""What of a plan's operations a :class:`PlannedOperation` is made of."""


def plan_overview(
    platform: Platform, batch: BatchId, *, target: TargetId | None = None, operations: int = 20
) -> PlanOverview:
    """Return the plan of a batch with its counts and its first operations; memory is by the chunk."""
    _, plan = stored_plan(platform, batch, target)
    counts: Counter[tuple[str, ...]] = Counter()
    for chunk in plan_chunks(platform.objects, plan, columns=COUNTED):
        for row in chunk.group_by(COUNTED).aggregate([([], "count_all")]).to_pylist():
            counts[tuple(row[name] for name in COUNTED)] += row["count_all"]
    return PlanOverview(
        document=plan.document,
        path=platform.objects.url(plan.path),
        digest=plan.document.digest,
        counts=tuple(
            OperationCount(**dict(zip(COUNTED, key, strict=True)), operations=n)
            for key, n in sorted(counts.items())
        ),
        operations=tuple(_first_operations(platform, plan, operations)),
        merges=merges_of(platform, plan, limit=operations),
    )


def _first_operations(platform: Platform, plan: StoredPlan, limit: int) -> list[PlannedOperation]:
    if limit <= 0:
        return []
    chunks = plan_chunks(platform.objects, plan, columns=OPERATION_COLUMNS)
    rows = (row for chunk in chunks for row in chunk.slice(0, limit).to_pylist())
    return [planned_operation(row) for row in islice(rows, limit)]


def planned_operation(row: dict[str, Any]) -> PlannedOperation:
    """Return one row of ``OPERATION_COLUMNS`` as a value."""
    return PlannedOperation(
        **{
            **row,
            "operation_id": row["operation_id"].hex(),
            "changed": tuple(row["changed"] or ()),
        }
    )


def planned_operations(rows: pa.Table) -> Sequence[PlannedOperation]:
    """Return rows of ``OPERATION_COLUMNS`` as values."""
    return [planned_operation(row) for row in rows.to_pylist()]


def batch_id_of(text: str) -> BatchId:
    """Return ``text`` as a batch id, or raise ``InvalidIdentifier`` with the form that it should have."""
    source, timestamp = ids.split_batch_id(text)
    return ids.batch_id(source, timestamp)
