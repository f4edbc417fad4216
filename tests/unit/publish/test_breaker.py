"""The circuit breaker: when it opens, what it lets through, and how it closes again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock.identity.ids import TargetId
from penstock.publish.breaker import BreakerPolicy, BreakerState, BreakerStatus, after_calls

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = BreakerPolicy(min_calls=4, failure_rate=0.5, open_s=30, max_open_s=100, window_s=60)
NEW = BreakerState.closed(TargetId("t"), NOW)


def seconds(s: float) -> datetime:
    return NOW + timedelta(seconds=s)


def called(state: BreakerState, ok: int, bad: int, at_s: float = 0.0) -> BreakerState:
    return after_calls(
        state, POLICY, successes=ok, failures=bad, now=seconds(at_s), error="down" if bad else None
    )


def test_too_few_calls_prove_nothing() -> None:
    """Below the minimum of calls it stays closed, however many of them failed."""
    assert called(NEW, 0, 3).status is BreakerStatus.CLOSED
    assert called(called(NEW, 0, 3), 0, 1).status is BreakerStatus.OPEN


def test_old_failures_are_forgotten() -> None:
    """A new window counts anew."""
    assert called(called(NEW, 0, 3), 0, 3, 61).status is BreakerStatus.CLOSED


def test_a_failed_probe_keeps_it_open_for_longer_up_to_a_limit() -> None:
    """Each probe in vain doubles the time; a success closes it and forgets all that."""
    state = called(NEW, 0, 4)
    waits = []
    for _ in range(4):
        assert state.open_until is not None
        assert state.opened_at is not None
        waits.append((state.open_until - state.opened_at).total_seconds())
        state = called(state, 0, 1, (state.open_until - NOW).total_seconds())
    assert waits == [30, 60, 100, 100]
    assert state.open_until is not None
    assert called(state, 1, 0, (state.open_until - NOW).total_seconds()) == BreakerState.closed(
        TargetId("t"), state.open_until
    )


def test_late_results_do_not_move_an_open_breaker() -> None:
    """What calls that began before it opened come to says nothing of now."""
    state = called(NEW, 0, 4)
    assert called(state, 5, 0, 1) == state
    assert called(state, 0, 5, 1) == state


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 200)), max_size=30))
def test_whatever_comes_it_is_in_a_state_that_ends(
    calls: list[tuple[int, int, float]],
) -> None:
    """An open breaker always says until when, never longer than allowed; a closed one is not proven bad."""
    state, now_s = NEW, 0.0
    for ok, bad, later_s in calls:
        now_s += later_s
        state = called(state, ok, bad, now_s)
        if state.status is BreakerStatus.OPEN:
            assert state.open_until is not None
            assert state.opened_at is not None
            assert state.open_until - state.opened_at <= timedelta(seconds=POLICY.max_open_s)
        else:
            proven = state.calls >= POLICY.min_calls
            assert not (proven and bad and state.failures >= 0.5 * state.calls)
