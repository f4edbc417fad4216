"""What keeps lanes shut, on SQLite and PostgreSQL: pauses, breakers, limits, what is half executed, and cancelling."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from penstock.batch.source import SourceSpec
from penstock.errors import ChangedMeanwhile, IllegalMove, PenstockError
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import Claim, OperationException
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.breaker import BreakerPolicy
from penstock.publish.queue import QueuePolicy
from penstock.publish.state import Intent, Move, PublishState, PublishStatus
from resources.control_db.store import SqlControlStore
from resources.control_db.tables import NaiveTimestamp
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    POLICY,
    REGISTRY,
    admit,
    at,
    claim,
    finish,
    head_after,
    must_claim,
    start,
)


def waits_for(store: SqlControlStore, policy: QueuePolicy = POLICY) -> list[str | None]:
    return [place.waits_for for place in store.explain_queue(now=NOW, policy=policy)]


@pytest.mark.parametrize(
    ("scope", "scope_id"), [(PauseScope.SOURCE, "a"), (PauseScope.TARGET, "registry")]
)
def test_nothing_is_claimed_of_what_is_paused(
    control_store: SqlControlStore, scope: PauseScope, scope_id: str
) -> None:
    """A paused source or target is passed over, says who paused it and why, and goes on once it is resumed."""
    admit(control_store, "a", 1)
    pause = Pause(scope=scope, scope_id=scope_id, paused_at=NOW, paused_by="ada", reason="moving")
    assert control_store.pause(pause)
    assert not control_store.pause(pause)
    assert claim(control_store) is None
    (why,) = waits_for(control_store)
    assert why is not None
    assert "ada paused it" in why
    assert "moving" in why
    assert control_store.list_pauses() == [pause]
    assert control_store.resume(scope, scope_id)
    assert not control_store.resume(scope, scope_id)
    assert claim(control_store) is not None


def test_a_pause_leaves_what_is_in_hand(control_store: SqlControlStore) -> None:
    """Who has a batch finishes it; the next one waits."""
    admit(control_store, "a", 1)
    admit(control_store, "a", 2)
    claimed = must_claim(control_store)
    control_store.pause(
        Pause(
            scope=PauseScope.SOURCE, scope_id="a", paused_at=NOW, paused_by="ada", reason="moving"
        )
    )
    assert finish(control_store, claimed).status is PublishStatus.COMPLETE
    assert claim(control_store) is None


def test_an_open_breaker_shuts_its_target_and_lets_one_probe_through(
    control_store: SqlControlStore,
) -> None:
    """Nothing is claimed for a target that is down until its time is up, and then one lane alone."""
    for source in ("a", "b"):
        admit(control_store, source, 1, targets=("registry", "other"))
    control_store.record_calls(
        REGISTRY,
        successes=0,
        failures=5,
        now=NOW,
        policy=BreakerPolicy(open_s=30),
        error="nobody answers",
    )
    taken = [must_claim(control_store, f"w{n}").state.target_id for n in range(2)]
    assert taken == ["other", "other"]
    assert claim(control_store) is None
    assert {text for text in waits_for(control_store) if text} == {
        "the breaker of target registry, open until 2026-01-01 12:00:30 UTC: nobody answers"
    }
    probe = must_claim(control_store, "w3", now=at(0.6))
    assert probe.state.target_id == REGISTRY
    assert claim(control_store, "w4", now=at(0.6)) is None
    control_store.record_calls(
        REGISTRY, successes=1, failures=0, now=at(0.6), policy=BreakerPolicy()
    )
    assert claim(control_store, "w4", now=at(0.6)) is not None


def test_a_target_that_is_doubted_gets_one_lane_at_a_time(control_store: SqlControlStore) -> None:
    """After a first failure one worker finds out if the target is down, and the others stay free; an answer ends it."""
    for source in ("a", "b"):
        admit(control_store, source, 1)
    must_claim(control_store, "w1")
    failing = {"successes": 0, "failures": 1, "policy": BreakerPolicy(), "error": "timed out"}
    control_store.record_calls(REGISTRY, now=NOW, **failing)
    assert claim(control_store, "w2") is None
    assert waits_for(control_store) == [
        "another batch to find out whether target registry answers: timed out"
    ]
    control_store.record_calls(REGISTRY, now=NOW, **{**failing, "successes": 1, "failures": 0})
    assert claim(control_store, "w2") is not None


class TestAnswers:
    """A target that hangs gets one worker, and those that answer get as many as there are."""

    def test_a_target_gets_one_lane_until_it_has_answered(
        self, control_store: SqlControlStore
    ) -> None:
        """Nothing is known of a target at first, nor after it has been idle: the first chunk that ends opens it."""
        for source in ("a", "b", "c"):
            admit(control_store, source, 1)
        first = start(control_store, _claimed(control_store, NOW))
        assert _take(control_store, at(0.5)) is None
        assert (
            waits_for(control_store, CAREFUL)
            == [
                "the answer of target registry to another batch, which was called at 2026-01-01 12:00:00 UTC"
            ]
            * 2
        )
        _chunk(control_store, first, at(0.5))
        second = _claimed(control_store, at(0.5))
        control_store.advance(first, Move.REQUEUE, now=at(0.6))
        control_store.advance(second, Move.REQUEUE, now=at(0.6))
        _claimed(control_store, at(3))
        assert _take(control_store, at(3)) is None

    def test_a_call_that_takes_long_keeps_others_from_its_target(
        self, control_store: SqlControlStore
    ) -> None:
        """Of a target that has just answered, calls of up to two seconds are usual; then its answer is waited for."""
        for source in ("a", "b"):
            admit(control_store, source, 1)
            admit(control_store, f"{source}2", 1, targets=("other",))
        running = start(control_store, _claimed(control_store, NOW, target=REGISTRY))
        _chunk(control_store, running, NOW)
        control_store.start_chunk(running, 1, 1, now=at(0.1))
        late = at(0.1) + timedelta(seconds=2)
        assert _claimed(control_store, late).state.target_id == "other"
        assert _take(control_store, late) is None  # nothing is known of the other target either
        control_store.note_answer(running, now=late)
        assert _claimed(control_store, late).state.target_id == REGISTRY

    def test_a_plan_that_takes_long_keeps_nobody_away(self, control_store: SqlControlStore) -> None:
        """What is planned for minutes has not called its target yet; once it does, that counts."""
        for source in ("a", "b", "c"):
            admit(control_store, source, 1)
        planning = _claimed(control_store, NOW)
        assert _take(control_store, NOW + timedelta(seconds=1.9)) is None
        _claimed(control_store, NOW + timedelta(seconds=2))
        start(control_store, planning, now=at(0.5))
        assert _take(control_store, at(0.5)) is None

    def test_a_batch_without_operations_lets_the_next_ones_in(
        self, control_store: SqlControlStore
    ) -> None:
        """Its target took no worker with it, though it was never called."""
        for source in ("a", "b", "c"):
            admit(control_store, source, 1)
        finish(control_store, _claimed(control_store, NOW))
        assert [_claimed(control_store, at(0.1)) for _ in range(2)]

    def test_of_many_workers_at_once_one_is_let_in(self, control_store: SqlControlStore) -> None:
        """They do not slip past each other."""
        for n in range(6):
            admit(control_store, f"s{n}", 1)
        with ThreadPoolExecutor(6) as pool:
            taken = list(pool.map(lambda _: _take(control_store, NOW), range(6)))
        assert sum(one is not None for one in taken) == 1


CAREFUL = QueuePolicy(answer_within_s=2, trusted_for_s=60)


def _take(store: SqlControlStore, now: datetime) -> Claim | None:
    return store.claim("w", now=now, lease_s=60, policy=CAREFUL)


def _claimed(store: SqlControlStore, now: datetime, *, target: TargetId | None = None) -> Claim:
    only = target and [(s.batch_id, s.target_id) for s in store.list_states(target=target)]
    claimed = store.claim("w", now=now, lease_s=60, policy=CAREFUL, only=only)
    assert claimed is not None
    return claimed


def _chunk(store: SqlControlStore, running: Claim, now: datetime) -> None:
    """Send a chunk of one operation, and have the answer."""
    store.start_chunk(running, 0, 1, now=now)
    store.finish_chunk(running, 0, applied=1, already_applied=0, exceptions=[], now=now)


@pytest.mark.parametrize(
    "policy",
    [
        QueuePolicy(answer_within_s=None, most_lanes_per_target=2),
        QueuePolicy(answer_within_s=None, most_lanes_per_tenant=2),
        QueuePolicy(answer_within_s=None, most_lanes_per_target=2, most_lanes_per_source=1),
    ],
)
def test_no_more_lanes_than_allowed_are_in_hand(
    control_store: SqlControlStore, policy: QueuePolicy
) -> None:
    """Many workers at once take as many lanes of a target or tenant as may be, and no more."""
    for n in range(6):
        admit(control_store, f"s{n}", 1)

    def take(n: int) -> bool:
        return control_store.claim(f"w{n}", now=NOW, lease_s=60, policy=policy) is not None

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 2
    (why,) = {text for text in waits_for(control_store, policy) if text}
    assert "2 lanes" in why


def test_a_limit_is_for_each_tenant_by_itself(control_store: SqlControlStore) -> None:
    """One tenant's lanes keep no other tenant waiting."""
    control_store.sync_sources(
        [
            SourceSpec(source_id=SourceId(name), tenant_id=TenantId(tenant))
            for name, tenant in (("a", "x"), ("b", "x"), ("c", "y"))
        ]
    )
    for source, tenant in (("a", "x"), ("b", "x"), ("c", "y")):
        admit(control_store, source, 1, tenant_id=tenant)
    policy = QueuePolicy(answer_within_s=None, most_lanes_per_tenant=1)
    taken = set()
    for n in range(3):
        claimed = control_store.claim(f"w{n}", now=NOW, lease_s=60, policy=policy)
        taken |= {claimed.state.tenant_id} if claimed else set()
    assert taken == {"x", "y"}


@pytest.mark.parametrize("ends", ["abandoned", "postponed"])
def test_what_is_half_executed_goes_before_a_late_older_batch(
    control_store: SqlControlStore, ends: str
) -> None:
    """A lane finishes what it has started, even if an older batch lands meanwhile, which then comes too late."""
    newer = admit(control_store, "a", 5)
    running = start(control_store, must_claim(control_store))
    later = at(10)
    if ends == "postponed":
        control_store.advance(running, Move.POSTPONE, now=NOW, changes={"retry_due_at": at(1)})
    older = admit(control_store, "a", 1)
    places = control_store.explain_queue(now=later, policy=POLICY)
    assert [place.state.batch_id for place in places] == [newer, older]
    claimed = must_claim(control_store, "w2", now=later)
    assert claimed.state.batch_id == newer
    finish(control_store, claimed, now=later)
    assert claim(control_store, "w2", now=later) is None
    assert control_store.get_state(older, REGISTRY).status is PublishStatus.FAILED


def test_a_cancelled_batch_is_failed_and_a_cancelled_delta_blocks_nothing(
    control_store: SqlControlStore,
) -> None:
    """It leaves the queue with who said so, and what comes after it goes on."""
    delta = admit(control_store, "a", 1, mode="delta")
    admit(control_store, "a", 2, mode="delta")
    state = control_store.cancel(delta, REGISTRY, now=NOW, message="ada: not wanted")
    assert state.status is PublishStatus.FAILED
    assert state.failure_details is not None
    assert (state.failure_details.error_code, state.failure_details.error_message) == (
        "cancelled",
        "ada: not wanted",
    )
    assert must_claim(control_store).state.batch_id != delta


def test_only_what_waits_can_be_cancelled(control_store: SqlControlStore) -> None:
    """What is in hand is not, and is told to pause; what is settled is not either."""
    batch = admit(control_store, "a", 1)
    claimed = must_claim(control_store)
    with pytest.raises(IllegalMove, match="pause its source"):
        control_store.cancel(batch, REGISTRY, now=NOW, message="x")
    finish(control_store, claimed)
    with pytest.raises(IllegalMove, match="is COMPLETE"):
        control_store.cancel(batch, REGISTRY, now=NOW, message="x")


def test_a_cancelled_follow_up_leaves_the_batch_complete(control_store: SqlControlStore) -> None:
    """A release or repair that is taken back changes nothing of what was published."""
    batch = admit(control_store, "a", 1)
    before = finish(control_store, must_claim(control_store))
    control_store.requeue(batch, REGISTRY, now=NOW, intent=Intent.REPAIR)
    after = control_store.cancel(batch, TargetId("registry"), now=NOW, message="x")
    assert after.status is PublishStatus.COMPLETE
    assert after.plan_digest == before.plan_digest


def test_a_limit_is_for_each_source_by_itself(control_store: SqlControlStore) -> None:
    """A source with many targets has so many lanes in hand at once, and the others theirs."""
    for source in ("a", "b"):
        admit(control_store, source, 1, targets=("t1", "t2", "t3"))
    policy = QueuePolicy(answer_within_s=None, most_lanes_per_source=2)
    taken = [control_store.claim(f"w{n}", now=NOW, lease_s=60, policy=policy) for n in range(6)]
    sources = [claimed.state.source_id for claimed in taken if claimed]
    assert sorted(sources) == ["a", "a", "b", "b"]


def test_workers_that_a_limit_turns_away_take_what_is_free(
    control_store: SqlControlStore,
) -> None:
    """A target that is full keeps nobody from the others, whatever the score of what waits for it."""
    for n in range(3):
        admit(control_store, f"s{n}", 1, targets=("slow",), priority_boost=100)
    admit(control_store, "other", 1)
    policy = QueuePolicy(answer_within_s=None, most_lanes_per_target=1)
    taken = [control_store.claim(f"w{n}", now=NOW, lease_s=60, policy=policy) for n in range(3)]
    assert [claimed and claimed.state.target_id for claimed in taken] == ["slow", REGISTRY, None]
    assert taken[0]
    finish(control_store, taken[0])
    assert must_claim(control_store, "w3").state.target_id == "slow"


def test_a_dead_worker_s_lane_counts_no_more(control_store: SqlControlStore) -> None:
    """Once its lease has run out, what it had is claimed under the same limit."""
    for source in ("a", "b"):
        admit(control_store, source, 1)
    policy = QueuePolicy(answer_within_s=None, most_lanes_per_target=1)
    dead = control_store.claim("dead", now=NOW, lease_s=60, policy=policy)
    assert control_store.claim("w", now=NOW, lease_s=60, policy=policy) is None
    taken = control_store.claim("w", now=at(2), lease_s=60, policy=policy)
    assert dead
    assert taken
    assert taken.state.batch_id == dead.state.batch_id


def test_one_of_many_is_the_probe_of_a_target(control_store: SqlControlStore) -> None:
    """When a breaker's time is up, of all who come at once one gets a lane; the others are told that it probes."""
    for n in range(6):
        admit(control_store, f"s{n}", 1)
    policy = BreakerPolicy(open_s=30)
    control_store.record_calls(REGISTRY, successes=0, failures=5, now=NOW, policy=policy)

    def take(n: int) -> bool:
        return claim(control_store, f"w{n}", now=at(1)) is not None

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1
    places = control_store.explain_queue(now=at(1), policy=POLICY)
    assert {place.waits_for for place in places} == {
        "the probe of target registry, which another batch is making"
    }
    control_store.record_calls(REGISTRY, successes=0, failures=1, now=at(1), policy=policy)
    assert claim(control_store, now=at(1.9)) is None
    control_store.reset_breaker(REGISTRY, now=at(1.9))
    assert control_store.get_breaker(REGISTRY, now=at(1.9)).failures == 0
    assert claim(control_store, now=at(1.9)) is not None


def test_what_was_begun_and_then_ended_goes_first_no_more(control_store: SqlControlStore) -> None:
    """A batch that failed half-way, was cancelled or was published leaves its lane to the oldest again."""
    half = admit(control_store, "a", 5)
    running = start(control_store, must_claim(control_store))
    control_store.advance(running, Move.REQUEUE, now=NOW)
    older = admit(control_store, "a", 1)
    control_store.cancel(half, REGISTRY, now=NOW, message="not wanted")
    control_store.requeue(half, REGISTRY, now=NOW, intent=Intent.PUBLISH)
    assert must_claim(control_store).state.batch_id == older


def _released(store: SqlControlStore) -> PublishState:
    """Publish a batch that holds something, and approve of it."""
    admit(store, "a", 1)
    held = OperationException(
        operation_id="1" * 32,
        kind="entities",
        type_name="table",
        key="db/t",
        to_key=None,
        action="delete",
        outcome="held",
        code="held",
        message="a guard holds it",
        guard="delete_share",
    )
    running = start(store, must_claim(store))
    store.record_exceptions(running, [held], now=NOW)
    state = store.complete(running, now=NOW, changes={}, head=head_after(store, running), ledger=[])
    approval = Approval(
        approval_id="a" * 32,
        batch_id=state.batch_id,
        target_id=state.target_id,
        source_id=state.source_id,
        plan_digest=DIGEST,
        decision=Decision.APPROVE,
        approver="ada",
        reason="meant",
        decided_at=NOW,
        expires_at=None,
        status=ApprovalStatus.ACTIVE,
    )
    store.decide_hold(approval, now=NOW)
    return store.get_state(state.batch_id, REGISTRY)


def test_a_cancelled_release_voids_its_approval(control_store: SqlControlStore) -> None:
    """The batch is COMPLETE as it was, what was held is held, and the approval says why it is void."""
    waiting = _released(control_store)
    assert waiting.status is PublishStatus.PENDING
    after = control_store.cancel(waiting.batch_id, REGISTRY, now=NOW, message="grace: wait")
    assert (after.status, after.held) == (PublishStatus.COMPLETE, 1)
    (approval,) = control_store.list_approvals(batch=waiting.batch_id)
    assert (approval.status, approval.settled_why) == (ApprovalStatus.VOID, "grace: wait")


def test_a_release_that_is_half_executed_cannot_be_cancelled(
    control_store: SqlControlStore,
) -> None:
    """It has to be ended: what was sent of it may have taken effect."""
    batch = _released(control_store).batch_id
    running = start(control_store, must_claim(control_store))
    due = {"retry_due_at": at(1)}
    control_store.advance(running, Move.POSTPONE, now=NOW, changes=due)
    with pytest.raises(IllegalMove, match="half executed: it has to be ended"):
        control_store.cancel(batch, REGISTRY, now=NOW, message="x")
    assert control_store.get_state(batch, REGISTRY).status is PublishStatus.RETRYING


def test_a_boost_that_was_changed_meanwhile_is_not_overwritten(
    control_store: SqlControlStore,
) -> None:
    """Who saw another boost than there is changes nothing, and is told what it is."""
    batch = admit(control_store, "a", 1)
    control_store.boost(batch, REGISTRY, 3.0, expected=0.0)
    with pytest.raises(ChangedMeanwhile, match="has a boost of 3 "):
        control_store.boost(batch, REGISTRY, 5.0, expected=0.0)
    assert control_store.get_state(batch, REGISTRY).priority_boost == 3.0


def _acts(store: SqlControlStore) -> dict[str, Callable[[AuditEntry], object]]:
    """Return each act that is audited, in an order in which all can be done."""
    batch = admit(store, "a", 1)
    pause = Pause(scope=PauseScope.SOURCE, scope_id="a", paused_at=NOW, paused_by="ada", reason="x")
    return {
        "pause": lambda act: store.pause(pause, act=act),
        "resume": lambda act: store.resume(PauseScope.SOURCE, "a", act=act),
        "boost": lambda act: store.boost(batch, REGISTRY, 1.0, expected=0.0, act=act),
        "cancel": lambda act: store.cancel(batch, REGISTRY, now=NOW, message="x", act=act),
        "requeue": lambda act: store.requeue(
            batch, REGISTRY, now=NOW, intent=Intent.PUBLISH, act=act
        ),
    }


def test_an_act_and_its_entry_in_the_audit_log_are_there_together(
    control_store: SqlControlStore,
) -> None:
    """What is done once leaves one entry; done again it is refused, and leaves none."""
    act = AuditEntry(at=NOW, actor="ada", act="x.y", subject="a")
    for number, (name, do) in enumerate(_acts(control_store).items(), start=1):
        do(act)
        assert len(control_store.list_acts()) == number, name
        with contextlib.suppress(PenstockError):
            assert do(act) is False, name
        assert len(control_store.list_acts()) == number, name


def test_an_act_whose_entry_cannot_be_kept_is_not_done(control_store: SqlControlStore) -> None:
    """If the audit log refuses the entry, everything is as it was."""
    good = AuditEntry(at=NOW, actor="ada", act="x.y", subject="a")
    bad = replace(good, at=NOW.replace(tzinfo=None))
    for name, do in _acts(control_store).items():
        before = control_store.list_states(), control_store.list_pauses()
        with pytest.raises(NaiveTimestamp):
            do(bad)
        assert (control_store.list_states(), control_store.list_pauses()) == before, name
        do(good)
        assert (control_store.list_states(), control_store.list_pauses()) != before, name
