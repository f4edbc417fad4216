"""What the control database tells: events of publishing, written in the transactions that make the facts.

An event that has a fact of its own to be known by (a claim's fencing token, an approval) has an id that follows from
it; for the others the transaction alone sees to it that they are told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, select

from penstock.events.envelope import NewEvent
from penstock.events.facts import PLATFORM_TENANT, shortened
from penstock.events.publishing import (
    BatchFailed,
    BatchLanded,
    BatchPostponed,
    BatchPublished,
    BatchRequeued,
    BatchWithdrawn,
    BreakerClosed,
    BreakerOpened,
    HoldDecided,
    LeaseLost,
    PlanHeld,
    SourcePaused,
    SourceResumed,
    TargetPaused,
    TargetResumed,
)
from penstock.ports.approvals import Approval
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import BatchRecord
from penstock.ports.pauses import PauseScope
from penstock.publish.breaker import BreakerState, BreakerStatus
from penstock.publish.state import Intent, PublishState, PublishStatus
from resources.control_db.letters_told import letters_of, name_of, tenant_of, told_of
from resources.control_db.outbox import add_events
from resources.control_db.rows import storable_text
from resources.control_db.tables import operation_exception


def tell_landed(
    connection: Connection, record: BatchRecord, states: Sequence[PublishState]
) -> None:
    """Tell that a batch was admitted."""
    manifest = record.manifest
    landed = BatchLanded(
        batch_id=manifest.batch_id,
        source_id=manifest.source_id,
        source_timestamp=manifest.source_timestamp,
        mode=manifest.mode.value,
        targets=tuple(state.target_id for state in states),
        entities=manifest.entities.rows,
        relationships=manifest.relationships.rows,
        corrects=None if manifest.corrects is None else manifest.corrects.batch_id,
    )
    event = landed.as_event(
        tenant_id=manifest.tenant_id,
        time=record.admitted_at,
        fact=(manifest.batch_id,),
        trace_parent=manifest.trace_parent,
    )
    add_events(connection, [event])


def tell_moved(
    connection: Connection,
    state: PublishState,
    token: int,
    now: datetime,
    *,
    withdrawn: bool = False,
) -> None:
    """Tell how a claim ended: published, postponed, failed or withdrawn; what is in hand tells nothing."""
    fact = (state.batch_id, state.target_id, token)
    match state.status:
        case PublishStatus.COMPLETE if withdrawn:
            events = [_withdrawn(state, fact, now)]
        case PublishStatus.COMPLETE:
            events = [_published(state, fact, now), *_held(connection, state, now)]
        case PublishStatus.RETRYING:
            events = [_postponed(state, fact, now)]
        case PublishStatus.FAILED:
            events = [failed(state, now, fact=fact)]
        case _:
            return
    if state.status is not PublishStatus.RETRYING:
        events += letters_of(connection, state, now)
    add_events(connection, events)


def tell_lease_lost(
    connection: Connection,
    state: PublishState,
    *,
    now: datetime,
    lost_by: str,
    taken_by: str,
    token: int,
) -> None:
    """Tell that a worker let its lease run out, and another has taken its batch over; ``token`` is the new one's."""
    lost = LeaseLost(
        batch_id=state.batch_id,
        source_id=state.source_id,
        target_id=state.target_id,
        lost_by=lost_by,
        taken_by=taken_by,
    )
    fact = (state.batch_id, state.target_id, token)
    add_events(connection, [lost.as_event(**_in(state, now), fact=fact)])


def tell_cancelled(connection: Connection, state: PublishState, now: datetime) -> None:
    """Tell that what waited was taken out of the queue."""
    if state.status is PublishStatus.COMPLETE:
        add_events(connection, [_withdrawn(state, (), now)])
    else:
        add_events(connection, [failed(state, now), *letters_of(connection, state, now)])


def tell_requeued_batch(
    connection: Connection, state: PublishState, by: str | None, now: datetime
) -> None:
    """Tell that a batch that had settled is back in the queue, and what for."""
    requeued = BatchRequeued(**_of(state), requeued_by=storable_text(by))
    add_events(connection, [requeued.as_event(**_in(state, now))])


def _in(state: PublishState, now: datetime) -> dict[str, Any]:
    """Return whose an event of a batch is, when it is, and the trace that it belongs to."""
    return {"tenant_id": state.tenant_id, "time": now, "trace_parent": state.trace_parent}


def _of(state: PublishState) -> dict[str, Any]:
    return {
        "batch_id": state.batch_id,
        "source_id": state.source_id,
        "target_id": state.target_id,
        "intent": state.intent.value,
    }


def _published(state: PublishState, fact: Sequence[str | int], now: datetime) -> NewEvent:
    waited = max(0.0, (now - state.processing_timestamp).total_seconds())
    published = BatchPublished(
        **_of(state),
        **state.metrics.model_dump(),
        latency_s=waited if state.intent is Intent.PUBLISH else None,
        source_timestamp=state.source_timestamp,
        plan_digest=state.plan_digest,
        held=state.held,
        blocked=state.blocked,
        rejected=state.rejected,
    )
    return published.as_event(**_in(state, now), fact=fact)


def _withdrawn(state: PublishState, fact: Sequence[str | int], now: datetime) -> NewEvent:
    return BatchWithdrawn(**_of(state)).as_event(**_in(state, now), fact=fact)


def _postponed(state: PublishState, fact: Sequence[str | int], now: datetime) -> NewEvent:
    why = state.failure_details
    postponed = BatchPostponed(
        **_of(state),
        error_code=name_of(why.error_code if why else None),
        message=told_of(why.error_message if why else ""),
        retry_count=why.retry_count if why else 0,
        retry_at=state.retry_due_at or now,
    )
    return postponed.as_event(**_in(state, now), fact=fact)


def failed(state: PublishState, now: datetime, *, fact: Sequence[str | int] = ()) -> NewEvent:
    """Return the event of a batch that was given up, cancelled or overtaken."""
    why = state.failure_details
    given_up = BatchFailed(
        **_of(state),
        error_code=name_of(why.error_code if why else None),
        message=told_of(why.error_message if why else ""),
        retry_count=(why.retry_count if why else 0) or 0,
    )
    return given_up.as_event(**_in(state, now), fact=fact)


def _held(connection: Connection, state: PublishState, now: datetime) -> list[NewEvent]:
    """Return the event of what guards hold of a plan: once for a plan, whatever a release of it leaves held."""
    plan = state.base_plan_digest or state.plan_digest
    if not state.held or plan is None:
        return []
    table = operation_exception.c
    mine = and_(
        table.batch_id == state.batch_id,
        table.target_id == state.target_id,
        table.plan_digest == plan,
        table.outcome == "held",
        table.settled_by.is_(None),
    )
    query = select(table.guard, func.count()).where(mine).group_by(table.guard)
    guards = {row[0] or "unnamed": row[1] for row in connection.execute(query)}
    of = _of(state)
    del of["intent"]
    held = PlanHeld(**of, plan_digest=plan, held=state.held, guards=guards)
    fact = (state.batch_id, state.target_id, plan)
    return [held.as_event(**_in(state, now), fact=fact)]


def tell_decided(
    connection: Connection, state: PublishState, decided: Approval, now: datetime
) -> None:
    """Tell that somebody decided about what guards held."""
    told = HoldDecided(
        batch_id=decided.batch_id,
        source_id=decided.source_id,
        target_id=decided.target_id,
        plan_digest=decided.plan_digest,
        decision=decided.decision.value,
        decided_by=name_of(decided.approver),
        expires_at=decided.expires_at,
    )
    event = told.as_event(**_in(state, now), fact=(decided.approval_id,))
    add_events(connection, [event])


def tell_breaker(
    connection: Connection,
    before: BreakerState | None,
    after: BreakerState,
    *,
    now: datetime,
    act: AuditEntry | None = None,
) -> None:
    """Tell that a breaker opened or closed, if it did."""
    told: BreakerOpened | BreakerClosed
    was_open = before is not None and before.status is not BreakerStatus.CLOSED
    if after.status is BreakerStatus.OPEN and after.times_opened != (
        before.times_opened if before else 0
    ):
        told = BreakerOpened(
            target_id=after.target_id,
            open_until=after.open_until or now,
            times_opened=after.times_opened,
            calls=after.calls,
            failures=after.failures,
        )
    elif was_open and after.status is BreakerStatus.CLOSED:
        by = None if act is None else name_of(act.actor)
        told = BreakerClosed(target_id=after.target_id, closed_by=by)
    else:
        return
    add_events(connection, [told.as_event(tenant_id=PLATFORM_TENANT, time=now)])


def tell_pause(
    connection: Connection,
    scope: PauseScope,
    scope_id: str,
    *,
    paused: bool,
    by: str,
    reason: str | None,
    now: datetime,
) -> None:
    """Tell that a source or a target was paused or resumed."""
    said: dict[str, Any] = {
        "by": name_of(by),
        "reason": None if reason is None else shortened(storable_text(reason) or ""),
    }
    told: SourcePaused | SourceResumed | TargetPaused | TargetResumed
    if scope is PauseScope.SOURCE:
        tenant = tenant_of(connection, scope_id)
        told = (SourcePaused if paused else SourceResumed)(source_id=scope_id, **said)
    else:
        tenant = PLATFORM_TENANT
        told = (TargetPaused if paused else TargetResumed)(target_id=scope_id, **said)
    add_events(connection, [told.as_event(tenant_id=tenant, time=now)])
