"""What events that came in bring about: turns of workflows, ends of tasks, statuses of workers, on both databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.events.envelope import OutboxCursor
from penstock.events.handling import HandlingPolicy
from penstock.identity.ids import TenantId
from penstock.ports.events import InboxStatus
from penstock.ports.tracing import trace_parent_of
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.event_effects import Effects
from penstock.use_cases.handle_events import Handling, handle_waiting, key_of
from penstock.use_cases.work import Workshop, claim_tasks, register_worker
from penstock.use_cases.workflow_tasks import complete_task
from penstock.use_cases.workflow_triggers import TriggerView, begin_queued, trigger_event_driven
from penstock.workflow.tasks import Report
from penstock.workflow.workers import WorkerStatus
from resources.control_db.inbox import SqlInbox
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.store import SqlControlStore
from resources.control_db.work import SqlWork
from tests.contracts.test_inbox import arrival
from tests.contracts.workflow_values import ACME, BY, claim, coordination, create, task, tasks_of
from tests.fixtures.clock import FixedClock

ARCHIVE = {"source_id": "a", "archive": "s3://exports/a.tar"}


class World:
    """An inbox that is acted on, over workflows and workers."""

    def __init__(self, store: SqlControlStore, folder: Path, clock: FixedClock) -> None:
        self.co: Coordination = coordination(store, folder, clock)
        self.workshop = Workshop(work=SqlWork.from_engine(store.engine), clock=clock)
        self.inbox = SqlInbox.from_engine(store.engine)
        self.log = SqlEventLog.from_engine(store.engine)
        self.clock = clock
        self.handling = Handling(
            inbox=self.inbox,
            handlers={},
            clock=clock,
            policy=HandlingPolicy(attempts=2),
            jitter=lambda: 0.0,
        )

    def hear(self, event_type: str, event_id: str = "1", **fields: Any) -> str:
        """Take an event in and act on it; return what became of it."""
        tenant = fields.pop("tenant", ACME)
        subject = str(fields.get("task_id") or fields.get("source_id") or fields.get("worker_id"))
        trace = fields.pop("trace_parent", None)
        event = arrival(
            event_id, subject, type=event_type, tenant_id=tenant, trace_parent=trace, data=fields
        )
        self.inbox.accept([event], received_from="kim", now=self.clock.now())
        effects = Effects(coordination=self.co, workshop=self.workshop)
        handle_waiting(replace(self.handling, handlers=effects.handlers()))
        found = [e for e in self.inbox.find() if e.arrival.event_id == event_id]
        return found[0].error_code or found[0].status.value


@pytest.fixture
def world(control_store: SqlControlStore, tmp_path: Path, clock: FixedClock) -> World:
    return World(control_store, tmp_path, clock)


def test_an_archive_begins_a_turn_of_who_waits_for_it(world: World) -> None:
    """The workflow that waits for the source has a turn for it, once however often the event comes."""
    event = {"type": "archive_discovered", "only_its_source": True}
    made = create(world.co, kind="event_driven", event=event).workflow_id
    assert tasks_of(world.co, made) == []
    for _ in range(2):
        assert world.hear("archive_discovered", **ARCHIVE) == "done"
    assert len(world.co.workflows.list_turns(made)) == 1
    assert tasks_of(world.co, made)[0] == "a collect ready"
    assert world.hear("archive_discovered", "2", tenant=TenantId("other"), **ARCHIVE) == "done"
    assert len(world.co.workflows.list_turns(made)) == 1


def test_an_event_finds_exactly_those_that_wait_for_its_subject(world: World) -> None:
    """One subject, a beginning, or any: whoever matches is found by a look that was made for many events."""
    subjects = (None, "a", "b", "a*", "ab", "*", "abc")
    asked = [{"type": "archive_discovered", "subject": subject} for subject in subjects]
    made = [create(world.co, kind="event_driven", event=event) for event in asked]
    view = TriggerView(world.co)
    for subject in ("a", "ab", "b", "c", ""):
        fired = trigger_event_driven(
            world.co,
            event_id=f"about {subject}",
            event_type="archive_discovered",
            subject=subject,
            tenant=ACME,
            source=None,
            view=view,
        )
        events = ((each.workflow_id, each.spec.event) for each in made)
        waited = {id_ for id_, e in events if e and e.matches("archive_discovered", subject)}
        assert len(fired) == len(waited) >= 2
        assert set(fired) == waited


def test_a_collection_that_is_done_completes_its_task(world: World) -> None:
    """By the task's id and token, once; what comes under an older token, or of another tenant, is refused."""
    made = create(world.co).workflow_id
    report = claim(world.co, made, "a collect")
    of = {"task_id": report.task_id}
    assert world.hear("collection_completed", "0", tenant=TenantId("other"), **of) == "not_found"
    stale = report.fencing_token - 1
    assert world.hear("collection_completed", "1", fencing_token=stale, **of) == "lease_lost"
    token = report.fencing_token
    assert world.hear("collection_completed", "2", fencing_token=token, **of) == "done"
    assert world.hear("collection_completed", "3", fencing_token=token, **of) == "done"
    assert task(world.co, made, "a collect").status == "completed"
    assert task(world.co, made, "a transform").status == "ready"


def test_a_collection_is_found_by_its_source(world: World) -> None:
    """Without a task's id it is the one that is in hand of the source; with none, the event is kept as dead."""
    made = create(world.co).workflow_id
    assert world.hear("collection_completed", "1", source_id="a") == "not_found"
    world.clock.sleep(60)
    handle_waiting(world.handling)
    assert [e.arrival.event_id for e in world.inbox.find(status=InboxStatus.DEAD)] == ["1"]
    claim(world.co, made, "a collect")
    assert world.hear("collection_completed", "2", source_id="a") == "done"
    assert task(world.co, made, "a collect").status == "completed"


def test_a_collection_that_failed_is_tried_again_or_not(world: World) -> None:
    """A failure that passes leaves tries; one that is permanent ends the task."""
    made = create(world.co).workflow_id
    why = {"error_code": "down", "message": "the database does not answer"}
    for name, permanent, status in (("a", False, "ready"), ("b", True, "failed")):
        report = claim(world.co, made, f"{name} collect")
        of = {"task_id": report.task_id, "permanent": permanent}
        assert world.hear("collection_failed", name, **of, **why) == "done"
        assert task(world.co, made, f"{name} collect").status == status


def test_a_collection_begins_a_turn_of_who_waits_for_it(world: World) -> None:
    """One waits for collections of a source, one for failures, one for workers: each has a turn for its own alone."""
    waiting = {
        name: create(world.co, name=name, kind="event_driven", event=event).workflow_id
        for name, event in {
            "done": {"type": "collection_completed", "source": "a", "only_its_source": True},
            "other": {"type": "collection_completed", "source": "b"},
            "failed": {"type": "collection_failed"},
            "gone": {"type": "worker_status_changed", "subject": "w*"},
        }.items()
    }
    made = create(world.co).workflow_id
    first = claim(world.co, made, "a collect")
    stale = {"task_id": first.task_id, "fencing_token": first.fencing_token - 1}
    assert world.hear("collection_completed", "1", **stale) == "lease_lost"
    for _ in range(2):
        assert world.hear("collection_completed", "2", task_id=first.task_id) == "done"
    assert _turns(world, waiting) == {"done": 1, "other": 0, "failed": 0, "gone": 0}
    assert {line.split()[0] for line in tasks_of(world.co, waiting["done"])} == {"a"}
    report = claim(world.co, made, "b collect")
    why = {"error_code": "down", "message": "no answer"}
    assert world.hear("collection_failed", "3", task_id=report.task_id, **why) == "done"
    register_worker(
        world.workshop, "w1", tenant=ACME, capabilities=["collect"], capacity=1, details={}, by=BY
    )
    assert world.hear("worker_status_changed", "4", worker_id="w1", status="draining") == "done"
    assert _turns(world, waiting) == {"done": 1, "other": 0, "failed": 1, "gone": 1}


def test_no_workflow_sets_off_itself_or_another_that_would_set_it_off(world: World) -> None:
    """The collections of a turn that a collection began begin none: neither its own next turn nor the other's."""
    waiting = {
        name: create(
            world.co, name=name, kind="event_driven", event={"type": "collection_completed"}
        ).workflow_id
        for name in ("one", "other")
    }
    made = create(world.co).workflow_id
    first = claim(world.co, made, "a collect")
    assert world.hear("collection_completed", "1", task_id=first.task_id) == "done"
    for number, workflow in enumerate(waiting.values()):
        again = claim(world.co, workflow, "a collect")
        assert world.hear("collection_completed", f"2-{number}", task_id=again.task_id) == "done"
        stored = world.co.workflows.get_workflow(workflow)
        assert (stored.turns, stored.queued_triggers) == (1, ())


def _turns(world: World, workflows: dict[str, str]) -> dict[str, int]:
    return {
        name: len(world.co.workflows.list_turns(workflow)) for name, workflow in workflows.items()
    }


def test_a_worker_is_moved_to_where_it_says_that_it_is(world: World) -> None:
    """It drains, and goes, once; saying so again changes nothing, and nobody moves another tenant's."""
    register_worker(
        world.workshop, "w1", tenant=ACME, capabilities=["collect"], capacity=1, details={}, by=BY
    )
    of = {"worker_id": "w1"}
    drain = "worker_status_changed"
    assert world.hear(drain, "0", tenant=TenantId("other"), status="gone", **of) == "not_found"
    world.clock.sleep(60)
    handle_waiting(world.handling)
    for number, (status, after) in enumerate(
        (
            ("active", "active"),
            ("draining", "draining"),
            ("draining", "draining"),
            ("gone", "gone"),
        ),
        start=1,
    ):
        assert world.hear(drain, str(number), status=status, **of) == "done"
        assert world.workshop.work.get_worker("w1").status is WorkerStatus(after)


TRACED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def test_an_event_s_trace_goes_on_in_all_that_it_begins(world: World) -> None:
    """In the turn, its tasks, what a worker is given, and what is told of them; a turn that waits keeps its own."""
    event = {"type": "archive_discovered", "only_its_source": True}
    made = create(world.co, kind="event_driven", event=event, steps=["collect"]).workflow_id
    later = TRACED.replace("a", "c")
    assert world.hear("archive_discovered", trace_parent=TRACED, **ARCHIVE) == "done"
    assert world.hear("archive_discovered", "2", trace_parent=later, **ARCHIVE) == "done"
    (waiting,) = world.co.workflows.get_workflow(made).queued_triggers
    assert waiting.trace_parent == later
    register_worker(
        world.workshop, "w", tenant=ACME, capabilities=["collect"], capacity=1, details={}, by=BY
    )
    for trace in (TRACED, later):
        turn, (each,) = world.co.workflows.list_turns(made)[0], world.co.workflows.list_tasks(made)
        assert turn.trace_parent == each.trace_parent == trace
        (grant,) = claim_tasks(world.workshop, {"w": 1}).grants
        assert grant.trace_parent == trace
        complete_task(world.co, Report(task_id=each.task_id, fencing_token=grant.fencing_token))
        begin_queued(world.co, limit=9)
    told = [(e.type, e.trace_parent) for e in world.log.read(OutboxCursor(), limit=99)]
    of_a_turn = ["workflow_started", "task_assigned", "task_completed", "workflow_completed"]
    derived = ("workflow_created", trace_parent_of(made))
    mine = [(name, trace) for name, trace in told if name != "worker_status_changed"]
    assert mine == [derived, *((name, trace) for trace in (TRACED, later) for name in of_a_turn)]


def test_an_event_without_a_trace_begins_one_that_follows_from_it(world: World) -> None:
    """So that it can be looked up, and is the same however often the event is handled."""
    made = create(world.co, kind="event_driven", event={"type": "archive_discovered"}).workflow_id
    assert world.hear("archive_discovered", **ARCHIVE) == "done"
    (came,) = world.inbox.find()
    (turn,) = world.co.workflows.list_turns(made)
    assert turn.trace_parent == trace_parent_of(key_of(came.arrival))
