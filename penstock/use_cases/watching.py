"""One round of watching: learn from what ended, put forecasts on record, open and resolve incidents.

Any number of servers may do it at once: what they write is the same, and each incident is opened once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from penstock.forecast.eta import Eta
from penstock.forecast.incidents import (
    Incident,
    decide,
)
from penstock.forecast.lane_model import LaneId, LaneModel
from penstock.forecast.records import ForecastRecord, is_worth_recording, recorded
from penstock.use_cases.forecasting import Forecasting, etas_by
from penstock.use_cases.troubles import conditions

FIRST_LOOK_DAYS = 45
"""How far back lanes are measured the first time."""
_OVERLAP_S = 600.0
"""Looked at again: what commits late is not passed over."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What one round came to."""

    learnt: int
    """Lanes that something ended on."""
    recorded: int
    """Forecasts put on record."""
    settled: int
    """Forecasts held against what came."""
    opened: tuple[Incident, ...]
    resolved: tuple[Incident, ...]


def watch(forecasting: Forecasting) -> Watched:
    """Do one round."""
    now = forecasting.platform.clock.now()
    store = forecasting.forecasts
    since = store.measured_until()
    settled = store.settle(now=now)
    models, changed = learnt(forecasting, settled, since=since, now=now)
    etas = etas_by(forecasting, models)
    put_on_record = _record(forecasting, etas)
    store.refresh_days(now=now)
    store.forget_forecasts(before=now - timedelta(days=forecasting.policy.keep_days))
    opened, resolved = _incidents(forecasting, etas, changed, now)
    return Watched(
        learnt=len(changed),
        recorded=put_on_record,
        settled=len(settled),
        opened=tuple(opened),
        resolved=tuple(resolved),
    )


def learnt(
    forecasting: Forecasting,
    settled: Sequence[ForecastRecord],
    *,
    since: datetime | None,
    now: datetime,
) -> tuple[list[LaneModel], set[LaneId]]:
    """Bring the models of lanes up to date; return all of them, and the lanes that something ended on."""
    store = forecasting.forecasts
    models = {model.lane_id: model for model in store.lane_models()}
    before = dict(models)
    back = timedelta(days=FIRST_LOOK_DAYS) if since is None else timedelta(seconds=_OVERLAP_S)
    for lane, ended in store.recent_publishes((since or now) - back).items():
        models[lane] = _model(models, lane).with_publishes(ended)
    for forecast in settled:
        score = forecast.score()
        if score is not None:
            model = _model(models, forecast.lane_id)
            models[forecast.lane_id] = model.with_score(forecast.stage, score)
    changed = {lane for lane, model in models.items() if before.get(lane) != model}
    if changed:
        store.save_lane_models([models[lane] for lane in changed], now=now)
    return list(models.values()), changed


def _model(models: dict[LaneId, LaneModel], lane: LaneId) -> LaneModel:
    return models.get(lane) or LaneModel(source_id=lane[0], target_id=lane[1])


def _record(forecasting: Forecasting, etas: Sequence[Eta]) -> int:
    last = forecasting.forecasts.last_recorded()
    worth = [
        record
        for eta in etas
        if is_worth_recording(eta, last.get((eta.batch_id, eta.target_id)))
        and (record := recorded(eta)) is not None
    ]
    forecasting.forecasts.record(worth)
    return len(worth)


def _incidents(
    forecasting: Forecasting, etas: Sequence[Eta], changed: Iterable[LaneId], now: datetime
) -> tuple[list[Incident], list[Incident]]:
    store = forecasting.incidents
    known = store.list_incidents(open_only=True, by_rules=True, limit=10_000)
    decision = decide(
        conditions(forecasting, etas, changed, known, now=now),
        known,
        now=now,
    )
    opened = [
        incident
        for condition in decision.open
        if (incident := store.open_by_rule(condition, now=now)) is not None
    ]
    for incident, condition in decision.seen:
        store.see_again(incident.incident_id, condition, now=now)
    return opened, list(_resolve(forecasting, decision.resolve, now))


def _resolve(
    forecasting: Forecasting, gone: Iterable[Incident], now: datetime
) -> Iterator[Incident]:
    for incident in gone:
        text = f"This has been all right again since {incident.seen_at:%Y-%m-%d %H:%M} UTC."
        if forecasting.incidents.resolve_by_rule(incident.incident_id, text=text, now=now):
            yield forecasting.incidents.get_incident(incident.incident_id)
