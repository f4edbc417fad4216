"""What begins turns: schedules that are due, events that came in, and what fired while it could not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from penstock.batch.source import SourceSpec
from penstock.identity.ids import TenantId
from penstock.use_cases.coordination import Coordination
from penstock.workflow.records import Trigger, Workflow
from penstock.workflow.turns import next_begun, triggered

PLATFORM_TENANT = TenantId("*")
"""The tenant of events that concern all tenants."""


def trigger_event_driven(
    co: Coordination,
    *,
    event_id: str,
    event_type: str,
    subject: str,
    tenant: TenantId,
    source: str | None,
    cause: Workflow | None = None,
    waiting: Sequence[Workflow] | None = None,
) -> list[str]:
    """Begin a turn of every workflow that waits for an event, or queue or drop it; returns the workflows' ids.

    ``event_id`` is unique among all events, whoever sent them: handling one again changes nothing. ``source`` is the
    one that the event is about, if it is about one; ``cause`` the workflow whose task it tells of. One that waits for
    such events itself sets off none, so that no workflow ever sets off itself, nor two of them each other. ``waiting``
    are those that waited for such events at some moment since it came in, where somebody has looked already.
    """
    fired: list[str] = []
    if cause is not None and cause.spec.event is not None and cause.spec.event.is_of_work:
        return fired
    for workflow in co.workflows.waiting_for_event(event_type) if waiting is None else waiting:
        event = workflow.spec.event
        mine = tenant in (workflow.tenant_id, PLATFORM_TENANT)
        if event is None or not mine or not event.matches(event_type, subject, source):
            continue
        trigger = Trigger(
            trigger_id=f"event:{event_id}"[:255],
            at=co.now(),
            event_type=event_type,
            subject=subject[:1024],
            source_id=source if event.only_its_source else None,
        )
        _fire(co, workflow, trigger)
        fired.append(workflow.workflow_id)
    return fired


def begin_scheduled(co: Coordination, *, limit: int) -> int:
    """Begin a turn of every workflow whose schedule is due, or queue or drop it; returns how many there were."""
    now = co.now()
    due = co.workflows.scheduled_due(now, limit=limit)
    for workflow in due:
        if workflow.spec.cron is None or workflow.next_due_at is None:
            continue
        trigger = Trigger(trigger_id=f"cron:{workflow.next_due_at.isoformat()}", at=now)
        _fire(co, workflow, trigger, next_due_at=co.next_due(workflow.spec.cron, now))
    return len(due)


def begin_queued(co: Coordination, *, limit: int) -> int:
    """Begin the next turn of workflows for which something has fired meanwhile; returns how many there were."""
    waiting = co.workflows.with_queued_triggers(limit=limit)
    for workflow in waiting:
        _begin_next(co, workflow)
    return len(waiting)


def _fire(
    co: Coordination,
    workflow: Workflow,
    trigger: Trigger,
    *,
    next_due_at: datetime | None = None,
) -> None:
    now = co.now()
    chosen = _chosen(co, workflow, trigger)
    co.workflows.change(
        workflow.workflow_id,
        lambda case: triggered(
            case, trigger, chosen, now=now, new_id=co.new_id, next_due_at=next_due_at
        ),
        triggers=[trigger.trigger_id],
    )


def _begin_next(co: Coordination, workflow: Workflow) -> None:
    first = workflow.queued_triggers[0]
    chosen, now = _chosen(co, workflow, first), co.now()
    co.workflows.change(
        workflow.workflow_id,
        lambda case: next_begun(case, first, chosen, now=now, new_id=co.new_id),
    )


def _chosen(co: Coordination, workflow: Workflow, trigger: Trigger) -> list[SourceSpec]:
    declared = co.platform.control.list_sources()
    return workflow.spec.chosen(declared, workflow.tenant_id, only=trigger.source_id)
