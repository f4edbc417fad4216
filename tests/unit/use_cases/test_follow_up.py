"""Follow-ups on their whole way: what was approved is executed, what became void leaves everything as it stood."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from penstock.batch.guard_policy import GuardPolicy, Protected
from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity
from penstock.errors import IllegalMove
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.target import Unavailable
from penstock.publish.retry import RetryPolicy
from penstock.publish.state import Intent, PublishState, PublishStatus
from penstock.use_cases.holds import list_holds
from penstock.use_cases.publish import PublishOptions, publish_next
from penstock.use_cases.reports import PublishReport
from tests.fixtures.memory import SOURCE, TARGET, Bench, knows, person

EVERYONE = [person(f"crm/{n}", v=1) for n in range(100)]
AWAY = Unavailable(message="away")


@pytest.fixture
def held(bench: Bench) -> PublishState:
    """A batch that lost 60 of 100 rows, whose deletes are held."""
    bench.land(EVERYONE)
    bench.publish()
    bench.land([*EVERYONE[:40], person("crm/new")])
    state = bench.publish().state
    assert (state.held, state.exceptions, state.metrics.entities_created) == (60, 60, 1)
    return state


def approve(bench: Bench, state: PublishState, *, expires_s: float = 3600) -> Approval:
    now = bench.clock.now()
    assert state.plan_digest is not None
    decided = Approval(
        approval_id=f"{len(bench.control.list_approvals()):032x}",
        batch_id=state.batch_id,
        target_id=TARGET,
        source_id=SOURCE,
        plan_digest=state.base_plan_digest or state.plan_digest,
        decision=Decision.APPROVE,
        approver="ann",
        reason="the system was shut down",
        decided_at=now,
        expires_at=now + timedelta(seconds=expires_s),
        status=ApprovalStatus.ACTIVE,
    )
    return bench.control.decide_hold(decided, now=now)


def publish(bench: Bench, *, tries: int = 0) -> PublishReport:
    policy = RetryPolicy(immediate_tries=0, delayed_tries=tries, jitter_share=0)
    options = PublishOptions(retry_policy=policy, jitter=lambda: 0.0)
    report = publish_next(bench.platform, "worker", options=options)
    assert report is not None
    return report


def statuses(bench: Bench) -> list[ApprovalStatus]:
    return [approval.status for approval in bench.control.list_approvals()]


def names(bench: Bench) -> set[str]:
    return {key for _, key in bench.target.entities}


def test_what_was_approved_is_executed(bench: Bench, held: PublishState) -> None:
    """The held deletes take effect, the ledger moves with them, and the approval is used up."""
    approve(bench, held)
    report = publish(bench)
    state = report.state
    assert (state.status, state.intent) == (PublishStatus.COMPLETE, Intent.RELEASE)
    assert names(bench) == {f"crm/{n}" for n in range(40)} | {"crm/new"}
    assert (state.held, state.exceptions) == (0, 0)
    assert (state.metrics.entities_created, state.metrics.entities_deleted) == (1, 60)
    (row,) = bench.control.get_ledger(state.batch_id, TARGET)
    assert (row.deleted, row.held, row.balanced) == (60, 0, True)
    assert statuses(bench) == [ApprovalStatus.USED]
    assert bench.control.list_exceptions(state.batch_id, TARGET) == []
    assert state.base_plan_digest == held.plan_digest


def test_the_snapshot_knows_what_was_released(bench: Bench, held: PublishState) -> None:
    """The next batch with the same rows has nothing left to do."""
    approve(bench, held)
    publish(bench)
    head = bench.control.snapshot_head(SOURCE, TARGET)
    assert head is not None
    assert head.version == 3
    bench.land([*EVERYONE[:40], person("crm/new")])
    assert bench.publish().operations == 0


def test_both_executions_are_kept(bench: Bench, held: PublishState) -> None:
    """The batch's own plan and its release stand in its history, each with the snapshot that it led to."""
    approve(bench, held)
    publish(bench)
    own, release = bench.control.list_executions(held.batch_id, TARGET)
    assert (own.intent, own.snapshot_after, own.applied, own.exceptions) == ("publish", 2, 1, 60)
    assert (release.intent, release.snapshot_before, release.snapshot_after) == ("release", 2, 3)
    assert (release.applied, release.exceptions) == (60, 0)


def test_an_approval_that_expired_changes_nothing(bench: Bench, held: PublishState) -> None:
    """The batch stands as it stood, still held, and its attempts say why."""
    approve(bench, held, expires_s=60)
    bench.clock.sleep(61)
    state = publish(bench).state
    assert state.status is PublishStatus.COMPLETE
    assert (state.plan_digest, state.held) == (held.plan_digest, 60)
    assert len(names(bench)) == 101
    assert statuses(bench) == [ApprovalStatus.EXPIRED]
    (attempt,) = bench.control.list_attempts(held.batch_id, TARGET)
    assert attempt.code == "withdrawn"
    assert f"no approval of plan {held.plan_digest} is in force" in attempt.message


def test_an_edited_plan_is_not_released(bench: Bench, held: PublishState) -> None:
    """A plan whose bytes were changed after its approval is void: nothing is executed, and it is said."""
    approve(bench, held)
    assert held.execution_plan_path is not None
    objects = bench.platform.objects
    whole = objects.get(held.execution_plan_path)
    objects.put(held.execution_plan_path, whole.replace(b"crm", b"CRM"))
    state = publish(bench).state
    assert (state.status, state.held) == (PublishStatus.COMPLETE, 60)
    assert len(names(bench)) == 101
    assert statuses(bench) == [ApprovalStatus.VOID]
    (attempt,) = bench.control.list_attempts(held.batch_id, TARGET)
    assert "was changed after it was made" in attempt.message


def test_an_edited_operation_file_is_not_released(bench: Bench, held: PublishState) -> None:
    """Operations are held to the digests in the plan that was approved."""
    approve(bench, held)
    assert held.execution_plan_path is not None
    objects = bench.platform.objects
    folder = held.execution_plan_path.removesuffix("plan.json")
    for info in list(objects.list(folder)):
        if info.key.endswith(".parquet"):
            objects.put(info.key, objects.get(info.key) + b"x")
    assert publish(bench).state.held == 60
    assert len(names(bench)) == 101
    assert statuses(bench) == [ApprovalStatus.VOID]


def test_where_nothing_fits_any_more_nothing_is_done(bench: Bench, held: PublishState) -> None:
    """Where a newer batch has changed all that was held, the release is withdrawn, and what was held superseded."""
    changed = [person(f"crm/{n}", v=2) for n in range(40, 100)]
    bench.land(changed, mode=Mode.DELTA, scopes=[])
    bench.publish()
    approve(bench, held)
    state = publish(bench).state
    assert (state.status, state.plan_digest) == (PublishStatus.COMPLETE, held.plan_digest)
    assert len(names(bench)) == 101
    assert statuses(bench) == [ApprovalStatus.VOID]
    assert (state.held, state.exceptions) == (0, 0)
    (row,) = bench.control.get_ledger(held.batch_id, TARGET)
    assert (row.held, row.superseded, row.deleted, row.balanced) == (0, 60, 0, True)
    assert list_holds(bench.platform, live_only=False) == []
    with pytest.raises(IllegalMove, match="holds nothing"):
        approve(bench, state)


def test_one_whose_worker_died_while_it_withdrew_is_withdrawn(
    bench: Bench, held: PublishState
) -> None:
    """What was decided stands with the withdrawal or not at all; the next worker comes to the same."""
    changed = [person(f"crm/{n}", v=2) for n in range(40, 100)]
    bench.land(changed, mode=Mode.DELTA, scopes=[])
    bench.publish()
    approve(bench, held)
    kept = bench.control.withdraw

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    bench.control.withdraw = dies  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        publish(bench)
    assert bench.control.get_state(held.batch_id, TARGET).held == 60
    assert statuses(bench) == [ApprovalStatus.ACTIVE]
    bench.control.withdraw = kept  # type: ignore[method-assign]
    bench.clock.sleep(1800)
    state = publish(bench).state
    assert (state.status, state.held) == (PublishStatus.COMPLETE, 0)
    assert statuses(bench) == [ApprovalStatus.VOID]


def test_what_no_longer_fits_is_superseded(bench: Bench, held: PublishState) -> None:
    """A held delete of an entity that was changed since is left alone and decided; the others are released."""
    bench.land([person("crm/50", v=2)], mode=Mode.DELTA, scopes=[])
    bench.publish()
    approve(bench, held)
    state = publish(bench).state
    assert (state.held, state.exceptions, state.metrics.entities_deleted) == (0, 0, 59)
    assert "crm/50" in names(bench)
    assert bench.control.list_exceptions(held.batch_id, TARGET) == []
    (row,) = bench.control.get_ledger(held.batch_id, TARGET)
    assert (row.held, row.superseded, row.deleted, row.balanced) == (0, 1, 59, True)
    assert statuses(bench) == [ApprovalStatus.USED]


FAMILY = [
    Entity(entity_type="team", entity_key="crm/x"),
    *(person(f"crm/x/{n}", v=1) for n in range(40)),
    person("crm/y", v=1),
    person("crm/z", v=1),
    knows("crm/y", "crm/z"),
]


def test_what_contains_something_newer_is_superseded_with_it(bench: Bench) -> None:
    """A container is not deleted while a newer batch's entity lies in it, nor the end of a newer relationship."""
    bench.land(FAMILY)
    bench.publish()
    bench.land([])
    state = bench.publish(guard_policy=GuardPolicy(max_delete_share=0.1)).state
    assert state.held + state.blocked == len(FAMILY)
    changed = [person("crm/x/7", v=2), replace(knows("crm/y", "crm/z"), attributes={"since": 1})]
    bench.land(changed, mode=Mode.DELTA, scopes=[])
    bench.publish()
    approve(bench, state)
    after = publish(bench).state
    assert names(bench) == {"crm/x", "crm/x/7", "crm/y", "crm/z"}
    assert len(bench.target.relationships) == 1
    assert (after.held, after.blocked, after.exceptions) == (0, 0, 0)
    rows = bench.control.get_ledger(state.batch_id, TARGET)
    assert all(row.balanced for row in rows)
    assert {row.type_name: row.superseded for row in rows} == {"team": 1, "person": 3, "knows": 1}


def test_what_contains_something_gone_is_released(bench: Bench) -> None:
    """What a newer batch has deleted itself is superseded, and keeps nothing else back."""
    bench.land(FAMILY)
    bench.publish()
    bench.land([])
    state = bench.publish(guard_policy=GuardPolicy(max_delete_share=0.1)).state
    bench.land([person("crm/x/7", deleted=True)], mode=Mode.DELTA, scopes=[])
    bench.publish()
    approve(bench, state)
    assert publish(bench).state.exceptions == 0
    assert names(bench) == set()
    rows = bench.control.get_ledger(state.batch_id, TARGET)
    assert {row.type_name: row.superseded for row in rows} == {"team": 0, "person": 1, "knows": 0}


def test_what_is_protected_is_neither_released_nor_superseded(bench: Bench) -> None:
    """An approval does not reach it: it stays held, and what contains it is not deleted."""
    bench.land(FAMILY)
    bench.publish()
    bench.land([])
    protected = (Protected(entity_type="person", entity_key="crm/x/3"),)
    policy = GuardPolicy(max_delete_share=0.1, protected=protected)
    state = bench.publish(guard_policy=policy).state
    approve(bench, state)
    after = publish(bench).state
    assert names(bench) == {"crm/x", "crm/x/3"}
    (left,) = bench.control.list_exceptions(state.batch_id, TARGET)
    assert (left.key, left.outcome, after.held) == ("crm/x/3", "held", 1)
    assert all(row.balanced for row in bench.control.get_ledger(state.batch_id, TARGET))


def test_a_release_that_was_begun_goes_on(bench: Bench, held: PublishState) -> None:
    """Half executed it is neither withdrawn nor planned anew, though its approval expires and its plan is edited."""
    approve(bench, held, expires_s=600)
    answered = 0
    original = bench.target.apply

    def apply(operations, context):  # type: ignore[no-untyped-def]
        nonlocal answered
        answered += 1
        return original(operations, context) if answered <= 2 else AWAY

    bench.target.apply = apply  # type: ignore[method-assign]
    state = publish(bench, tries=1).state
    assert state.status is PublishStatus.RETRYING
    assert len(names(bench)) == 101 - 8
    del bench.target.apply  # type: ignore[method-assign]
    assert held.execution_plan_path is not None
    bench.platform.objects.put(held.execution_plan_path, b"{}")
    assert state.retry_due_at is not None
    bench.clock.moment = state.retry_due_at + timedelta(seconds=3600)
    state = publish(bench, tries=1).state
    assert (state.status, state.held, len(names(bench))) == (PublishStatus.COMPLETE, 0, 41)
    (row,) = bench.control.get_ledger(state.batch_id, TARGET)
    assert (row.deleted, row.balanced) == (60, True)


def test_what_the_target_refuses_of_a_release_is_a_dead_letter(
    bench: Bench, held: PublishState
) -> None:
    """An operation that is released and refused is no longer held but rejected, with a letter of its own."""
    bench.target.poison = {"crm/70"}
    approve(bench, held)
    state = publish(bench).state
    assert (state.held, state.rejected, state.metrics.entities_deleted) == (0, 1, 59)
    (row,) = bench.control.get_ledger(state.batch_id, TARGET)
    assert (row.dead_lettered, row.held, row.balanced) == (1, 0, True)
    (letter,) = bench.control.list_dead_letters()
    assert (letter.key, letter.code) == ("crm/70", "poison")


def test_a_release_is_approved_once(bench: Bench, held: PublishState) -> None:
    """When it is executed there is nothing left to approve."""
    approve(bench, held)
    done = publish(bench).state
    with pytest.raises(Exception, match="holds nothing"):
        approve(bench, done)
