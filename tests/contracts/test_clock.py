"""Every clock tells aware UTC time that its own sleep moves on."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from penstock.ports.clock import Clock
from resources.clock import SystemClock
from tests.fixtures.clock import FixedClock


@pytest.fixture(params=["system", "fixed"])
def any_clock(request: pytest.FixtureRequest, clock: FixedClock) -> Clock:
    """The machine's clock, and the one that tests use in its place."""
    return SystemClock() if request.param == "system" else clock


def test_now_is_aware_utc(any_clock: Clock) -> None:
    """A moment without a zone would be refused by whatever stores it."""
    assert any_clock.now().tzinfo is UTC


def test_sleeping_moves_both_times_on(any_clock: Clock) -> None:
    """After a sleep at least that much time has passed."""
    now, monotonic_s = any_clock.now(), any_clock.monotonic_s()
    any_clock.sleep(0.02)
    assert any_clock.monotonic_s() - monotonic_s >= 0.0199
    # The wall clock may be set back a little by whoever keeps it.
    assert any_clock.now() - now > timedelta(seconds=-1)


def test_less_than_nothing_is_no_sleep() -> None:
    """A due time that has passed already is not an error."""
    SystemClock().sleep(-1)
