"""Anomalies are found, explained, and end; what is usual is let alone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.forecast.anomaly import FEWEST, LEVEL_SHIFT, Anomaly, Metric, Observation, judge

START = datetime(2026, 1, 5, tzinfo=UTC)


def _series(count: int, *, seed: int = 1, level: float = 10_000.0) -> list[Observation]:
    """Every two hours, with nights and weekends at 40 % and a scatter of 10 %."""
    chance = random.Random(seed)
    series = []
    for number in range(count):
        at = START + timedelta(hours=2 * number)
        day = 0.4 if at.weekday() >= 5 else 0.7 + 0.3 * math.sin((at.hour - 8) / 24 * 2 * math.pi)
        series.append(Observation(at=at, value=level * day * chance.lognormvariate(0, 0.1)))
    return series


def _after(series: Sequence[Observation], values: Sequence[float]) -> list[Observation]:
    last = series[-1].at
    more = [
        Observation(at=last + timedelta(hours=2 * (n + 1)), value=value)
        for n, value in enumerate(values)
    ]
    return [*series, *more]


def _found(series: Sequence[Observation], *, was_open: bool = False) -> Anomaly | None:
    return judge(Metric.ROWS, series, was_open=was_open)


@pytest.mark.parametrize("factor", [0.0, 0.2, 4.0, 100.0])
def test_a_count_far_from_the_usual_is_found_and_explained(factor: float) -> None:
    """A fifth or four times of the usual is unusual; it says what was seen, what is usual and how rare it is."""
    series = _series(200)
    usual = series[-12].value
    anomaly = _found(_after(series, [usual * factor]))
    assert anomaly is not None
    words = anomaly.words()
    assert f"{usual * factor:,.0f} at 2026-01-21 16:00 UTC" in words
    assert "usual at this time of week is" in words
    assert ("more than usual" if factor > 1 else "less than usual") in words
    assert "one in" in words


def test_days_and_weeks_are_no_anomalies() -> None:
    """Along eight weeks with nights and weekends hardly an alarm is raised."""
    alarms = 0
    for seed in range(4):
        series, is_open = _series(8 * 7 * 12, seed=seed), False
        for end in range(FEWEST, len(series) + 1, 3):
            anomaly = _found(series[:end], was_open=is_open)
            alarms += anomaly is not None and not is_open
            is_open = anomaly is not None
    assert alarms <= 2


def test_too_little_history_says_nothing() -> None:
    """Before twenty observations whatever comes is let alone."""
    series = _series(FEWEST - 1)
    assert _found(_after(series, [1e9])) is None


def test_an_alarm_ends_after_two_usual_batches() -> None:
    """One usual batch does not end an alarm, two do; until then it says since when."""
    series = _series(200)
    usual = [each.value for each in series[-12:-6]]
    odd = _after(series, [usual[0] * 5, usual[1] * 5])
    anomaly = _found(odd, was_open=True)
    assert anomaly is not None
    assert (anomaly.run, anomaly.since) == (2, odd[-2].at)
    assert _found(_after(odd, usual[2:3]), was_open=True) is not None
    assert _found(_after(odd, usual[2:4]), was_open=True) is None
    assert _found(_after(odd, usual[2:3])) is None  # and none is raised by it


def test_a_new_level_becomes_the_usual_one() -> None:
    """What stays unusual for twelve batches is usual: the alarm ends, and the old level would be one."""
    series = _series(200)
    doubled = [each.value * 3 for each in series[-12:]] * 2
    assert _found(_after(series, doubled[:3]), was_open=True) is not None
    assert _found(_after(series, doubled[:LEVEL_SHIFT]), was_open=True) is None


def test_a_share_of_few_operations_is_no_alarm() -> None:
    """One of two operations refused is chance; a fifth of ten thousand is not."""
    calm = [Observation(at=START + timedelta(hours=n), value=0.001, of=5_000) for n in range(60)]
    few = [*calm, Observation(at=START + timedelta(hours=60), value=0.5, of=2)]
    many = [*calm, Observation(at=START + timedelta(hours=60), value=0.2, of=10_000)]
    assert judge(Metric.ERROR_SHARE, few, was_open=False) is None
    anomaly = judge(Metric.ERROR_SHARE, many, was_open=False)
    assert anomaly is not None
    assert "refused operations: 20.00 %" in anomaly.words()


def test_a_source_that_never_changes_is_watched_too() -> None:
    """Where nothing ever scatters, a small change is let alone and a large one found."""
    flat = [Observation(at=START + timedelta(hours=n), value=500.0) for n in range(60)]
    assert _found(_after(flat, [520.0])) is None
    assert _found(_after(flat, [900.0])) is not None


@given(st.lists(st.floats(0, 1e12, allow_nan=False), min_size=0, max_size=60), st.booleans())
def test_any_series_is_judged(values: list[float], was_open: bool) -> None:
    """Whatever the values, there is an answer, and its numbers are numbers."""
    series = [
        Observation(at=START + timedelta(hours=n), value=value) for n, value in enumerate(values)
    ]
    for metric in (Metric.ROWS, Metric.DURATION):
        anomaly = judge(metric, series, was_open=was_open)
        assert anomaly is None or math.isfinite(anomaly.distance)
        assert anomaly is None or anomaly.expected.low <= anomaly.expected.high
