"""Turns that begin on what Penstock itself tells: the outbox is followed while a workflow waits for any of it.

Each workflow hears an event once, in the order of commits: how far it has heard is stored with what the event does to
it. How far everybody has is stored behind that, so that whoever dies in between goes through some events again, which
then do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from penstock.errors import InvalidIdentifier, NotFound
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.ports.events import EventLog, LogPlace
from penstock.publish.queue import SUPERSEDED
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.workflow_triggers import (
    TriggerView,
    sets_off_none,
    trigger_event_driven,
    waits_for,
)
from penstock.workflow.awaited import AWAITED, TOLD_AWAITED, Origin
from penstock.workflow.records import Workflow


@dataclass(frozen=True, kw_only=True)
class Following:
    """What following the outbox for workflows needs."""

    coordination: Coordination
    log: EventLog
    place: LogPlace
    """Up to where all have heard."""
    is_ours: Callable[[], bool] = lambda: True
    """Asked where there is something to read: whether no other server is at it. Two do no harm, and twice the work."""
    at_once: int = 500
    """Events looked at in one go."""


def trigger_told(following: Following) -> bool:
    """Begin turns of the workflows that wait for what has been told since; say whether there is probably more.

    While none waits, the outbox is not read. What was told before a workflow was made never begins a turn of it.
    """
    workflows = following.coordination.workflows
    if not workflows.waiting_for_event(*TOLD_AWAITED):
        return False
    # What comes after this is left to the next look, which knows of the workflows that are made meanwhile.
    end = following.log.end()
    waiting = workflows.waiting_for_event(*TOLD_AWAITED)
    since = following.place.get()
    start = _start(since, waiting)
    if start is None or start >= end or not following.is_ours():
        return False
    types = sorted({each.spec.event.type for each in waiting if each.spec.event is not None})
    read = following.log.read(start, limit=following.at_once, types=types)
    seen = [event for event in read if event.cursor <= end]
    view = TriggerView(following.coordination, waiting)
    for event in seen:
        _tell(following.coordination, event, view)
    is_page = len(seen) == following.at_once
    following.place.move(since=since, to=seen[-1].cursor if is_page else end)
    return is_page


def needed_from(following: Following) -> OutboxCursor | None:
    """Return the place after which the outbox is needed by workflows, or None while none waits."""
    waiting = following.coordination.workflows.waiting_for_event(*TOLD_AWAITED)
    return _start(following.place.get(), waiting)


def _start(since: OutboxCursor, waiting: Sequence[Workflow]) -> OutboxCursor | None:
    """Return where to go on; what lies before the first who waits need not be read, however old ``since`` is."""
    heard = [each.heard_to for each in waiting if each.heard_to is not None]
    return max(since, min(heard)) if heard else None


def _tell(co: Coordination, event: OutboxEvent, view: TriggerView) -> None:
    source = event.data.get("source_id") if AWAITED[event.type].has_source else None
    is_waited_for = any(
        each.heard_to is not None
        and each.heard_to < event.cursor
        and waits_for(each, event.type, event.subject, event.tenant_id, source)
        for each in view.may_wait_for(event.type, event.subject)
    )
    if not is_waited_for or not _begins_turns(co, event):
        return
    trigger_event_driven(
        co,
        event_id=event.event_id,
        event_type=event.type,
        subject=event.subject,
        tenant=event.tenant_id,
        source=source,
        trace_parent=event.trace_parent,
        view=view,
        heard_to=event.cursor,
    )


def _begins_turns(co: Coordination, event: OutboxEvent) -> bool:
    """Say whether an event begins turns: not if a workflow that waits for such events itself may be behind it."""
    match AWAITED[event.type].origin:
        case Origin.WORKFLOW:
            return not any(sets_off_none(each) for each in _itself(co, event.subject))
        case Origin.BATCH:
            batch = _batch_of(event)
            return batch is not None and not any(map(sets_off_none, _behind(co, batch)))
        case _:
            return True


def _itself(co: Coordination, workflow_id: str) -> list[Workflow]:
    try:
        return [co.workflows.get_workflow(workflow_id)]
    except NotFound:
        return []


def _batch_of(event: OutboxEvent) -> BatchId | None:
    """Return the batch that an event is about; None where nobody can say which workflow is behind it."""
    name = event.data.get("batch_id")
    if name is None or event.data.get("error_code") == SUPERSEDED:
        # Of what should have been a batch, or overtaken by a batch that is not named.
        return None
    try:
        return ids.batch_id(*ids.split_batch_id(str(name)))
    except InvalidIdentifier:
        return None


def _behind(co: Coordination, batch: BatchId) -> Iterator[Workflow]:
    """Yield the workflows behind a batch and, of a correction, behind what it corrects, and so on."""
    seen: set[BatchId] = set()
    while batch not in seen:
        seen.add(batch)
        yield from co.workflows.behind_batch(batch)
        try:
            corrects = co.platform.control.get_batch(batch).manifest.corrects
        except NotFound:
            return
        if corrects is not None:
            batch = BatchId(corrects.batch_id)
