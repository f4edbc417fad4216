"""Anomalies in what a source publishes: how many rows, how many refused, how long it took; explained in numbers.

Each metric is put on a scale on which its usual scatter is even (log for counts and durations, the arcsine of the root
for shares). What is usual is the median of the last observations, newer ones counting more, plus what the time of week
is above or below it: ``n / (n + k)`` of the median of observations in the same cell of three hours on weekdays or at
weekends, so that a cell with few observations says little. The scatter is their median absolute deviation, with a
floor.
Whether one observation is unusual is its distance in scatters (Iglewicz and Hoaglin, 1993: modified z-scores).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import asin, erfc, exp, log1p, sin, sqrt

import numpy as np
import numpy.typing as npt

from penstock.forecast.robust import MAD_TO_SD, Floats, recency_weights, weighted_quantile

FEWEST = 20
"""Observations before which nothing is called unusual."""
MOST = 300
"""Newest observations that are looked at."""
HALF_LIFE = 60.0
CELL_PRIOR = 4.0
"""Observations that a time of week needs to count half."""
ALARM = 7.0
"""Scatters from the usual at which one observation is an alarm."""
ALARM_AGAIN = 4.0
"""At which the second of two in a row is one."""
CALM = 3.0
"""Within which an alarm ends."""
CALM_RUN = 2
"""Observations in a row that end it."""
LEVEL_SHIFT = 12
"""Unusual observations in a row after which they are what is usual."""
_CELL_HOURS = 3


class Metric(StrEnum):
    """What is watched."""

    ROWS = "rows"
    """Rows in a batch."""
    ERROR_SHARE = "error_share"
    """Share of operations that were refused or blocked."""
    DURATION = "duration"
    """Seconds from claim to COMPLETE."""


_FLOORS = {Metric.ROWS: 0.05, Metric.ERROR_SHARE: 0.02, Metric.DURATION: 0.15}
"""Least scatter on each metric's scale: less is not worth an alarm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One value of one metric."""

    at: datetime
    value: float
    of: float = 0.0
    """Operations that a share is of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What is usual at one moment, on the metric's own scale of values."""

    low: float
    usual: float
    high: float
    observations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Anomaly:
    """An observation that is far from the usual."""

    metric: Metric
    since: datetime
    """When the first of the unusual observations in a row was made."""
    run: int
    """How many of them there are."""
    seen: Observation
    expected: Expected
    distance: float
    """In scatters; below 0 where it is less than usual."""

    def words(self) -> str:
        """Explain it: what was seen, what is usual, since when, how rare."""
        more = "more" if self.distance > 0 else "less"
        run = (
            "" if self.run == 1 else f", {self.run} in a row since {self.since:%Y-%m-%d %H:%M} UTC"
        )
        return (
            f"{_NAMES[self.metric]} {_shown(self.metric, self.seen.value)} at {self.seen.at:%Y-%m-%d %H:%M} UTC{run}: "
            f"usual at this time of week is {_shown(self.metric, self.expected.usual)}, "
            f"{_shown(self.metric, self.expected.low)} to {_shown(self.metric, self.expected.high)} "
            f"({self.expected.observations} observations). {abs(self.distance):.1f} scatters {more} than usual: "
            f"{_rarity(self.distance)}"
        )


def judge(metric: Metric, history: Sequence[Observation], *, was_open: bool) -> Anomaly | None:
    """Return the anomaly that a series ends in, or None.

    ``history`` is oldest first; its last observation is the one in question. An alarm that is open stays so until
    :data:`CALM_RUN` observations in a row were within :data:`CALM`, and is not raised by what only was near the limit.
    """
    observed = list(history[-MOST:])
    if len(observed) <= FEWEST:
        return None
    run, distances = _run(metric, observed, limit=CALM)
    if run >= LEVEL_SHIFT:
        return None
    calm_for = _calm(distances)
    if was_open:
        if calm_for >= CALM_RUN:
            return None
        return _anomaly(metric, observed, max(run, 1), distances)
    last = distances[0]
    twice = len(distances) > 1 and min(abs(last), abs(distances[1])) >= ALARM_AGAIN
    same_side = len(distances) > 1 and (last > 0) == (distances[1] > 0)
    if abs(last) >= ALARM or (twice and same_side):
        return _anomaly(metric, observed, max(run, 1), distances)
    return None


def _run(
    metric: Metric, observed: Sequence[Observation], *, limit: float
) -> tuple[int, list[float]]:
    """Return how many of the last observations in a row are beyond ``limit``, and their distances, newest first.

    Each is judged by what came before the run, so that it does not hide itself.
    """
    newest = min(LEVEL_SHIFT, len(observed) - FEWEST)
    before = observed[: len(observed) - newest]
    tail = observed[len(observed) - newest :]
    base = Baseline(metric, before if len(before) >= FEWEST else observed)
    distances = [base.distance(each) for each in reversed(tail)]
    run = 0
    for distance in distances:
        if abs(distance) <= limit or (distance > 0) != (distances[0] > 0):
            break
        run += 1
    return run, distances


def _calm(distances: Sequence[float]) -> int:
    calm = 0
    for distance in distances:
        if abs(distance) > CALM:
            break
        calm += 1
    return calm


def _anomaly(
    metric: Metric, observed: Sequence[Observation], run: int, distances: Sequence[float]
) -> Anomaly:
    newest = min(LEVEL_SHIFT, len(observed) - FEWEST)
    base = Baseline(metric, observed[: len(observed) - newest])
    return Anomaly(
        metric=metric,
        since=observed[-run].at,
        run=run,
        seen=observed[-1],
        expected=base.expected(observed[-1].at),
        distance=distances[0],
    )


class Baseline:
    """What is usual for one metric of one lane."""

    def __init__(self, metric: Metric, history: Sequence[Observation]) -> None:
        self._metric = metric
        self._count = len(history)
        scaled = np.array([_scaled(metric, each.value) for each in history])
        weights = recency_weights(len(history), HALF_LIFE)
        self._cells = np.array([_cell(each.at) for each in history])
        self._level = weighted_quantile(scaled, weights, 0.5)
        self._scaled, self._weights = scaled, weights
        shifts = np.array([self._shift(cell) for cell in range(_CELLS)])
        residuals = np.abs(scaled - self._level - shifts[self._cells])
        spread = MAD_TO_SD * weighted_quantile(residuals, weights, 0.5)
        self._shifts: Floats = shifts
        self._scatter = max(spread, _FLOORS[metric])

    def distance(self, seen: Observation) -> float:
        """Return how far an observation is from the usual, in scatters."""
        scatter = self._scatter
        if self._metric is Metric.ERROR_SHARE and seen.of > 0:
            scatter = max(scatter, 0.5 / sqrt(seen.of))  # of a share of so few, whatever it is
        return (_scaled(self._metric, seen.value) - self._middle(seen.at)) / scatter

    def expected(self, at: datetime) -> Expected:
        """Return what is usual at a moment: three scatters to both sides, as values."""
        middle = self._middle(at)
        return Expected(
            low=_unscaled(self._metric, middle - CALM * self._scatter),
            usual=_unscaled(self._metric, middle),
            high=_unscaled(self._metric, middle + CALM * self._scatter),
            observations=self._count,
        )

    def _middle(self, at: datetime) -> float:
        return self._level + float(self._shifts[_cell(at)])

    def _shift(self, cell: int) -> float:
        inside: npt.NDArray[np.bool_] = self._cells == cell
        count = int(inside.sum())
        if not count:
            return 0.0
        own = weighted_quantile(self._scaled[inside], self._weights[inside], 0.5)
        return count / (count + CELL_PRIOR) * (own - self._level)


_CELLS = 2 * 24 // _CELL_HOURS


def _cell(at: datetime) -> int:
    weekend = at.weekday() >= 5
    return at.hour // _CELL_HOURS + (24 // _CELL_HOURS if weekend else 0)


def _scaled(metric: Metric, value: float) -> float:
    if metric is Metric.ERROR_SHARE:
        return asin(sqrt(min(1.0, max(0.0, value))))
    return log1p(max(0.0, value))


def _unscaled(metric: Metric, scaled: float) -> float:
    if metric is Metric.ERROR_SHARE:
        return sin(min(1.5707963, max(0.0, scaled))) ** 2
    return max(0.0, exp(min(scaled, 700.0)) - 1.0)


_NAMES = {
    Metric.ROWS: "rows:",
    Metric.ERROR_SHARE: "refused operations:",
    Metric.DURATION: "duration:",
}


def _shown(metric: Metric, value: float) -> str:
    match metric:
        case Metric.ROWS:
            return f"{value:,.0f}"
        case Metric.ERROR_SHARE:
            return f"{100 * value:.2f} %"
        case Metric.DURATION:
            return f"{value:,.1f} s"


def _rarity(distance: float) -> str:
    """Say how rare such a distance is, if what is usual scatters normally."""
    share = erfc(abs(distance) / sqrt(2))
    if share < 1e-6:
        return "rarer than one in a million batches"
    return f"about one in {1 / share:,.0f} batches"
