"""Publish state: the row that follows one batch to one target, and the moves it can make.

:class:`PublishState` is public API. ``docs/reference/publish_states.md`` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from penstock.errors import IllegalMove, PenstockError
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.identity.trace import LONGEST_TRACE_PARENT


class PublishStatus(StrEnum):
    """Where a batch is on its way to a target."""

    PENDING = "PENDING"
    PLANNING = "PLANNING"
    PLAN_COMPLETE = "PLAN_COMPLETE"
    EXECUTING = "EXECUTING"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    RETRYING = "RETRYING"


class Move(StrEnum):
    """What happens to a publish state."""

    CLAIM = "claim"
    """A worker took the batch from the queue."""
    PLANNED = "planned"
    """The plan is stored and its digest recorded."""
    START = "start"
    """The first operation is about to be applied."""
    SUCCEED = "succeed"
    """All that could be applied is applied, and the snapshot has advanced."""
    POSTPONE = "postpone"
    """It failed for now and is due again later."""
    FAIL = "fail"
    """It failed for good, or its retries are exhausted."""
    REQUEUE = "requeue"
    """A person asked for it again, or its worker died."""
    WITHDRAW = "withdraw"
    """A follow-up (a release, a repair) has become void: the batch stands as it stood."""


class Intent(StrEnum):
    """What publishing a batch is to do this time. All but the first are asked for by an operator."""

    PUBLISH = "publish"
    """Take the target to the batch; fails where the target has a newer one."""
    REPUBLISH = "republish"
    """Take the target to the batch, back if need be."""
    RELEASE = "release"
    """Execute what guards held of the batch's plan and an approval has released."""
    REPAIR = "repair"
    """Put right what a drift audit found to differ in the target; the snapshot stays as it is."""


FOLLOW_UPS = frozenset({Intent.RELEASE, Intent.REPAIR})
"""Work on a batch that is COMPLETE already: withdrawn, it is COMPLETE again."""

_S, _M = PublishStatus, Move
_WAITING = {_M.CLAIM: _S.PLANNING, _M.FAIL: _S.FAILED, _M.WITHDRAW: _S.COMPLETE}
_IN_HAND = {
    _M.POSTPONE: _S.RETRYING,
    _M.FAIL: _S.FAILED,
    _M.REQUEUE: _S.PENDING,
    _M.WITHDRAW: _S.COMPLETE,
}
TRANSITIONS: Mapping[PublishStatus, Mapping[Move, PublishStatus]] = {
    _S.PENDING: _WAITING,
    _S.PLANNING: {_M.PLANNED: _S.PLAN_COMPLETE, **_IN_HAND},
    _S.PLAN_COMPLETE: {_M.START: _S.EXECUTING, **_IN_HAND},
    _S.EXECUTING: {_M.SUCCEED: _S.COMPLETE, **_IN_HAND},
    _S.RETRYING: _WAITING,
    _S.COMPLETE: {_M.REQUEUE: _S.PENDING},
    _S.FAILED: {_M.REQUEUE: _S.PENDING},
}
"""Every legal move, by the status that it leaves."""

IN_HAND = frozenset({_S.PLANNING, _S.PLAN_COMPLETE, _S.EXECUTING})
"""A worker holds a lease on the lane of a batch in one of these."""
WAITING = frozenset({_S.PENDING, _S.RETRYING})
"""A batch in one of these is in the queue."""
SETTLED = frozenset({_S.COMPLETE, _S.FAILED})
"""A batch in one of these stays there until an operator requeues it."""


def next_status(status: PublishStatus, move: Move) -> PublishStatus:
    """Return where ``move`` takes ``status``: the one function that every transition goes through.

    Raises :class:`IllegalMove`, which names the moves that are legal.
    """
    after = TRANSITIONS[status].get(move)
    if after is None:
        raise IllegalMove(
            f"a batch that is {status} cannot {move}; from {status} it can: "
            f"{', '.join(TRANSITIONS[status])}"
        )
    return after


class PublishMetrics(BaseModel):
    """What publishing a batch did."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    entities_created: int = Field(default=0, ge=0)
    entities_updated: int = Field(default=0, ge=0)
    entities_deleted: int = Field(default=0, ge=0)
    relationships_created: int = Field(default=0, ge=0)
    relationships_updated: int = Field(default=0, ge=0)
    relationships_deleted: int = Field(default=0, ge=0)
    execution_time_ms: int = Field(default=0, ge=0)


class FailureDetails(BaseModel):
    """Why a batch is FAILED or RETRYING."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    error_code: str
    error_message: str
    failed_operation: str | None = None
    """The operation id, or the step (``plan``, ``execute``) that failed."""
    stack_trace: str | None = None
    retry_count: int = Field(default=0, ge=0)


class PublishState(BaseModel):
    """One batch on its way to one target."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch_id: BatchId
    source_id: SourceId
    target_id: TargetId
    tenant_id: TenantId = TenantId("default")
    workflow_run_id: str | None = None
    s3_path: str
    source_timestamp: AwareDatetime
    processing_timestamp: AwareDatetime
    publish_start_timestamp: AwareDatetime | None = None
    publish_end_timestamp: AwareDatetime | None = None
    status: PublishStatus = PublishStatus.PENDING
    metrics: PublishMetrics = PublishMetrics()
    failure_details: FailureDetails | None = None
    state_snapshot_path: str | None = None
    execution_plan_path: str | None = None
    plan_digest: str | None = None
    """32 hex digits; what was planned is what runs."""
    base_plan_digest: str | None = None
    """Of a follow-up: the plan of the batch itself, that this one follows."""
    exceptions: int = Field(default=0, ge=0)
    """Operations that were planned and not applied: ``held + blocked + rejected``. COMPLETE with none is clean."""
    held: int = Field(default=0, ge=0)
    """Of these, kept back by a guard until someone approves them."""
    blocked: int = Field(default=0, ge=0)
    """Of these, not sent because what they depend on did not take effect."""
    rejected: int = Field(default=0, ge=0)
    """Of these, refused by planning or by the target: each is a dead letter."""
    enqueued_at: AwareDatetime
    retry_due_at: AwareDatetime | None = None
    """Set while RETRYING: not claimed before."""
    priority_boost: float = 0.0
    """An operator's say in the queue."""
    intent: Intent = Intent.PUBLISH
    """What publishing it is to do this time."""
    trace_parent: str | None = Field(default=None, max_length=LONGEST_TRACE_PARENT)
    """W3C trace context that the batch came with; without one its trace follows from its id."""

    @property
    def republish(self) -> bool:
        """Whether its place in the lane no longer matters: an operator asked for it."""
        return self.intent is not Intent.PUBLISH


_FIXED = frozenset(
    {
        "batch_id",
        "source_id",
        "target_id",
        "tenant_id",
        "s3_path",
        "source_timestamp",
        "processing_timestamp",
        "status",
        "enqueued_at",
        "priority_boost",
        "intent",
        "trace_parent",
    }
)
"""What no worker changes: it names the batch, is an operator's, or follows from the move."""


def moved(
    state: PublishState, move: Move, *, now: datetime, changes: Mapping[str, Any] | None = None
) -> PublishState:
    """Return ``state`` after ``move``, with its timestamps set and other fields as ``changes`` say.

    POSTPONE needs ``retry_due_at`` and FAIL needs ``failure_details``, in ``changes`` or there before.
    Raises :class:`IllegalMove` for the move, ``PenstockError`` for changes that cannot be made.
    """
    status = next_status(state.status, move)
    if move is Move.WITHDRAW and state.intent not in FOLLOW_UPS:
        raise IllegalMove(
            f"batch {state.batch_id!r} waits to {state.intent}: only a {' or a '.join(sorted(FOLLOW_UPS))} can be "
            "withdrawn; cancel it instead"
        )
    changes = changes or {}
    refused = sorted(name for name in changes if name in _FIXED or name not in _FIELDS)
    if refused:
        raise PenstockError(
            f"a move cannot change {', '.join(refused)} of a publish state; it can change: "
            f"{', '.join(sorted(_FIELDS - _FIXED))}"
        )
    values = {**dict(state), "status": status, **_effects(state, move, now), **changes}
    after = PublishState.model_validate(values)
    if status is PublishStatus.RETRYING and after.retry_due_at is None:
        raise PenstockError("to postpone a batch, give retry_due_at: without it nothing wakes it")
    if status is PublishStatus.FAILED and after.failure_details is None:
        raise PenstockError("to fail a batch, give failure_details: a person has to see why")
    return after


def requeued(state: PublishState, *, now: datetime, intent: Intent) -> PublishState:
    """Return a COMPLETE or FAILED state as it goes back into the queue on an operator's word.

    To publish or republish it goes as new; a follow-up, which is of a COMPLETE batch alone, keeps what is recorded.

    Raises :class:`IllegalMove` from any other status: what is waiting or in hand is not requeued.
    """
    if state.status not in SETTLED:
        raise IllegalMove(
            f"batch {state.batch_id!r} is {state.status} for target {state.target_id!r}: only one "
            f"that is {' or '.join(sorted(SETTLED))} can be requeued"
        )
    if intent in FOLLOW_UPS and state.status is not PublishStatus.COMPLETE:
        raise IllegalMove(
            f"batch {state.batch_id!r} is {state.status} for target {state.target_id!r}: only one that is "
            f"{PublishStatus.COMPLETE} has anything to {intent}"
        )
    if intent in FOLLOW_UPS:
        kept = {**dict(state), "base_plan_digest": state.base_plan_digest or state.plan_digest}
    else:
        kept = {name: getattr(state, name) for name in _FIXED}
    status = next_status(state.status, Move.REQUEUE)
    asked = {"status": status, "enqueued_at": now, "intent": intent}
    return PublishState.model_validate(kept | asked)


def _effects(state: PublishState, move: Move, now: datetime) -> dict[str, Any]:
    match move:
        case Move.CLAIM:
            start = state.publish_start_timestamp or now
            return {"publish_start_timestamp": start, "retry_due_at": None}
        case Move.SUCCEED:
            return {"publish_end_timestamp": now, "failure_details": None}
        case Move.FAIL:
            return {"publish_end_timestamp": now, "retry_due_at": None}
        case Move.WITHDRAW:
            return {"retry_due_at": None, "failure_details": None}
        case Move.PLANNED | Move.START | Move.POSTPONE | Move.REQUEUE:
            return {}
        case _:
            assert_never(move)


_FIELDS = frozenset(PublishState.model_fields)
