"""The publish queue behaves as a small model of it says, whatever operators, workers and time do."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, LeaseLost
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.ports.control import Claim, SnapshotHead
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.breaker import BreakerPolicy, BreakerState, BreakerStatus, after_calls
from penstock.publish.queue import QueuePolicy
from penstock.publish.state import Intent, Move
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    POLICY,
    REGISTRY,
    admit,
    at,
    batch_id,
    failure,
)
from tests.property.depth import examples

LEASE_S = 120
SOURCES = {"a": 0.5, "b": 0.9, "c": 0.1}
TENANTS = {"a": "x", "b": "x", "c": "y"}
POLICIES = [
    POLICY,
    POLICY,
    POLICY,
    QueuePolicy(answer_within_s=None, most_lanes_per_target=1),
    QueuePolicy(answer_within_s=None, most_lanes_per_target=2, most_lanes_per_source=1),
    QueuePolicy(answer_within_s=None, most_lanes_per_tenant=1),
    QueuePolicy(),
    QueuePolicy(answer_within_s=90),
]
BREAKER = BreakerPolicy(min_calls=2, open_s=90, max_open_s=300)
FOLLOW_UPS = (Intent.RELEASE, Intent.REPAIR)
IN_HAND = ("PLANNING", "PLAN_COMPLETE", "EXECUTING")
IN_QUEUE = ("PENDING", "RETRYING", *IN_HAND)


@dataclass
class ModelBatch:
    """One batch as the model knows it."""

    source: str
    minute: int
    mode: str
    enqueued_at: datetime
    status: str = "PENDING"
    intent: Intent = Intent.PUBLISH
    cancelled: bool = False
    boost: float = 0.0
    due_at: datetime | None = None

    @property
    def batch_id(self) -> BatchId:
        return batch_id(self.source, self.minute)


@dataclass
class ModelLane:
    """One lane as the model knows it."""

    token: int = 0
    batch: ModelBatch | None = None
    expires_at: datetime | None = None
    called_at: datetime | None = None
    answered_at: datetime | None = None
    version: int = 0
    newest: int | None = None
    started: ModelBatch | None = None

    def is_held(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at > now


@dataclass
class Model:
    """The queue in memory, written for plainness and not for speed."""

    batches: list[ModelBatch] = field(default_factory=list)
    lanes: dict[str, ModelLane] = field(default_factory=lambda: {s: ModelLane() for s in SOURCES})
    paused: set[tuple[PauseScope, str]] = field(default_factory=set)
    breaker: BreakerState = field(default_factory=lambda: BreakerState.closed(REGISTRY, NOW))

    def queue_of(self, source: str) -> list[ModelBatch]:
        mine = [b for b in self.batches if b.source == source and b.status in IN_QUEUE]
        started = self.lanes[source].started
        return sorted(mine, key=lambda b: (b is not started, b.minute))

    def is_shut(self, source: str, policy: QueuePolicy, now: datetime) -> bool:
        if {(PauseScope.SOURCE, source), (PauseScope.TARGET, str(REGISTRY))} & self.paused:
            return True
        held = [name for name, lane in self.lanes.items() if lane.is_held(now)]
        match self.breaker.status_at(now):
            case BreakerStatus.OPEN:
                return True
            case BreakerStatus.HALF_OPEN if held:
                return True
            case BreakerStatus.CLOSED if held and self.breaker.is_doubted(now):
                return True
        if policy.answer_within_s and self.is_silent(held, policy.answer_within_s, now):
            return True
        same_tenant = [name for name in held if TENANTS[name] == TENANTS[source]]
        return any(
            most is not None and len(lanes) >= most
            for most, lanes in (
                (policy.most_lanes_per_target, held),
                (policy.most_lanes_per_tenant, same_tenant),
                (policy.most_lanes_per_source, [name for name in held if name == source]),
            )
        )

    def is_silent(self, held: list[str], within_s: float, now: datetime) -> bool:
        answers = [lane.answered_at for lane in self.lanes.values() if lane.answered_at]
        for lane in (self.lanes[name] for name in held):
            if lane.called_at is None or any(at > lane.called_at for at in answers):
                continue
            minute = timedelta(minutes=1)
            trusted = any(lane.called_at - at < minute for at in answers)
            late = now - lane.called_at >= timedelta(seconds=within_s)
            assert lane.batch
            if lane.batch.status == "EXECUTING" and (late or not trusted):
                return True
            if lane.batch.status != "EXECUTING" and not late and not trusted:
                return True
        return False

    def supersede(self, open_sources: list[str], now: datetime) -> None:
        for source in open_sources:
            lane = self.lanes[source]
            if lane.newest is None or lane.is_held(now):
                continue
            for batch in self.queue_of(source):
                if batch.minute < lane.newest and batch.intent is Intent.PUBLISH:
                    batch.status, batch.due_at = "FAILED", None

    def candidate(self, source: str, now: datetime) -> ModelBatch | None:
        lane = self.lanes[source]
        if lane.is_held(now):
            return None
        queue = self.queue_of(source)
        blockers = [
            b.minute
            for b in self.batches
            if b.source == source and b.status == "FAILED" and b.mode == "delta"
            if not b.cancelled
            if lane.newest is None or b.minute > lane.newest
        ]

        def is_blocked(batch: ModelBatch) -> bool:
            return batch.mode == "delta" and any(minute < batch.minute for minute in blockers)

        if queue and is_blocked(queue[0]):
            queue = [batch for batch in queue if batch.mode == "full"]
        if not queue or (queue[0].due_at and queue[0].due_at > now):
            return None
        return queue[0]

    def next(self, open_sources: list[str], now: datetime) -> ModelBatch | None:
        candidates = [b for s in open_sources if (b := self.candidate(s, now))]
        return min(candidates, key=lambda b: self.rank(b, now), default=None)

    def rank(self, batch: ModelBatch, now: datetime) -> tuple[float, int, str]:
        age = max(0.0, (now - batch.enqueued_at).total_seconds()) / 3600
        points = age + 2 * SOURCES[batch.source] - 0.5 * 0.5 + batch.boost
        return (-round(points, 9), batch.minute, batch.source)


class QueueMachine(RuleBasedStateMachine):
    """Every rule does one thing to the store and to the model; invariants compare the two."""

    def __init__(self, new_store: Callable[[], SqlControlStore]) -> None:
        super().__init__()
        self.store = new_store()
        self.model = Model()
        self.now = NOW
        self.claims: list[tuple[Claim, ModelBatch]] = []
        self.chunks = itertools.count()
        self.store.sync_sources(
            [
                SourceSpec(source_id=SourceId(s), importance=i, tenant_id=TenantId(TENANTS[s]))
                for s, i in SOURCES.items()
            ]
        )

    def teardown(self) -> None:
        self.store.close()

    @rule(
        source=st.sampled_from(sorted(SOURCES)),
        minute=st.integers(0, 6),
        mode=st.sampled_from(["full", "delta", "delta"]),
    )
    def land(self, source: str, minute: int, mode: str) -> None:
        self._land(source, minute, mode)

    @rule(source=st.sampled_from(sorted(SOURCES)), end=st.sampled_from(["fail", "publish"]))
    def land_and_end_a_delta_before_others(self, source: str, end: str) -> None:
        minute = 1 + max((b.minute for b in self.model.batches if b.source == source), default=0)
        self._land(source, minute, "delta")
        self.claim_and_end(end)
        self._land(source, minute + 1, "delta")
        self._land(source, minute + 2, "full")

    def _land(self, source: str, minute: int, mode: str) -> ModelBatch:
        if all(b.batch_id != batch_id(source, minute) for b in self.model.batches):
            tenant = TENANTS[source]
            admit(self.store, source, minute, mode=mode, enqueued_at=self.now, tenant_id=tenant)
            self.model.batches.append(
                ModelBatch(source=source, minute=minute, mode=mode, enqueued_at=self.now)
            )
        return next(b for b in self.model.batches if (b.source, b.minute) == (source, minute))

    @rule(minutes=st.sampled_from([0.02, 1, 2, 3, 30]))
    def wait(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(policy=st.sampled_from(POLICIES))
    def claim(self, policy: QueuePolicy) -> None:
        self._claim("w1", policy)

    @rule(end=st.sampled_from(["publish", "publish", "fail", "postpone", "half", "half and back"]))
    def claim_and_end(self, end: str) -> None:
        newest = len(self.claims)
        self._claim("w2", POLICY)
        if len(self.claims) == newest:
            return
        if end in ("fail", "postpone"):
            self._move(newest, end)
            return
        self._move(newest, "plan")
        self._move(newest, "start")
        if end == "publish":
            self._publish(newest)
        elif end == "half and back":
            self._move(newest, "give back")

    def _claim(self, worker: str, policy: QueuePolicy) -> None:
        places = self.store.explain_queue(now=self.now, policy=policy)
        claimed = self.store.claim(worker, now=self.now, lease_s=LEASE_S, policy=policy)
        open_sources = [s for s in SOURCES if not self.model.is_shut(s, policy, self.now)]
        self.model.supersede(open_sources, self.now)
        expected = self.model.next(open_sources, self.now)
        assert (claimed and claimed.state.batch_id) == (expected and expected.batch_id)
        explained = [p.state.batch_id for p in places if p.waits_for is None][:1]
        assert explained == ([expected.batch_id] if expected else [])
        if claimed and expected:
            self._grant(claimed, expected)

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data())
    def claim_only(self, data: st.DataObject) -> None:
        self._claim_only(data.draw(st.sampled_from(self.model.batches)))

    def _claim_only(self, wanted: ModelBatch) -> bool:
        claimed = self.store.claim(
            "w3",
            now=self.now,
            lease_s=LEASE_S,
            policy=POLICY,
            only=[(wanted.batch_id, REGISTRY)],
        )
        shut = self.model.is_shut(wanted.source, POLICY, self.now)
        self.model.supersede([] if shut else [wanted.source], self.now)
        expected = None if shut else self.model.candidate(wanted.source, self.now)
        assert (claimed is not None) == (expected is wanted)
        if claimed:
            self._grant(claimed, wanted)
        return claimed is not None

    @rule(
        source=st.sampled_from(sorted(SOURCES)),
        end=st.sampled_from(["abandon", "give back", "postpone", "cancel", "fail"]),
    )
    def an_older_lands_beside_one_half_executed(self, source: str, end: str) -> None:
        minute = 2 + max((b.minute for b in self.model.batches if b.source == source), default=0)
        newer = self._land(source, minute, "full")
        if not self._claim_only(newer):
            return
        number = len(self.claims) - 1
        self._move(number, "plan")
        self._move(number, "start")
        older = self._land(source, minute - 1, "full")
        if end == "abandon":
            self.wait(3)
        else:
            self._move(number, "give back" if end == "cancel" else end)
        if end == "cancel":
            self._cancel(newer)
        if newer.status == "FAILED":
            self._requeue(newer, Intent.PUBLISH)
        self._claim_only(older)
        self._claim_only(newer)

    @rule(source=st.sampled_from(sorted(SOURCES)))
    def a_delta_is_cancelled_before_another(self, source: str) -> None:
        minute = 1 + max((b.minute for b in self.model.batches if b.source == source), default=0)
        first = self._land(source, minute, "delta")
        second = self._land(source, minute + 1, "delta")
        self._cancel(first)
        self._claim_only(second)

    @precondition(lambda self: any(b.status == "COMPLETE" for b in self.model.batches))
    @rule(data=st.data(), intent=st.sampled_from(FOLLOW_UPS), half=st.booleans())
    def a_follow_up_is_cancelled(self, data: st.DataObject, intent: Intent, half: bool) -> None:
        complete = [b for b in self.model.batches if b.status == "COMPLETE"]
        batch = data.draw(st.sampled_from(complete))
        self._requeue(batch, intent)
        if half and self._claim_only(batch):
            number = len(self.claims) - 1
            for move in ("plan", "start", "postpone"):
                self._move(number, move)
        self._cancel(batch)

    def _grant(self, claimed: Claim, batch: ModelBatch) -> None:
        lane = self._lane(batch)
        lane.token += 1
        lane.batch, lane.expires_at = batch, self.now + timedelta(seconds=LEASE_S)
        lane.called_at = self.now
        batch.status, batch.due_at = "PLANNING", None
        assert claimed.fencing_token == lane.token
        assert claimed.lease_expires_at == lane.expires_at
        self.claims.append((claimed, batch))

    def _lane(self, batch: ModelBatch) -> ModelLane:
        return self.model.lanes[batch.source]

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        move=st.sampled_from(["plan", "start", "postpone", "fail", "give back", "withdraw"]),
    )
    def move(self, data: st.DataObject, move: str) -> None:
        self._move(self._draw_claim(data), move)

    def _move(self, number: int, move: str) -> None:
        claimed, batch = self.claims[number]
        due_at = self.now + timedelta(minutes=3)
        details = {"failure_details": failure()}
        kind, allowed, after, changes = {
            "plan": (Move.PLANNED, ("PLANNING",), "PLAN_COMPLETE", {"plan_digest": DIGEST}),
            "start": (Move.START, ("PLAN_COMPLETE",), "EXECUTING", {}),
            "postpone": (Move.POSTPONE, IN_HAND, "RETRYING", {**details, "retry_due_at": due_at}),
            "fail": (Move.FAIL, IN_HAND, "FAILED", details),
            "give back": (Move.REQUEUE, IN_HAND, "PENDING", {}),
            "withdraw": (
                Move.WITHDRAW,
                IN_HAND if batch.intent in FOLLOW_UPS else (),
                "COMPLETE",
                {},
            ),
        }[move]

        def write() -> None:
            moved = self.store.advance(claimed, kind, now=self.now, changes=changes)  # type: ignore[arg-type]
            self.claims[number] = (moved, batch)

        if self._write(claimed, batch, allowed, write):  # type: ignore[arg-type]
            batch.status = str(after)
            batch.due_at = due_at if move == "postpone" else None
            batch.cancelled = False
            if move == "start":
                self._lane(batch).started, self._lane(batch).called_at = batch, self.now
            if batch.status not in IN_HAND:
                self._free(batch)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        self._publish(self._draw_claim(data))

    def _publish(self, number: int) -> None:
        claimed, batch = self.claims[number]
        lane = self._lane(batch)
        newest = batch.minute if lane.newest is None else max(batch.minute, lane.newest)
        moves_snapshot = batch.intent is not Intent.REPAIR
        head = SnapshotHead(
            source_id=SourceId(batch.source),
            target_id=REGISTRY,
            version=lane.version + 1,
            path="p",
            digest="d",
            batch_id=batch.batch_id,
            source_timestamp=at(newest),
        )

        def write() -> None:
            new = head if moves_snapshot else None
            self.store.complete(claimed, now=self.now, changes={}, head=new, ledger=[])

        if self._write(claimed, batch, ("EXECUTING",), write):
            batch.status = "COMPLETE"
            lane.answered_at = self.now
            if moves_snapshot:
                lane.version, lane.newest = head.version, newest
            self._free(batch)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), end=st.sampled_from(["silence", "answer", "one of many answers"]))
    def send_a_chunk(self, data: st.DataObject, end: str) -> None:
        claimed, batch = self.claims[self._draw_claim(data)]
        if batch.status != "EXECUTING":
            return
        lane, number = self._lane(batch), next(self.chunks)

        def write() -> None:
            self.store.start_chunk(claimed, number, 1, now=self.now)

        if not self._write(claimed, batch, ("EXECUTING",), write):
            return
        lane.called_at = self.now
        self.wait(0.02)
        if end == "answer":
            counts = {"applied": 1, "already_applied": 0, "exceptions": []}
            self.store.finish_chunk(claimed, number, now=self.now, **counts)  # type: ignore[arg-type]
            lane.called_at, lane.answered_at = None, self.now
        if end == "one of many answers":
            self.store.note_answer(claimed, now=self.now)
            lane.called_at = lane.answered_at = self.now

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        claimed, batch = self.claims[self._draw_claim(data)]

        def write() -> None:
            self.store.renew(claimed, now=self.now, lease_s=LEASE_S)

        if self._write(claimed, batch, IN_HAND, write):
            self._lane(batch).expires_at = self.now + timedelta(seconds=LEASE_S)

    def _draw_claim(self, data: st.DataObject) -> int:
        # Mostly the newest, for something to happen; sometimes a dead worker's.
        last = len(self.claims) - 1
        return data.draw(st.sampled_from([last, last, last, *range(last)]))

    def _write(
        self,
        claimed: Claim,
        batch: ModelBatch,
        allowed: tuple[str, ...],
        write: Callable[[], None],
    ) -> bool:
        lane = self._lane(batch)
        if lane.token != claimed.fencing_token or lane.batch is not batch:
            with pytest.raises(LeaseLost):
                write()
            return False
        if batch.status not in allowed:
            with pytest.raises(IllegalMove):
                write()
            return False
        write()
        return True

    def _free(self, batch: ModelBatch) -> None:
        lane = self._lane(batch)
        lane.batch = lane.expires_at = lane.called_at = None
        if batch.status in ("COMPLETE", "FAILED") and lane.started is batch:
            lane.started = None

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data(), intent=st.sampled_from(Intent))
    def requeue(self, data: st.DataObject, intent: Intent) -> None:
        self._requeue(data.draw(st.sampled_from(self.model.batches)), intent)

    def _requeue(self, batch: ModelBatch, intent: Intent) -> None:
        allowed = ("COMPLETE",) if intent in FOLLOW_UPS else ("COMPLETE", "FAILED")
        if batch.status not in allowed:
            with pytest.raises(IllegalMove):
                self.store.requeue(batch.batch_id, REGISTRY, now=self.now, intent=intent)
            return
        self.store.requeue(batch.batch_id, REGISTRY, now=self.now, intent=intent)
        batch.status, batch.intent, batch.enqueued_at = "PENDING", intent, self.now
        batch.cancelled = False

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._cancel(data.draw(st.sampled_from(self.model.batches)))

    def _cancel(self, batch: ModelBatch) -> None:
        lane, follows = self._lane(batch), batch.intent in FOLLOW_UPS
        half = follows and lane.started is batch
        if batch.status not in ("PENDING", "RETRYING") or half:
            with pytest.raises(IllegalMove):
                self.store.cancel(batch.batch_id, REGISTRY, now=self.now, message="x")
            return
        self.store.cancel(batch.batch_id, REGISTRY, now=self.now, message="x")
        batch.status, batch.cancelled = ("COMPLETE", False) if follows else ("FAILED", True)
        batch.due_at = None
        if lane.started is batch:
            lane.started = None

    @rule(
        what=st.sampled_from([(PauseScope.SOURCE, "a"), (PauseScope.TARGET, str(REGISTRY))]),
        minutes=st.sampled_from([0, 1, 5]),
    )
    def pause_for_a_claim(self, what: tuple[PauseScope, str], minutes: int) -> None:
        assert self.store.pause(self._pause_of(what)) is (what not in self.model.paused)
        self.model.paused.add(what)
        self.wait(minutes)
        self._claim("w4", POLICY)
        self._resume(what)

    @rule(what=st.sampled_from([(PauseScope.SOURCE, name) for name in sorted(SOURCES)]))
    def pause_or_resume(self, what: tuple[PauseScope, str]) -> None:
        if what in self.model.paused:
            self._resume(what)
            return
        assert self.store.pause(self._pause_of(what))
        self.model.paused.add(what)

    def _pause_of(self, what: tuple[PauseScope, str]) -> Pause:
        return Pause(
            scope=what[0], scope_id=what[1], paused_at=self.now, paused_by="ada", reason="x"
        )

    def _resume(self, what: tuple[PauseScope, str]) -> None:
        assert self.store.resume(*what) is (what in self.model.paused)
        self.model.paused.discard(what)

    @rule(failures=st.sampled_from([0, 0, 1, 2]))
    def call_the_target(self, failures: int) -> None:
        counts = {"successes": 0 if failures else 3, "failures": failures}
        after = self.store.record_calls(REGISTRY, **counts, now=self.now, policy=BREAKER)
        self.model.breaker = after_calls(self.model.breaker, BREAKER, **counts, now=self.now)
        assert after.status is self.model.breaker.status

    @rule()
    def reset_the_breaker(self) -> None:
        self.store.reset_breaker(REGISTRY, now=self.now)
        self.model.breaker = BreakerState.closed(REGISTRY, self.now)

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data(), boost=st.sampled_from([-1.0, 0.25, 3.0]))
    def boost(self, data: st.DataObject, boost: float) -> None:
        batch = data.draw(st.sampled_from(self.model.batches))
        if batch.status in ("PENDING", "RETRYING"):
            self.store.boost(batch.batch_id, REGISTRY, boost)
            batch.boost = boost

    @invariant()
    def states_agree(self) -> None:
        stored = {
            s.batch_id: (str(s.status), s.intent, s.priority_boost, s.retry_due_at)
            for s in self.store.list_states()
        }
        assert stored == {
            b.batch_id: (b.status, b.intent, b.boost, b.due_at) for b in self.model.batches
        }

    @invariant()
    def leases_agree(self) -> None:
        held = {
            lane.batch.batch_id
            for lane in self.model.lanes.values()
            if lane.batch and lane.is_held(self.now)
        }
        assert {lease.batch_id for lease in self.store.list_leases(now=self.now)} == held

    @invariant()
    def snapshots_agree(self) -> None:
        for source, lane in self.model.lanes.items():
            head = self.store.snapshot_head(SourceId(source), REGISTRY)
            stored = head and (head.version, head.source_timestamp)
            newest = None if lane.newest is None else (lane.version, at(lane.newest))
            assert stored == newest


def _check(new_store: Callable[[], SqlControlStore], *, few: int) -> None:
    chosen = settings(
        max_examples=examples(few),
        stateful_step_count=40,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: QueueMachine(new_store), settings=chosen)


def test_the_queue_is_as_the_model_says_on_sqlite(migrated_sqlite: Path) -> None:
    """Some thousand steps of landing, claiming, dying, retrying, failing and requeueing agree."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(1_000_000))

        def new_store() -> SqlControlStore:
            path = Path(folder) / f"{next(numbers)}.db"
            shutil.copy(migrated_sqlite, path)
            return SqlControlStore(f"sqlite:///{path}")

        _check(new_store, few=40)


@pytest.mark.postgres
def test_the_queue_is_as_the_model_says_on_postgres(
    new_control_url: Callable[[str], str],
) -> None:
    """The same, fewer."""
    url = new_control_url("postgres")

    def new_store() -> SqlControlStore:
        store = SqlControlStore(url)
        with store.engine.begin() as connection:
            connection.execute(
                text("TRUNCATE batch, lane, snapshot, source, pause, target_breaker CASCADE")
            )
        return store

    _check(new_store, few=10)
