"""Workers over HTTP: what they may ask, what they are given, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.worker.calls import Assignment, Calls, NoAnswer, Refused
from control_plane.worker.running import Done, OutsideWorker, TaskFailed
from penstock.identity.ids import TenantId
from penstock.use_cases.workflow_triggers import trigger_event_driven
from penstock.workflow.workers import WorkerMove, WorkerStatus
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import ControlServer, services_at
from tests.fixtures.outside import begin, calls_of, declare, eventually, tasks_of, working

TRACED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
WORKER = {"worker_id": "w1", "capabilities": ["collect"], "capacity": 4}


@pytest.fixture
def served(control_url: str, clock: FixedClock, tmp_path: Path) -> Iterator[ControlServer]:
    """A server that gives out work, once on SQLite and once on PostgreSQL."""
    services = services_at(tmp_path / "home", control_url, clock)
    declare(services, "crm", "erp")
    with working(services) as running:
        yield running


@pytest.fixture
def calls(served: ControlServer) -> Iterator[Calls]:
    """A worker's connection."""
    made = calls_of(served, "w1", sleep=lambda _s: None, tries=2)
    yield made
    made.close()


def ask(served: ControlServer, method: str, path: str, role: str = "worker", **options: Any) -> Any:
    tenant = options.pop("tenant", "acme")
    return served.request(method, path, role=role, tenant=tenant, **options)


def test_a_task_goes_from_claim_to_report(served: ControlServer, calls: Calls) -> None:
    """Registered, claimed, renewed, completed: the next step of its source is there with that."""
    said = calls.register(["collect", "transform"], 4, {"host": "h"})
    assert (said.heartbeat_s, said.renew_s) == (15.0, 10.0)
    workflow_id = begin(served.services, "crm")
    (task,) = calls.claim(4, 20.0)
    assert (task.step, task.source_id, task.attempt) == ("collect", "crm", 1)
    assert calls.renew(task) is False
    assert tasks_of(served.services, workflow_id)["crm collect"].status == "running"
    for _ in range(2):
        calls.complete(task, None, {"path": "s3://x"})
    (after,) = calls.claim(4, 20.0)
    assert (after.step, after.document["given"]) == ("transform", {"path": "s3://x"})


def test_whoever_collects_may_land_the_batch_as_well(served: ControlServer, calls: Calls) -> None:
    """Then nothing is left to transform, and its publish is next."""
    calls.register(["collect"], 1, {})
    workflow_id = begin(served.services, "crm")
    (task,) = calls.claim(1, 20.0)
    batch = "crm@2026-01-01T00-00-00.000000Z"
    calls.complete(task, batch, {})
    found = tasks_of(served.services, workflow_id)
    assert {name: str(each.status) for name, each in found.items()} == {
        "crm collect": "completed",
        "crm transform": "completed",
        "crm publish": "ready",
    }
    assert found["crm publish"].batch_id == batch


def test_a_worker_that_waits_is_given_what_comes(served: ControlServer, calls: Calls) -> None:
    """It asks first; the workflow is made afterwards."""
    calls.register(["collect"], 1, {})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.claim, 1, 25.0)
        eventually(lambda: served.services.room.waiting, "a worker waits")
        begin(served.services, "crm")
        (task,) = waiting.result()
    assert task.source_id == "crm"


def test_a_task_that_failed_is_due_again_later_or_never(
    served: ControlServer, calls: Calls, clock: FixedClock
) -> None:
    """Whether trying again may help is the worker's word; its breaker and its source's count it."""
    calls.register(["collect"], 2, {})
    workflow_id = begin(served.services, "crm", "erp")
    given = {task.source_id: task for task in calls.claim(2, 20.0)}
    calls.fail(given["crm"], "no_route", "it does not answer", retryable=True)
    calls.fail(given["erp"], "gone", "there is no such system", retryable=False)
    found = tasks_of(served.services, workflow_id)
    assert (found["crm collect"].status, found["erp collect"].status) == ("ready", "failed")
    assert found["crm collect"].due_at > clock.now()
    seen = ask(served, "GET", "/work-breakers", "viewer").json()["items"]
    failures = {each["scope_id"]: each["failures"] for each in seen}
    assert failures == {"crm": 1, "erp": 1, "w1": 2}


def test_an_end_is_counted_once(served: ControlServer, calls: Calls) -> None:
    """With the task's end, in one transaction: one that is said twice, or refused, counts nothing more."""
    calls.register(["collect"], 2, {})
    begin(served.services, "crm")
    (task,) = calls.claim(1, 20.0)
    stale = replace(task, fencing_token=task.fencing_token - 1)
    with pytest.raises(Refused, match="stop"):
        calls.complete(stale, None, {})
    for _ in range(2):
        calls.complete(task, None, {})
    seen = ask(served, "GET", "/work-breakers", "viewer").json()["items"]
    assert {each["scope_id"]: each["calls"] for each in seen} == {"crm": 1, "w1": 1}


def test_who_lost_its_task_is_refused(
    served: ControlServer, calls: Calls, clock: FixedClock
) -> None:
    """Another has it under a higher token; the old one renews and reports nothing."""
    from penstock.use_cases.progress_workflows import progress_workflows

    calls.register(["collect"], 1, {})
    begin(served.services, "crm", retry={"tries": 5, "delay_s": 1, "jitter_share": 0})
    (old,) = calls.claim(1, 20.0)
    clock.moment += timedelta(seconds=31)
    assert progress_workflows(served.services.coordination).expired == 1
    clock.moment += timedelta(seconds=2)
    other = calls_of(served, "w2")
    other.register(["collect"], 1, {})
    (new,) = other.claim(1, 20.0)
    assert new.fencing_token > old.fencing_token
    for report in (
        lambda: calls.renew(old),
        lambda: calls.complete(old, None, {}),
        lambda: calls.fail(old, "x", "y", retryable=True),
    ):
        with pytest.raises(Refused, match="stop") as refused:
            report()
        assert (refused.value.status, refused.value.problem) == (409, "lease_lost")
    other.complete(new, None, {})
    other.close()


def test_a_cancelled_workflow_tells_its_workers_to_stop(
    served: ControlServer, calls: Calls
) -> None:
    """With the next renewal."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.workflows import cancel_workflow

    calls.register(["collect"], 1, {})
    workflow_id = begin(served.services, "crm")
    (task,) = calls.claim(1, 20.0)
    cancel_workflow(served.services.coordination, workflow_id, by=By(actor="olga", reason="no"))
    assert calls.renew(task) is True
    calls.fail(task, "stopped", "it was stopped", retryable=True)
    assert tasks_of(served.services, workflow_id)["crm collect"].status == "cancelled"


def test_a_worker_drains_and_leaves(served: ControlServer, calls: Calls) -> None:
    """Whoever waits is answered, nothing more is given, and once it is gone it is not known any more."""
    calls.register(["collect"], 1, {})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.claim, 1, 25.0)
        eventually(lambda: served.services.room.waiting, "a worker waits")
        calls.drain()
        assert waiting.result() == []
    assert calls.heartbeat() == "draining"
    calls.leave()
    with pytest.raises(Refused, match="register anew"):
        calls.heartbeat()
    with pytest.raises(Refused, match="register anew"):
        calls.claim(1, 0.0)


def test_workers_are_seen_with_what_they_have(served: ControlServer, calls: Calls) -> None:
    """By those who may look."""
    calls.register(["collect"], 4, {"host": "h"})
    begin(served.services, "crm")
    (task,) = calls.claim(1, 20.0)
    (seen,) = ask(served, "GET", "/workers", "viewer").json()["items"]
    assert (seen["worker_id"], seen["tenant"], seen["breaker"]) == ("w1", "acme", "closed")
    assert [each["task_id"] for each in seen["tasks"]] == [task.task_id]
    assert ask(served, "GET", "/workers/w1", "viewer").json() == seen


def test_a_worker_token_opens_nothing_else(served: ControlServer) -> None:
    """Nor does a viewer work; an operator may do both."""
    assert ask(served, "POST", "/workers", "worker", json=WORKER).status_code == 201
    assert ask(served, "POST", "/workers", "viewer", json=WORKER).status_code == 403
    assert ask(served, "GET", "/workers", "worker").status_code == 403
    assert ask(served, "PUT", "/workers/w1/heartbeat", "operator", json={}).status_code == 200


def test_one_tenant_does_not_see_the_workers_of_another(served: ControlServer) -> None:
    """They are not there, whatever is asked; nor are its tasks given to them."""
    assert ask(served, "POST", "/workers", json=WORKER).status_code == 201
    begin(served.services, "crm")
    for method, path, body in (
        ("PUT", "/workers/w1/heartbeat", {}),
        ("PUT", "/workers/w1/drain", {}),
        ("POST", "/workers/w1/claims", {}),
        ("DELETE", "/workers/w1", None),
    ):
        answer = ask(served, method, path, tenant="other", json=body)
        assert answer.status_code == 404, path
    assert ask(served, "GET", "/workers", "viewer", tenant="other").json()["items"] == []
    mine = {**WORKER, "worker_id": "w2"}
    assert ask(served, "POST", "/workers", tenant="other", json=mine).status_code == 201
    assert ask(served, "POST", "/workers/w2/claims", tenant="other", json={}).json() == {
        "items": []
    }


def test_an_id_that_is_in_use_is_refused(served: ControlServer) -> None:
    """Until its worker is gone."""
    assert ask(served, "POST", "/workers", json=WORKER).status_code == 201
    again = ask(served, "POST", "/workers", json=WORKER)
    assert (again.status_code, again.json()["code"]) == (409, "changed_meanwhile")
    assert ask(served, "DELETE", "/workers/w1").json()["status"] == "gone"
    assert ask(served, "POST", "/workers", json=WORKER).status_code == 201


def test_a_breaker_is_closed_by_an_operator(served: ControlServer, calls: Calls) -> None:
    """What is closed already, or of another tenant, is refused."""
    calls.register(["collect"], 4, {})
    for _ in range(3):
        begin(served.services, "crm", retry={"tries": 0})
        (task,) = calls.claim(1, 20.0)
        calls.fail(task, "no_route", "no", retryable=False)
    reset = "/work-breakers/source/crm/reset"
    seen = ask(served, "GET", "/work-breakers", "viewer").json()["items"]
    assert {each["status"] for each in seen} == {"open"}
    assert ask(served, "POST", reset, "operator", tenant="other", json={}).status_code == 404
    closed = ask(served, "POST", reset, "operator", json={"reason": "mended"})
    assert closed.json()["status"] == "closed"
    assert ask(served, "POST", reset, "operator", json={}).status_code == 409


def test_priorities_are_explained_and_previewed(served: ControlServer) -> None:
    """Each task with its arithmetic, as it is and as it would be."""
    begin(served.services, "crm", "erp")
    found = ask(served, "GET", "/priority/tasks", "viewer").json()["items"]
    assert sorted(each["source_id"] for each in found) == ["crm", "erp"]
    assert found[0]["waits_for"] == "a worker of tenant acme that can collect"
    boost = {"name": "erp first", "points": 9, "sources": ["erp"]}
    body = {"workflow_policy": {"boosts": [boost]}, "queue_policy": {}}
    told = ask(served, "POST", "/priority/preview", "viewer", json=body).json()
    assert told["queue"] == {"moved": 0, "items": []}
    first = told["tasks"]["items"][0]
    assert (first["source_id"], first["after"]["parts"]["rule erp first"]) == ("erp", 9.0)
    for wrong in ({"age_weight": -1}, {"age_weight": True}, {"age_unit_s": 5e-324}):
        bad = {"workflow_policy": wrong}
        assert ask(served, "POST", "/priority/preview", "viewer", json=bad).status_code == 400


# The client -------------------------------------------------------------------------------------------------


def test_a_worker_does_what_there_is_and_drains(served: ControlServer) -> None:
    """Five tasks, two at once, one of which fails for good; then it is stopped, and is gone."""
    done: list[str] = []
    declare(served.services, *(f"s{number}" for number in range(5)))

    def handle(task: Assignment, _stop: threading.Event) -> Done:
        done.append(task.source_id)
        if task.source_id == "s3":
            raise TaskFailed("no such system", code="gone", retryable=False)
        return Done(batch_id=f"{task.source_id}@2026-01-01T00-00-00.000000Z")

    workflow_id = begin(served.services, *(f"s{number}" for number in range(5)), retry={"tries": 0})
    calls = calls_of(served, "w1")
    worker = OutsideWorker(calls=calls, handlers={"collect": handle}, capacity=2)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.run)

        def ended() -> bool:
            found = tasks_of(served.services, workflow_id)
            return all(found[f"s{n} collect"].ended_at for n in range(5))

        eventually(ended, "all tasks end")
        worker.stop()
        running.result(60)
    calls.close()
    assert sorted(done) == [f"s{number}" for number in range(5)]
    found = tasks_of(served.services, workflow_id)
    statuses = [str(found[f"s{number} collect"].status) for number in range(5)]
    assert statuses == ["completed", "completed", "completed", "failed", "completed"]
    assert served.services.workshop.work.get_worker("w1").status is WorkerStatus.GONE


def test_a_mistake_in_a_handler_fails_its_task(served: ControlServer) -> None:
    """The worker goes on, and what went wrong is reported."""

    def handle(_task: Assignment, _stop: threading.Event) -> Done:
        raise ValueError("a mistake")

    workflow_id = begin(served.services, "crm", retry={"tries": 0})
    calls = calls_of(served, "w1")
    worker = OutsideWorker(calls=calls, handlers={"collect": handle})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.run)

        def trouble() -> Any:
            return tasks_of(served.services, workflow_id)["crm collect"].trouble

        assert eventually(trouble, "it fails").message == "ValueError: a mistake"
        worker.stop()
        running.result(60)
    calls.close()


def test_a_worker_that_was_given_up_registers_anew(
    served: ControlServer, clock: FixedClock
) -> None:
    """And works on."""
    from penstock.use_cases.work import lose_silent_workers

    calls = calls_of(served, "w1", sleep=lambda _s: None)
    worker = OutsideWorker(
        calls=calls, handlers={"collect": lambda _task, _stop: Done()}, claim_wait_s=0.2
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.run)
        work = served.services.workshop.work
        eventually(work.list_workers, "it registers")
        work.move_worker(
            "w1",
            WorkerMove.LEAVE,
            now=clock.now(),
            act=None,
            why="as if nothing had been heard of it",
        )
        eventually(lambda: work.get_worker("w1").status == "active", "it registers anew")
        workflow_id = begin(served.services, "crm")
        eventually(
            lambda: tasks_of(served.services, workflow_id)["crm collect"].ended_at, "it works"
        )
        worker.stop()
        running.result(60)
    calls.close()
    assert lose_silent_workers(served.services.workshop) == []


def test_a_worker_waits_as_long_as_it_is_told(served: ControlServer) -> None:
    """A server that is not there is asked again, later each time, and given up after some tries."""
    waits: list[float] = []
    gone = Calls(
        url="http://127.0.0.1:9", token="t", worker_id="w", sleep=waits.append, jitter=lambda: 1.0
    )
    with pytest.raises(NoAnswer, match="no answer"):
        gone.heartbeat()
    gone.close()
    assert waits == [0.1, 0.2, 0.4, 0.8]
    assert served.url


def test_a_worker_is_given_the_trace_of_the_event(served: ControlServer, calls: Calls) -> None:
    """Of a task that an event began; of one that somebody asked for it is given none."""
    calls.register(["collect"], 2, {})
    begin(served.services, "crm")
    (task,) = calls.claim(1, 20.0)
    assert task.trace_parent is None
    begin(served.services, "erp", kind="event_driven", event={"type": "archive_discovered"})
    trigger_event_driven(
        served.services.coordination,
        event_id="1",
        event_type="archive_discovered",
        subject="erp",
        tenant=TenantId("acme"),
        source="erp",
        trace_parent=TRACED,
    )
    (traced,) = calls.claim(1, 20.0)
    assert (traced.source_id, traced.trace_parent) == ("erp", TRACED)
