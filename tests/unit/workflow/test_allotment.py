"""Tasks go to workers by capability, load and priority, within bulkheads; the others say what they wait for."""

from __future__ import annotations

from datetime import timedelta

from penstock.identity.ids import SourceId, TenantId
from penstock.publish.breaker import BreakerStatus
from penstock.workflow.status import WorkflowKind
from penstock.workflow.workers import (
    EVERY_TENANT,
    BreakerScope,
    Bulkhead,
    WorkerPolicy,
    WorkerStatus,
)
from tests.contracts.control_values import NOW
from tests.unit.workflow.work_values import breaker, given, in_hand, places, ready, waits, worker

LATER = 10**9


def test_the_best_score_goes_first() -> None:
    """With one slot the task of the higher priority has it, and the other waits for a slot."""
    found = places([ready("a"), ready("b", priority=5.0)], [worker(capacity=1)])
    assert given(found) == {"b": "w1"}
    assert waits(found) == {
        "a": "one of the 1 slots of workers that can collect, which are all taken"
    }


def test_a_task_needs_a_worker_that_can() -> None:
    """What nobody can do waits for a worker that can, and keeps no other back."""
    found = places([ready("a", capability="transform", priority=9.0), ready("b")], [worker()])
    assert given(found) == {"b": "w1"}
    assert waits(found) == {"a": "a worker of tenant acme that can transform"}


def test_a_capability_may_be_for_one_source_alone() -> None:
    """``collect:crm`` collects crm and nothing else."""
    tasks = [ready("a", source_id=SourceId("crm")), ready("b", source_id=SourceId("erp"))]
    assert given(places(tasks, [worker(capabilities=("collect:crm",))])) == {"a": "w1"}


def test_a_worker_has_tasks_of_its_tenant_alone() -> None:
    """Unless it works for every tenant."""
    tasks = [ready("a"), ready("b", tenant_id=TenantId("other"))]
    assert given(places(tasks, [worker()])) == {"a": "w1"}
    everyone = worker(tenant_id=EVERY_TENANT)
    assert given(places(tasks, [everyone])) == {"a": "w1", "b": "w1"}


def test_the_least_loaded_worker_is_given_the_next_task() -> None:
    """Load is what it has in hand by its capacity."""
    workers = [worker("w1", capacity=4), worker("w2", capacity=2)]
    held = [in_hand("x", "w1"), in_hand("y", "w2")]
    assert given(places([ready("a")], workers, held)) == {"a": "w1"}


def test_of_equals_the_specialist_is_given_the_task() -> None:
    """So that who can do more stays free for it."""
    workers = [worker("w1", capabilities=("collect", "transform")), worker("w2")]
    assert given(places([ready("a")], workers)) == {"a": "w2"}


def test_only_who_asks_is_given_something() -> None:
    """And never more than it asks for."""
    tasks = [ready("a"), ready("b")]
    found = places(tasks, [worker("w1"), worker("w2")], asking={"w2": 1})
    assert given(found) == {"a": "w2"}
    assert "to ask for more" in waits(found)["b"]


def test_who_drains_or_is_silent_is_given_nothing() -> None:
    """A task waits for a worker that takes more."""
    draining = worker(status=WorkerStatus.DRAINING)
    assert waits(places([ready("a")], [draining])) == {
        "a": "a worker of tenant acme that can collect: 1 drain"
    }
    silent = places([ready("a")], [worker()], policy=WorkerPolicy(silent_s=60), now_s=60)
    assert given(silent) == {}


def test_a_bulkhead_keeps_a_kind_or_a_tenant_within_its_most() -> None:
    """However many slots are free."""
    policy = WorkerPolicy(silent_s=LATER, tenants={"acme": Bulkhead(most=2)})
    found = places([ready("a"), ready("b")], [worker()], [in_hand("x")], policy=policy)
    assert given(found) == {"a": "w1"}
    assert waits(found) == {
        "b": "one of the 2 tasks of tenant acme in hand, which are as many as may be"
    }
    policy = WorkerPolicy(silent_s=LATER, kinds={"*": Bulkhead(most=0)})
    assert "tasks of kind on_demand" in waits(places([ready("a")], [worker()], policy=policy))["a"]


def test_who_has_less_than_is_guaranteed_goes_first() -> None:
    """Whatever the others' scores: one tenant cannot keep another out."""
    flood = [ready(f"f{n}", priority=50.0) for n in range(9)]
    quiet = ready("q", tenant_id=TenantId("quiet"))
    found = places([*flood, quiet], [worker(capacity=2, tenant_id=EVERY_TENANT)])
    assert set(given(found)) == {"f0", "q"}
    place = next(each for each in found if each.task.task_id == "q")
    assert place.went_first == "tenant quiet has 0 of 1 tasks that it is guaranteed"


def test_what_is_guaranteed_and_not_wanted_is_used_by_others() -> None:
    """A guarantee keeps no slot empty."""
    policy = WorkerPolicy(silent_s=LATER, tenants={"quiet": Bulkhead(guaranteed=3)})
    found = places([ready("a"), ready("b")], [worker(capacity=2)], policy=policy)
    assert set(given(found)) == {"a", "b"}


def test_patience_ends_before_guarantees_starve_a_task() -> None:
    """What was ready for too long goes before what is guaranteed to others."""
    policy = WorkerPolicy(
        silent_s=LATER,
        patience_s=60,
        tenants={"acme": Bulkhead(guaranteed=9), "poor": Bulkhead(guaranteed=0)},
        kinds={"*": Bulkhead(guaranteed=0)},
    )
    old = ready("old", tenant_id=TenantId("poor"), ready_at=NOW, due_at=NOW)
    new = ready("new", priority=9.0, ready_at=NOW + timedelta(seconds=50))
    one = [worker(capacity=1, tenant_id=EVERY_TENANT)]
    assert given(places([old, new], one, policy=policy, now_s=60)) == {"new": "w1"}
    assert given(places([old, new], one, policy=policy, now_s=61)) == {"old": "w1"}


def test_a_retry_waits_for_its_time() -> None:
    """And says until when."""
    put_off = ready("a", due_at=NOW + timedelta(seconds=30))
    assert waits(places([put_off], [worker()])) == {"a": "its time, 2026-01-01 12:00:30 UTC"}
    assert given(places([put_off], [worker()], now_s=30)) == {"a": "w1"}


def test_an_open_breaker_of_a_source_keeps_its_tasks_back() -> None:
    """Those of other sources go on; half open, it lets one through."""
    tasks = [ready("a", source_id=SourceId("crm")), ready("b", source_id=SourceId("crm"))]
    tasks.append(ready("c"))
    shut = breaker(BreakerScope.SOURCE, "crm")
    found = places(tasks, [worker()], breakers=[shut])
    assert given(found) == {"c": "w1"}
    assert waits(found)["a"] == (
        "the breaker of source crm, open until 2026-01-01 12:01:00 UTC: no route"
    )
    half_open = places(tasks, [worker()], breakers=[shut], now_s=60)
    assert given(half_open) == {"a": "w1", "c": "w1"}
    assert waits(half_open)["b"] == "the task that finds out whether source crm is well again"


def test_an_open_breaker_of_a_worker_sends_tasks_to_others() -> None:
    """It alone is left out; with no other, its breaker is what they wait for."""
    shut = breaker(BreakerScope.WORKER, "w1")
    assert given(places([ready("a")], [worker("w1"), worker("w2")], breakers=[shut])) == {"a": "w2"}
    found = places([ready("a")], [worker("w1")], breakers=[shut])
    assert waits(found)["a"].startswith("the breaker of worker w1, open until")


def test_a_doubted_worker_is_given_one_task_at_a_time() -> None:
    """Its last task failed, and too few were tried to prove anything."""
    doubted = breaker(
        BreakerScope.WORKER,
        "w1",
        status=BreakerStatus.CLOSED,
        open_until=None,
        doubted_until=NOW + timedelta(minutes=1),
    )
    found = places([ready("a"), ready("b")], [worker()], breakers=[doubted])
    assert given(found) == {"a": "w1"}


def test_a_source_may_have_a_limit() -> None:
    """So that a system that many workflows ask is not asked by all at once."""
    crm = SourceId("crm")
    policy = WorkerPolicy(silent_s=LATER, most_per_source=1)
    tasks = [ready("a", source_id=crm), ready("b", source_id=crm, kind=WorkflowKind.RECOVERY)]
    assert set(given(places(tasks, [worker()], policy=policy))) == {"a"}
