"""ETAs: when a batch will be in its target, as p50 and p90, and how likely it misses its source's SLA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from penstock.batch.source import SourceSpec
from penstock.forecast.calibration import Calibration, Quantiles
from penstock.forecast.lane_model import LaneId, LaneModel, Stage
from penstock.forecast.line import JobId, Running, Waiting, play, remaining_s
from penstock.forecast.rates import Rates, measured_rates
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.publish.queue import QueuePlace
from penstock.publish.state import PublishState, PublishStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How large a batch's publish is, as far as it is known."""

    rows: int | None = None
    operations: int | None = None
    """Once it is planned."""
    done: int = 0
    """Of the operations."""
    executing_since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """All that ETAs depend on, at one moment."""

    now: datetime
    workers: int
    in_hand: Sequence[tuple[PublishState, datetime]]
    """What workers have, each with the moment from which they have had it."""
    queue: Sequence[QueuePlace]
    sizes: Mapping[JobId, Size] = field(default_factory=dict)
    specs: Mapping[SourceId, SourceSpec] = field(default_factory=dict)
    shut_until: Mapping[TargetId, datetime] = field(default_factory=dict)
    """Targets that do not answer, and when they are called again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Eta:
    """The forecast of one batch on its way to one target."""

    batch_id: BatchId
    source_id: SourceId
    target_id: TargetId
    tenant_id: TenantId
    source_timestamp: datetime
    made_at: datetime
    stage: Stage
    place: int | None
    """In the queue, 1 is next; None once a worker has it."""
    point_s: float | None
    """Median seconds by rates and queue alone, before calibration; None where a person has to act first."""
    p50_at: datetime | None
    """When half of such batches have come."""
    p90_at: datetime | None
    """When nine in ten of such batches have come."""
    due_at: datetime | None
    """By the source's SLA; None without one."""
    breach_probability: float | None
    """That it comes after ``due_at``; None without an SLA."""
    explanation: str
    """What it stands on, or what has to happen first, in words for operators."""


class Forecaster:
    """ETAs from what is remembered of the lanes. Pure: the same models and situation give the same ETAs."""

    def __init__(self, models: Iterable[LaneModel]) -> None:
        known = list(models)
        self.rates: Rates = measured_rates(known)
        self._calibration = Calibration(known)

    def etas(self, situation: Situation) -> list[Eta]:
        """Return the ETA of everything in hand and in the queue, in hand first, then by place."""
        running = [
            _running(each, since, situation, self.rates) for each, since in situation.in_hand
        ]
        reachable = [place for place in situation.queue if not place.needs_person]
        waiting = [_waiting(place, situation, self.rates) for place in reachable]
        turns = play(running, waiting, workers=situation.workers)
        in_hand = [
            self._eta(state, None, turns[_job(state)].ends_s, situation)
            for state, _ in situation.in_hand
        ]
        queued = [
            self._eta(place.state, place, turns[_job(place.state)].ends_s, situation)
            if not place.needs_person
            else _without(place, situation)
            for place in situation.queue
        ]
        return [*in_hand, *queued]

    def _eta(
        self, state: PublishState, place: QueuePlace | None, point_s: float, situation: Situation
    ) -> Eta:
        lane = (state.source_id, state.target_id)
        stage = self._stage(lane, state, situation)
        quantiles = self._calibration.quantiles(lane, stage)
        now = situation.now
        due_at = _due_at(state, situation)
        return Eta(
            batch_id=state.batch_id,
            source_id=state.source_id,
            target_id=state.target_id,
            tenant_id=state.tenant_id,
            source_timestamp=state.source_timestamp,
            made_at=now,
            stage=stage,
            place=place.place if place else None,
            point_s=point_s,
            p50_at=now + timedelta(seconds=quantiles.p50_s(point_s)),
            p90_at=now + timedelta(seconds=quantiles.p90_s(point_s)),
            due_at=due_at,
            breach_probability=_breach(quantiles, point_s, due_at, now),
            explanation=_explanation(place, stage, self.rates.basis(lane)),
        )

    def _stage(self, lane: LaneId, state: PublishState, situation: Situation) -> Stage:
        if self.rates.is_new(lane):
            return Stage.NEW
        if state.status is PublishStatus.RETRYING or state.target_id in situation.shut_until:
            return Stage.RETRYING
        return Stage.QUEUED if _waits(state, situation) else Stage.IN_HAND


def _waits(state: PublishState, situation: Situation) -> bool:
    return all(_job(state) != _job(held) for held, _ in situation.in_hand)


def _job(state: PublishState) -> JobId:
    return (state.batch_id, state.target_id)


def _due_at(state: PublishState, situation: Situation) -> datetime | None:
    spec = situation.specs.get(state.source_id)
    if spec is None or spec.sla_s is None or state.republish:
        return None
    return state.source_timestamp + timedelta(seconds=spec.sla_s)


def _breach(
    quantiles: Quantiles, point_s: float, due_at: datetime | None, now: datetime
) -> float | None:
    if due_at is None:
        return None
    return quantiles.later_than(point_s, (due_at - now).total_seconds())


def _running(state: PublishState, since: datetime, situation: Situation, rates: Rates) -> Running:
    lane = (state.source_id, state.target_id)
    size = situation.sizes.get(_job(state), Size())
    elapsed_s = (situation.now - since).total_seconds()
    whole_s = rates.work_s(lane, rows=size.rows, operations=size.operations)
    left_s = remaining_s(whole_s, elapsed_s)
    if size.operations and size.done and size.executing_since is not None:
        executing_s = (situation.now - size.executing_since).total_seconds()
        left_s = executing_s * (size.operations - size.done) / size.done
    return Running(job=_job(state), lane=lane, remaining_s=max(0.0, left_s))


def _waiting(place: QueuePlace, situation: Situation, rates: Rates) -> Waiting:
    state = place.state
    lane = (state.source_id, state.target_id)
    size = situation.sizes.get(_job(state), Size())
    moments = [state.retry_due_at if state.status is PublishStatus.RETRYING else None]
    moments.append(situation.shut_until.get(state.target_id))
    later_s = [(at - situation.now).total_seconds() for at in moments if at is not None]
    return Waiting(
        job=_job(state),
        lane=lane,
        score=place.score.total,
        work_s=rates.work_s(lane, rows=size.rows),
        not_before_s=max([0.0, *later_s]),
    )


def _without(place: QueuePlace, situation: Situation) -> Eta:
    """Return what can be said of a batch that a person has to do something for first."""
    state = place.state
    due_at = _due_at(state, situation)
    return Eta(
        batch_id=state.batch_id,
        source_id=state.source_id,
        target_id=state.target_id,
        tenant_id=state.tenant_id,
        source_timestamp=state.source_timestamp,
        made_at=situation.now,
        stage=Stage.QUEUED,
        place=place.place,
        point_s=None,
        p50_at=None,
        p90_at=None,
        due_at=due_at,
        breach_probability=None if due_at is None else float(situation.now > due_at),
        explanation=f"no forecast: it waits for {place.waits_for}",
    )


def _explanation(place: QueuePlace | None, stage: Stage, basis: str) -> str:
    where = "a worker has it" if place is None else f"place {place.place} in the queue"
    if place is not None and place.waits_for:
        where = f"{where}, waits for {place.waits_for}"
    retries = ", quantiles of batches that wait for retries" if stage is Stage.RETRYING else ""
    return f"{where}; {basis}{retries}"
