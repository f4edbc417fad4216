"""What keeps lanes shut, on SQLite and PostgreSQL: pauses, breakers, limits, what is half executed, and cancelling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.breaker import BreakerPolicy
from penstock.publish.queue import QueuePolicy
from penstock.publish.state import Intent, Move, PublishStatus
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    NOW,
    POLICY,
    REGISTRY,
    admit,
    at,
    claim,
    finish,
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


@pytest.mark.parametrize(
    "policy",
    [
        QueuePolicy(most_lanes_per_target=2),
        QueuePolicy(most_lanes_per_tenant=2),
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
    policy = QueuePolicy(most_lanes_per_tenant=1)
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
