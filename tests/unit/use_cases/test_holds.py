"""Decisions about holds: what they bind to, what voids them, and what is refused with nothing changed."""

from __future__ import annotations

import pytest

from penstock.batch.manifest import Mode
from penstock.errors import IllegalMove, NothingToDo, PenstockError, PlanChanged, Unsigned
from penstock.ports.approvals import ApprovalStatus
from penstock.publish.state import Intent, PublishState, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.holds import approve_hold, list_holds, reject_hold, show_hold
from penstock.use_cases.publish import republish
from tests.fixtures.memory import TARGET, Bench, person

ADA = By(actor="ada", reason="they left")


def held(bench: Bench, left: int = 40) -> PublishState:
    """The state of a full batch whose deletes are held."""
    bench.land([person(f"crm/{n}") for n in range(100)])
    bench.publish()
    bench.land([person(f"crm/{n}") for n in range(left)])
    state = bench.publish().state
    assert state.held == 100 - left
    return state


def approve(bench: Bench, state: PublishState, **options: float) -> None:
    assert state.plan_digest is not None
    approve_hold(bench.platform, state.batch_id, TARGET, state.plan_digest, by=ADA, **options)


def test_an_approval_executes_what_was_held(bench: Bench) -> None:
    """The deletes happen, the ledger and the state say so, the approval is used up, and the act is kept."""
    state = held(bench)
    (listed,) = list_holds(bench.platform)
    assert (listed.state.batch_id, listed.superseded_by) == (state.batch_id, None)
    (hold,) = [h for h in listed.holds if h.guard == "delete_share"]
    assert hold.operations == 60
    approve(bench, state)
    report = bench.publish()
    assert (report.state.status, report.state.held, report.state.exceptions) == ("COMPLETE", 0, 0)
    assert report.state.metrics.entities_deleted == 60
    assert all(row.balanced for row in report.ledger)
    assert len(bench.target.entities) == 40
    (decision,) = bench.control.list_approvals(batch=state.batch_id)
    assert decision.status is ApprovalStatus.USED
    (act,) = bench.control.list_acts()
    assert (act.actor, act.act, act.reason) == ("ada", "hold.approve", "they left")
    assert list_holds(bench.platform) == []
    assert bench.control.list_exceptions(state.batch_id, TARGET) == []


def test_a_newer_full_batch_supersedes_a_hold_and_holds_it_again(bench: Bench) -> None:
    """What was held is planned again by the newer batch; the older hold can no longer be decided."""
    old = held(bench)
    bench.land([person(f"crm/{n}") for n in range(40)])
    new = bench.publish().state
    assert new.held == 60
    assert [h.state.batch_id for h in list_holds(bench.platform)] == [new.batch_id]
    assert show_hold(bench.platform, old).superseded_by == new.batch_id
    with pytest.raises(IllegalMove, match="decide on that one"):
        approve(bench, old)


def test_another_plan_voids_an_approval(bench: Bench) -> None:
    """A batch that was planned again since is not released by what was approved of the plan before."""
    state = held(bench)
    republish(bench.platform, state.batch_id, TARGET)
    bench.publish()
    with pytest.raises(IllegalMove, match="it was planned again"):
        approve(bench, state)


def test_an_approval_that_expired_executes_nothing(bench: Bench) -> None:
    """Too late, the batch stands as it stood, and can be approved anew."""
    state = held(bench)
    approve(bench, state, expires_in_s=60)
    bench.clock.sleep(61)
    report = bench.publish()
    assert (report.state.status, report.state.held) == (PublishStatus.COMPLETE, 60)
    assert report.state.plan_digest == state.plan_digest
    (decision,) = bench.control.list_approvals()
    assert decision.status is ApprovalStatus.EXPIRED
    approve(bench, state)
    assert bench.publish().state.held == 0


def test_a_delta_does_not_supersede_a_hold(bench: Bench) -> None:
    """What a newer delta did not touch can still be approved; what it did is decided."""
    state = held(bench)
    bench.land([person("crm/50", v=2)], mode=Mode.DELTA)
    bench.publish()
    approve(bench, state)
    released = bench.publish().state
    assert released.held == 0
    assert ("person", "crm/50") in bench.target.entities
    assert len(bench.target.entities) == 41


def test_a_rejected_hold_is_not_executed_and_a_later_batch_plans_it_again(bench: Bench) -> None:
    """It is gone from the list, cannot be approved, and comes up again with the next full batch."""
    state = held(bench)
    assert state.plan_digest is not None
    reject_hold(bench.platform, state.batch_id, TARGET, state.plan_digest[:8], by=ADA)
    assert list_holds(bench.platform) == []
    with pytest.raises(IllegalMove, match="was rejected by ada"):
        approve(bench, state)
    bench.land([person(f"crm/{n}") for n in range(40)])
    assert bench.publish().state.held == 60
    assert len(list_holds(bench.platform)) == 1


@pytest.mark.parametrize(
    ("actor", "reason"), [("", "why"), ("  ", "why"), ("ada", ""), ("ada", None)]
)
def test_a_decision_by_no_one_or_for_no_reason_is_refused(
    bench: Bench, actor: str, reason: str | None
) -> None:
    """Nothing is recorded and nothing changes."""
    state = held(bench)
    assert state.plan_digest is not None
    with pytest.raises(Unsigned):
        approve_hold(
            bench.platform,
            state.batch_id,
            TARGET,
            state.plan_digest,
            by=By(actor=actor, reason=reason),
        )
    assert_untouched(bench, state)


@pytest.mark.parametrize("digest", ["", "abc", "0" * 32, "f" * 8])
def test_another_digest_is_refused(bench: Bench, digest: str) -> None:
    """A digest that is short, or of another plan, approves nothing."""
    state = held(bench)
    with pytest.raises(IllegalMove):
        approve_hold(bench.platform, state.batch_id, TARGET, digest, by=ADA)
    assert_untouched(bench, state)


@pytest.mark.parametrize("seconds", [0, -1, 10**9])
def test_an_expiry_out_of_bounds_is_refused(bench: Bench, seconds: float) -> None:
    """An approval counts for a time that is ahead and not for ever."""
    state = held(bench)
    with pytest.raises(PenstockError, match="cannot count for"):
        approve(bench, state, expires_in_s=seconds)
    assert_untouched(bench, state)


@pytest.mark.parametrize("file", ["plan.json", "wave"])
def test_a_plan_that_was_edited_is_not_approved(bench: Bench, file: str) -> None:
    """A changed byte anywhere in the stored plan is noticed when someone wants to approve it."""
    state = held(bench)
    assert state.execution_plan_path is not None
    folder = state.execution_plan_path.removesuffix("plan.json")
    (key, *_) = [o.key for o in bench.platform.objects.list(folder) if file in o.key]
    data = bytearray(bench.platform.objects.get(key))
    data[len(data) // 2] ^= 1
    bench.platform.objects.put(key, bytes(data))
    with pytest.raises(PlanChanged):
        approve(bench, state)
    assert_untouched(bench, state)


def test_a_plan_that_is_edited_after_its_approval_is_not_executed(bench: Bench) -> None:
    """The release is withdrawn, the approval void, and nothing of it reaches the target."""
    state = held(bench)
    approve(bench, state)
    assert state.execution_plan_path is not None
    data = bench.platform.objects.get(state.execution_plan_path)
    bench.platform.objects.put(
        state.execution_plan_path, data.replace(b'"deleted": 0', b'"deleted": 9')
    )
    report = bench.publish()
    assert (report.state.status, report.state.held) == (PublishStatus.COMPLETE, 60)
    assert len(bench.target.entities) == 100
    (decision,) = bench.control.list_approvals()
    assert decision.status is ApprovalStatus.VOID
    assert decision.settled_why is not None
    assert "was changed after it was made" in decision.settled_why


def test_what_holds_nothing_cannot_be_decided(bench: Bench) -> None:
    """A clean batch has nothing to approve."""
    bench.land([person("crm/a")])
    state = bench.publish().state
    with pytest.raises(IllegalMove, match="holds nothing"):
        approve(bench, state)
    with pytest.raises(NothingToDo):
        show_hold(bench.platform, state)


def assert_untouched(bench: Bench, state: PublishState) -> None:
    """Nothing was recorded, and the batch is as it was."""
    assert bench.control.get_state(state.batch_id, TARGET) == state
    assert bench.control.list_approvals() == []
    assert bench.control.list_acts() == []
    assert state.intent is Intent.PUBLISH
