"""Rolling back: the inverse of what a batch really did, as a correction that is planned like any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode
from penstock.errors import ChangedMeanwhile, IllegalMove, LaneBusy, NothingToDo, ObjectMissing
from penstock.publish.state import Intent, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.operate import cancel
from penstock.use_cases.publish import republish
from penstock.use_cases.rollback import Rollback, rollback
from tests.fixtures.memory import TARGET, Bench, knows, person

ANYTHING = GuardPolicy(always_allowed_deletes=10**6)
FIRST = [person("crm/a", v=1), person("crm/b", v=1), person("crm/c"), knows("crm/a", "crm/b")]
SECOND = [person("crm/a", v=2), person("crm/c"), person("crm/d"), knows("crm/c", "crm/d")]


def held(bench: Bench) -> tuple[dict[Any, str], dict[Any, str]]:
    """What the target holds now."""
    return dict(bench.target.entities), dict(bench.target.relationships)


def two_batches(bench: Bench) -> tuple[Any, Any, Any]:
    """Publish two batches; returns what the target held after each, and the second's id."""
    bench.land(FIRST)
    bench.publish(guard_policy=ANYTHING)
    before = held(bench)
    batch = bench.land(SECOND).batch_id
    bench.publish(guard_policy=ANYTHING)
    return before, held(bench), batch


def rolled_back(bench: Bench, batch: Any, **options: Any) -> Rollback:
    """Roll back and publish the correction."""
    found = rollback(bench.platform, batch, TARGET, by="ada", reason="wrong", **options)
    assert found.correction is not None
    report = bench.publish(guard_policy=ANYTHING)
    assert report.state.batch_id == found.correction.batch_id
    assert all(row.balanced for row in report.ledger)
    return found


def test_what_a_batch_did_is_undone_and_done_again(bench: Bench) -> None:
    """Creates go, updates and deletes come back, relationships too; republishing gives what there was."""
    before, after, batch = two_batches(bench)
    found = rolled_back(bench, batch)
    assert held(bench) == before
    assert (found.removed, found.restored, found.conflicts) == (2, 3, 0)
    republish(bench.platform, batch, TARGET)
    bench.publish(guard_policy=ANYTHING)
    assert held(bench) == after
    (act,) = bench.control.list_acts(subject=batch)
    assert (act.actor, act.act, act.reason) == ("ada", "batch.rollback", "wrong")


def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    """It says what would be done, and lands nothing."""
    _, after, batch = two_batches(bench)
    found = rollback(bench.platform, batch, TARGET, by="ada", dry_run=True)
    assert (found.removed, found.restored, found.correction) == (2, 3, None)
    assert held(bench) == after
    assert bench.control.list_acts() == []
    assert (
        bench.control.explain_queue(now=bench.clock.now(), policy=bench.platform.queue_policy) == []
    )


def test_what_changed_since_is_left_alone_unless_it_is_named(bench: Bench) -> None:
    """A conflict is listed with what the batch had done; named, it is rolled back all the same."""
    _, _, batch = two_batches(bench)
    bench.land([person("crm/a", v=3), person("crm/d", x=1)], mode=Mode.DELTA)
    bench.publish()
    found = rolled_back(bench, batch, take=["crm/a"])
    assert (found.conflicts, found.taken) == (1, 1)
    (conflict,) = found.listed
    assert (conflict.key, conflict.action) == ("crm/d", "create")
    assert bench.target.entities["person", "crm/a"] == '{"v":1}'
    assert bench.target.entities["person", "crm/d"] == '{"x":1}'
    assert bench.target.entities["person", "crm/b"] == '{"v":1}'


def test_what_did_not_take_effect_is_not_undone(bench: Bench) -> None:
    """An update that the target refused has nothing to be undone."""
    bench.land([person("crm/a", v=1), person("crm/b", v=1)])
    bench.publish()
    bench.target.poison.add("crm/a")
    batch = bench.land([person("crm/a", v=2), person("crm/b", v=2)]).batch_id
    assert bench.publish().state.rejected == 1
    bench.target.poison.clear()
    found = rolled_back(bench, batch)
    assert (found.restored, found.conflicts) == (1, 0)


def test_a_rollback_is_guarded_like_any_batch(bench: Bench) -> None:
    """Undoing a batch that created most of what there is would delete most of it: that is held."""
    bench.land([person("crm/a")])
    bench.publish()
    batch = bench.land([person("crm/a"), *(person(f"crm/{n}") for n in range(100))]).batch_id
    bench.publish()
    rollback(bench.platform, batch, TARGET, by="ada")
    assert bench.publish().state.held == 100


def test_the_next_batch_of_the_source_comes_after_a_correction(bench: Bench) -> None:
    """A batch that waits already is published after the correction, and what the source says stands again."""
    _, after, batch = two_batches(bench)
    bench.land(SECOND)
    found = rollback(bench.platform, batch, TARGET, by="ada")
    assert found.correction is not None
    assert bench.publish(guard_policy=ANYTHING).state.batch_id == found.correction.batch_id
    bench.publish(guard_policy=ANYTHING)
    assert held(bench) == after


def test_twice_is_refused(bench: Bench) -> None:
    """What was rolled back already has nothing left, and is told so."""
    _, _, batch = two_batches(bench)
    rolled_back(bench, batch)
    with pytest.raises(NothingToDo, match="rolled back already"):
        rollback(bench.platform, batch, TARGET, by="ada")
    assert len(bench.control.list_acts()) == 1


def test_one_that_is_on_its_way_is_not_asked_for_again(bench: Bench) -> None:
    """The second who asks is told who asked first and what it waits in; no second correction, no second act."""
    _, _, batch = two_batches(bench)
    first = rollback(bench.platform, batch, TARGET, by="ada")
    assert first.correction is not None
    with pytest.raises(ChangedMeanwhile, match=f"ada asked for it, .*{first.correction.batch_id}"):
        rollback(bench.platform, batch, TARGET, by="bob")
    assert [act.actor for act in bench.control.list_acts()] == ["ada"]
    bench.publish(guard_policy=ANYTHING)
    with pytest.raises(NothingToDo, match="rolled back already"):
        rollback(bench.platform, batch, TARGET, by="bob")


def test_one_that_landed_and_was_not_admitted_yet_counts(bench: Bench, monkeypatch: Any) -> None:
    """Whoever died between landing and admitting has asked: the next look admits it, with the act."""
    before, _, batch = two_batches(bench)
    with monkeypatch.context() as dying:
        dying.setattr(bench.control, "admit", _dies)
        with pytest.raises(KeyboardInterrupt):
            rollback(bench.platform, batch, TARGET, by="ada")
    with pytest.raises(ChangedMeanwhile, match="ada asked for it"):
        rollback(bench.platform, batch, TARGET, by="bob")
    assert len(discover_batches(bench.platform, "").admitted) == 1
    bench.publish(guard_policy=ANYTHING)
    assert held(bench) == before
    assert [act.actor for act in bench.control.list_acts()] == ["ada"]


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("others_publish", [False, True])
def test_of_two_at_once_one_rolls_back(
    bench: Bench, monkeypatch: Any, others_publish: bool
) -> None:
    """Wherever the other one overtakes, there is one correction and one act, and what is undone is undone once."""
    before, _, batch = two_batches(bench)
    spool = bench.platform.scratch.spool

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(bench.platform.scratch, "spool", spool)
        rollback(bench.platform, batch, TARGET, by="ada")
        if others_publish:
            bench.publish(guard_policy=ANYTHING)
        return spool(*arguments)

    monkeypatch.setattr(bench.platform.scratch, "spool", overtaken)
    with pytest.raises(LaneBusy, match="ask again"):
        rollback(bench.platform, batch, TARGET, by="bob")
    if not others_publish:
        bench.publish(guard_policy=ANYTHING)
    assert held(bench) == before
    assert [act.actor for act in bench.control.list_acts()] == ["ada"]


def test_what_was_published_while_it_was_worked_out_is_noticed(
    bench: Bench, monkeypatch: Any
) -> None:
    """Rows that were worked out against an older snapshot are not landed."""
    _, _, batch = two_batches(bench)

    def overtaken(*arguments: Any) -> None:
        monkeypatch.undo()
        rolled_back(bench, batch)

    monkeypatch.setattr("penstock.use_cases.corrections.check_free", overtaken)
    with pytest.raises(LaneBusy, match="while this was worked out"):
        rollback(bench.platform, batch, TARGET, by="bob")
    assert [act.actor for act in bench.control.list_acts()] == ["ada"]


def test_one_that_failed_can_be_asked_for_again(bench: Bench) -> None:
    """A correction that was cancelled stands in nobody's way."""
    _, _, batch = two_batches(bench)
    first = rollback(bench.platform, batch, TARGET, by="ada").correction
    assert first is not None
    cancel(bench.platform, first.batch_id, TARGET, by=By(actor="ada", reason="not now"))
    second = rollback(bench.platform, batch, TARGET, by="ada").correction
    assert second is not None
    assert second.batch_id != first.batch_id


def test_a_busy_lane_is_refused(bench: Bench) -> None:
    """While a worker has a batch of the lane nobody knows what the target will hold."""
    _, _, batch = two_batches(bench)
    bench.land(FIRST)
    bench.control.claim(
        "other", now=bench.clock.now(), lease_s=60, policy=bench.platform.queue_policy
    )
    with pytest.raises(LaneBusy, match="wait until it has ended"):
        rollback(bench.platform, batch, TARGET, by="ada")


def test_only_a_complete_batch_can_be_rolled_back(bench: Bench) -> None:
    """One that waits has done nothing yet."""
    batch = bench.land(FIRST).batch_id
    with pytest.raises(IllegalMove, match="only one that is COMPLETE"):
        rollback(bench.platform, batch, TARGET, by="ada")


def test_a_plan_that_aged_out_is_named(bench: Bench) -> None:
    """Without the before-images nothing is guessed."""
    _, _, batch = two_batches(bench)
    path = bench.control.get_state(batch, TARGET).execution_plan_path
    assert path is not None
    bench.platform.objects.delete([path])
    with pytest.raises(ObjectMissing, match="aged out"):
        rollback(bench.platform, batch, TARGET, by="ada")


def test_what_was_released_is_undone_with_the_rest(bench: Bench) -> None:
    """A batch whose held deletes were approved comes back whole, deletes included."""
    everyone = [person(f"crm/{n}") for n in range(100)]
    bench.land(everyone)
    bench.publish()
    before = held(bench)
    batch = bench.land([person("crm/0", v=2), *everyone[1:40]]).batch_id
    state = bench.publish().state
    assert state.held == 60
    approve(bench, state)
    released = bench.publish().state
    assert (released.status, released.held) == (PublishStatus.COMPLETE, 0)
    assert len(bench.target.entities) == 40
    found = rolled_back(bench, batch)
    assert (found.restored, found.conflicts) == (61, 0)
    assert held(bench) == before


def approve(bench: Bench, state: Any) -> None:
    """Approve what a batch holds."""
    from penstock.ports.approvals import Approval, ApprovalStatus, Decision

    approval = Approval(
        approval_id="a" * 32,
        batch_id=state.batch_id,
        target_id=TARGET,
        source_id=state.source_id,
        plan_digest=state.plan_digest,
        decision=Decision.APPROVE,
        approver="ada",
        reason="they left",
        decided_at=bench.clock.now(),
        expires_at=None,
        status=ApprovalStatus.ACTIVE,
    )
    bench.control.decide_hold(approval, now=bench.clock.now())
    assert bench.control.get_state(state.batch_id, TARGET).intent is Intent.RELEASE
    with pytest.raises(IllegalMove):
        bench.control.decide_hold(replace(approval, approval_id="b" * 32), now=bench.clock.now())
