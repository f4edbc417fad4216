"""What begins turns: schedules that are due, events that came in, and what fired while it could not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from heapq import merge
from operator import itemgetter

from penstock.batch.source import SourceSpec
from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import TenantId
from penstock.use_cases.coordination import Coordination
from penstock.workflow.records import Trigger, Workflow
from penstock.workflow.turns import next_begun, triggered

PLATFORM_TENANT = TenantId("*")
"""The tenant of events that concern all tenants."""


class TriggerView:
    """The workflows that wait for events, and the declared sources, as somebody saw them: each looked up once.

    For acting on many events that came in before it was made, most of which begin nothing.
    """

    def __init__(self, co: Coordination, waiting: Sequence[Workflow] | None = None) -> None:
        """See what there is; ``waiting`` are all who wait for any event that is looked for, where they are known."""
        self._co = co
        self._all = waiting
        self._waiting: dict[str, _ForType] = {}

    @cached_property
    def declared(self) -> Sequence[SourceSpec]:
        """Every declared source."""
        return self._co.platform.control.list_sources()

    def may_wait_for(self, event_type: str, subject: str) -> list[Workflow]:
        """Return all workflows that wait for an event of a type about a subject, and maybe others, by id."""
        if event_type not in self._waiting:
            self._waiting[event_type] = _ForType(self._who_waits(event_type))
        return self._waiting[event_type].about(subject)

    def _who_waits(self, event_type: str) -> list[Workflow]:
        if self._all is None:
            return self._co.workflows.waiting_for_event(event_type)
        return [
            w for w in self._all if w.spec.event is not None and w.spec.event.type == event_type
        ]


class _ForType:
    """The workflows that wait for events of one type: those that wait for one subject are found by it."""

    def __init__(self, workflows: Iterable[Workflow]) -> None:
        self._of_subject: dict[str, list[tuple[int, Workflow]]] = {}
        self._others: list[tuple[int, Workflow]] = []
        for place, workflow in enumerate(workflows):
            event = workflow.spec.event
            subject = event.only_subject if event is not None else None
            mine = self._others if subject is None else self._of_subject.setdefault(subject, [])
            mine.append((place, workflow))

    def about(self, subject: str) -> list[Workflow]:
        named = self._of_subject.get(subject, [])
        return [workflow for _, workflow in merge(named, self._others, key=itemgetter(0))]


def trigger_event_driven(
    co: Coordination,
    *,
    event_id: str,
    event_type: str,
    subject: str,
    tenant: TenantId,
    source: str | None,
    trace_parent: str | None = None,
    cause: Workflow | None = None,
    view: TriggerView | None = None,
    heard_to: OutboxCursor | None = None,
) -> list[str]:
    """Begin a turn of every workflow that waits for an event, or queue or drop it; returns the workflows' ids.

    ``event_id`` is unique among all events, whoever sent them: handling one again changes nothing. ``source`` is the
    one that the event is about, if it is about one; ``trace_parent`` the trace that the turns belong to; ``cause`` the
    workflow whose task it tells of. One that waits for such events itself sets off none, so that no workflow ever sets
    off itself, nor two of them each other. ``view`` is what somebody has seen since the event came in; without one it
    is looked up. ``heard_to`` is where the event stands in the outbox, if it is one that Penstock tells.
    """
    fired: list[str] = []
    if cause is not None and sets_off_none(cause):
        return fired
    view = TriggerView(co) if view is None else view
    for workflow in view.may_wait_for(event_type, subject):
        event = workflow.spec.event
        if event is None or not waits_for(workflow, event_type, subject, tenant, source):
            continue
        trigger = Trigger(
            trigger_id=f"event:{event_id}"[:255],
            at=co.now(),
            event_type=event_type,
            subject=subject[:1024],
            source_id=source if event.only_its_source else None,
            trace_parent=trace_parent,
        )
        _fire(co, workflow, trigger, view.declared, heard_to=heard_to)
        fired.append(workflow.workflow_id)
    return fired


def sets_off_none(cause: Workflow) -> bool:
    """Say whether what a workflow brings about begins no turn of any: it waits for such events itself."""
    return cause.spec.event is not None and cause.spec.event.is_of_work


def waits_for(
    workflow: Workflow, event_type: str, subject: str, tenant: TenantId, source: str | None
) -> bool:
    """Say whether a workflow waits for an event of a tenant about something, and maybe of a source."""
    event = workflow.spec.event
    mine = tenant in (workflow.tenant_id, PLATFORM_TENANT)
    return event is not None and mine and event.matches(event_type, subject, source)


def begin_scheduled(co: Coordination, *, limit: int) -> int:
    """Begin a turn of every workflow whose schedule is due, or queue or drop it; returns how many there were."""
    now = co.now()
    due = co.workflows.scheduled_due(now, limit=limit)
    view = TriggerView(co)
    for workflow in due:
        if workflow.spec.cron is None or workflow.next_due_at is None:
            continue
        trigger = Trigger(trigger_id=f"cron:{workflow.next_due_at.isoformat()}", at=now)
        _fire(
            co, workflow, trigger, view.declared, next_due_at=co.next_due(workflow.spec.cron, now)
        )
    return len(due)


def begin_queued(co: Coordination, *, limit: int) -> int:
    """Begin the next turn of workflows for which something has fired meanwhile; returns how many there were."""
    waiting = co.workflows.with_queued_triggers(limit=limit)
    view = TriggerView(co)
    for workflow in waiting:
        _begin_next(co, workflow, view.declared)
    return len(waiting)


def _fire(
    co: Coordination,
    workflow: Workflow,
    trigger: Trigger,
    declared: Sequence[SourceSpec],
    *,
    next_due_at: datetime | None = None,
    heard_to: OutboxCursor | None = None,
) -> None:
    now = co.now()
    chosen = _chosen(workflow, trigger, declared)
    co.workflows.change(
        workflow.workflow_id,
        lambda case: triggered(
            case,
            trigger,
            chosen,
            now=now,
            new_id=co.new_id,
            next_due_at=next_due_at,
            heard_to=heard_to,
        ),
        triggers=[trigger.trigger_id],
    )


def _begin_next(co: Coordination, workflow: Workflow, declared: Sequence[SourceSpec]) -> None:
    first = workflow.queued_triggers[0]
    chosen, now = _chosen(workflow, first, declared), co.now()
    co.workflows.change(
        workflow.workflow_id,
        lambda case: next_begun(case, first, chosen, now=now, new_id=co.new_id),
    )


def _chosen(
    workflow: Workflow, trigger: Trigger, declared: Sequence[SourceSpec]
) -> list[SourceSpec]:
    return workflow.spec.chosen(declared, workflow.tenant_id, only=trigger.source_id)
