"""How well forecasts hold: a history replayed on a simulated clock, or the one that the control database has.

Each batch is forecast when it lands, when it comes into another stage, and every ten minutes, as the platform does;
each forecast is held against when the batch came. The peers forecast from the same lane's history: the mean of its
times plus 1.28 standard deviations (a p90 if they were normal), and what the last batch took. What is shown is a median
over seeds with the spread between them.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import numpy as np

from benchmarks.eta_world import START, Job, World
from benchmarks.harness import Result, at_least, at_most, result
from penstock.forecast.anomaly import Metric, Observation, judge
from penstock.forecast.eta import Eta, Forecaster
from penstock.forecast.lane_model import LaneId, LaneModel, Stage
from penstock.forecast.policy import ForecastPolicy
from penstock.forecast.rates import Rates, measured_rates
from penstock.forecast.records import (
    ForecastRecord,
    is_worth_recording,
    recorded,
    with_overdue,
)
from penstock.identity.ids import BatchId
from penstock.publish.state import PublishStatus

_TICK = timedelta(seconds=60)
_WARM = timedelta(days=2)
_LIMITS = ForecastPolicy()


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A breach that was foretold."""

    batch_id: BatchId
    at: datetime
    due_at: datetime


@dataclass(kw_only=True)
class Replay:
    """One history, forecast as it went."""

    settled: list[ForecastRecord] = field(default_factory=list)
    peers: dict[str, list[tuple[float, float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Per peer and for ``forecasts``: p50, p90 and what it took, in seconds from when a batch landed."""
    alerts: dict[BatchId, Alert] = field(default_factory=dict)
    came: dict[BatchId, tuple[datetime, datetime | None]] = field(default_factory=dict)
    """When each batch was due and when it came; None of what failed."""
    days: float = 0.0
    sources: int = 0


def run(*, quick: bool = False) -> list[Result]:
    """Replay two weeks of 12 sources under three seeds and two loads (three days of 6 sources if quick)."""
    days, sources, seeds = (3.5, 6, (1,)) if quick else (14.0, 12, (1, 2, 3))
    usual = [replayed(World(seed=seed, days=days, sources=sources)) for seed in seeds]
    loaded = [replayed(World(seed=seed, days=days, sources=sources, workers=1)) for seed in seeds]
    return [
        *_coverage(usual, "three workers"),
        *_coverage(loaded, "one worker, crowded"),
        *_sharpness(usual + loaded),
        *_breaches(usual + loaded),
        *anomalies(quick=quick),
        *own_history(),
    ]


def replayed(world: World) -> Replay:
    """Run a world to its end, forecasting on the way."""
    replay = Replay(days=(world.ends_at - START).total_seconds() / 86_400, sources=len(world.kinds))
    watcher = _Watcher(world, replay)
    tick = START
    while tick < world.ends_at:
        if world.run_until(tick + _TICK):
            tick += _TICK
        watcher.look()
    return replay


class _Watcher:
    """What the platform's loop does, over a world."""

    def __init__(self, world: World, replay: Replay) -> None:
        self._world, self._replay = world, replay
        self._models: dict[LaneId, LaneModel] = {}
        self._open: dict[BatchId, list[ForecastRecord]] = {}
        self._last: dict[BatchId, tuple[datetime, Stage]] = {}
        self._took: dict[LaneId, list[float]] = defaultdict(list)
        self._landed: dict[BatchId, tuple[float, float, dict[str, tuple[float, float]]]] = {}
        self._forecaster: Forecaster | None = None
        self._rates = Rates()

    def look(self) -> None:
        """Learn from what ended, and forecast what is on its way."""
        for job, past in self._world.ended:
            self._learn(job, past)
        self._world.ended.clear()
        if not self._world.unfinished():
            return
        now = self._world.now
        overdue = [r for records in self._open.values() for r in records if r.p90_at < now]
        if self._forecaster is None or overdue:
            models = with_overdue(self._models.values(), overdue, now)
            self._forecaster = Forecaster(models, self._rates)
        for eta in self._forecaster.etas(self._world.situation()):
            self._note(eta)

    def _note(self, eta: Eta) -> None:
        self._foretell(eta)
        if not is_worth_recording(eta, self._last.get(eta.batch_id)):
            return
        record = recorded(eta)
        assert record is not None
        self._open.setdefault(eta.batch_id, []).append(record)
        self._last[eta.batch_id] = (eta.made_at, eta.stage)
        took = self._took[record.lane_id][-24:]
        if eta.batch_id not in self._landed and len(took) >= 3:
            spans = (
                (each - eta.made_at).total_seconds() for each in (record.p50_at, record.p90_at)
            )
            mean, spread = float(np.mean(took)), float(np.std(took))
            peers = {"mean + 1.28 sd": (mean, mean + 1.28 * spread), "last": (took[-1], took[-1])}
            p50, p90 = spans
            self._landed[eta.batch_id] = (p50, p90, peers)

    def _foretell(self, eta: Eta) -> None:
        if eta.due_at is None or eta.breach_probability is None or eta.due_at <= eta.made_at:
            return
        if (
            eta.breach_probability >= _LIMITS.breach_alert
            and eta.batch_id not in self._replay.alerts
        ):
            alert = Alert(batch_id=eta.batch_id, at=eta.made_at, due_at=eta.due_at)
            self._replay.alerts[eta.batch_id] = alert

    def _learn(self, job: Job, past: Any) -> None:
        world, batch = self._world, job.state.batch_id
        came_at = world.now if job.state.status is PublishStatus.COMPLETE else None
        model = self._models.get(job.lane_id) or LaneModel(
            source_id=job.lane_id[0], target_id=job.lane_id[1]
        )
        if past is not None:
            model = model.with_publishes([past])
            self._measure(model)
        for record in self._open.pop(batch, []):
            settled = record.settled(came_at, now=world.now)
            self._replay.settled.append(settled)
            if (score := settled.score()) is not None:
                model = model.with_score(settled.stage, score)
        self._models[job.lane_id] = model
        self._last.pop(batch, None)
        self._forecaster = None
        sla_s = world.specs[job.state.source_id].sla_s
        assert sla_s is not None
        due_at = job.state.source_timestamp + timedelta(seconds=sla_s)
        self._replay.came[batch] = (due_at, came_at)
        if came_at is not None:
            took_s = (came_at - job.landed_at).total_seconds()
            self._took[job.lane_id].append(took_s)
            if (told := self._landed.pop(batch, None)) and job.landed_at >= START + _WARM:
                self._replay.peers["forecasts"].append((told[0], told[1], took_s))
                for name, (p50, p90) in told[2].items():
                    self._replay.peers[name].append((p50, p90, took_s))

    def _measure(self, model: LaneModel) -> None:
        """Measure the rates of one target anew, with what a lane of it has learnt."""
        target = model.target_id
        others = [m for lane, m in self._models.items() if lane != model.lane_id]
        anew = measured_rates([model, *(each for each in others if each.target_id == target)])
        rates = {each.name: getattr(self._rates, each.name) for each in fields(Rates)}
        self._rates = Rates(**{k: {**v, **getattr(anew, k)} for k, v in rates.items()})


# Figures ----------------------------------------------------------------------------------------------------


def _spread(values: Sequence[float], digits: int = 1) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f} over {len(values)} histories"


def _coverage(replays: Sequence[Replay], load: str) -> Iterator[Result]:
    """Yield how often p50 and p90 held, of what came, after two days of warming up and before."""
    for level, goal in (("p50", None), ("p90", _between)):
        warm = [
            held(replay, level, lambda record: record.made_at >= START + _WARM)
            for replay in replays
        ]
        yield result(f"{level} held, {load}", median(warm), "%", peer=_spread(warm), goal=goal)
    cold = [
        held(replay, "p90", lambda record: record.made_at < START + _WARM) for replay in replays
    ]
    yield result(f"p90 held in the first two days, {load}", median(cold), "%", peer=_spread(cold))
    for stage in Stage:
        at_stage = [
            held(replay, "p90", lambda r, s=stage: r.stage is s and r.made_at >= START + _WARM)  # type: ignore[misc]
            for replay in replays
        ]
        known = [each for each in at_stage if not math.isnan(each)]
        if known:
            count = sum(r.stage is stage for replay in replays for r in replay.settled)
            said = f"{_spread(known)}, {count:,} forecasts"
            yield result(f"... {stage}, {load}", median(known), "%", peer=said)


def held(replay: Replay, level: str, which: Callable[[ForecastRecord], bool]) -> float:
    """Return how many percent of some forecasts held, of batches that came; NaN of none."""
    told = [r.held(level) for r in replay.settled if r.came_at is not None and which(r)]
    return 100 * sum(told) / len(told) if told else math.nan


def _between(value: float) -> tuple[str, bool]:
    return "85 to 95 %", 85 <= value <= 95


def _sharpness(replays: Sequence[Replay]) -> Iterator[Result]:
    """Yield what forecasts at landing cost by the pinball loss, which rewards both holding and being near."""
    for level, at in ((0.5, 0), (0.9, 1)):
        losses = {
            name: [_pinball(replay.peers[name], level, at) for replay in replays]
            for name in ("forecasts", "mean + 1.28 sd", "last")
        }
        told = median(losses["forecasts"])
        for peer in ("mean + 1.28 sd", "last"):
            yield result(
                f"pinball loss at p{int(level * 100)} against {peer}",
                told / median(losses[peer]),
                "x",
                peer=f"{told:.1f} s against {median(losses[peer]):.1f} s",
                goal=at_most(1, "x"),
            )
    for name in ("forecasts", "mean + 1.28 sd", "last"):
        holds = [100 * float(np.mean([a <= p for _, p, a in r.peers[name]])) for r in replays]
        yield result(f"p90 at landing held by {name}", median(holds), "%", peer=_spread(holds))


def _pinball(told: Sequence[tuple[float, float, float]], level: float, at: int) -> float:
    losses = [
        max(level * (took - each[at]), (level - 1) * (took - each[at]))
        for each in told
        for took in (each[2],)
    ]
    return float(np.mean(losses))


def _breaches(replays: Sequence[Replay]) -> Iterator[Result]:
    """Yield how long before a breach it was foretold, and how often what was foretold did not come."""
    leads, caught, false, alerts, weeks = [], [], [], 0, 0.0
    for replay in replays:
        missed = {b for b, (due, came) in replay.came.items() if came is None or came > due}
        told = replay.alerts
        ended = {batch for batch in told if batch in replay.came}
        leads += [(told[b].due_at - told[b].at).total_seconds() / 60 for b in missed if b in told]
        caught.append(100 * sum(b in told for b in missed) / max(1, len(missed)))
        false.append(100 * sum(b not in missed for b in ended) / max(1, len(ended)))
        alerts += sum(b not in missed for b in ended)
        weeks += replay.sources * replay.days / 7
    yield result("breaches foretold", median(caught), "%", peer=_spread(caught))
    yield result("lead time of a breach alert, median", median(leads) if leads else 0.0, "min")
    early = sorted(leads)
    yield result("lead time, 9 in 10 have more", early[len(early) // 10] if early else 0.0, "min")
    yield result("breach alerts that were false", median(false), "%", peer=_spread(false))
    yield result("false breach alerts per source and week", alerts / weeks, "")


def anomalies(*, quick: bool) -> Iterator[Result]:
    """Yield false alarms on series with days and weeks and nothing else, and how many injected anomalies are found."""
    count, weeks = (3, 4) if quick else (60, 8)
    rng = np.random.default_rng(7)
    alarms = observations = found = twice = 0
    for _ in range(count):
        plain = list(_series(rng, weeks))
        alarms += _alarms(plain)
        observations += len(plain)
        at = int(rng.integers(len(plain) // 2, len(plain) - 1))
        factor = float(rng.choice([0.25, 3.0]))
        odd = [Observation(at=each.at, value=each.value * factor) for each in plain[at : at + 2]]
        found += judge(Metric.ROWS, [*plain[:at], odd[0]], was_open=False) is not None
        twice += judge(Metric.ROWS, [*plain[:at], *odd], was_open=False) is not None
    yield result(
        "false anomaly alarms per source and week",
        alarms / (count * weeks),
        "",
        goal=at_most(0.1, ""),
    )
    yield result("false anomaly alarms per 1,000 batches", 1000 * alarms / observations, "")
    said = "of batches x 0.25 or x 3 of what they were"
    yield result("anomalies found at the first batch", 100 * found / count, "%", peer=said)
    yield result(
        "anomalies found by the second batch", 100 * twice / count, "%", goal=at_least(80, "%")
    )


def _series(rng: np.random.Generator, weeks: int) -> Iterator[Observation]:
    level, night = float(np.exp(rng.normal(9, 1))), float(rng.uniform(0.3, 1))
    spread, walk = float(rng.uniform(0.03, 0.25)), 0.0
    for hour in range(0, weeks * 7 * 24, 2):
        at = START + timedelta(hours=hour)
        walk = 0.99 * walk + float(rng.normal(0, 0.01))
        day = 0.5 + 0.5 * math.sin((at.hour - 8) / 24 * 2 * math.pi)
        season = night if at.weekday() >= 5 else night + (1 - night) * day
        noise = float(rng.standard_t(5)) * spread
        yield Observation(at=at, value=level * season * math.exp(walk + noise))


def _alarms(series: Sequence[Observation]) -> int:
    """Return how often an alarm was raised along a series."""
    alarms, is_open = 0, False
    for end in range(20, len(series) + 1):
        anomaly = judge(Metric.ROWS, series[:end], was_open=is_open)
        alarms += anomaly is not None and not is_open
        is_open = anomaly is not None
    return alarms


def own_history() -> Iterator[Result]:
    """Yield how the forecasts on record in the control database held, where PENSTOCK_HOME has one."""
    from resources.settings import Settings

    settings = Settings.from_env()
    if settings.database_url is None and not (settings.home / "control.db").exists():
        return
    from penstock.use_cases.forecasting import forecast_reliability
    from resources.wiring import open_forecasting, open_platform

    forecasting = open_forecasting(settings, open_platform(settings))
    for each in forecast_reliability(forecasting, days=90):
        said = f"{each.forecasts:,} forecasts on record in {os.path.basename(settings.home)}"
        yield result(
            f"p90 held here, {each.stage}", 100 * each.within_p90 / each.forecasts, "%", peer=said
        )
