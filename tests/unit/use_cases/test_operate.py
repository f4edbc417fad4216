"""What operators do to the queue, over a platform in memory; two at once, on PostgreSQL too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pyarrow as pa
import pytest

from penstock.batch.manifest import Mode
from penstock.batch.source import SourceSpec
from penstock.errors import (
    ChangedMeanwhile,
    IllegalMove,
    NotFound,
    NothingToDo,
    PenstockError,
    UndeclaredSource,
    Unsigned,
)
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.pauses import PauseScope
from penstock.ports.target import ApplyContext, ApplyOutcome, Unavailable
from penstock.publish.queue import QueuePolicy
from penstock.publish.state import Intent, PublishStatus
from penstock.use_cases import operate
from penstock.use_cases.acts import By
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import queue_places
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, REGISTRY, admit, fail, must_claim
from tests.contracts.control_values import publish as publish_claimed
from tests.fixtures.memory import SOURCE, TARGET, Bench, ModelTarget, person

ADA = By(actor="ada", reason="the migration")
GRACE = By(actor="grace", reason="no need")
UNKNOWN = BatchId("crm@2020-01-01T00-00-00.000000Z")


def acts(platform: Platform) -> list[tuple[str, str, str]]:
    """Who did what to what, oldest first."""
    return [(e.actor, e.act, e.subject) for e in reversed(platform.control.list_acts())]


def order(platform: Platform) -> list[BatchId]:
    """The queue as it would be claimed."""
    return [place.state.batch_id for place in queue_places(platform)]


class TestSigning:
    @pytest.mark.parametrize("actor", ["", "  \n"])
    def test_an_act_by_nobody_is_refused(self, actor: str) -> None:
        """Blank is no name."""
        with pytest.raises(Unsigned, match="nobody is named"):
            By(actor=actor)

    def test_a_name_that_cannot_be_kept_is_refused(self) -> None:
        """The audit log would cut it off."""
        with pytest.raises(Unsigned, match="has 256 characters: at most 255"):
            By(actor="a" * 256)

    def test_a_reason_that_cannot_be_kept_is_refused(self) -> None:
        """What is kept whole is kept; one character more is too many."""
        assert By(actor="ada", reason="y" * 2000).reason
        with pytest.raises(Unsigned, match="has 2,001 characters: at most 2,000"):
            By(actor="ada", reason="y" * 2001)

    @pytest.mark.parametrize("reason", [None, "", " "])
    def test_what_others_meet_later_needs_a_reason(self, bench: Bench, reason: str | None) -> None:
        """A pause and a cancel without one are refused, and nothing is done."""
        batch = bench.land([person("crm/a")]).batch_id
        by = By(actor="ada", reason=reason)
        with pytest.raises(Unsigned, match="to pause source crm, give a reason"):
            operate.pause_source(bench.platform, SOURCE, by=by)
        with pytest.raises(Unsigned, match=r"to cancel batch crm@.*, give a reason"):
            operate.cancel(bench.platform, batch, TARGET, by=by)
        assert (bench.control.list_pauses(), order(bench.platform)) == ([], [batch])
        assert acts(bench.platform) == []


class TestPrioritise:
    def test_a_boost_is_what_it_is_set_to(self, bench: Bench) -> None:
        """Set anew it takes the place of the one before; each act says from what to what."""
        batch = bench.land([person("crm/a")]).batch_id
        for boost in (3.0, -1.5, 0.0):
            done = operate.prioritise(bench.platform, batch, TARGET, by=ADA, boost=boost)
            assert done.states[0].priority_boost == boost
            assert done.notes == ("it is number 1 of 1 in the queue",)
        entry = bench.control.list_acts()[0]
        assert entry == AuditEntry(
            at=bench.clock.now(),
            actor="ada",
            act="batch.prioritise",
            subject=batch,
            source_id=SOURCE,
            reason="the migration",
            details={"target_id": "model", "before": -1.5, "after": 0.0},
        )

    def test_first_is_before_all_other_lanes(self, bench: Bench) -> None:
        """Without a number it gets enough to go first, with the older ones of its lane, which it cannot pass."""
        for name, importance in (("erp", 1.0), ("web", 0.9)):
            bench.control.sync_sources(
                [SourceSpec(source_id=SourceId(name), importance=importance)]
            )
            admit(bench.control, name, 1, targets=("model",), priority_boost=5)
        mine = [bench.land([person("crm/a")]).batch_id for _ in range(3)]
        done = operate.prioritise(bench.platform, mine[1], TARGET, by=ADA)
        assert order(bench.platform)[:2] == mine[:2]
        assert order(bench.platform)[-1] == mine[2]
        assert [state.batch_id for state in done.states] == [mine[1], mine[0]]
        assert done.notes[0] == "batches before it in its lane that were boosted with it: 1"
        assert done.notes[1].startswith(
            "it is number 2 of 5 in the queue, and waits for batch crm@"
        )
        assert bench.control.list_acts()[1].details["so_that_first"] == mine[1]

    def test_what_lands_later_does_not_pass_it(self, bench: Bench) -> None:
        """Not even a batch of the most important source."""
        batch = bench.land([person("crm/a")]).batch_id
        operate.prioritise(bench.platform, batch, TARGET, by=ADA)
        spec = SourceSpec(source_id=SourceId("erp"), importance=1.0)
        bench.control.sync_sources([spec])
        bench.clock.sleep(3600)
        admit(bench.control, "erp", 1, targets=("model",), enqueued_at=bench.clock.now())
        assert order(bench.platform)[0] == batch

    def test_only_what_has_to_be_boosted_is(self, bench: Bench) -> None:
        """One that would go first but for an older batch of its lane is left as it is."""
        older, newer = (bench.land([person("crm/a")]).batch_id for _ in range(2))
        operate.prioritise(bench.platform, newer, TARGET, by=ADA, boost=50)
        done = operate.prioritise(bench.platform, newer, TARGET, by=ADA)
        assert [(s.batch_id, s.priority_boost > 0) for s in done.states] == [
            (newer, True),
            (older, True),
        ]
        assert done.states[0].priority_boost == 50

    def test_it_cannot_be_made_more_first(self, bench: Bench) -> None:
        """What goes first already, or has that boost, is left alone, and nothing is recorded."""
        batch = bench.land([person("crm/a")]).batch_id
        operate.prioritise(bench.platform, batch, TARGET, by=ADA)
        bench.clock.sleep(100)
        with pytest.raises(NothingToDo, match="goes before all other"):
            operate.prioritise(bench.platform, batch, TARGET, by=GRACE)
        operate.prioritise(bench.platform, batch, TARGET, by=ADA, boost=2)
        with pytest.raises(NothingToDo, match="has a boost of 2 for target 'model' already"):
            operate.prioritise(bench.platform, batch, TARGET, by=GRACE, boost=2)
        assert len(acts(bench.platform)) == 2

    def test_what_a_dead_worker_left_is_not_in_the_way(self, bench: Bench) -> None:
        """A batch behind one that was abandoned is boosted; the abandoned one goes before it anyway."""
        abandoned, batch = (bench.land([person("crm/a")]).batch_id for _ in range(2))
        bench.control.claim("dead", now=bench.clock.now(), lease_s=1, policy=QueuePolicy())
        bench.clock.sleep(2)
        done = operate.prioritise(bench.platform, batch, TARGET, by=ADA)
        assert [state.batch_id for state in done.states] == [batch]
        assert order(bench.platform) == [abandoned, batch]

    def test_what_does_not_wait_is_refused(self, bench: Bench) -> None:
        """In hand, settled or unknown, a batch has no place in the queue."""
        batch = bench.land([person("crm/a")]).batch_id
        bench.publish()
        for boost in (None, 1.0):
            with pytest.raises(IllegalMove, match="only one that waits"):
                operate.prioritise(bench.platform, batch, TARGET, by=ADA, boost=boost)
        with pytest.raises(NotFound):
            operate.prioritise(bench.platform, UNKNOWN, TARGET, by=ADA)

    def test_what_would_fail_is_not_put_first(self, bench: Bench) -> None:
        """A batch that a newer one has superseded is told so."""
        bench.land([person("crm/a")])
        bench.publish()
        late = bench.land([person("crm/a")], at=NOW - timedelta(days=10)).batch_id
        with pytest.raises(IllegalMove, match=r"has a newer batch .* it will fail when its turn"):
            operate.prioritise(bench.platform, late, TARGET, by=ADA)

    def test_boosts_without_weight_put_nothing_first(self, bench: Bench) -> None:
        """Where the policy does not count boosts, the setting is named."""
        batch = bench.land([person("crm/a")]).batch_id
        platform = replace(bench.platform, queue_policy=QueuePolicy(boost_weight=0))
        with pytest.raises(PenstockError, match="boost_weight in PENSTOCK_QUEUE_POLICY"):
            operate.prioritise(platform, batch, TARGET, by=ADA)

    def test_half_the_weight_takes_twice_the_boost(self, bench: Bench) -> None:
        """The boost is worked out from the weight that the policy gives it."""
        admit(bench.control, "erp", 1, targets=("model",), priority_boost=100)
        batch = bench.land([person("crm/a")]).batch_id
        platform = replace(bench.platform, queue_policy=QueuePolicy(boost_weight=0.5))
        operate.prioritise(platform, batch, TARGET, by=ADA)
        assert order(platform)[0] == batch


class TestPause:
    def test_a_paused_source_stands_until_it_is_resumed(self, bench: Bench) -> None:
        """Nothing of it is claimed meanwhile; both acts are in the log."""
        batch = bench.land([person("crm/a")]).batch_id
        pause = operate.pause_source(bench.platform, SOURCE, by=ADA)
        assert bench.control.list_pauses() == [pause]
        assert (
            bench.control.claim("w", now=bench.clock.now(), lease_s=9, policy=QueuePolicy()) is None
        )
        operate.resume(bench.platform, PauseScope.SOURCE, SOURCE, by=GRACE)
        assert bench.publish().state.batch_id == batch
        assert acts(bench.platform) == [
            ("ada", "source.pause", "crm"),
            ("grace", "source.resume", "crm"),
        ]
        assert [e.source_id for e in bench.control.list_acts()] == [SOURCE, SOURCE]

    def test_a_paused_target_stands_until_it_is_resumed(self, bench: Bench) -> None:
        """The log names the target, and no source."""
        bench.land([person("crm/a")])
        operate.pause_target(bench.platform, TARGET, by=ADA)
        (place,) = queue_places(bench.platform)
        assert place.waits_for == (
            "target model to be resumed: ada paused it at 2026-01-01 00:00:00 UTC, the migration"
        )
        operate.resume(bench.platform, PauseScope.TARGET, TARGET, by=ADA)
        assert queue_places(bench.platform)[0].waits_for is None
        assert {e.source_id for e in bench.control.list_acts()} == {None}

    def test_a_pause_is_not_taken_over(self, bench: Bench) -> None:
        """The second to pause is told who was first and why; the second to resume, that it goes on."""
        operate.pause_source(bench.platform, SOURCE, by=ADA)
        with pytest.raises(NothingToDo, match=r"paused already, by ada at .* UTC: the migration"):
            operate.pause_source(bench.platform, SOURCE, by=GRACE)
        operate.resume(bench.platform, PauseScope.SOURCE, SOURCE, by=ADA)
        with pytest.raises(NothingToDo, match="source crm is not paused: `penstock pauses`"):
            operate.resume(bench.platform, PauseScope.SOURCE, SOURCE, by=GRACE)
        assert len(acts(bench.platform)) == 2

    def test_only_what_there_is_can_be_paused(self, bench: Bench) -> None:
        """A name that means nothing is refused; one that is undeclared and has batches is not."""
        with pytest.raises(UndeclaredSource):
            operate.pause_source(bench.platform, SourceId("nowhere"), by=ADA)
        with pytest.raises(NotFound, match="there is no target 'nowhere': there are model"):
            operate.pause_target(bench.platform, TargetId("nowhere"), by=ADA)
        admit(bench.control, "gone", 1, targets=("retired",))
        assert operate.pause_source(bench.platform, SourceId("gone"), by=ADA).scope_id == "gone"
        assert operate.pause_target(bench.platform, TargetId("retired"), by=ADA)


def failed(bench: Bench, **landed: object) -> BatchId:
    """Land a batch, and fail it."""
    batch = bench.land([person("crm/a")], **landed).batch_id  # type: ignore[arg-type]
    claim = bench.control.claim("w", now=bench.clock.now(), lease_s=60, policy=QueuePolicy())
    assert claim
    assert claim.state.batch_id == batch
    fail(bench.control, claim, now=bench.clock.now())
    return batch


class TestRequeue:
    def test_a_failed_batch_goes_back(self, bench: Bench) -> None:
        """It is published as if for the first time, and the log says what it had failed with."""
        batch = failed(bench)
        done = operate.requeue(bench.platform, batch, TARGET, by=ADA)
        (state,) = done.states
        assert (state.status, state.intent) == (PublishStatus.PENDING, Intent.PUBLISH)
        assert state.failure_details is None
        assert bench.control.list_acts()[0].details == {
            "target_id": "model",
            "intent": "publish",
            "failed_with": "boom",
        }
        assert bench.publish().state.status is PublishStatus.COMPLETE

    def test_a_failed_republish_is_a_republish_again(self, bench: Bench) -> None:
        """What it was asked to do is what it does, even if the target has something newer."""
        old = bench.land([person("crm/a")]).batch_id
        bench.publish()
        bench.land([person("crm/b")])
        bench.publish()
        operate.republish(bench.platform, old, TARGET, by=ADA)
        claim = bench.control.claim("w", now=bench.clock.now(), lease_s=60, policy=QueuePolicy())
        assert claim
        fail(bench.control, claim, now=bench.clock.now())
        (state,) = operate.requeue(bench.platform, old, TARGET, by=ADA).states
        assert state.intent is Intent.REPUBLISH

    def test_what_is_superseded_is_not_requeued(self, bench: Bench) -> None:
        """It would fail again, so its operator is told that a republish goes back."""
        old = failed(bench)
        bench.land([person("crm/b")])
        bench.publish()
        with pytest.raises(IllegalMove, match=r"has a newer batch .* republish it"):
            operate.requeue(bench.platform, old, TARGET, by=ADA)
        assert bench.control.get_state(old, TARGET).status is PublishStatus.FAILED
        assert acts(bench.platform) == []
        done = operate.republish(bench.platform, old, TARGET, by=ADA)
        assert done.states[0].intent is Intent.REPUBLISH

    def test_only_what_failed_is_requeued(self, bench: Bench) -> None:
        """What waits is on its way already; what is COMPLETE is republished."""
        batch = bench.land([person("crm/a")]).batch_id
        with pytest.raises(IllegalMove, match="is PENDING"):
            operate.requeue(bench.platform, batch, TARGET, by=ADA)
        bench.publish()
        with pytest.raises(IllegalMove, match=r"is COMPLETE .* republish it"):
            operate.requeue(bench.platform, batch, TARGET, by=ADA)

    def test_a_paused_source_is_mentioned(self, bench: Bench) -> None:
        """What was put back and cannot go yet says what it waits for."""
        batch = failed(bench)
        operate.pause_source(bench.platform, SOURCE, by=GRACE)
        (note,) = operate.requeue(bench.platform, batch, TARGET, by=ADA).notes
        assert note.startswith("it waits for source crm to be resumed: grace paused it")


class TestRepublish:
    def test_any_settled_batch_is_published_again(self, bench: Bench) -> None:
        """The target goes back to it; the log has the act; on its way it cannot be asked for again."""
        old = bench.land([person("crm/a")]).batch_id
        bench.publish()
        bench.land([person("crm/b")])
        bench.publish()
        operate.republish(bench.platform, old, TARGET, by=ADA)
        with pytest.raises(IllegalMove, match="is PENDING"):
            operate.republish(bench.platform, old, TARGET, by=GRACE)
        bench.publish()
        assert set(bench.target.entities) == {("person", "crm/a")}
        assert acts(bench.platform) == [("ada", "batch.republish", old)]


def _away_after_one(target: ModelTarget) -> Callable[[pa.Table, ApplyContext], ApplyOutcome]:
    """Apply one chunk, and be away from then on."""
    apply, before = target.apply, target.calls

    def away(operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        if target.calls > before:
            return Unavailable(message="away")
        return apply(operations, context)

    return away


class TestCancel:
    def test_a_cancelled_full_batch_is_failed(self, bench: Bench) -> None:
        """It says who did it and why, and the batches after it go on."""
        batch = bench.land([person("crm/a")]).batch_id
        after = bench.land([person("crm/b")]).batch_id
        done = operate.cancel(bench.platform, batch, TARGET, by=ADA)
        (state,) = done.states
        assert state.failure_details
        assert state.failure_details.error_code == "cancelled"
        assert state.failure_details.error_message == "ada: the migration"
        assert done.notes == ()
        assert bench.publish().state.batch_id == after
        assert acts(bench.platform) == [("ada", "batch.cancel", batch)]

    def test_a_cancelled_delta_is_left_out(self, bench: Bench) -> None:
        """The deltas after it go on without its changes, and its operator is told so."""
        bench.land([person("crm/a"), person("crm/b")])
        bench.publish()
        delta = bench.land([person("crm/a", name="x")], mode=Mode.DELTA).batch_id
        bench.land([person("crm/b", name="y")], mode=Mode.DELTA)
        (note,) = operate.cancel(bench.platform, delta, TARGET, by=ADA).notes
        assert note.startswith("its changes are left out")
        bench.publish()
        assert bench.target.entities == {
            ("person", "crm/a"): "{}",
            ("person", "crm/b"): '{"name":"y"}',
        }

    def test_a_cancelled_batch_can_be_put_back(self, bench: Bench) -> None:
        """Until a newer one is published."""
        delta = bench.land([person("crm/a")], mode=Mode.DELTA).batch_id
        operate.cancel(bench.platform, delta, TARGET, by=ADA)
        operate.requeue(bench.platform, delta, TARGET, by=GRACE)
        assert bench.publish().state.batch_id == delta

    def test_half_a_batch_is_not_lost_sight_of(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a cancelled batch has changed in the target is known before the next one is executed."""
        people = [person(f"crm/{n}") for n in range(8)]
        bench.land(people)
        bench.publish()
        half = bench.land([person(f"crm/{n}", name="x") for n in range(8)]).batch_id
        with monkeypatch.context() as patch:
            patch.setattr(bench.target, "apply", _away_after_one(bench.target))
            assert bench.publish().state.status is PublishStatus.RETRYING
        (note,) = operate.cancel(bench.platform, half, TARGET, by=ADA).notes
        assert note.startswith("it was half executed")
        bench.land(people)
        bench.clock.sleep(3600)
        done = bench.publish()
        assert (done.state.status, done.state.exceptions) == (PublishStatus.COMPLETE, 0)
        assert set(bench.target.entities.values()) == {"{}"}

    def test_what_is_in_hand_is_not_cancelled(self, bench: Bench) -> None:
        """Its operator is told what to do instead."""
        batch = bench.land([person("crm/a")]).batch_id
        bench.control.claim("w", now=bench.clock.now(), lease_s=60, policy=QueuePolicy())
        with pytest.raises(IllegalMove, match=r"a worker has it.*pause its source"):
            operate.cancel(bench.platform, batch, TARGET, by=ADA)
        assert acts(bench.platform) == []


# Two operators at once --------------------------------------------------------------------------------------


def _waiting(store: SqlControlStore) -> BatchId:
    admit(store, "b", 1, priority_boost=9)
    return admit(store, "a", 1)


def _failed(store: SqlControlStore) -> BatchId:
    batch = admit(store, "a", 1)
    fail(store, must_claim(store))
    return batch


def _complete(store: SqlControlStore) -> BatchId:
    admit(store, "a", 1)
    return publish_claimed(store)


def _paused(store: SqlControlStore) -> BatchId:
    operate.pause_source(_platform(store), SourceId("a"), by=ADA)
    return admit(store, "a", 1)


def _platform(store: SqlControlStore) -> Platform:
    from types import SimpleNamespace
    from typing import Any

    outside: Any = SimpleNamespace()
    clock: Any = SimpleNamespace(now=lambda: NOW)
    store.sync_sources([SourceSpec(source_id=SourceId(name)) for name in "ab"])
    return Platform(
        objects=outside,
        control=store,
        batches=outside,
        targets={REGISTRY: outside},
        clock=clock,
        scratch=outside,
    )


Act = Callable[[Platform, BatchId, By], object]
CONTESTED: dict[str, tuple[Callable[[SqlControlStore], BatchId], Act]] = {
    "prioritise": (_waiting, lambda p, b, by: operate.prioritise(p, b, REGISTRY, by=by)),
    "boost": (_waiting, lambda p, b, by: operate.prioritise(p, b, REGISTRY, by=by, boost=4)),
    "cancel": (_waiting, lambda p, b, by: operate.cancel(p, b, REGISTRY, by=by)),
    "requeue": (_failed, lambda p, b, by: operate.requeue(p, b, REGISTRY, by=by)),
    "republish": (_complete, lambda p, b, by: operate.republish(p, b, REGISTRY, by=by)),
    "pause": (_waiting, lambda p, _, by: operate.pause_source(p, SourceId("a"), by=by)),
    "resume": (
        _paused,
        lambda p, _, by: operate.resume(p, PauseScope.SOURCE, "a", by=by),
    ),
}


@pytest.mark.parametrize("name", CONTESTED)
def test_of_operators_at_once_exactly_one_act_wins(
    control_store: SqlControlStore, name: str
) -> None:
    """The others get a clear error, whoever is quickest, and the log has the winner alone."""
    prepare, act = CONTESTED[name]
    platform = _platform(control_store)
    batch = prepare(control_store)
    before = len(control_store.list_acts())
    operators, barrier = [By(actor=f"o{n}", reason="x") for n in range(4)], Barrier(4)

    def try_it(by: By) -> str | None:
        barrier.wait(30)
        try:
            act(platform, batch, by)
        except (NothingToDo, IllegalMove, ChangedMeanwhile):
            return None
        return by.actor

    with ThreadPoolExecutor(4) as pool:
        winners = [winner for winner in pool.map(try_it, operators) if winner]
    assert len(winners) == 1
    entries = control_store.list_acts()
    assert [entry.actor for entry in entries[: len(entries) - before]] == winners
