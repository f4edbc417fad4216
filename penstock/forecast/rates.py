"""How long publishing takes: rates per lane, measured robustly, with those of others where one has little history.

The time of a publish is modelled as ``(size + overhead) * exp(rate)``: ``size`` in rows or operations, ``overhead`` in
the same (what a publish costs before its first row), ``rate`` in log seconds. A lane's rate is the median over its last
publishes, each counting half of one :data:`HALF_LIFE` publishes newer, drawn to the target's by
``(n * own + k * pooled) / (n + k)``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp

import numpy as np

from penstock.forecast.lane_model import LaneId, LaneModel, PastPublish
from penstock.forecast.robust import Floats, recency_weights, weighted_medians
from penstock.identity.ids import TargetId

HALF_LIFE = 6.0
"""Publishes after which one counts half."""
PRIOR_PUBLISHES = 1.0
"""How many publishes of its own the pooled rate is worth to a lane."""
ENOUGH_PUBLISHES = 3
"""With fewer a lane counts as new."""
DEFAULT_WORK_S = 10.0
"""What a publish takes where nothing was ever measured."""
_OVERHEADS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0)
_SHORTEST_S = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneRate:
    """A rate in log seconds per row (or operation), and how many publishes it stands on."""

    rate: float
    publishes: float
    """Newer ones count more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRates:
    """The rates of one target's lanes by one measure of size."""

    overhead: float
    pooled: float
    lanes: Mapping[LaneId, LaneRate]

    def work_s(self, lane: LaneId, size: float) -> float:
        """Return the median seconds that a publish of this size takes."""
        own = self.lanes.get(lane)
        rate = self.pooled
        if own is not None:
            rate = (own.publishes * own.rate + PRIOR_PUBLISHES * rate) / (
                own.publishes + PRIOR_PUBLISHES
            )
        return (size + self.overhead) * exp(rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What publishing takes on every lane."""

    by_rows: Mapping[TargetId, TargetRates] = field(default_factory=dict)
    by_operations: Mapping[TargetId, TargetRates] = field(default_factory=dict)
    usual_rows: Mapping[LaneId, float] = field(default_factory=dict)
    measured: Mapping[LaneId, int] = field(default_factory=dict)
    """Publishes that were measured."""
    load: Mapping[LaneId, float] = field(default_factory=dict)
    """How many workers a lane keeps busy, on average."""

    def is_new(self, lane: LaneId) -> bool:
        """Say whether a lane has too little history to be forecast from it alone."""
        return self.measured.get(lane, 0) < ENOUGH_PUBLISHES

    def work_s(self, lane: LaneId, *, rows: int | None, operations: int | None = None) -> float:
        """Return the median seconds of a publish: by its operations once they are known, else by its rows."""
        if operations is not None and (found := self.by_operations.get(lane[1])):
            return found.work_s(lane, operations)
        size = self.usual_rows.get(lane) if rows is None else rows
        of_target = self.by_rows.get(lane[1]) or next(iter(self.by_rows.values()), None)
        if of_target is None or size is None:
            return DEFAULT_WORK_S
        return of_target.work_s(lane, size)

    def basis(self, lane: LaneId) -> str:
        """Say in words what the rate of a lane stands on."""
        count = self.measured.get(lane, 0)
        if count >= ENOUGH_PUBLISHES:
            return f"measured on {count} publishes of {lane[0]} to {lane[1]}"
        own = f"{lane[0]} has {count} measured publishes to {lane[1]}"
        if lane[1] in self.by_rows:
            return f"{own}: mostly what others take on that target"
        if self.by_rows:
            return f"{own}: what others take on other targets"
        return f"{own}, and no other has any: {DEFAULT_WORK_S:g} s is a guess"


def measured_rates(models: Iterable[LaneModel]) -> Rates:
    """Measure every lane's rates from what is remembered of them."""
    known = [model for model in models if model.publishes]
    by_target: dict[TargetId, list[LaneModel]] = defaultdict(list)
    for model in known:
        by_target[model.target_id].append(model)
    rows = {target: _of_target(lanes, "rows") for target, lanes in by_target.items()}
    operations = {target: _of_target(lanes, "operations") for target, lanes in by_target.items()}
    return Rates(
        by_rows={target: found for target, found in rows.items() if found},
        by_operations={target: found for target, found in operations.items() if found},
        usual_rows={model.lane_id: _usual_rows(model.publishes) for model in known},
        measured={model.lane_id: len(model.publishes) for model in known},
        load={model.lane_id: _load(model.publishes) for model in known},
    )


def _load(publishes: Sequence[PastPublish]) -> float:
    """Return the share of the time between the first and the last of some publishes that was spent on them."""
    span_s = (publishes[-1].ended_at - publishes[0].ended_at).total_seconds()
    if len(publishes) < ENOUGH_PUBLISHES or span_s <= 0:
        return 0.0
    return min(1.0, sum(each.work_s for each in publishes[1:]) / span_s)


def _usual_rows(publishes: Sequence[PastPublish]) -> float:
    sizes = [each.rows for each in publishes if each.rows is not None]
    return float(np.median(sizes)) if sizes else 0.0


def _of_target(lanes: Sequence[LaneModel], size: str) -> TargetRates | None:
    """Fit one overhead for a target and a rate for each of its lanes: the overhead under which errors are smallest."""
    samples = {
        model.lane_id: sized
        for model in lanes
        if (sized := [each for each in model.publishes if getattr(each, size) is not None])
    }
    if not samples:
        return None
    sizes, logs, weights = _matrices(list(samples.values()), size)
    overheads = np.array(_OVERHEADS)[:, None, None]
    rates = logs - np.log(sizes + overheads)  # overheads x lanes x publishes
    medians = weighted_medians(rates, weights)
    errors = (np.abs(rates - medians[..., None]) * weights).sum(axis=(1, 2))
    best = int(np.argmin(errors))
    counts = weights.sum(axis=1)
    return TargetRates(
        overhead=_OVERHEADS[best],
        pooled=float(weighted_medians(medians[best], counts)),
        lanes={
            lane: LaneRate(rate=float(rate), publishes=float(count))
            for lane, rate, count in zip(samples, medians[best], counts, strict=True)
        },
    )


def _matrices(samples: Sequence[Sequence[PastPublish]], size: str) -> tuple[Floats, Floats, Floats]:
    """Return sizes, log seconds and weights, a row for each lane, filled up with what weighs nothing."""
    longest = max(len(each) for each in samples)
    sizes, logs, weights = (np.zeros((len(samples), longest)) for _ in range(3))
    for row, publishes in enumerate(samples):
        count = len(publishes)
        sizes[row, :count] = [getattr(each, size) for each in publishes]
        logs[row, :count] = np.log([max(each.work_s, _SHORTEST_S) for each in publishes])
        weights[row, :count] = recency_weights(count, HALF_LIFE)
    return sizes, logs, weights
