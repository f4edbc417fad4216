"""Retries are decided by one pure function: tiers in order, bounded, never before Retry-After."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.errors import PenstockError
from penstock.publish.retry import (
    LONGEST_ASKED_S,
    Attempt,
    GiveUp,
    Permanent,
    RetryAt,
    RetryPolicy,
    Tier,
    Transient,
    decide,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DOWN = Transient(message="connection refused")


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    def delays(longest: float) -> tuple[float, float]:
        low, high = sorted(draw(st.floats(0.01, longest)) for _ in range(2))
        return low, high

    (immediate, immediate_max), (delayed, delayed_max) = delays(60), delays(86_400)
    tries = st.integers(0, 4)
    return RetryPolicy(
        immediate_tries=draw(tries),
        immediate_delay_s=immediate,
        immediate_max_delay_s=immediate_max,
        delayed_tries=draw(tries),
        delayed_delay_s=delayed,
        delayed_max_delay_s=delayed_max,
        scheduled_tries=draw(tries),
        factor=draw(st.floats(1, 5)),
        jitter_share=draw(st.floats(0, 1)),
    )


def history(*tiers: Tier) -> list[Attempt]:
    """The first attempt, and those of the given tiers after it."""
    return [Attempt(tier=tier, failed_at=NOW) for tier in (Tier.FIRST, *tiers)]


def play(
    policy: RetryPolicy, *, jitter: float = 0.0, window_s: float | None = None
) -> tuple[list[tuple[Tier, float]], GiveUp]:
    """Fail until it gives up; return each decision's tier and delay, and the end."""
    attempts, decisions, now = history(), list[tuple[Tier, float]](), NOW
    while True:
        window = None if window_s is None else now + timedelta(seconds=window_s)
        decision = decide(policy, attempts, DOWN, now=now, jitter=jitter, next_window=window)
        if isinstance(decision, GiveUp):
            return decisions, decision
        decisions.append((decision.tier, (decision.at - now).total_seconds()))
        now = decision.at
        attempts.append(Attempt(tier=decision.tier, failed_at=now))


def test_the_default_policy_tries_seconds_and_then_minutes() -> None:
    """Three tries within the run, then five from the queue with three more within each of their runs."""
    decisions, end = play(RetryPolicy())
    immediate = [(Tier.IMMEDIATE, 0.5), (Tier.IMMEDIATE, 1.0), (Tier.IMMEDIATE, 2.0)]
    assert decisions[:5] == [*immediate, (Tier.DELAYED, 60.0), immediate[0]]
    delayed = [delay for tier, delay in decisions if tier is Tier.DELAYED]
    assert delayed == [60.0, 120.0, 240.0, 480.0, 960.0]
    assert end.reason == "24 attempts failed, the last with: connection refused"


def test_a_permanent_failure_burns_no_retries() -> None:
    """It is given up at the first attempt, with its own words as the reason."""
    outcome = Permanent(message="column x does not exist")
    decision = decide(RetryPolicy(), history(), outcome, now=NOW, jitter=0)
    assert decision == GiveUp(reason="it will not pass by itself: column x does not exist")


def test_what_the_target_asks_for_is_granted() -> None:
    """Within tier 1's patience it waits in the run, beyond it in the queue, and beyond any maximum too."""

    def asked(seconds: float) -> RetryAt | GiveUp:
        outcome = Transient(message="slow down", retry_after_s=seconds)
        return decide(RetryPolicy(), history(), outcome, now=NOW, jitter=0)

    assert asked(7) == RetryAt(at=NOW + timedelta(seconds=7), tier=Tier.IMMEDIATE)
    assert asked(11) == RetryAt(at=NOW + timedelta(seconds=60), tier=Tier.DELAYED)
    assert asked(7200) == RetryAt(at=NOW + timedelta(hours=2), tier=Tier.DELAYED)


def test_the_third_tier_is_the_next_maintenance_window() -> None:
    """Only when the others are used up and there is a window; it gives the others anew."""
    policy = RetryPolicy(immediate_tries=0, delayed_tries=1, scheduled_tries=1)
    decisions, _ = play(policy, window_s=3000)
    tiers = [tier for tier, _ in decisions]
    assert tiers == [Tier.DELAYED, Tier.SCHEDULED, Tier.DELAYED]
    assert decisions[1][1] == 3000
    decisions, _ = play(policy)
    assert [tier for tier, _ in decisions] == [Tier.DELAYED]


def test_a_window_before_retry_after_is_not_used_early() -> None:
    """A target that asked for longer than its window is away is left alone until then."""
    policy = RetryPolicy(immediate_tries=0, delayed_tries=0)
    outcome = Transient(message="slow down", retry_after_s=600)
    window = NOW + timedelta(seconds=60)
    decision = decide(policy, history(), outcome, now=NOW, jitter=0, next_window=window)
    assert decision == RetryAt(at=NOW + timedelta(seconds=600), tier=Tier.SCHEDULED)


@given(policies(), st.floats(0, 1, exclude_max=True), st.booleans())
def test_it_always_ends(policy: RetryPolicy, jitter: float, windows: bool) -> None:
    """The number of attempts is bounded by the policy, exactly."""
    decisions, end = play(policy, jitter=jitter, window_s=1000 if windows else None)
    rounds = 1 + (policy.scheduled_tries if windows else 0)
    in_a_round = policy.delayed_tries + (1 + policy.delayed_tries) * policy.immediate_tries
    assert len(decisions) == rounds * in_a_round + rounds - 1
    assert end.reason.startswith(f"{len(decisions) + 1} attempts failed")


@given(policies(), st.floats(0, 1, exclude_max=True))
def test_delays_of_a_tier_never_shrink(policy: RetryPolicy, jitter: float) -> None:
    """With the same luck each delay is at least the one before it, and at most the tier's maximum."""
    decisions, _ = play(policy, jitter=jitter)
    delayed = [delay for tier, delay in decisions if tier is Tier.DELAYED]
    immediate = [delay for tier, delay in decisions[: policy.immediate_tries]]
    for delays, longest in (
        (delayed, policy.delayed_max_delay_s),
        (immediate, policy.immediate_max_delay_s),
    ):
        assert all(later >= earlier - 1e-5 for earlier, later in itertools.pairwise(delays))
        assert all(0 <= delay <= longest + 1e-5 for delay in delays)


@given(
    policies(),
    st.lists(st.sampled_from(list(Tier)), max_size=12),
    st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(-1000, 1e6),
)
def test_it_is_never_tried_before_retry_after(
    policy: RetryPolicy,
    tiers: list[Tier],
    asked_s: float,
    jitter: float,
    window_s: float | None,
) -> None:
    """Whatever has happened before, and never in the past."""
    outcome = Transient(message="slow down", retry_after_s=asked_s)
    window = None if window_s is None else NOW + timedelta(seconds=window_s)
    decision = decide(policy, history(*tiers), outcome, now=NOW, jitter=jitter, next_window=window)
    if isinstance(decision, RetryAt):
        assert decision.at >= NOW + timedelta(seconds=asked_s) - timedelta(microseconds=1)


@pytest.mark.parametrize("asked_s", [1e300, float("inf"), 10**15, -5.0, float("nan")])
def test_a_target_is_not_believed_everything(asked_s: float) -> None:
    """What a target asks for is bounded, so that no nonsense in a header stops a worker or a batch for ever."""
    outcome = Transient(message="slow down", retry_after_s=asked_s)
    decision = decide(RetryPolicy(), history(), outcome, now=NOW, jitter=0)
    assert isinstance(decision, RetryAt)
    assert NOW < decision.at <= NOW + timedelta(seconds=LONGEST_ASKED_S)


@given(policies(), st.floats(0, 1, exclude_max=True))
def test_jitter_only_shortens(policy: RetryPolicy, jitter: float) -> None:
    """Chance takes off at most its share of a delay."""
    decision = decide(policy, history(), DOWN, now=NOW, jitter=jitter)
    longest = decide(policy, history(), DOWN, now=NOW, jitter=0)
    if isinstance(decision, RetryAt) and isinstance(longest, RetryAt):
        full_s = (longest.at - NOW).total_seconds()
        assert (decision.at - NOW).total_seconds() <= full_s
        assert (decision.at - NOW).total_seconds() >= full_s * (1 - policy.jitter_share) - 1e-5


@pytest.mark.parametrize("jitter", [-0.1, 1.0, float("nan")])
def test_jitter_out_of_range_is_an_error(jitter: float) -> None:
    """A caller's mistake is named, with what to pass instead."""
    with pytest.raises(PenstockError, match=r"pass random.random\(\)"):
        decide(RetryPolicy(), history(), DOWN, now=NOW, jitter=jitter)


def test_a_policy_that_contradicts_itself_is_refused() -> None:
    """A first delay above the longest one is a mistake."""
    with pytest.raises(ValidationError, match="delayed_delay_s is above delayed_max_delay_s"):
        RetryPolicy(delayed_delay_s=10, delayed_max_delay_s=5)
