"""Workers and their claims in the control database, on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select, update

from penstock.errors import ChangedMeanwhile, IllegalMove, LeaseLost, NotFound, NothingToDo
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.work import Grant, Outcome
from penstock.publish.breaker import BreakerStatus
from penstock.workflow.priority import WorkflowPolicy
from penstock.workflow.status import Step
from penstock.workflow.workers import (
    EVERY_TENANT,
    BreakerScope,
    Bulkhead,
    WorkerMove,
    WorkerPolicy,
    WorkerStatus,
)
from resources.control_db.audit_log import SqlAuditLog
from resources.control_db.outcomes import count_outcomes
from resources.control_db.store import SqlControlStore
from resources.control_db.work import SqlWork
from resources.control_db.workflow_tables import workflow, workflow_task
from tests.contracts.control_values import NOW
from tests.contracts.work_values import (
    POLICY,
    add_task,
    add_worker,
    add_workflow,
    claim,
    entry,
    must_claim,
    told,
)

LATER = NOW + timedelta(seconds=31)


@pytest.fixture
def work(control_store: SqlControlStore) -> SqlWork:
    """A store of work on a fresh control database."""
    return SqlWork.from_engine(control_store.engine)


def one_task(work: SqlWork, name: str = "a", **fields: Any) -> str:
    return add_task(work.engine, add_workflow(work.engine, name), **fields)


def put(work: SqlWork, task_id: str, **values: Any) -> None:
    """Change a task as its workflow's owner would."""
    with work.engine.begin() as connection:
        mine = workflow_task.c.task_id == task_id
        connection.execute(update(workflow_task).where(mine).values(**values))


# Workers ----------------------------------------------------------------------------------------------------


def test_a_worker_is_kept_as_it_registers(work: SqlWork, control_store: SqlControlStore) -> None:
    """With an event and an entry in the audit log."""
    made = add_worker(work, capabilities=("collect", "collect:crm"), details={"host": "h\0"})
    assert work.get_worker("w1").capabilities == made.capabilities
    assert work.get_worker("w1").details == {"host": "h\ufffd"}
    assert told(work.engine, "worker_status_changed") == [
        {"worker_id": "w1", "status": "active", "before": None, "reason": None}
    ]
    acts = SqlAuditLog.list_acts(control_store)
    assert [act.act for act in acts] == ["worker.register"]


def test_an_id_is_free_again_once_its_worker_is_gone(work: SqlWork) -> None:
    """While it is not, another that registers under it is refused."""
    add_worker(work)
    with pytest.raises(ChangedMeanwhile, match="not gone"):
        add_worker(work)
    work.move_worker("w1", WorkerMove.LEAVE, now=NOW, act=None, why="done")
    add_worker(work, capacity=7)
    assert (work.get_worker("w1").capacity, work.get_worker("w1").gone_at) == (7, None)


def test_of_many_that_register_under_one_id_one_does(work: SqlWork, control_url: str) -> None:
    """Whoever is later is told."""
    barrier = Barrier(4)

    def race(number: int) -> bool:
        store = SqlWork(control_url)
        barrier.wait(30)
        try:
            add_worker(store, capacity=number + 1)
        except ChangedMeanwhile:
            return False
        finally:
            store.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(race, range(4))) == 1
    assert len(told(work.engine, "worker_status_changed")) == 1


def test_a_heartbeat_keeps_a_worker_from_being_lost(work: SqlWork) -> None:
    """Without one it is gone when its time is up, for good, and that is told."""
    add_worker(work)
    beat = NOW + timedelta(seconds=40)
    work.heartbeat("w1", now=beat, details={"version": "2"})
    assert work.lose_silent(now=NOW + timedelta(seconds=99), policy=POLICY) == []
    (lost,) = work.lose_silent(now=NOW + timedelta(seconds=100), policy=POLICY)
    assert (lost.status, lost.details) == (WorkerStatus.GONE, {"version": "2"})
    assert work.lose_silent(now=NOW + timedelta(seconds=100), policy=POLICY) == []
    with pytest.raises(IllegalMove, match="register anew"):
        work.heartbeat("w1", now=beat)
    assert told(work.engine, "worker_status_changed")[-1] == {
        "worker_id": "w1",
        "status": "gone",
        "before": "active",
        "reason": "nothing was heard of it for 60 s",
    }


def test_a_worker_that_is_gone_is_forgotten_in_time(work: SqlWork) -> None:
    """What it did keeps its name; whoever is there, or was gone a moment ago, stays."""
    for name in ("w1", "w2", "w3"):
        add_worker(work, worker_id=name)
    for name, at in (("w1", NOW), ("w2", NOW + timedelta(days=1))):
        work.move_worker(name, WorkerMove.LEAVE, now=at, act=None, why="it left")
    assert work.forget_gone(before=NOW) == 0
    assert work.forget_gone(before=NOW + timedelta(days=1)) == 1
    assert [each.worker_id for each in work.list_workers()] == ["w2", "w3"]
    assert work.forget_gone(before=NOW + timedelta(days=9)) == 1
    assert add_worker(work, worker_id="w1").status is WorkerStatus.ACTIVE


def test_a_worker_that_nobody_knows_is_not_found(work: SqlWork) -> None:
    """Whatever is asked of it."""
    for ask in (
        lambda: work.get_worker("w"),
        lambda: work.heartbeat("w", now=NOW),
        lambda: work.move_worker("w", WorkerMove.DRAIN, now=NOW, act=None, why=""),
        lambda: work.renew_task("t", "w", 1, now=NOW, lease_s=5),
    ):
        with pytest.raises(NotFound):
            ask()


def test_a_worker_that_drains_keeps_what_it_has_and_is_given_nothing_more(work: SqlWork) -> None:
    """Draining twice changes nothing the second time."""
    add_worker(work)
    one_task(work, "a")
    grant = must_claim(work)
    one_task(work, "b")
    for _ in range(2):
        drained = work.move_worker("w1", WorkerMove.DRAIN, now=NOW, act=entry(), why="service")
        assert drained.status is WorkerStatus.DRAINING
    assert len(told(work.engine, "worker_status_changed")) == 2
    assert claim(work).grants == ()
    assert [each.task_id for each in work.held_tasks(worker_id="w1")] == [grant.task_id]
    renewed = work.renew_task(grant.task_id, "w1", grant.fencing_token, now=LATER, lease_s=30)
    assert renewed.lease_expires_at == LATER + timedelta(seconds=30)


def test_what_a_worker_had_that_is_gone_can_be_taken_back_at_once(work: SqlWork) -> None:
    """Its leases run out as it leaves; other workers' do not."""
    for name in ("w1", "w2"):
        add_worker(work, name)
        one_task(work, name)
        must_claim(work, name)
    work.move_worker("w1", WorkerMove.LEAVE, now=NOW, act=None, why="ended")
    expiries = {each.worker_id: each.lease_expires_at for each in work.held_tasks()}
    assert expiries == {"w1": NOW, "w2": NOW + timedelta(seconds=30)}


def test_workers_are_listed_by_tenant_and_status(work: SqlWork) -> None:
    """A tenant sees its own, and those that work for every tenant."""
    add_worker(work, "w1")
    add_worker(work, "w2", tenant_id=TenantId("other"))
    add_worker(work, "w3", tenant_id=EVERY_TENANT)
    work.move_worker("w1", WorkerMove.DRAIN, now=NOW, act=None, why="")
    assert [each.worker_id for each in work.list_workers()] == ["w1", "w2", "w3"]
    seen = work.list_workers(tenant=TenantId("acme"))
    assert [each.worker_id for each in seen] == ["w1", "w3"]
    draining = work.list_workers(status=WorkerStatus.DRAINING)
    assert [each.worker_id for each in draining] == ["w1"]


# Claims -----------------------------------------------------------------------------------------------------


def test_a_task_is_given_under_a_lease_with_a_token(work: SqlWork) -> None:
    """And that is told with the claim."""
    add_worker(work)
    task_id = one_task(work, moment=NOW)
    grant = must_claim(work)
    assert (grant.task_id, grant.worker_id, grant.turn, grant.step) == (
        task_id,
        "w1",
        1,
        Step.COLLECT,
    )
    assert (grant.attempt, grant.fencing_token, grant.moment) == (1, 1, NOW)
    assert grant.lease_expires_at == NOW + timedelta(seconds=30)
    (event,) = told(work.engine, "task_assigned")
    assert (event["task_id"], event["worker_id"], event["attempt"]) == (task_id, "w1", 1)
    assert claim(work).grants == ()


def test_a_worker_gets_what_the_step_before_reported(work: SqlWork) -> None:
    """Of the same source and turn."""
    add_worker(work, capabilities=("transform",))
    whose = add_workflow(work.engine, "a")
    add_task(work.engine, whose, status="completed", result={"path": "s3://x"})
    add_task(work.engine, whose, step="transform", position=1, capability="transform")
    assert must_claim(work).given == {"path": "s3://x"}


@pytest.mark.parametrize("status", ["paused", "cancelling", "failed"])
def test_nothing_is_given_of_a_workflow_that_does_not_run(work: SqlWork, status: str) -> None:
    """Pausing it stops new claims."""
    add_worker(work)
    add_task(work.engine, add_workflow(work.engine, "a", status))
    assert claim(work).grants == ()


def test_a_task_to_publish_has_no_worker(work: SqlWork) -> None:
    """It follows the queue."""
    add_worker(work, capabilities=("publish",))
    one_task(work, step="publish", capability="publish")
    assert claim(work).grants == ()


def test_many_who_ask_are_given_tasks_by_load(work: SqlWork) -> None:
    """One claim may be for several workers; each gets no more than it asks for."""
    add_worker(work, "w1", capacity=4)
    add_worker(work, "w2", capacity=4)
    whose = add_workflow(work.engine, "a")
    for number in range(8):
        add_task(work.engine, whose, f"s{number}")
    one = work.claim_tasks({"w1": 4, "w2": 1}, now=NOW, policy=POLICY, priorities=WorkflowPolicy())
    counts = [sum(g.worker_id == name for g in one.grants) for name in ("w1", "w2")]
    assert counts == [4, 1]


def test_a_worker_may_have_as_many_again_ahead(work: SqlWork) -> None:
    """Only one that asks for it, up to twice its capacity, and after those that have room."""
    add_worker(work, "w1", capacity=2)
    add_worker(work, "w2", capacity=2)
    whose = add_workflow(work.engine, "a")
    for number in range(9):
        add_task(work.engine, whose, f"s{number}")
    assert len(claim(work, "w1").grants) == 2
    assert claim(work, "w1").grants == ()
    assert len(claim(work, "w1", 1, ahead={"w1": 2}).grants) == 1
    given = work.claim_tasks(
        {"w1": 1, "w2": 1}, now=NOW, policy=POLICY, priorities=WorkflowPolicy(), ahead={"w1": 99}
    )
    assert [grant.worker_id for grant in given.grants] == ["w2", "w1"]
    assert claim(work, "w1", ahead={"w1": 99}).grants == ()


def test_a_bulkhead_counts_what_others_have(work: SqlWork) -> None:
    """However many ask one after the other."""
    policy = WorkerPolicy(tenants={"acme": Bulkhead(most=2)})
    add_worker(work)
    whose = add_workflow(work.engine, "a")
    for number in range(4):
        add_task(work.engine, whose, f"s{number}")
    assert [len(claim(work, most=1, policy=policy).grants) for _ in range(3)] == [1, 1, 0]


def test_renewing_says_when_to_stop(work: SqlWork) -> None:
    """The first renewal has the task run; once its workflow is cancelled, it asks the worker to end."""
    add_worker(work)
    task_id = one_task(work)
    grant = must_claim(work)
    assert not work.renew_task(task_id, "w1", grant.fencing_token, now=NOW, lease_s=30).stop
    (held,) = work.held_tasks()
    assert held.status == "running"
    put(work, task_id, status="stopping")
    assert work.renew_task(task_id, "w1", grant.fencing_token, now=NOW, lease_s=30).stop


def test_a_token_that_is_not_the_last_is_refused(work: SqlWork) -> None:
    """Once the task was taken back, or given to another, its old worker can renew nothing."""
    add_worker(work, "w1")
    add_worker(work, "w2")
    task_id = one_task(work)
    old = must_claim(work)
    put(work, task_id, status="ready", worker_id=None, lease_expires_at=None)
    with pytest.raises(LeaseLost, match="stop"):
        work.renew_task(task_id, "w1", old.fencing_token, now=LATER, lease_s=30)
    new = must_claim(work, "w2", now=LATER)
    assert (new.fencing_token, new.attempt) == (2, 2)
    for worker_id, token in (("w1", 1), ("w1", 2), ("w2", 1)):
        with pytest.raises(LeaseLost):
            work.renew_task(task_id, worker_id, token, now=LATER, lease_s=30)
    work.renew_task(task_id, "w2", 2, now=LATER, lease_s=30)


def test_no_task_is_given_twice_however_many_ask_at_once(work: SqlWork, control_url: str) -> None:
    """Six claim at once from connections of their own, within a bulkhead that counts all of them."""
    add_workflow(work.engine, "a")
    whose = "a".rjust(32, "0")
    for number in range(20):
        add_task(work.engine, whose, f"s{number}")
    for number in range(6):
        add_worker(work, f"w{number}", capacity=3)
    policy = WorkerPolicy(tenants={"acme": Bulkhead(most=14)})
    barrier = Barrier(6)

    def race(number: int) -> list[Grant]:
        store = SqlWork(control_url)
        barrier.wait(30)
        got = [g for _ in range(4) for g in claim(store, f"w{number}", 1, policy=policy).grants]
        store.close()
        return got

    with ThreadPoolExecutor(6) as pool:
        grants = [grant for got in pool.map(race, range(6)) for grant in got]
    assert len(grants) == len({grant.task_id for grant in grants}) == 14
    assert len(told(work.engine, "task_assigned")) == 14
    for number in range(6):
        assert len(work.held_tasks(worker_id=f"w{number}")) <= 3


@pytest.mark.parametrize(
    "control_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
def test_a_workflow_that_is_being_changed_is_passed_over(work: SqlWork) -> None:
    """Nobody waits for its lock; whoever asked is told to look again."""
    add_worker(work)
    one_task(work, "a", source="held")
    free = one_task(work, "b", source="free")
    held = workflow.c.workflow_id == "a".rjust(32, "0")
    with work.engine.begin() as connection:
        connection.execute(select(workflow).where(held).with_for_update()).one()
        got = claim(work)
    assert [grant.task_id for grant in got.grants] == [free]
    assert got.look_again
    assert len(claim(work).grants) == 1


# Breakers ---------------------------------------------------------------------------------------------------


def count(work: SqlWork, *, worker: str, error: str | None) -> None:
    """Have a worker's task of the source ``crm`` end."""
    outcome = Outcome(worker_id=worker, source=SourceId("crm"), error=error, at=NOW, policy=POLICY)
    with work.engine.begin() as connection:
        count_outcomes(connection, [outcome])


def test_tasks_that_fail_open_the_breakers_of_worker_and_source(work: SqlWork) -> None:
    """Then neither is given anything, until one is closed by hand or its time is up."""
    add_worker(work, "w1")
    add_worker(work, "w2")
    for error in (None, "no route", "no route", "no route"):
        count(work, worker="w1", error=error)
    found = {(each.scope, each.scope_id): each for each in work.list_work_breakers()}
    assert {key: each.status for key, each in found.items()} == {
        (BreakerScope.SOURCE, "crm"): BreakerStatus.OPEN,
        (BreakerScope.WORKER, "w1"): BreakerStatus.OPEN,
    }
    one_task(work, "a", source="crm")
    other = one_task(work, "b", source="erp")
    assert claim(work, "w1").grants == ()
    assert [grant.task_id for grant in claim(work, "w2").grants] == [other]
    closed = work.reset_work_breaker(BreakerScope.SOURCE, "crm", now=NOW, act=entry())
    assert (closed.status, closed.calls) == (BreakerStatus.CLOSED, 0)
    assert len(claim(work, "w2").grants) == 1
    with pytest.raises(NothingToDo):
        work.reset_work_breaker(BreakerScope.WORKER, "w9", now=NOW, act=entry())


def test_outcomes_are_counted_though_many_come_at_once(work: SqlWork, control_url: str) -> None:
    """No count is lost."""
    barrier = Barrier(4)

    def race(number: int) -> None:
        store = SqlWork(control_url)
        barrier.wait(30)
        for _ in range(5):
            count(store, worker=f"w{number % 2}", error=None)
        store.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(4)))
    calls = {each.scope_id: each.calls for each in work.list_work_breakers()}
    assert calls == {"crm": 20, "w0": 10, "w1": 10}
