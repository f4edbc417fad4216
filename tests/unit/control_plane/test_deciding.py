"""The commands that decide about holds, roll batches back and list what people did, over a platform in memory."""

from __future__ import annotations

import pytest

from penstock.batch.guard_policy import GuardPolicy
from penstock.identity.ids import BatchId
from penstock.publish.state import Intent, PublishStatus
from tests.fixtures.memory import TARGET, Bench, person
from tests.unit.control_plane.commands import Run, runner

NOTHING_GOES = GuardPolicy(max_deletes=0)
WHY = ("--by", "ada", "--reason", "dropped on purpose")


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


def holding(bench: Bench) -> tuple[BatchId, str]:
    """Publish a batch that a guard holds a delete of; return it and its plan's digest."""
    bench.land([person("crm/a"), person("crm/b")])
    bench.publish()
    batch = bench.land([person("crm/a")]).batch_id
    state = bench.publish(guard_policy=NOTHING_GOES).state
    assert state.held == 1
    assert state.plan_digest
    return batch, state.plan_digest


def test_what_is_held_is_listed_and_shown(bench: Bench, run: Run) -> None:
    """With guard, plan, sample and the command that lets it go on; nothing held is said in words."""
    assert run("holds").out == "nothing is held\n"
    batch, plan = holding(bench)
    (listed,) = run("holds", "--json").document
    assert (listed["state"]["batch_id"], listed["plan_digest"]) == (batch, plan)
    shown = "".join(run("holds", "show", batch).out.split())
    for word in ("delete_limit", "crm/b", plan, f"penstockapprove{batch}--plan{plan[:8]}"):
        assert word in shown
    for ran in (run("holds"), run("holds", "show", batch)):
        assert max(map(len, ran.out.splitlines())) <= 100


def test_what_is_approved_is_executed(bench: Bench, run: Run) -> None:
    """An approval by the first digits of the plan puts the batch back, to release just that."""
    batch, plan = holding(bench)
    approval = run("approve", batch, "--plan", plan[:8], *WHY, "--expires", "2", "--json").document
    assert (approval["approver"], approval["plan_digest"]) == ("ada", plan)
    assert bench.control.get_state(batch, TARGET).intent is Intent.RELEASE
    assert bench.publish().state.status is PublishStatus.COMPLETE
    assert set(bench.target.entities) == {("person", "crm/a")}
    assert run("holds").out == "nothing is held\n"


def test_what_is_rejected_stays(bench: Bench, run: Run) -> None:
    """A rejection leaves the target as it is, and the hold off the list of what waits for a decision."""
    batch, plan = holding(bench)
    assert run("reject", batch, "--plan", plan, *WHY).status == 0
    assert run("holds").out == "nothing is held\n"
    assert len(run("holds", "--all", "--json").document) == 1
    assert ("person", "crm/b") in bench.target.entities
    again = run("approve", batch, "--plan", plan, *WHY)
    assert (again.status, "was rejected by ada" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--plan", "0" * 32, *WHY), "it was planned again"),
        (("--plan", "00000000", *WHY), "does not begin the digest"),
        (("--plan", "PLAN", "--by", " ", "--reason", "x"), "nobody is named"),
        (("--plan", "PLAN", "--by", "ada", "--reason", " "), "give a reason"),
        (("--plan", "PLAN", "--by", "ada"), "reason"),
        (("--plan", "PLAN", *WHY, "--expires", "0"), "expires"),
        (("--plan", "PLAN", *WHY, "--expires", "100000"), "cannot count for"),
    ],
)
@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_decision_that_does_not_count_changes_nothing(
    bench: Bench, run: Run, decision: str, options: tuple[str, ...], why: str
) -> None:
    """Another plan, nobody's name, no reason or an expiry out of bounds: exit status 2, and all is as it was."""
    if decision == "reject" and "--expires" in options:
        return
    batch, plan = holding(bench)
    before = bench.control.get_state(batch, TARGET)
    ran = run(decision, batch, *(plan if o == "PLAN" else o for o in options))
    assert (ran.status, ran.out) == (2, "")
    assert why in ran.err
    assert bench.control.get_state(batch, TARGET) == before
    assert bench.control.list_acts() == []


def test_a_plan_that_was_edited_is_not_approved(bench: Bench, run: Run) -> None:
    """One byte of the stored plan is another: the digest tells, and nothing is approved."""
    batch, plan = holding(bench)
    state = bench.control.get_state(batch, TARGET)
    assert state.execution_plan_path
    text = bench.platform.objects.get(state.execution_plan_path).replace(b"crm", b"erp", 1)
    bench.platform.objects.put(state.execution_plan_path, text)
    ran = run("approve", batch, "--plan", plan, *WHY)
    assert (ran.status, ran.out) == (2, "")
    assert bench.control.list_approvals() == []


def test_a_batch_is_rolled_back(bench: Bench, run: Run) -> None:
    """A dry run counts and does nothing; without it the inverse is landed, published and logged."""
    bench.land([person("crm/a", v=1)])
    bench.publish()
    batch = bench.land([person("crm/a", v=2), person("crm/b")]).batch_id
    bench.publish()
    dry = run("rollback", batch, "--dry-run", "--json").document
    assert (dry["restored"], dry["removed"], dry["correction"]) == (1, 1, None)
    assert "nothing was done" in run("rollback", batch, "--dry-run").out
    assert bench.control.list_acts() == []
    ran = run("rollback", batch, *WHY)
    assert "which is in the queue" in " ".join(ran.out.split())
    bench.publish()
    assert bench.target.entities == {("person", "crm/a"): '{"v":1}'}
    again = run("rollback", batch, *WHY)
    assert (again.status, "rolled back already" in again.err) == (2, True)
    nobody = run("rollback", batch, "--by", " ")
    assert (nobody.status, "nobody is named" in nobody.err) == (2, True)


def test_a_conflict_is_listed_and_can_be_named(bench: Bench, run: Run) -> None:
    """What changed since is left alone, until --take names it."""
    bench.land([person("crm/a", v=1), person("crm/b", v=1)])
    bench.publish()
    batch = bench.land([person("crm/a", v=2), person("crm/b", v=2)]).batch_id
    bench.publish()
    bench.land([person("crm/a", v=3), person("crm/b", v=2)])
    bench.publish()
    found = run("rollback", batch, "--dry-run")
    assert "crm/a" in found.out
    assert "changed since" in found.out
    taken = run("rollback", batch, "--take", "crm/a", *WHY, "--json").document
    assert (taken["restored"], taken["conflicts"], taken["taken"]) == (2, 0, 1)
    bench.publish()
    assert set(bench.target.entities.values()) == {'{"v":1}'}


def test_the_audit_log_says_who_did_what(bench: Bench, run: Run) -> None:
    """Newest first, by subject and by source, within the width of a terminal."""
    batch, plan = holding(bench)
    run("approve", batch, "--plan", plan, *WHY)
    run("pause", "target", "model", "--by", "grace", "--reason", "backup " * 30)
    document = run("audit", "--json").document
    entries = document["acts"] if isinstance(document, dict) else document
    assert [(e["actor"], e["act"], e["subject"]) for e in entries] == [
        ("grace", "target.pause", "model"),
        ("ada", "hold.approve", batch),
    ]
    for question, actor in ((("--subject", batch), "ada"), (("--source", "crm"), "ada")):
        shown = run("audit", *question)
        assert actor in shown.out
        assert "grace" not in shown.out
    assert max(map(len, run("audit").out.splitlines())) <= 100
