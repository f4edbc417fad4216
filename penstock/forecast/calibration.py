"""Quantiles of how late a batch comes, taken from how far earlier forecasts were off: a p90 is to hold 9 times in 10.

Split conformal prediction (Vovk et al., 2005; Lei et al., 2018) on scores ``log(actual / point)``: the quantile told is
the one of earlier scores at the level ``(n + 1) / n`` times the one that is wanted, n in batches. Scores of the lane
itself are weighed against those of all lanes at the same stage, which together count as :data:`POOLED_SCORES` of its
own. Load and targets change, so how much more it takes is learnt while going, by what conformal PID control calls
quantile tracking (Angelopoulos, Candès and Tibshirani, 2023): ``shift += gain * (missed - goal)``, added to the score.
Adapting the level instead (Gibbs and Candès, 2021) was tried first: where a crowd outgrows all that was ever seen, the
highest score is too low, and no level helps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist

import numpy as np

from penstock.forecast.lane_model import SCORE_SHIFT_S, LaneId, LaneModel, Score, Stage
from penstock.forecast.robust import Floats, ordered_quantile, recency_weights

MISSES_GOAL = 0.10
"""Share of forecasts whose p90 is to be missed."""
POOLED_SCORES = 12.0
"""How many scores of its own those of all lanes are worth to a lane."""
GAIN = 0.05
"""How fast the shift follows what is missed."""
_SCORES_HALF_LIFE = 30.0
_ENOUGH_SCORES = 8
_HIGHEST = 0.985
_LOWEST_SHIFT, _HIGHEST_SHIFT = -0.5, 2.0
_GUESSED_SPREAD = 0.8
"""Log deviation of scores as long as none are known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantiles:
    """How late batches like one come: what p50 and p90 take, and the scores that the risk of being late is read off."""

    scores: Floats
    """In order."""
    reached: Floats
    """The weights of each score and of all below it, together."""
    p50: float
    p90: float
    """Scores that are told."""

    def p50_s(self, point_s: float) -> float:
        """Return the seconds until half of such batches have come."""
        return _seconds(point_s, self.p50)

    def p90_s(self, point_s: float) -> float:
        """Return the seconds until nine in ten of such batches have come."""
        return _seconds(point_s, self.p90)

    def later_than(self, point_s: float, limit_s: float) -> float:
        """Return the probability that a batch comes after ``limit_s`` seconds, smoothed so that it is never 0 or 1."""
        if limit_s <= 0:
            return 1.0
        limit = log((limit_s + SCORE_SHIFT_S) / (max(0.0, point_s) + SCORE_SHIFT_S))
        total = float(self.reached[-1])
        sooner = int(self.scores.searchsorted(limit, side="right"))
        later = total - float(self.reached[sooner - 1]) if sooner else total
        return (later + 0.5) / (total + 1.0)


def _seconds(point_s: float, score: float) -> float:
    return max(0.0, (point_s + SCORE_SHIFT_S) * exp(score) - SCORE_SHIFT_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pool:
    """The scores of all lanes at one stage, together as much as a lane takes of them, and what a p90 takes besides."""

    scores: Floats
    weights: Floats
    shift: float


class Calibration:
    """The scores of all lanes by stage, ready to be asked for the quantiles of one lane.

    What was worked out is kept: in a crowd hundreds of batches ask for the same few.
    """

    def __init__(self, models: Iterable[LaneModel]) -> None:
        self._models = {model.lane_id: model for model in models}
        self._pools: dict[Stage, _Pool] = {}
        self._known: dict[tuple[LaneId, Stage], Quantiles] = {}

    def quantiles(self, lane: LaneId, stage: Stage) -> Quantiles:
        """Return what the quantiles of one lane's forecasts at a stage are taken from."""
        known = self._known.get((lane, stage))
        if known is None:
            known = self._known[lane, stage] = self._worked_out(lane, stage)
        return known

    def _worked_out(self, lane: LaneId, stage: Stage) -> Quantiles:
        pool = self._pools.get(stage)
        if pool is None:
            pool = self._pools[stage] = self._pool(stage)
        model = self._models.get(lane)
        own = model.scores.get(stage, ()) if model else ()
        scores = np.concatenate([np.array([score.value for score in own]), pool.scores])
        weights = np.concatenate([recency_weights(len(own), _SCORES_HALF_LIFE), pool.weights])
        order = np.argsort(scores, kind="stable")
        scores, reached = scores[order], np.cumsum(weights[order])
        p50 = ordered_quantile(scores, reached, 0.5)
        p90 = ordered_quantile(scores, reached, _corrected(1.0 - MISSES_GOAL, own)) + pool.shift
        return Quantiles(scores=scores, reached=reached, p50=p50, p90=max(p50, p90))

    def _pool(self, stage: Stage) -> _Pool:
        scores, weights = _pooled(self._models.values(), stage)
        return _Pool(
            scores=scores,
            weights=weights * (POOLED_SCORES / weights.sum()),
            shift=_shift(self._scores_of(stage)),
        )

    def _scores_of(self, stage: Stage) -> list[Score]:
        found = [s for model in self._models.values() for s in model.scores.get(stage, ())]
        return sorted(found, key=lambda score: score.at)


def _pooled(models: Iterable[LaneModel], stage: Stage) -> tuple[Floats, Floats]:
    """Return the scores of all lanes at a stage, or a guess where too few are known."""
    known = [
        (score.value, weight)
        for model in models
        if (scores := model.scores.get(stage))
        for score, weight in zip(
            scores, recency_weights(len(scores), _SCORES_HALF_LIFE), strict=True
        )
    ]
    guessed = NormalDist(sigma=_GUESSED_SPREAD)
    if len(known) < _ENOUGH_SCORES:
        known += [(guessed.inv_cdf((n + 0.5) / 20), 0.5) for n in range(20)]
    values, weights = zip(*known, strict=True)
    return np.array(values), np.array(weights, dtype=np.float64)


def _shift(scores: Sequence[Score]) -> float:
    """Return what has to be added to the score of a p90, from which of the forecasts before came after theirs."""
    shift = 0.0
    for score in scores:
        shift += GAIN * (float(score.missed) - MISSES_GOAL)
        shift = min(_HIGHEST_SHIFT, max(_LOWEST_SHIFT, shift))
    return shift


def _corrected(level: float, own: Sequence[Score]) -> float:
    """Return the level that a few scores need: those of one batch, forecast again and again, are one."""
    count = POOLED_SCORES + len({score.at for score in own})
    return min(_HIGHEST, level * (count + 1) / count)
