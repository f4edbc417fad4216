"""How well forecasts hold: histories replayed on a simulated clock, and the one that the control database has.

Each batch is forecast when it lands, when it comes into another stage, and every ten minutes, as the platform does;
each forecast is held against when the batch came. Nothing is known to a forecast that was not known when it was made.
The peers forecast from the same lane's history: the mean of its times plus 1.28 standard deviations (a p90 if they
were normal), the median and the p90 of its last times, and what the last batch took. Alarms of breaches to come are
compared with simpler rules on the same looks. Rules were made on seeds 1 to 3; what is shown is of others: a median
over seeds with the spread between them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from benchmarks.eta_alarms import Alarms, alarms
from benchmarks.eta_anomalies import anomalies
from benchmarks.eta_world import START, Job, World
from benchmarks.harness import Result, at_least, at_most, result
from penstock.forecast.eta import Eta, Forecaster
from penstock.forecast.lane_model import LaneId, LaneModel, Stage
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
_SEEDS = (11, 12, 13)
"""None of those that rules were made on."""
_LIGHT: dict[str, Any] = {"workers": 3, "busy": 0.3}
_CROWDED: dict[str, Any] = {"workers": 1, "busy": 0.6}
_PEERS = ("mean + 1.28 sd", "p50 and p90 of the last 24", "last")
_FEWEST = 50
"""Forecasts of a source or horizon below which its share is chance."""
_HORIZONS_S = (0.0, 60.0, 600.0, 3600.0, 6 * 3600.0, float("inf"))
_HORIZONS = ("less than 1 min", "1 to 10 min", "10 to 60 min", "1 to 6 h", "more than 6 h")
_RISKS = (0.0, 0.05, 0.2, 0.5, 0.8, 1.01)


@dataclass(kw_only=True)
class Replay:
    """One history, forecast as it went."""

    settled: list[ForecastRecord] = field(default_factory=list)
    peers: dict[str, list[tuple[float, float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Per peer and for ``forecasts``: p50, p90 and what it took, in seconds from when a batch landed."""
    alarms: Alarms = field(default_factory=Alarms)
    busy: float = 0.0
    """Share of the workers' time that publishes took."""


def run(*, quick: bool = False) -> list[Result]:
    """Replay two weeks of 12 sources under three seeds and two loads (three days of 6 sources if quick)."""
    days, sources, seeds = (3.5, 6, _SEEDS[:1]) if quick else (14.0, 12, _SEEDS)
    light = [replayed(World(seed=s, days=days, sources=sources, **_LIGHT)) for s in seeds]
    crowd = [replayed(World(seed=s, days=days, sources=sources, **_CROWDED)) for s in seeds]
    loads = {"three workers": light, "one worker, crowded": crowd}
    return [
        *(each for load, replays in loads.items() for each in _coverage(replays, load)),
        *_sharpness(light + crowd),
        *_risks(light + crowd),
        *(
            each
            for load, replays in loads.items()
            for each in alarms([replay.alarms for replay in replays], load)
        ),
        *anomalies(quick=quick),
        *own_history(),
    ]


def replayed(world: World) -> Replay:
    """Run a world to its end, forecasting on the way."""
    replay = Replay()
    watcher = _Watcher(world, replay)
    tick = START
    while tick < world.ends_at:
        if world.run_until(tick + _TICK):
            tick += _TICK
        watcher.look()
    span_s = (world.ends_at - START).total_seconds()
    replay.busy = world.busy_s / world.workers / span_s
    replay.alarms.source_weeks = len(world.kinds) * span_s / (7 * 86_400)
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
        self._replay.alarms.look(eta)
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
            own = (float(np.median(took)), float(np.quantile(took, 0.9, method="higher")))
            told = ((mean, mean + 1.28 * spread), own, (took[-1], took[-1]))
            peers = dict(zip(_PEERS, told, strict=True))
            p50, p90 = spans
            self._landed[eta.batch_id] = (p50, p90, peers)

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
        self._replay.alarms.end(batch, due_at, ended_at=world.now, came=came_at is not None)
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
    told = [[r for r in replay.settled if r.made_at >= START + _WARM] for replay in replays]
    for stage in Stage:
        yield from _bucket(f"{stage}, {load}", [[r for r in w if r.stage is stage] for w in told])
    for (low, high), name in zip(pairwise(_HORIZONS_S), _HORIZONS, strict=True):
        within = [[r for r in each if low <= _horizon_s(r) < high] for each in told]
        yield from _bucket(f"p50 told in {name}, {load}", within)
    yield _by_source(told, load)
    busy = [100 * replay.busy for replay in replays]
    yield result(f"workers busy, {load}", median(busy), "%", peer=_spread(busy))


def _horizon_s(record: ForecastRecord) -> float:
    return (record.p50_at - record.made_at).total_seconds()


def _bucket(name: str, records: Sequence[Sequence[ForecastRecord]]) -> Iterator[Result]:
    """Yield how often p90 held of some forecasts, where there are enough of them."""
    came = [[each for each in of_one if each.came_at is not None] for of_one in records]
    enough = [of_one for of_one in came if len(of_one) >= _FEWEST]
    if not enough:
        return
    shares = [_share(of_one, "p90") for of_one in enough]
    p50 = median(_share(of_one, "p50") for of_one in enough)
    said = f"{_spread(shares)}, {sum(map(len, enough)):,} forecasts, p50 {p50:.1f} %"
    yield result(f"p90 held, {name}", median(shares), "%", peer=said, goal=_between)


def _by_source(warm: Sequence[Sequence[ForecastRecord]], load: str) -> Result:
    """Return for how many of the sources the p90 held as often as it should."""
    shares = []
    for records in warm:
        by_source: dict[str, list[ForecastRecord]] = defaultdict(list)
        for each in records:
            if each.came_at is not None:
                by_source[each.source_id].append(each)
        shares += [_share(each, "p90") for each in by_source.values() if len(each) >= _FEWEST]
    good = 100 * sum(_between(each)[1] for each in shares) / max(1, len(shares))
    said = f"{min(shares):.1f} to {max(shares):.1f} % over {len(shares)} sources" if shares else ""
    name = f"sources whose p90 held in 85 to 95 %, {load}"
    return result(name, good, "%", peer=said, goal=at_least(90, "%"))


def _share(records: Sequence[ForecastRecord], level: str) -> float:
    return 100 * sum(each.held(level) for each in records) / len(records)


def held(replay: Replay, level: str, which: Callable[[ForecastRecord], bool]) -> float:
    """Return how many percent of some forecasts held, of batches that came; NaN of none."""
    told = [r for r in replay.settled if r.came_at is not None and which(r)]
    return _share(told, level) if told else float("nan")


def _between(value: float) -> tuple[str, bool]:
    return "85 to 95 %", 85 <= value <= 95


def _sharpness(replays: Sequence[Replay]) -> Iterator[Result]:
    """Yield what forecasts at landing cost by the pinball loss, which rewards both holding and being near."""
    for level, at in ((0.5, 0), (0.9, 1)):
        losses = {
            name: [_pinball(replay.peers[name], level, at) for replay in replays]
            for name in ("forecasts", *_PEERS)
        }
        told = median(losses["forecasts"])
        for peer in _PEERS:
            yield result(
                f"pinball loss at p{int(level * 100)} against {peer}",
                told / median(losses[peer]),
                "x",
                peer=f"{told:.1f} s against {median(losses[peer]):.1f} s",
                goal=at_most(1, "x"),
            )
    for name in ("forecasts", *_PEERS):
        holds = [100 * float(np.mean([a <= p for _, p, a in r.peers[name]])) for r in replays]
        yield result(f"p90 at landing held by {name}", median(holds), "%", peer=_spread(holds))


def _pinball(told: Sequence[tuple[float, float, float]], level: float, at: int) -> float:
    losses = [
        max(level * (took - each[at]), (level - 1) * (took - each[at]))
        for each in told
        for took in (each[2],)
    ]
    return float(np.mean(losses))


def _risks(replays: Sequence[Replay]) -> Iterator[Result]:
    """Yield how often a breach came of forecasts on record that told some probability of it."""
    told = [
        (record.breach_probability, record.came_at is None or record.came_at > record.due_at)
        for replay in replays
        for record in replay.settled
        if record.breach_probability is not None
        and record.due_at is not None
        and record.made_at < record.due_at
    ]
    for low, high in pairwise(_RISKS):
        within = [(risk, late) for risk, late in told if low <= risk < high]
        if within:
            risk, late = (100 * float(np.mean(column)) for column in zip(*within, strict=True))
            said = f"{risk:.1f} % told, {len(within):,} forecasts"
            name = f"late, of those told {100 * low:.0f} to {min(100, 100 * high):.0f} %"
            yield result(name, late, "%", peer=said)


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
