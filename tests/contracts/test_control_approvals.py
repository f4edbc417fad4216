"""Decisions about holds on SQLite and PostgreSQL: one of several operators wins, and an approval requeues."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.errors import IllegalMove
from penstock.identity.ids import BatchId, SourceId
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.audit_log import AuditEntry
from penstock.publish.state import Intent, PublishStatus
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import DIGEST, NOW, REGISTRY, admit, at, finish, must_claim


def decision(batch: BatchId, number: int = 0, **fields: object) -> Approval:
    """An approval of the tests' plan."""
    values: dict[str, object] = {
        "approval_id": f"{number:032x}",
        "batch_id": batch,
        "target_id": REGISTRY,
        "source_id": SourceId("a"),
        "plan_digest": DIGEST,
        "decision": Decision.APPROVE,
        "approver": f"operator {number}",
        "reason": "they left",
        "decided_at": NOW,
        "expires_at": at(10),
        "status": ApprovalStatus.ACTIVE,
    }
    return Approval(**{**values, **fields})  # type: ignore[arg-type]


def held(store: SqlControlStore) -> BatchId:
    """A COMPLETE batch with three operations held."""
    batch = admit(store, "a", 1)
    finish(store, must_claim(store), held=3, exceptions=3)
    return batch


def test_an_approval_is_kept_with_its_act_and_requeues(control_store: SqlControlStore) -> None:
    """The decision, the act and the move are one."""
    batch = held(control_store)
    act = AuditEntry(at=NOW, actor="ada", act="hold.approve", subject=batch)
    decided = control_store.decide_hold(decision(batch), now=NOW, act=act)
    assert control_store.list_approvals(batch=batch) == [decided]
    assert control_store.list_acts() == [act]
    state = control_store.get_state(batch, REGISTRY)
    assert (state.status, state.intent) == (PublishStatus.PENDING, Intent.RELEASE)
    assert control_store.active_approval(batch, REGISTRY, DIGEST, now=at(9)) == decided
    assert control_store.active_approval(batch, REGISTRY, DIGEST, now=at(10)) is None
    (expired,) = control_store.list_approvals()
    assert expired.status is ApprovalStatus.EXPIRED


def test_one_of_many_operators_wins(control_store: SqlControlStore) -> None:
    """However many decide at once, one decision stands and the others are told."""
    batch = held(control_store)

    def decide(number: int) -> bool:
        try:
            control_store.decide_hold(decision(batch, number), now=NOW)
        except IllegalMove:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(decide, range(8))) == 1
    assert len(control_store.list_approvals()) == 1


def test_a_settled_decision_stays(control_store: SqlControlStore) -> None:
    """What is void is not used afterwards."""
    batch = held(control_store)
    control_store.decide_hold(decision(batch), now=NOW)
    control_store.settle_approval("0" * 32, ApprovalStatus.VOID, now=at(1), why="edited")
    control_store.settle_approval("0" * 32, ApprovalStatus.USED, now=at(2))
    (kept,) = control_store.list_approvals()
    assert (kept.status, kept.settled_why, kept.settled_at) == ("void", "edited", at(1))


def test_only_what_is_held_by_this_plan_is_decided(control_store: SqlControlStore) -> None:
    """Another plan, or one without holds, is refused."""
    batch = held(control_store)
    with pytest.raises(IllegalMove, match="was planned again"):
        control_store.decide_hold(decision(batch, plan_digest="c" * 32), now=NOW)
    clean = admit(control_store, "a", 2)
    finish(control_store, must_claim(control_store))
    with pytest.raises(IllegalMove, match="holds nothing"):
        control_store.decide_hold(decision(clean), now=NOW)
    with pytest.raises(IllegalMove, match="decide on that one"):
        control_store.decide_hold(decision(batch), now=NOW)
