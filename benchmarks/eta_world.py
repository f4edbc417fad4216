"""A world to forecast: days and weeks, bursts, outages, heavy tails, changing rates, a heavy tenant, and poison.

What decides is the platform's own: the queue's order and scores, the retries and the breakers. What is made up is what
it decides upon: when batches land, how large they are, what they take, and when targets do not answer. The clock is
simulated.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from penstock.batch.manifest import Mode
from penstock.batch.source import SourceSpec
from penstock.forecast.eta import Situation, Size, expected_back
from penstock.forecast.lane_model import PastPublish
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.publish.breaker import BreakerPolicy, BreakerState, BreakerStatus, after_calls
from penstock.publish.queue import (
    InHand,
    Lane,
    Lease,
    QueuePlace,
    QueuePolicy,
    Traffic,
    WaitingBatch,
    order_queue,
)
from penstock.publish.retry import Attempt, RetryAt, RetryPolicy, Tier, Transient, decide
from penstock.publish.state import PublishMetrics, PublishState, PublishStatus

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
_TIMEOUT_S = 20.0
_HEAVY = TenantId("tenant_0")
_HEAVIER = 4.0
"""How many times its usual rows the heavy tenant lands for some hours every few days."""
_POISON = 0.004
"""Share of batches that a target refuses for good."""
_LIGHTER = 0.95
"""Of what sources take at noon on weekdays, what is left of it over a week, heavy tails included."""
LaneId = tuple[SourceId, TargetId]
Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one simulated source is like."""

    spec: SourceSpec
    rows: float
    rows_per_s: float
    fixed_s: float
    spread: float
    """Log deviation of what a publish takes."""
    night: float
    """Share of its rows that are left at night and at weekends."""
    extract_s: float


@dataclass(kw_only=True)
class Job:
    """One batch on its way, and what only the world knows of it."""

    state: PublishState
    rows: int
    operations: int
    work_s: float
    landed_at: datetime
    poison: bool = False
    since: datetime | None = None
    tries: list[Attempt] = field(default_factory=list)
    tier: Tier = Tier.FIRST

    @property
    def lane_id(self) -> LaneId:
        """Return source and target."""
        return (self.state.source_id, self.state.target_id)


def made_up_kinds(rng: Rng, count: int, targets: int) -> list[Kind]:
    """Make up sources: a few that land all the time, some by the hour, some by the day."""
    kinds = []
    for number in range(count):
        cadence_s = int(rng.choice([900, 1800, 3600, 3600, 14_400, 86_400]))
        rows = float(np.exp(rng.normal(10.0, 1.5)))
        rows_per_s = float(np.exp(rng.normal(5.6, 0.6)))
        fixed_s = float(np.exp(rng.normal(1.5, 0.7)))
        usual_s = fixed_s + rows / rows_per_s
        if usual_s > 0.2 * cadence_s:  # nobody runs what cannot keep up
            rows = max(100.0, (0.2 * cadence_s - fixed_s) * rows_per_s)
            usual_s = fixed_s + rows / rows_per_s
        sla_s = int(max(600.0, 6 * usual_s, 0.5 * min(cadence_s, 7200)))
        spec = SourceSpec(
            source_id=SourceId(f"source_{number:02}"),
            tenant_id=TenantId(f"tenant_{number % 3}"),
            importance=float(rng.uniform(0, 1)),
            complexity=float(rng.uniform(0, 1)),
            cadence_s=cadence_s,
            sla_s=sla_s,
            targets=(TargetId(f"target_{number % targets}"),),
        )
        kinds.append(
            Kind(
                spec=spec,
                rows=rows,
                rows_per_s=rows_per_s,
                fixed_s=fixed_s,
                spread=float(rng.uniform(0.1, 0.5)),
                night=float(rng.uniform(0.2, 1.0)),
                extract_s=float(np.exp(rng.normal(3.0, 0.8))),
            )
        )
    return kinds


def _brought_to(load: float, kinds: list[Kind]) -> list[Kind]:
    """Return kinds whose publishes take so much longer or shorter that they keep ``load`` workers busy."""
    now = sum(_usual_s(kind) / (kind.spec.cadence_s or 3600) for kind in kinds) * _LIGHTER
    factor = load / now
    return [
        replace(kind, fixed_s=kind.fixed_s * factor, rows_per_s=kind.rows_per_s / factor)
        for kind in kinds
    ]


def _usual_s(kind: Kind) -> float:
    return kind.fixed_s + kind.rows / kind.rows_per_s


class World:
    """The queue, the workers and the targets, moved from event to event."""

    def __init__(
        self,
        *,
        seed: int,
        days: float,
        busy: float,
        sources: int = 14,
        targets: int = 3,
        workers: int = 3,
    ) -> None:
        """Make a world up in which the workers are ``busy`` for that share of a week, when all goes well."""
        self.rng = np.random.default_rng(seed)
        self.workers = workers
        self.kinds = _brought_to(busy * workers, made_up_kinds(self.rng, sources, targets))
        self.specs = {kind.spec.source_id: kind.spec for kind in self.kinds}
        self.policy = QueuePolicy()
        self.now = START
        self.ends_at = START + timedelta(days=days)
        self.waiting: dict[LaneId, list[Job]] = {}
        self.held: dict[LaneId, Job] = {}
        self.newest: dict[LaneId, datetime] = {}
        self.landed = 0
        self.failed = 0
        self.ended: list[tuple[Job, PastPublish | None]] = []
        """What came to its end since it was last looked at; None of what failed or was tried again."""
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.busy_s = 0.0
        """What publishes took that ended well."""
        self.breakers = {
            target: BreakerState.closed(target, START)
            for target in sorted({kind.spec.targets[0] for kind in self.kinds})
        }
        self._outages = {target: self._made_up_outages(days) for target in self.breakers}
        self._heavy = self._made_up_stretches(days, every_days=3.0, hours=(2.0, 8.0))
        self._speeds = {kind.spec.source_id: self._made_up_speeds(days) for kind in self.kinds}
        for kind in self.kinds:
            self._plan_landings(kind)

    # What is seen -------------------------------------------------------------------------------------------

    def situation(self) -> Situation:
        """Return what the platform can know now."""
        held = [(job.state, job.since or self.now) for job in self.held.values()]
        jobs = [*self.held.values(), *(job for jobs in self.waiting.values() for job in jobs)]
        sizes = {(job.state.batch_id, job.state.target_id): self._size(job) for job in jobs}
        return Situation(
            now=self.now,
            workers=self.workers,
            in_hand=held,
            queue=self.places(),
            sizes=sizes,
            specs=self.specs,
            shut_until=expected_back(self.breakers.values(), BreakerPolicy(), self.now),
            policy=self.policy,
        )

    def places(self) -> list[QueuePlace]:
        """Return the queue as the platform orders it."""
        return order_queue(self._lanes(), self.policy, self.now)

    def unfinished(self) -> bool:
        """Say whether anything waits or is in hand."""
        return bool(self.held) or any(self.waiting.values())

    def _size(self, job: Job) -> Size:
        planned = job.since is not None and (self.now - job.since).total_seconds() > 2.0
        return Size(rows=job.rows, operations=job.operations if planned else None)

    # What happens -------------------------------------------------------------------------------------------

    def run_until(self, moment: datetime) -> bool:
        """Let everything happen until a moment, or until something lands or ends: say whether it is that moment."""
        while self._events and self._events[0][0] <= moment:
            self.now, _, act = heapq.heappop(self._events)
            landed, ended = self.landed, len(self.ended)
            act()
            self._claim_all()
            if landed != self.landed or ended != len(self.ended):
                return False
        self.now = moment
        self._claim_all()
        return True

    def _at(self, moment: datetime, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._number), act))

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._at(self.now + timedelta(seconds=delay_s), act)

    def _plan_landings(self, kind: Kind) -> None:
        at = START + timedelta(seconds=float(self.rng.uniform(0, kind.spec.cadence_s or 3600)))
        while at < self.ends_at:
            burst = 1 if self.rng.random() > 0.004 else int(self.rng.integers(3, 9))
            for number in range(burst):  # a backfill lands several at once
                stamp = at - timedelta(minutes=burst - 1 - number)
                extract_s = kind.extract_s * float(np.exp(self.rng.normal(0, 0.4)))
                self._at(at + timedelta(seconds=extract_s), self._landing(kind, stamp))
            silent = 1 if self.rng.random() > 0.003 else int(self.rng.integers(2, 6))
            at += timedelta(seconds=(kind.spec.cadence_s or 3600) * silent)

    def _landing(self, kind: Kind, stamp: datetime) -> Callable[[], None]:
        return lambda: self._land(kind, stamp)

    def _land(self, kind: Kind, stamp: datetime) -> None:
        hour = self.now.hour + self.now.minute / 60
        day = 0.5 + 0.5 * math.sin((hour - 8) / 24 * 2 * math.pi)
        season = kind.night if self.now.weekday() >= 5 else kind.night + (1 - kind.night) * day
        rows = max(1, int(kind.rows * season * np.exp(self.rng.normal(0, 0.15))))
        if kind.spec.tenant_id == _HEAVY and any(a <= self.now < b for a, b in self._heavy):
            rows = int(rows * _HEAVIER)
        share = float(np.exp(self.rng.normal(0, 0.3)))
        tail = 1.0 if self.rng.random() > 0.03 else float(1 + self.rng.pareto(1.5))
        spread = float(np.exp(self.rng.normal(0, kind.spread)))
        speed = self._speed(kind.spec.source_id)
        work_s = (kind.fixed_s + rows * share / kind.rows_per_s) * spread * min(tail, 20.0) / speed
        self.landed += 1
        state = PublishState.model_construct(
            batch_id=BatchId(f"{kind.spec.source_id}@{stamp:%Y%m%dT%H%M%S%f}-{self.landed}"),
            source_id=kind.spec.source_id,
            target_id=kind.spec.targets[0],
            tenant_id=kind.spec.tenant_id,
            s3_path="",
            source_timestamp=stamp,
            processing_timestamp=stamp,
            status=PublishStatus.PENDING,
            metrics=PublishMetrics(),
            enqueued_at=self.now,
        )
        job = Job(
            state=state,
            rows=rows,
            operations=max(1, int(rows * share * 0.05)),
            work_s=work_s,
            landed_at=self.now,
            poison=float(self.rng.random()) < _POISON,
        )
        lane = self.waiting.setdefault(job.lane_id, [])
        lane.append(job)
        lane.sort(key=lambda each: each.state.source_timestamp)

    def _claim_all(self) -> None:
        while len(self.held) < self.workers:
            place = next((each for each in self.places() if each.waits_for is None), None)
            if place is None:
                return
            lane = (place.state.source_id, place.state.target_id)
            job = next(j for j in self.waiting[lane] if j.state.batch_id == place.state.batch_id)
            self.waiting[lane].remove(job)
            job.state = job.state.model_copy(
                update={"status": PublishStatus.PLANNING, "retry_due_at": None}
            )
            job.since = self.now
            self.held[lane] = job
            self._attempt(job)

    def _attempt(self, job: Job) -> None:
        """Begin one attempt: it ends well, or where an outage meets it."""
        target = job.state.target_id
        ends_at = self.now + timedelta(seconds=job.work_s)
        met = next((o for o in self._outages[target] if o[0] < ends_at and o[1] > self.now), None)
        if met is None:
            ended = self._refuse if job.poison else self._succeed
            self._at(ends_at, lambda: ended(job))
            return
        fails_at = max(met[0], self.now) + timedelta(seconds=_TIMEOUT_S)
        self._at(fails_at, lambda: self._fail(job))

    def _succeed(self, job: Job) -> None:
        lane = job.lane_id
        del self.held[lane]
        self.newest[lane] = job.state.source_timestamp
        self._called(job.state.target_id, successes=1)
        job.state = job.state.model_copy(update={"status": PublishStatus.COMPLETE})
        assert job.since is not None
        self.busy_s += (self.now - job.since).total_seconds()
        past = PastPublish(
            ended_at=self.now,
            work_s=(self.now - job.since).total_seconds(),
            rows=job.rows,
            operations=job.operations,
        )
        self.ended.append((job, past if not job.tries else None))

    def _refuse(self, job: Job) -> None:
        """Let a batch end that its target does not take: it answers, and no try will help."""
        self._called(job.state.target_id, successes=1)
        self._give_up(job)

    def _give_up(self, job: Job) -> None:
        del self.held[job.lane_id]
        job.state = job.state.model_copy(update={"status": PublishStatus.FAILED})
        self.failed += 1
        self.ended.append((job, None))

    def _fail(self, job: Job) -> None:
        target = job.state.target_id
        self._called(target, failures=1)
        job.tries.append(Attempt(tier=job.tier, failed_at=self.now))
        breaker = self.breakers[target]
        if breaker.status is BreakerStatus.OPEN and breaker.open_until:
            job.tries.pop()  # what is put off for a breaker costs no try
            self._put_off(job, breaker.open_until, job.tier)
            return
        outcome = Transient(message="it does not answer")
        jitter = float(self.rng.random())
        decided = decide(RetryPolicy(), job.tries, outcome, now=self.now, jitter=jitter)
        if not isinstance(decided, RetryAt):
            self._give_up(job)
            return
        if decided.tier is Tier.IMMEDIATE:
            job.tier = decided.tier
            self._at(decided.at, lambda: self._attempt(job))
            return
        self._put_off(job, decided.at, decided.tier)

    def _put_off(self, job: Job, due_at: datetime, tier: Tier) -> None:
        del self.held[job.lane_id]
        job.tier = tier
        job.since = None
        job.state = job.state.model_copy(
            update={"status": PublishStatus.RETRYING, "retry_due_at": due_at}
        )
        lane = self.waiting.setdefault(job.lane_id, [])
        lane.append(job)
        lane.sort(key=lambda each: each.state.source_timestamp)
        self._at(due_at, lambda: None)

    def _called(self, target: TargetId, *, successes: int = 0, failures: int = 0) -> None:
        self.breakers[target] = state = after_calls(
            self.breakers[target],
            BreakerPolicy(),
            successes=successes,
            failures=failures,
            now=self.now,
            error="it does not answer" if failures else None,
        )
        if state.open_until is not None and state.open_until > self.now:
            self._at(state.open_until, lambda: None)

    def _lanes(self) -> list[Lane]:
        in_hand = [
            InHand(source_id=s, target_id=t, tenant_id=self.specs[s].tenant_id)
            for s, t in self.held
        ]
        traffic = Traffic(breakers=self.breakers, in_hand=in_hand)
        lanes = []
        for (source, target), jobs in self.waiting.items():
            if not jobs:
                continue
            spec = self.specs[source]
            held = self.held.get((source, target))
            expires_at = self.now + timedelta(seconds=30)
            batch = None if held is None else held.state.batch_id
            lease = batch and Lease(worker_id="worker", batch_id=batch, expires_at=expires_at)
            shut = traffic.shuts(source, target, spec.tenant_id, self.policy, self.now)
            waiting = [WaitingBatch(state=job.state, mode=Mode.FULL) for job in jobs]
            lanes.append(
                Lane(
                    source_id=source,
                    target_id=target,
                    spec=spec,
                    waiting=waiting,
                    lease=lease or None,
                    shut=shut,
                )
            )
        return lanes

    # What is made up ----------------------------------------------------------------------------------------

    def _made_up_outages(self, days: float) -> list[tuple[datetime, datetime]]:
        """Outages some days apart, most of minutes, a few of hours."""
        outages, at = [], START + timedelta(days=float(self.rng.exponential(4.0)))
        while at < START + timedelta(days=days):
            seconds = min(4 * 3600.0, float(np.exp(self.rng.normal(6.0, 1.1))))
            outages.append((at, at + timedelta(seconds=seconds)))
            at += timedelta(seconds=seconds, days=float(self.rng.exponential(4.0)))
        return outages

    def _made_up_stretches(
        self, days: float, *, every_days: float, hours: tuple[float, float]
    ) -> list[tuple[datetime, datetime]]:
        stretches, at = [], START + timedelta(days=float(self.rng.exponential(every_days)))
        while at < START + timedelta(days=days):
            until = at + timedelta(hours=float(self.rng.uniform(*hours)))
            stretches.append((at, until))
            at = until + timedelta(days=float(self.rng.exponential(every_days)))
        return stretches

    def _made_up_speeds(self, days: float) -> list[tuple[datetime, float]]:
        """How fast a source's publishes go: a walk, and now and then another level."""
        speeds, log_speed = [], 0.0
        for hour in range(int(days * 24) + 2):
            log_speed = 0.995 * log_speed + float(self.rng.normal(0, 0.02))
            if self.rng.random() < 1 / (24 * 10):
                log_speed += float(self.rng.normal(0, 0.5))
            speeds.append((START + timedelta(hours=hour), math.exp(log_speed)))
        return speeds

    def _speed(self, source: SourceId) -> float:
        return self._speeds[source][int((self.now - START).total_seconds() // 3600)][1]
