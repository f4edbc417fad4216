"""The publish queue behaves as a small model of it says, whatever operators, workers and time do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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
from penstock.identity.ids import BatchId, SourceId
from penstock.ports.control import Claim, SnapshotHead
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

LEASE_S = 120
SOURCES = {"a": 0.5, "b": 0.9}
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
    republish: bool = False
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
    version: int = 0
    newest: int | None = None


@dataclass
class Model:
    """The queue in memory, written for plainness and not for speed."""

    batches: list[ModelBatch] = field(default_factory=list)
    lanes: dict[str, ModelLane] = field(default_factory=lambda: {s: ModelLane() for s in SOURCES})

    def queue_of(self, source: str) -> list[ModelBatch]:
        mine = [b for b in self.batches if b.source == source and b.status in IN_QUEUE]
        return sorted(mine, key=lambda b: b.minute)

    def supersede(self, now: datetime) -> None:
        for source, lane in self.lanes.items():
            if lane.newest is None or (lane.expires_at and lane.expires_at > now):
                continue
            for batch in self.queue_of(source):
                if batch.minute < lane.newest and not batch.republish:
                    batch.status, batch.due_at = "FAILED", None

    def candidate(self, source: str, now: datetime) -> ModelBatch | None:
        lane = self.lanes[source]
        if lane.expires_at and lane.expires_at > now:
            return None
        queue = self.queue_of(source)
        blockers = [
            b.minute
            for b in self.batches
            if b.source == source and b.status == "FAILED" and b.mode == "delta"
            if lane.newest is None or b.minute > lane.newest
        ]

        def is_blocked(batch: ModelBatch) -> bool:
            return batch.mode == "delta" and any(minute < batch.minute for minute in blockers)

        if queue and is_blocked(queue[0]):
            queue = [batch for batch in queue if batch.mode == "full"]
        if not queue or (queue[0].due_at and queue[0].due_at > now):
            return None
        return queue[0]

    def next(self, now: datetime) -> ModelBatch | None:
        candidates = [b for s in self.lanes if (b := self.candidate(s, now))]
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
        self.store.sync_sources(
            [SourceSpec(source_id=SourceId(s), importance=i) for s, i in SOURCES.items()]
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

    def _land(self, source: str, minute: int, mode: str) -> None:
        if all(b.batch_id != batch_id(source, minute) for b in self.model.batches):
            admit(self.store, source, minute, mode=mode, enqueued_at=self.now)
            self.model.batches.append(
                ModelBatch(source=source, minute=minute, mode=mode, enqueued_at=self.now)
            )

    @rule(minutes=st.sampled_from([1, 2, 3, 30]))
    def wait(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def claim(self) -> None:
        self._claim("w1")

    @rule(end=st.sampled_from(["publish", "publish", "fail", "postpone"]))
    def claim_and_end(self, end: str) -> None:
        newest = len(self.claims)
        self._claim("w2")
        if len(self.claims) == newest:
            return
        if end != "publish":
            self._move(newest, end)
            return
        self._move(newest, "plan")
        self._move(newest, "start")
        self._publish(newest)

    def _claim(self, worker: str) -> None:
        places = self.store.explain_queue(now=self.now, policy=POLICY)
        claimed = self.store.claim(worker, now=self.now, lease_s=LEASE_S, policy=POLICY)
        self.model.supersede(self.now)
        expected = self.model.next(self.now)
        assert (claimed and claimed.state.batch_id) == (expected and expected.batch_id)
        explained = [p.state.batch_id for p in places if p.waits_for is None][:1]
        assert explained == ([expected.batch_id] if expected else [])
        if claimed and expected:
            self._grant(claimed, expected)

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data())
    def claim_only(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(self.model.batches))
        claimed = self.store.claim(
            "w3",
            now=self.now,
            lease_s=LEASE_S,
            policy=POLICY,
            only=[(wanted.batch_id, REGISTRY)],
        )
        others = Model(batches=self.model.batches, lanes={wanted.source: self._lane(wanted)})
        others.supersede(self.now)
        expected = self.model.candidate(wanted.source, self.now)
        assert (claimed is not None) == (expected is wanted)
        if claimed:
            self._grant(claimed, wanted)

    def _grant(self, claimed: Claim, batch: ModelBatch) -> None:
        lane = self._lane(batch)
        lane.token += 1
        lane.batch, lane.expires_at = batch, self.now + timedelta(seconds=LEASE_S)
        batch.status, batch.due_at = "PLANNING", None
        assert claimed.fencing_token == lane.token
        assert claimed.lease_expires_at == lane.expires_at
        self.claims.append((claimed, batch))

    def _lane(self, batch: ModelBatch) -> ModelLane:
        return self.model.lanes[batch.source]

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), move=st.sampled_from(["plan", "start", "postpone", "fail", "give back"]))
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
        }[move]

        def write() -> None:
            moved = self.store.advance(claimed, kind, now=self.now, changes=changes)  # type: ignore[arg-type]
            self.claims[number] = (moved, batch)

        if self._write(claimed, batch, allowed, write):  # type: ignore[arg-type]
            batch.status = str(after)
            batch.due_at = due_at if move == "postpone" else None
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
            self.store.complete(claimed, now=self.now, changes={}, head=head, ledger=[])

        if self._write(claimed, batch, ("EXECUTING",), write):
            batch.status = "COMPLETE"
            lane.version, lane.newest = head.version, newest
            self._free(batch)

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
        lane.batch = lane.expires_at = None

    @precondition(lambda self: self.model.batches)
    @rule(data=st.data(), republish=st.booleans())
    def requeue(self, data: st.DataObject, republish: bool) -> None:
        intent = Intent.REPUBLISH if republish else Intent.PUBLISH
        batch = data.draw(st.sampled_from(self.model.batches))
        if batch.status not in ("COMPLETE", "FAILED"):
            with pytest.raises(IllegalMove):
                self.store.requeue(batch.batch_id, REGISTRY, now=self.now, intent=intent)
            return
        self.store.requeue(batch.batch_id, REGISTRY, now=self.now, intent=intent)
        batch.status, batch.republish, batch.enqueued_at = "PENDING", republish, self.now

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
            s.batch_id: (str(s.status), s.republish, s.priority_boost, s.retry_due_at)
            for s in self.store.list_states()
        }
        assert stored == {
            b.batch_id: (b.status, b.republish, b.boost, b.due_at) for b in self.model.batches
        }

    @invariant()
    def snapshots_agree(self) -> None:
        for source, lane in self.model.lanes.items():
            head = self.store.snapshot_head(SourceId(source), REGISTRY)
            stored = head and (head.version, head.source_timestamp)
            newest = None if lane.newest is None else (lane.version, at(lane.newest))
            assert stored == newest


def _check(new_store: Callable[[], SqlControlStore], **options: Any) -> None:
    chosen = settings(
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
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

        _check(new_store, max_examples=100, stateful_step_count=40)


@pytest.mark.postgres
def test_the_queue_is_as_the_model_says_on_postgres(
    new_control_url: Callable[[str], str],
) -> None:
    """The same, fewer."""
    url = new_control_url("postgres")

    def new_store() -> SqlControlStore:
        store = SqlControlStore(url)
        with store.engine.begin() as connection:
            connection.execute(text("TRUNCATE batch, lane, snapshot, source CASCADE"))
        return store

    _check(new_store, max_examples=20, stateful_step_count=40)
