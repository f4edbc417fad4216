"""Promises of the allotment, whatever is ready, running and broken."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.identity.ids import SourceId, TenantId
from penstock.publish.breaker import BreakerStatus
from penstock.workflow.allotment import InHand, Standing, allot, can_run
from penstock.workflow.priority import ReadyTask, WorkflowPolicy
from penstock.workflow.status import WorkflowKind
from penstock.workflow.workers import (
    EVERY_TENANT,
    BreakerScope,
    Bulkhead,
    WorkBreaker,
    Worker,
    WorkerPolicy,
    WorkerStatus,
)
from tests.contracts.control_values import NOW
from tests.unit.workflow.work_values import breaker, in_hand, ready, worker

TENANTS = [TenantId("acme"), TenantId("zeta")]
SOURCES = [SourceId("crm"), SourceId("erp"), SourceId("hr")]
CAN = ["collect", "transform", "collect:crm"]
bulkheads = st.builds(
    Bulkhead,
    most=st.none() | st.integers(0, 4),
    guaranteed=st.integers(0, 3),
)
policies = st.builds(
    WorkerPolicy,
    kinds=st.dictionaries(st.sampled_from(["on_demand", "recovery", "*"]), bulkheads),
    tenants=st.dictionaries(st.sampled_from(["acme", "*"]), bulkheads),
    most_per_source=st.none() | st.integers(1, 3),
    patience_s=st.just(600.0),
)


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """Some tasks, workers, tasks in hand and breakers."""
    workers = [
        worker(
            f"w{number}",
            tenant_id=draw(st.sampled_from([*TENANTS, EVERY_TENANT])),
            capabilities=tuple(draw(st.sets(st.sampled_from(CAN), min_size=1))),
            capacity=draw(st.integers(1, 3)),
            status=draw(st.sampled_from([WorkerStatus.ACTIVE] * 3 + [WorkerStatus.DRAINING])),
            heartbeat_at=NOW - timedelta(seconds=draw(st.sampled_from([0, 0, 0, 61]))),
        )
        for number in range(draw(st.integers(0, 4)))
    ]

    def ours(name: str) -> dict[str, object]:
        return {
            "task_id": name,
            "tenant_id": draw(st.sampled_from(TENANTS)),
            "source_id": draw(st.sampled_from(SOURCES)),
            "kind": draw(st.sampled_from([WorkflowKind.ON_DEMAND, WorkflowKind.RECOVERY])),
        }

    def one(number: int) -> ReadyTask:
        since = NOW - timedelta(seconds=draw(st.integers(0, 1200)))
        return ready(
            **ours(f"t{number}"),  # type: ignore[arg-type]
            capability=draw(st.sampled_from(["collect", "transform"])),
            priority=float(draw(st.integers(-5, 5))),
            ready_at=since,
            due_at=draw(st.sampled_from([since, since, NOW + timedelta(seconds=1)])),
        )

    held = [
        in_hand(**ours(f"h{number}"), worker_id=each.worker_id)  # type: ignore[arg-type]
        for number, each in enumerate(w for w in workers for _ in range(w.capacity))
        if draw(st.booleans())
    ]
    keys = [(BreakerScope.SOURCE, "crm"), (BreakerScope.WORKER, "w0")]
    broken = {key: _breaker(draw, *key) for key in keys if draw(st.booleans())}
    return Standing(
        ready=[one(number) for number in range(draw(st.integers(0, 9)))],
        workers=workers,
        in_hand=held,
        breakers=broken,
        asking=draw(st.none() | st.dictionaries(st.sampled_from(["w0", "w1"]), st.integers(0, 3))),
    )


def _breaker(draw: st.DrawFn, scope: BreakerScope, scope_id: str) -> WorkBreaker:
    ends_at = NOW + timedelta(seconds=draw(st.sampled_from([-1, 60])))
    return breaker(scope, scope_id, open_until=ends_at)


@settings(max_examples=200)
@given(standings(), policies)
def test_an_allotment_keeps_every_limit(standing: Standing, policy: WorkerPolicy) -> None:
    """Never beyond a capacity, a capability, a tenant, a bulkhead, a breaker, or what was asked for."""
    found = allot(standing, policy, WorkflowPolicy(), NOW)
    assert sorted(p.task.task_id for p in found) == sorted(t.task_id for t in standing.ready)
    assert [p.place for p in found] == list(range(1, len(found) + 1))
    workers = {each.worker_id: each for each in standing.workers}
    after = Counter(each.worker_id for each in standing.in_hand)
    new: Counter[str] = Counter()
    for place in found:
        assert (place.worker_id is None) == (place.waits_for is not None)
        if place.worker_id is None:
            continue
        has = workers[place.worker_id]
        new[has.worker_id] += 1
        assert can_run(has, place.task)
        assert has.status is WorkerStatus.ACTIVE
        assert not has.is_silent(policy, NOW)
        assert place.task.due_at <= NOW
    for name, count in new.items():
        assert after[name] + count <= workers[name].capacity
        if standing.asking is not None:
            assert count <= standing.asking.get(name, 0)
    _within_bulkheads(standing, policy, [p.task for p in found if p.worker_id])
    _within_breakers(standing, new, Counter(str(p.task.source_id) for p in found if p.worker_id))


def _within_bulkheads(standing: Standing, policy: WorkerPolicy, new: list[ReadyTask]) -> None:
    every = [*standing.in_hand, *new]
    for task in new:
        kinds = sum(each.kind == task.kind for each in every)
        tenants = sum(each.tenant_id == task.tenant_id for each in every)
        sources = sum(each.source_id == task.source_id for each in every)
        for count, most in (
            (kinds, policy.kind(task.kind).most),
            (tenants, policy.tenant(task.tenant_id).most),
            (sources, policy.most_per_source),
        ):
            assert most is None or count <= most


def _within_breakers(standing: Standing, loads: Counter[str], sources: Counter[str]) -> None:
    for (scope, scope_id), each in standing.breakers.items():
        given_now = (loads if scope is BreakerScope.WORKER else sources)[scope_id]
        held = sum(
            (h.worker_id if scope is BreakerScope.WORKER else h.source_id) == scope_id
            for h in standing.in_hand
        )
        if given_now:
            assert each.status_at(NOW) is BreakerStatus.HALF_OPEN
            assert held + given_now == 1


@given(standings(), policies, st.randoms(use_true_random=False))
def test_an_allotment_does_not_hang_on_the_order_of_its_lists(
    standing: Standing, policy: WorkerPolicy, random: object
) -> None:
    """The same tasks and workers in another order are allotted alike."""
    tasks, workers, held = list(standing.ready), list(standing.workers), list(standing.in_hand)
    for each in (tasks, workers, held):
        random.shuffle(each)  # type: ignore[attr-defined]
    shuffled = Standing(
        ready=tasks,
        workers=workers,
        in_hand=held,
        breakers=standing.breakers,
        asking=standing.asking,
    )
    first, second = (allot(s, policy, WorkflowPolicy(), NOW) for s in (standing, shuffled))
    assert first == second


@given(standings(), policies)
def test_no_slot_is_left_empty_that_a_task_could_have(
    standing: Standing, policy: WorkerPolicy
) -> None:
    """Allotting what is left once more gives nothing to anybody."""
    found = allot(standing, policy, WorkflowPolicy(), NOW)
    taken = [
        InHand(
            task_id=p.task.task_id,
            worker_id=p.worker_id,
            tenant_id=p.task.tenant_id,
            source_id=p.task.source_id,
            kind=p.task.kind,
        )
        for p in found
        if p.worker_id
    ]
    asking = standing.asking
    if asking is not None:
        counts = Counter(each.worker_id for each in taken)
        asking = {name: most - counts[name] for name, most in asking.items()}
    again = Standing(
        ready=[p.task for p in found if not p.worker_id],
        workers=standing.workers,
        in_hand=[*standing.in_hand, *taken],
        breakers=standing.breakers,
        asking=asking,
    )
    assert all(p.worker_id is None for p in allot(again, policy, WorkflowPolicy(), NOW))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(-100, 0)), min_size=1, max_size=5),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_nothing_starves_beside_a_flood(
    poor: list[tuple[TenantId, int]], guaranteed: int, slots: int
) -> None:
    """However many better tasks come for ever, what is ready is allotted soon after its patience has ended."""
    policy = WorkerPolicy(
        silent_s=10**6,
        patience_s=60,
        tenants={"rich": Bulkhead(guaranteed=9), "*": Bulkhead(guaranteed=guaranteed)},
    )
    one: list[Worker] = [worker(capacity=slots, tenant_id=EVERY_TENANT)]
    left = [
        ready(f"p{number}", tenant_id=tenant, priority=float(points))
        for number, (tenant, points) in enumerate(poor)
    ]
    for tick in range(12 + len(poor)):  # ten seconds each; every task takes one of them
        now = NOW + timedelta(seconds=10 * tick)
        flood = [
            ready(
                f"f{tick}_{n}", tenant_id=TenantId("rich"), priority=100.0, ready_at=now, due_at=now
            )
            for n in range(4)
        ]
        found = allot(Standing(ready=[*left, *flood], workers=one), policy, WorkflowPolicy(), now)
        got = {p.task.task_id for p in found if p.worker_id}
        assert len(got) == min(slots, len(left) + len(flood))
        left = [task for task in left if task.task_id not in got]
    assert left == []
