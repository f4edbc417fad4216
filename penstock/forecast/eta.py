"""ETAs: when a batch will be in its target, as p50 and p90, and how likely it misses its source's SLA."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

from penstock.batch.source import SourceSpec
from penstock.forecast.calibration import Calibration, Quantiles
from penstock.forecast.lane_model import LaneModel, Stage
from penstock.forecast.line import JobId, Running, Turn, Waiting, play, remaining_s
from penstock.forecast.rates import Rates, measured_rates
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.publish.breaker import BreakerPolicy, BreakerState, BreakerStatus
from penstock.publish.queue import QueuePlace, QueuePolicy
from penstock.publish.state import PublishState, PublishStatus

_AT_ONCE_S = 5.0


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
    """Targets that do not answer, and when they are expected to answer again."""
    policy: QueuePolicy = field(default_factory=QueuePolicy)


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


def expected_back(
    breakers: Iterable[BreakerState], policy: BreakerPolicy, now: datetime
) -> dict[TargetId, datetime]:
    """Return the targets that do not answer, and when they are expected to.

    An outage that has lasted for some time lasts, at the median, as long again (times with a heavy tail), and not less
    than until the target is called again. How long it has lasted follows from how often its breaker opened in a row.
    """
    back = {}
    for breaker in breakers:
        if breaker.status is BreakerStatus.CLOSED or breaker.opened_at is None:
            continue
        spans_s = (
            min(policy.max_open_s, policy.open_s * 2.0**n)
            for n in range(min(breaker.times_opened - 1, 1000))
        )
        lasted_s = (now - breaker.opened_at).total_seconds() + sum(spans_s)
        again = max(breaker.open_until or now, now)
        back[breaker.target_id] = max(again, now + timedelta(seconds=lasted_s))
    return back


class Forecaster:
    """ETAs from what is remembered of the lanes. Pure: the same models and situation give the same ETAs."""

    def __init__(self, models: Iterable[LaneModel], rates: Rates | None = None) -> None:
        """Take the rates of the models where they are known; otherwise they are measured."""
        known = list(models)
        self.rates: Rates = measured_rates(known) if rates is None else rates
        self._calibration = Calibration(known)

    def etas(self, situation: Situation) -> list[Eta]:
        """Return the ETA of everything in hand and in the queue, in hand first, then by place."""
        running = [
            _running(each, since, situation, self.rates) for each, since in situation.in_hand
        ]
        reachable = [place for place in situation.queue if not place.needs_person]
        ahead = Overtaking(situation, self.rates)
        waiting = [_waiting(place, situation, self.rates, ahead) for place in reachable]
        turns = play(running, waiting, workers=situation.workers)
        in_hand = [
            self._eta(state, None, turns[_job(state)], situation) for state, _ in situation.in_hand
        ]
        queued = [
            self._eta(place.state, place, turns[_job(place.state)], situation)
            if not place.needs_person
            else _without(place, situation)
            for place in situation.queue
        ]
        return [*in_hand, *queued]

    def _eta(
        self, state: PublishState, place: QueuePlace | None, turn: Turn, situation: Situation
    ) -> Eta:
        lane = (state.source_id, state.target_id)
        point_s = turn.ends_s
        stage = self._stage(state, place, turn, situation)
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

    def _stage(
        self, state: PublishState, place: QueuePlace | None, turn: Turn, situation: Situation
    ) -> Stage:
        if self.rates.is_new((state.source_id, state.target_id)):
            return Stage.NEW
        if state.status is PublishStatus.RETRYING or state.target_id in situation.shut_until:
            return Stage.RETRYING
        if place is None:
            return Stage.IN_HAND
        return Stage.NEXT if turn.begins_s < _AT_ONCE_S else Stage.QUEUED


class Overtaking:
    """How much of the workers goes to lanes whose new batches go before what waits already."""

    def __init__(self, situation: Situation, rates: Rates) -> None:
        policy = situation.policy
        self._mine = {
            lane: (
                policy.importance_weight * spec.importance
                - policy.complexity_weight * spec.complexity,
                load,
            )
            for lane, load in rates.load.items()
            if (spec := situation.specs.get(lane[0])) is not None
        }
        highest = sorted(self._mine.values(), reverse=True)
        self._scores = [-score for score, _ in highest]
        self._loads = [0.0, *accumulate(load for _, load in highest)]

    def before(self, place: QueuePlace) -> float:
        """Return the load of other lanes of which a batch that landed now would have the higher score."""
        total = place.score.total
        load = self._loads[bisect_left(self._scores, -total)]
        score, own = self._mine.get((place.state.source_id, place.state.target_id), (total, 0.0))
        return max(0.0, load - own) if score > total else load


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


def _waiting(place: QueuePlace, situation: Situation, rates: Rates, ahead: Overtaking) -> Waiting:
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
        overtaking=ahead.before(place),
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
