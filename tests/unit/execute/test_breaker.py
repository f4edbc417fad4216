"""Counting calls for a target's breaker: failures at once, successes only where they matter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from penstock.execute.breaker import TargetCalls
from penstock.execute.chunks import Applier, TargetDown
from penstock.ports.target import Unavailable
from penstock.publish.breaker import BreakerPolicy, BreakerStatus
from penstock.publish.retry import RetryPolicy
from resources.control_db.store import SqlControlStore
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import TARGET, Bench, ModelTarget
from tests.unit.execute.test_chunks import CONTEXT
from tests.unit.plan.test_plan_parts import creates

POLICY = BreakerPolicy(min_calls=3, open_s=30)
DOWN = Unavailable(message="refused")
Make = Callable[[ModelTarget], Applier]


@pytest.fixture
def control(bench: Bench) -> SqlControlStore:
    return bench.control


@pytest.fixture
def counted(control: SqlControlStore, clock: FixedClock) -> Make:
    def make(target: ModelTarget) -> Applier:
        return Applier(
            target=target,
            clock=clock,
            retry_policy=RetryPolicy(immediate_tries=9, jitter_share=0),
            jitter=lambda: 0.0,
            calls=TargetCalls(control, TARGET, POLICY, clock),
        )

    return make


def test_a_target_that_works_costs_no_write(control: SqlControlStore, counted: Make) -> None:
    """Answers alone leave nothing behind."""
    counted(ModelTarget()).apply(creates(["crm/a"]), CONTEXT)
    assert control.list_breakers() == []


def test_tries_end_when_the_breaker_opens(
    control: SqlControlStore, counted: Make, clock: FixedClock
) -> None:
    """Of nine tries that the policy allows only those are made that prove the target to be down."""
    target = ModelTarget(away=[DOWN] * 10)
    with pytest.raises(TargetDown) as down:
        counted(target).apply(creates(["crm/a"]), CONTEXT)
    assert down.value.cut_short
    assert target.calls == 3
    assert control.get_breaker(TARGET, now=clock.now()).status is BreakerStatus.OPEN


def test_only_one_of_two_waits_for_a_target_that_fails_both(
    control: SqlControlStore, counted: Make
) -> None:
    """Who fails where another has just failed uses no more tries of tier 1: one is enough to find out."""
    control.record_calls(
        TARGET, successes=0, failures=1, now=counted(ModelTarget()).clock.now(), policy=POLICY
    )
    target = ModelTarget(away=[DOWN] * 10)
    with pytest.raises(TargetDown) as down:
        counted(target).apply(creates(["crm/a"]), CONTEXT)
    assert not down.value.cut_short  # it was tried, and counts as an attempt
    assert target.calls == 1


def test_an_answer_ends_the_doubt_at_once(
    control: SqlControlStore, counted: Make, clock: FixedClock
) -> None:
    """The first success after a failure is recorded, so that others need not wait any longer."""
    target = ModelTarget(away=[DOWN])
    counted(target).apply(creates(["crm/a"]), CONTEXT)
    assert not control.get_breaker(TARGET, now=clock.now()).is_doubted(clock.now())


def test_answers_count_for_the_target(
    control: SqlControlStore, counted: Make, clock: FixedClock
) -> None:
    """Successes of the same window are counted with the failure that follows them."""
    target = ModelTarget()
    applier = counted(target)
    for number in range(6):
        applier.apply(creates([f"crm/{number}"]), CONTEXT)
    target.away = [DOWN] * 4
    applier.apply(creates(["crm/last"]), CONTEXT)
    state = control.get_breaker(TARGET, now=clock.now())
    assert (state.status, state.calls, state.failures) == (BreakerStatus.CLOSED, 10, 4)


def test_answers_of_long_ago_do_not_count(
    control: SqlControlStore, counted: Make, clock: FixedClock
) -> None:
    """Hours of success do not hide that a target has gone down now."""
    target = ModelTarget()
    applier = counted(target)
    for number in range(50):
        applier.apply(creates([f"crm/{number}"]), CONTEXT)
    clock.sleep(POLICY.window_s)
    applier.apply(creates(["crm/now"]), CONTEXT)
    target.away = [DOWN] * 10
    with pytest.raises(TargetDown):
        applier.apply(creates(["crm/last"]), CONTEXT)
    state = control.get_breaker(TARGET, now=clock.now())
    assert (state.calls, state.failures) == (3, 2)


def test_others_are_told_of_answers_within_a_chunk_each_second(
    control: SqlControlStore, clock: FixedClock
) -> None:
    """A chunk that takes many calls shows that its target answers, at the cost of one write a second."""
    told: list[float] = []
    calls = TargetCalls(
        control, TARGET, POLICY, clock, on_answer=lambda: told.append(clock.monotonic_s())
    )
    for _ in range(25):
        clock.sleep(0.125)
        calls.succeeded()
    assert len(told) == 3
    assert control.list_breakers() == []


def test_an_open_breaker_keeps_the_target_from_being_called(
    control: SqlControlStore, counted: Make, clock: FixedClock
) -> None:
    """What was claimed before the breaker opened stops before its first call, and says until when."""
    control.record_calls(
        TARGET, successes=0, failures=3, now=clock.now(), policy=POLICY, error="refused"
    )
    with pytest.raises(TargetDown, match=r"open until .*, after refused") as down:
        counted(ModelTarget()).prepare()
    assert down.value.cut_short


@pytest.mark.parametrize("answers", [True, False])
def test_a_probe_decides(
    answers: bool, control: SqlControlStore, counted: Make, clock: FixedClock
) -> None:
    """When its time is up one call decides: it closes, or opens for longer; and that counts as a try."""
    control.record_calls(TARGET, successes=0, failures=3, now=clock.now(), policy=POLICY)
    clock.moment += timedelta(seconds=31)
    target = ModelTarget(away=[] if answers else [DOWN])
    applier = counted(target)
    applier.prepare()
    if answers:
        applier.apply(creates(["crm/a"]), CONTEXT)
    else:
        with pytest.raises(TargetDown) as down:
            applier.apply(creates(["crm/a"]), CONTEXT)
        assert not down.value.cut_short
    state = control.get_breaker(TARGET, now=clock.now())
    assert state.status is (BreakerStatus.CLOSED if answers else BreakerStatus.OPEN)
    assert target.calls == 1


def test_a_target_that_cannot_be_prepared_counts(
    control: SqlControlStore, counted: Make, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that is away before the first chunk is a failure like any other."""

    def prepare(_target: ModelTarget) -> None:
        raise TargetDown(DOWN)

    monkeypatch.setattr(ModelTarget, "prepare", prepare)
    with pytest.raises(TargetDown):
        counted(ModelTarget()).prepare()
    assert control.get_breaker(TARGET, now=clock.now()).failures == 1


def test_a_look_in_vain_counts(control: SqlControlStore, counted: Make, clock: FixedClock) -> None:
    """Silence, and reads that come to nothing, are failures; a breaker that opens ends the looking."""
    target = ModelTarget(silent=[0], blind=[DOWN] * 9)
    with pytest.raises(TargetDown) as down:
        counted(target).apply(creates(["crm/a"]), CONTEXT)
    assert down.value.cut_short
    assert (target.calls, target.reads) == (1, 2)
    assert control.get_breaker(TARGET, now=clock.now()).status is BreakerStatus.OPEN
