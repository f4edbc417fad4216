"""A changed policy is held against what waits, and changes nothing."""

from __future__ import annotations

import pytest

from penstock.identity.ids import TenantId
from penstock.publish.priority_rules import BoostRule
from penstock.publish.queue import QueuePolicy
from penstock.use_cases.priority import preview_queue, preview_tasks
from penstock.use_cases.work import Workshop, task_places
from penstock.workflow.priority import WorkflowPolicy
from resources.control_db.store import SqlControlStore
from resources.control_db.work import SqlWork
from tests.contracts.control_values import NOW
from tests.contracts.work_values import add_task, add_worker, add_workflow
from tests.fixtures.memory import SOURCE, Bench, person


@pytest.fixture
def workshop(bench: Bench) -> Workshop:
    """Workers over the control database of a platform in memory."""
    control = bench.platform.control
    assert isinstance(control, SqlControlStore)
    bench.clock.moment = NOW
    return Workshop(work=SqlWork.from_engine(control.engine), clock=bench.clock)


def test_a_policy_of_the_queue_is_previewed(bench: Bench) -> None:
    """Each batch with its arithmetic before and after; the queue itself keeps its order."""
    for _ in range(2):
        bench.land([person("crm/a")])
    policy = QueuePolicy(boosts=(BoostRule(name="vip", points=7, sources=frozenset({SOURCE})),))
    found = preview_queue(bench.platform, policy)
    assert [shift.after.place for shift in found.shifts] == [1, 2]
    first = found.shifts[0]
    assert "rule vip" not in first.before.parts
    assert first.after.parts["rule vip"] == 7.0
    assert first.after.points == pytest.approx(first.before.points + 7)
    assert sum(first.after.parts.values()) == pytest.approx(first.after.points)
    assert found.moved == 0
    assert preview_queue(bench.platform, policy, tenant=TenantId("nobody")).shifts == ()


def test_a_policy_of_tasks_is_previewed(workshop: Workshop) -> None:
    """A rule brings one task before another; nothing is given to anybody."""
    work = workshop.work
    assert isinstance(work, SqlWork)
    whose = add_workflow(work.engine, "a")
    add_task(work.engine, whose, "crm", priority=2.0)
    add_task(work.engine, whose, "erp")
    policy = WorkflowPolicy(
        boosts=(BoostRule(name="erp first", points=5, sources=frozenset({"erp"})),)
    )
    found = preview_tasks(workshop, policy)
    places = [(s.source_id, s.before.place, s.after.place, s.forward) for s in found.shifts]
    assert places == [("erp", 2, 1, 1), ("crm", 1, 2, -1)]
    assert found.moved == 2
    assert found.shifts[0].after.parts["rule erp first"] == 5.0
    assert found.shifts[0].before.waits_for == "a worker of tenant acme that can collect"
    assert work.held_tasks() == []


def test_places_say_who_would_have_a_task(workshop: Workshop) -> None:
    """The order of the allotment over all workers, as of now."""
    work = workshop.work
    assert isinstance(work, SqlWork)
    add_worker(work)
    task_id = add_task(work.engine, add_workflow(work.engine, "a"))
    (place,) = task_places(workshop)
    assert (place.task.task_id, place.worker_id, place.waits_for) == (task_id, "w1", None)
    assert task_places(workshop, tenant=TenantId("nobody")) == []
