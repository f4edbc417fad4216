"""Queue order: which lane goes next, and why, as arithmetic that a person can follow."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from penstock.batch.manifest import Mode
from penstock.batch.source import SourceSpec
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.publish.breaker import BreakerState, BreakerStatus
from penstock.publish.priority_rules import (
    BoostRule,
    DeadlineRule,
    Due,
    Matter,
    Stretch,
    Weight,
    boosts,
    closeness,
    earliest,
)
from penstock.publish.state import PublishState, PublishStatus
from penstock.strict import Number, no_text

Lanes = Annotated[int, Field(ge=1, le=10**6), BeforeValidator(no_text)]


class QueuePolicy(BaseModel):
    """The weights of the score. All are configurable; the defaults favour age within an hour's reach."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    age_weight: Weight = 1.0
    """Points per ``age_unit_s`` that a batch has waited, so that nothing waits for ever."""
    age_unit_s: Stretch = 3600.0
    importance_weight: Weight = 2.0
    """Points for importance 1; a source of importance 0 gets none."""
    complexity_weight: Weight = 0.5
    """Points taken off for complexity 1."""
    boost_weight: Weight = 1.0
    deadline_weight: Weight = 0.0
    """Points as a deadline passes; none while it is further off than ``deadline_horizon_s``, evenly more in between."""
    deadline_horizon_s: Stretch = 3600.0
    boosts: tuple[BoostRule, ...] = ()
    """Points by rule; all that match add up. The kind of a batch is its intent."""
    deadlines: tuple[DeadlineRule, ...] = ()
    """Counted from the source timestamp. The earliest counts, the ``sla_s`` of the source among them."""
    most_lanes_per_target: Lanes | None = None
    """Lanes of one target in hand at once, so that a slow one does not take every worker; None for no limit."""
    most_lanes_per_tenant: Lanes | None = None
    most_lanes_per_source: Lanes | None = None
    answer_within_s: Number | None = Field(default=2.0, gt=0)
    """A call that its target has not answered for longer keeps further lanes from it; None for no such limit."""
    trusted_for_s: Number = Field(default=60.0, ge=0)
    """A target that has answered nothing for so long gets one lane, until that one has its answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The parts of a score; ``total`` is their sum."""

    age: float
    importance: float
    complexity: float
    boost: float
    """An operator's."""
    deadline: float = 0.0
    rules: tuple[tuple[str, float], ...] = ()
    """Each boost rule that matches, by name, and its points."""

    @property
    def ruled(self) -> float:
        """The points of all rules together."""
        return sum(points for _, points in self.rules)

    @property
    def total(self) -> float:
        """The number that lanes are ordered by, highest first."""
        known = self.age + self.importance + self.complexity + self.boost
        return known + self.deadline + self.ruled


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """One waiting batch, its place, and how that came about."""

    place: int
    """1 is next."""
    state: PublishState
    score: Score
    waits_for: str | None
    """Why it cannot be claimed now: an older batch of its lane, a lease, a retry's due time; or None."""
    needs_person: bool = False
    """It, or what goes before it, does not move until somebody acts: resumes, requeues, or lands something else."""


def score(spec: SourceSpec, state: PublishState, policy: QueuePolicy, now: datetime) -> Score:
    """Score one batch.

    ``w_age * age/unit + w_imp * importance - w_cplx * complexity + w_boost * boost + w_dead * closeness`` and the
    points of rules.
    """
    age_s = max(0.0, (now - state.enqueued_at).total_seconds())
    return Score(
        age=policy.age_weight * age_s / policy.age_unit_s,
        importance=policy.importance_weight * spec.importance,
        complexity=-policy.complexity_weight * spec.complexity,
        boost=policy.boost_weight * state.priority_boost,
        deadline=_deadline_points(spec, state, policy, now),
        rules=boosts(policy.boosts, _matter(spec, state, now)) if policy.boosts else (),
    )


def _deadline_points(
    spec: SourceSpec, state: PublishState, policy: QueuePolicy, now: datetime
) -> float:
    if not policy.deadline_weight:
        return 0.0
    since = state.source_timestamp
    own = () if spec.sla_s is None else (Due(at=since + timedelta(seconds=spec.sla_s), why="SLA"),)
    due = earliest(policy.deadlines, _matter(spec, state, now), since, own=own)
    return policy.deadline_weight * closeness(due, policy.deadline_horizon_s, now)


def _matter(spec: SourceSpec, state: PublishState, now: datetime) -> Matter:
    return Matter(tenant=spec.tenant_id, source=state.source_id, kind=state.intent, now=now)


CANCELLED = "cancelled"
"""Error code of a batch that an operator took out of the queue."""
SUPERSEDED = "superseded_by_newer"
"""Error code of a batch that fails because its target already has a newer one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingBatch:
    """One batch in the queue: waiting, or abandoned by a worker whose lease has run out."""

    state: PublishState
    mode: Mode

    def is_older_than(self, snapshot_timestamp: datetime | None) -> bool:
        """Say whether the target has something newer, and nobody asked to go back."""
        if snapshot_timestamp is None or self.state.republish:
            return False
        return self.state.source_timestamp < snapshot_timestamp

    def is_behind(self, failed_timestamp: datetime | None) -> bool:
        """Say whether a FAILED delta keeps this batch back; a full batch makes up for any delta."""
        if failed_timestamp is None or self.mode is Mode.FULL:
            return False
        return failed_timestamp < self.state.source_timestamp

    def is_due(self, now: datetime) -> bool:
        """Say whether the time of its retry has come, if it waits for one."""
        due_at = self.state.retry_due_at
        waits = self.state.status is PublishStatus.RETRYING and due_at is not None
        return not waits or (due_at is not None and due_at <= now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """A worker's hold on a lane."""

    worker_id: str
    batch_id: BatchId
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class InHand:
    """A lane that a worker has at the moment."""

    source_id: SourceId
    target_id: TargetId
    tenant_id: TenantId
    is_planning: bool = False
    """It was claimed, and its target is yet to be called."""
    called_at: datetime | None = None
    """When it was claimed, or its target was called, until the answer is noted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What keeps whole lanes shut at one moment: pauses, breakers, and what is in hand already."""

    paused_sources: Mapping[str, str] = field(default_factory=dict)
    """Id to who paused it and why."""
    paused_targets: Mapping[str, str] = field(default_factory=dict)
    breakers: Mapping[TargetId, BreakerState] = field(default_factory=dict)
    in_hand: Sequence[InHand] = ()
    answered: Mapping[TargetId, datetime] = field(default_factory=dict)
    """When each target last answered anybody."""

    def shuts(
        self,
        source: SourceId,
        target: TargetId,
        tenant: TenantId,
        policy: QueuePolicy,
        now: datetime,
    ) -> str | None:
        """Say what keeps a lane shut that nobody holds, or None."""
        if source in self.paused_sources:
            return f"source {source} to be resumed: {self.paused_sources[source]}"
        if target in self.paused_targets:
            return f"target {target} to be resumed: {self.paused_targets[target]}"
        return (
            self._breaker(target, now)
            or self._silent(target, policy, now)
            or self._full(source, target, tenant, policy)
        )

    def trusts(self, target: TargetId, policy: QueuePolicy, now: datetime) -> bool:
        """Say whether a target may have several lanes, because it has answered lately or nobody cares."""
        answered = self.answered.get(target)
        if policy.answer_within_s is None:
            return True
        return answered is not None and (now - answered).total_seconds() < policy.trusted_for_s

    def is_paused(self, source: SourceId, target: TargetId) -> bool:
        """Say whether a person has paused a lane's source or target."""
        return source in self.paused_sources or target in self.paused_targets

    def _breaker(self, target: TargetId, now: datetime) -> str | None:
        breaker = self.breakers.get(target)
        if breaker is None:
            return None
        in_hand = any(lane.target_id == target for lane in self.in_hand)
        if breaker.is_doubted(now) and in_hand:
            return (
                f"another batch to find out whether target {target} answers: {breaker.last_error}"
            )
        if breaker.status is BreakerStatus.CLOSED:
            return None
        if breaker.status_at(now) is BreakerStatus.OPEN and breaker.open_until:
            said = f": {breaker.last_error}" if breaker.last_error else ""
            return f"the breaker of target {target}, open until {_text(breaker.open_until)}{said}"
        if in_hand:
            return f"the probe of target {target}, which another batch is making"
        return None

    def _silent(self, target: TargetId, policy: QueuePolicy, now: datetime) -> str | None:
        """Say which call of a target has to be answered first: one that takes long, or the first for a while.

        Whoever waits for a target that hangs is a worker less for all others, and one is enough to find out. A plan
        that takes long is no call, and keeps nobody away.
        """
        if policy.answer_within_s is None:
            return None
        for lane in self.in_hand:
            if lane.target_id == target and self._is_awaited(
                lane, policy.answer_within_s, policy, now
            ):
                since = f", which was called at {_text(lane.called_at)}" if lane.called_at else ""
                return f"the answer of target {target} to another batch{since}"
        return None

    def _is_awaited(
        self, lane: InHand, answer_within_s: float, policy: QueuePolicy, now: datetime
    ) -> bool:
        answered = self.answered.get(lane.target_id)
        if lane.called_at is None or (answered is not None and answered > lane.called_at):
            return False
        is_late = (now - lane.called_at).total_seconds() >= answer_within_s
        trusted = self.trusts(lane.target_id, policy, lane.called_at)
        return not (trusted or is_late) if lane.is_planning else is_late or not trusted

    def _full(
        self, source: SourceId, target: TargetId, tenant: TenantId, policy: QueuePolicy
    ) -> str | None:
        for what, name, most, taken in (
            (
                "target",
                target,
                policy.most_lanes_per_target,
                sum(lane.target_id == target for lane in self.in_hand),
            ),
            (
                "tenant",
                tenant,
                policy.most_lanes_per_tenant,
                sum(lane.tenant_id == tenant for lane in self.in_hand),
            ),
            (
                "source",
                source,
                policy.most_lanes_per_source,
                sum(lane.source_id == source for lane in self.in_hand),
            ),
        ):
            if most is not None and taken >= most:
                return f"one of the {taken} lanes of {what} {name} that are in hand, which are as many as may be"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One source and one target: whose batches are published one at a time, oldest first."""

    source_id: SourceId
    target_id: TargetId
    spec: SourceSpec
    waiting: Sequence[WaitingBatch]
    """Oldest source timestamp first."""
    lease: Lease | None = None
    """Only while it has not expired."""
    snapshot_timestamp: datetime | None = None
    failed_deltas: Sequence[datetime] = ()
    """Source timestamps of the FAILED delta batches that are newer than the snapshot, oldest first."""
    started: BatchId | None = None
    """The batch that is half executed: it goes before any other, however late an older one lands."""
    shut: str | None = None
    """What keeps the lane as a whole from being claimed."""
    paused: bool = False
    """It is shut by a person, until a person resumes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turn:
    batch: WaitingBatch
    score: Score
    waits_for: str | None
    is_stuck: bool
    """Something other than a batch before it keeps it back, and with it what comes after."""
    needs_person: bool = False

    @property
    def rank(self) -> tuple[float, datetime, str, str]:
        return rank(self.score, self.batch.state)


def rank(score: Score, state: PublishState) -> tuple[float, datetime, str, str]:
    """Return the sort key of a lane's head among others: highest score first, then the oldest."""
    return (-score.total, state.source_timestamp, state.source_id, state.target_id)


def order_queue(lanes: Iterable[Lane], policy: QueuePolicy, now: datetime) -> list[QueuePlace]:
    """Return the place of every waiting batch, in the order that one worker would claim them now.

    First what lanes that are open lead to, best score first, each lane strictly in its own order; then the
    lanes that wait for something; last the batches that will fail as :data:`SUPERSEDED`.
    """
    open_lanes: list[list[_Turn]] = []
    shut_lanes: list[list[_Turn]] = []
    never: list[_Turn] = []
    for lane in lanes:
        turns, passed_over = _turns(lane, policy, now)
        stuck = next((n for n, turn in enumerate(turns) if turn.is_stuck), len(turns))
        open_lanes.append(turns[:stuck])
        shut_lanes.append(turns[stuck:])
        never += passed_over
    never.sort(key=lambda turn: turn.rank[1:])
    ordered = [*_merge(open_lanes), *_merge(shut_lanes), *never]
    return [
        QueuePlace(
            place=place,
            state=t.batch.state,
            score=t.score,
            waits_for=t.waits_for,
            needs_person=t.needs_person,
        )
        for place, t in enumerate(ordered, start=1)
    ]


def _merge(lanes: Sequence[list[_Turn]]) -> Iterator[_Turn]:
    heads = [(turns[0].rank, number, 0) for number, turns in enumerate(lanes) if turns]
    heapq.heapify(heads)
    while heads:
        _, number, position = heapq.heappop(heads)
        turns = lanes[number]
        yield turns[position]
        if position + 1 < len(turns):
            heapq.heappush(heads, (turns[position + 1].rank, number, position + 1))


def _turns(lane: Lane, policy: QueuePolicy, now: datetime) -> tuple[list[_Turn], list[_Turn]]:
    """Play one lane through: whose turn it is after whom, and who is passed over for good."""
    turns: list[_Turn] = []
    passed_over: list[_Turn] = []
    waiting = deque(sorted(lane.waiting, key=lambda w: w.state.batch_id != lane.started))
    newest = lane.snapshot_timestamp
    newest_text = "the snapshot of its target"
    before = None
    kept_back = lane.paused
    while waiting:
        batch = waiting.popleft()
        points = score(lane.spec, batch.state, policy, now)
        if batch.is_older_than(newest):
            why = f"nothing: it is older than {newest_text}, so it fails as {SUPERSEDED}"
            passed_over.append(
                _Turn(batch=batch, score=points, waits_for=why, is_stuck=True, needs_person=True)
            )
            continue
        failed = next((at for at in lane.failed_deltas if newest is None or at > newest), None)
        if batch.is_behind(failed):
            rescue = next((other for other in waiting if other.mode is Mode.FULL), None)
            if rescue is not None:
                waiting.remove(rescue)
                waiting.extendleft([batch, rescue])
                continue
        hindrance = _hindrance(lane, batch, failed, now, first=before is None)
        waits_for = hindrance or (f"batch {before}, which goes before it" if before else None)
        kept_back = kept_back or batch.is_behind(failed)
        turns.append(
            _Turn(
                batch=batch,
                score=points,
                waits_for=waits_for,
                is_stuck=hindrance is not None,
                needs_person=kept_back,
            )
        )
        before = batch.state.batch_id
        if not batch.state.republish:
            newest = batch.state.source_timestamp
            newest_text = f"batch {before}, which goes before it"
    return turns, passed_over


def _hindrance(
    lane: Lane, batch: WaitingBatch, failed: datetime | None, now: datetime, *, first: bool
) -> str | None:
    """Say what keeps a batch back besides the batches before it."""
    if first and lane.lease:
        held = f"worker {lane.lease.worker_id}, which holds {lane.lease.batch_id}"
        return f"{held} until {_text(lane.lease.expires_at)}"
    if first and lane.shut:
        return lane.shut
    if failed and batch.is_behind(failed):
        return (
            f"the delta batch of {_text(failed)}, which is FAILED: requeue it, or land a full batch"
        )
    if not batch.is_due(now) and batch.state.retry_due_at:
        return f"its retry, due at {_text(batch.state.retry_due_at)}"
    return None


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
