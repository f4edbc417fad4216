"""Maintenance windows: cron expressions, in the zone that they name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.identity.ids import TargetId
from resources.maintenance import BadMaintenanceWindow, MaintenanceWindows

WIKI, OTHER = TargetId("wiki"), TargetId("other")


def begins(window: str, now: datetime) -> datetime | None:
    return MaintenanceWindows({WIKI: window}, [WIKI, OTHER])(WIKI, now)


def test_a_window_is_in_utc_unless_it_names_a_zone() -> None:
    """Two in the morning is that of the zone, summer time included, and the answer is UTC."""
    winter, summer = datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 7, 6, 12, tzinfo=UTC)
    assert begins("0 2 * * SUN", winter) == datetime(2026, 1, 11, 2, tzinfo=UTC)
    assert begins("0 2 * * SUN Europe/Berlin", winter) == datetime(2026, 1, 11, 1, tzinfo=UTC)
    assert begins("0 2 * * SUN Europe/Berlin", summer) == datetime(2026, 7, 12, 0, tzinfo=UTC)


def test_the_next_window_is_never_now() -> None:
    """A window that begins at this moment was the last one: a batch that failed in it waits for the next."""
    now = datetime(2026, 1, 5, 2, 0, 0, 5, tzinfo=UTC)
    assert begins("0 2 * * *", now) == datetime(2026, 1, 6, 2, tzinfo=UTC)
    exact = datetime(2026, 1, 5, 2, tzinfo=UTC)
    assert begins("0 2 * * *", exact) == datetime(2026, 1, 6, 2, tzinfo=UTC)


def test_a_target_without_a_window_has_none() -> None:
    """Windows are of the targets that they name."""
    windows = MaintenanceWindows({WIKI: "0 2 * * *"}, [WIKI, OTHER])
    assert windows(OTHER, datetime(2026, 1, 5, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("61 2 * * *", "Bad minute"),
        ("0 2", "cannot be used"),
        ("", "cannot be used"),
        ("0 2 * * SUN Europe/Nowhere", "no time zone 'Europe/Nowhere'"),
        ("0 2 * * SUN ../etc", "no time zone '../etc'"),
        ("0 2 * * SUN UTC at night", "'at' stands behind the time zone"),
        ("* * */20 * 1L", "it never begins"),
    ],
)
def test_a_window_that_cannot_be_used_says_why(window: str, said: str) -> None:
    """What is wrong is named with the target, and with the form that it should have."""
    with pytest.raises(BadMaintenanceWindow, match="'wiki'") as error:
        MaintenanceWindows({WIKI: window}, [WIKI])
    assert said in str(error.value)


def test_a_window_of_nobody_is_refused() -> None:
    """A misspelled target would never have its window, so it is an error."""
    with pytest.raises(BadMaintenanceWindow, match="name one of other, wiki"):
        MaintenanceWindows({"wikki": "0 2 * * *"}, [WIKI, OTHER])
