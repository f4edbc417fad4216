"""Circuit breakers: a pure state machine that is total, needs proof to open, and closes by proof."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock.identity.ids import TargetId
from penstock.publish.breaker import BreakerPolicy, BreakerState, BreakerStatus, after_calls

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = TargetId("wiki")
POLICY = BreakerPolicy(min_calls=4, failure_rate=0.5, window_s=60, open_s=30, max_open_s=100)

policies = st.builds(
    BreakerPolicy,
    window_s=st.floats(1, 600),
    min_calls=st.integers(1, 20),
    failure_rate=st.floats(0.05, 1),
    open_s=st.floats(1, 600),
    max_open_s=st.floats(1, 6000),
)
calls = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0, 900)), min_size=1, max_size=40
)
"""Successes, failures, and the seconds since those before."""


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def closed() -> BreakerState:
    return BreakerState.closed(TARGET, NOW)


def after(
    state: BreakerState, successes: int, failures: int, seconds: float, error: str | None = None
) -> BreakerState:
    return after_calls(
        state, POLICY, successes=successes, failures=failures, now=at(seconds), error=error
    )


def play(
    policy: BreakerPolicy,
    history: list[tuple[int, int, float]],
    each: Callable[[BreakerState, BreakerState, tuple[int, int], datetime], None],
) -> None:
    state, now = closed(), NOW
    for successes, failures, passed_s in history:
        now += timedelta(seconds=passed_s)
        following = after_calls(state, policy, successes=successes, failures=failures, now=now)
        each(state, following, (successes, failures), now)
        state = following


@given(policies, calls)
def test_every_history_has_an_answer(
    policy: BreakerPolicy, history: list[tuple[int, int, float]]
) -> None:
    """Whatever happens when, it is closed, open until a moment, or half open; and what is open has a cause."""

    def check(
        _before: BreakerState, after: BreakerState, _calls: tuple[int, int], now: datetime
    ) -> None:
        assert after.status in {BreakerStatus.CLOSED, BreakerStatus.OPEN}
        assert (after.status is BreakerStatus.OPEN) == (after.open_until is not None)
        assert 0 <= after.failures <= after.calls
        if after.status_at(now) is BreakerStatus.OPEN:
            assert after.opened_at is not None
            assert after.opened_at <= now
            assert after.times_opened > 0

    play(policy, history, check)


@given(policies, calls)
def test_it_never_opens_without_proof(
    policy: BreakerPolicy, history: list[tuple[int, int, float]]
) -> None:
    """From closed it opens by a failure alone, with enough calls in the window and too many of them failed."""

    def check(
        before: BreakerState, after: BreakerState, called: tuple[int, int], now: datetime
    ) -> None:
        if before.status is BreakerStatus.CLOSED and after.status is BreakerStatus.OPEN:
            assert called[1] > 0
            assert after.calls >= policy.min_calls
            assert after.failures >= policy.failure_rate * after.calls
            assert (now - after.window_started_at).total_seconds() < policy.window_s

    play(policy, history, check)


@given(policies, calls)
def test_it_stays_open_longer_each_time_up_to_the_most(
    policy: BreakerPolicy, history: list[tuple[int, int, float]]
) -> None:
    """The n-th time in a row it is open for the first time's length doubled n - 1 times, or the longest there is."""

    def check(
        before: BreakerState, after: BreakerState, _calls: tuple[int, int], _now: datetime
    ) -> None:
        if after.opened_at is None or after.opened_at == before.opened_at:
            return
        assert after.open_until is not None
        assert after.times_opened == before.times_opened + 1
        longest_s = min(policy.max_open_s, policy.open_s * 2.0**before.times_opened)
        open_s = (after.open_until - after.opened_at).total_seconds()
        assert abs(open_s - longest_s) < 1e-5

    play(policy, history, check)


@given(policies, calls)
def test_results_that_come_late_change_nothing(
    policy: BreakerPolicy, history: list[tuple[int, int, float]]
) -> None:
    """While it is open, outcomes are of calls that began before, and it stays as it is."""

    def check(
        before: BreakerState, after: BreakerState, _calls: tuple[int, int], now: datetime
    ) -> None:
        if before.status_at(now) is BreakerStatus.OPEN:
            assert after == before

    play(policy, history, check)


def test_a_probe_that_succeeds_closes_it() -> None:
    """After its time it is half open: one success closes it as if nothing had been, one failure opens it for longer."""
    opened = after(closed(), 0, 4, 0, "refused")
    assert opened.status_at(at(29)) is BreakerStatus.OPEN
    assert opened.status_at(at(30)) is BreakerStatus.HALF_OPEN
    assert after(opened, 1, 0, 31) == BreakerState.closed(TARGET, at(31))
    again = after(opened, 3, 1, 31, "still refused")
    assert again.open_until == at(31 + 60)
    assert again.last_error == "still refused"


def test_calls_of_long_ago_do_not_count() -> None:
    """A window's calls are forgotten with it."""
    state = after(closed(), 0, 3, 0)
    assert state.status is BreakerStatus.CLOSED
    assert after(state, 0, 1, 59).status is BreakerStatus.OPEN
    assert after(state, 0, 1, 61).status is BreakerStatus.CLOSED


def test_nothing_but_a_failure_opens_it() -> None:
    """Successes that follow too many failures do not open it, though the rate is still above the limit."""
    state = after(closed(), 0, 3, 0)
    assert after(state, 1, 0, 1).status is BreakerStatus.CLOSED


def test_one_failure_casts_doubt_that_an_answer_or_time_takes_away() -> None:
    """What failed on too few calls to prove anything is doubted, until it answers or the window has passed."""
    doubted = after(closed(), 0, 1, 10)
    assert doubted.status is BreakerStatus.CLOSED
    assert doubted.is_doubted(at(59))
    assert not doubted.is_doubted(at(60))
    assert not after(doubted, 1, 0, 20).is_doubted(at(20))
    assert not after(closed(), 9, 1, 10).is_doubted(at(10))


def test_an_open_breaker_is_not_doubted() -> None:
    """Doubt ends where there is proof."""
    opened = after(after(closed(), 0, 3, 0), 0, 1, 1)
    assert opened.status is BreakerStatus.OPEN
    assert not opened.is_doubted(at(1))
