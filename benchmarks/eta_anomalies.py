"""Anomalies on made-up series with days and weeks: false alarms where there is nothing, and injections found.

The peer is the rule of three standard deviations from the mean of as many observations, which knows of no time of week
and is moved by outliers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np

from benchmarks.eta_world import START
from benchmarks.harness import Result, at_least, at_most, result
from penstock.forecast.anomaly import FEWEST, MOST, Metric, Observation, judge

_Rng = np.random.Generator
_INJECTED = {
    Metric.ROWS: "x 0.25 or x 3",
    Metric.DURATION: "x 4",
    Metric.ERROR_SHARE: "+ 10 percentage points",
}


def anomalies(*, quick: bool) -> Iterator[Result]:
    """Yield, for each metric, how often nothing was called unusual and how often what was injected was found."""
    count, weeks = (3, 4) if quick else (30, 8)
    rng = np.random.default_rng(7)
    for metric, said in _INJECTED.items():
        alarms = theirs = observations = found = twice = peer_found = 0
        for _ in range(count):
            plain = list(_series(metric, rng, weeks))
            alarms += _alarms(metric, plain)
            theirs += sum(_is_far(plain[:end]) for end in range(FEWEST, len(plain) + 1))
            observations += len(plain)
            at = int(rng.integers(len(plain) // 2, len(plain) - 1))
            factor = float(rng.choice([0.25, 3.0]))
            odd = [_odd(metric, each, factor) for each in plain[at : at + 2]]
            found += judge(metric, [*plain[:at], odd[0]], was_open=False) is not None
            twice += judge(metric, [*plain[:at], *odd], was_open=False) is not None
            peer_found += _is_far([*plain[:at], odd[0]]) or _is_far([*plain[:at], *odd])
        rate = alarms / (count * weeks)
        name = f"false alarms of {metric} per source and week"
        peer = f"{theirs / (count * weeks):.2f} of three standard deviations"
        yield result(name, rate, "", peer=peer, goal=at_most(0.1, ""))
        per = 1000 * alarms / observations
        yield result(f"false alarms of {metric} per 1,000 batches", per, "")
        yield result(f"{metric} {said}: found at once", 100 * found / count, "%")
        peer = f"{100 * peer_found / count:.0f} % by three standard deviations"
        name = f"{metric} {said}: found by the second batch"
        yield result(name, 100 * twice / count, "%", peer=peer, goal=at_least(80, "%"))


def _series(metric: Metric, rng: _Rng, weeks: int) -> Iterator[Observation]:
    """Yield a batch every two hours with nights, weekends, a slow walk and a heavy tail, and nothing else."""
    level, night = float(np.exp(rng.normal(9, 1))), float(rng.uniform(0.3, 1))
    spread, walk = float(rng.uniform(0.03, 0.25)), 0.0
    usual = float(rng.uniform(0, 0.02))
    for hour in range(0, weeks * 7 * 24, 2):
        at = START + timedelta(hours=hour)
        walk = 0.99 * walk + float(rng.normal(0, 0.01))
        day = 0.5 + 0.5 * math.sin((at.hour - 8) / 24 * 2 * math.pi)
        season = night if at.weekday() >= 5 else night + (1 - night) * day
        value = level * season * math.exp(walk + float(rng.standard_t(5)) * spread)
        match metric:
            case Metric.ROWS:
                yield Observation(at=at, value=value)
            case Metric.DURATION:
                yield Observation(at=at, value=5 + value / 100)
            case Metric.ERROR_SHARE:
                operations = max(1, int(value / 20))
                share = min(1.0, usual * math.exp(walk * 5))
                refused = int(rng.binomial(operations, share))
                yield Observation(at=at, value=refused / operations, of=float(operations))


def _odd(metric: Metric, each: Observation, factor: float) -> Observation:
    match metric:
        case Metric.ROWS:
            return Observation(at=each.at, value=each.value * factor)
        case Metric.DURATION:
            return Observation(at=each.at, value=each.value * 4)
        case Metric.ERROR_SHARE:
            return Observation(at=each.at, value=min(1.0, each.value + 0.1), of=each.of)


def _alarms(metric: Metric, series: Sequence[Observation]) -> int:
    """Return how often an alarm was raised along a series."""
    alarms, is_open = 0, False
    for end in range(FEWEST, len(series) + 1):
        anomaly = judge(metric, series[max(0, end - MOST) : end], was_open=is_open)
        alarms += anomaly is not None and not is_open
        is_open = anomaly is not None
    return alarms


def _is_far(series: Sequence[Observation]) -> bool:
    """Say whether the last observation is three standard deviations from the mean of those before."""
    before = np.array([each.value for each in series[-MOST:-1]])
    return bool(abs(series[-1].value - before.mean()) > 3 * before.std())
