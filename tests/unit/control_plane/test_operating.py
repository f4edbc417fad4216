"""The commands that operate the queue, over a platform in memory."""

from __future__ import annotations

import pytest

from penstock.publish.queue import QueuePolicy
from penstock.publish.state import PublishStatus
from tests.contracts.control_values import admit, fail
from tests.fixtures.memory import TARGET, Bench, person
from tests.unit.control_plane.commands import Run, runner

UNKNOWN = "crm@2020-01-01T00-00-00.000000Z"
WHY = ("--by", "ada", "--reason", "the migration")


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


def last_act(bench: Bench) -> tuple[str, str, str | None]:
    """Who did what, and why."""
    entry = bench.control.list_acts()[0]
    return entry.actor, entry.act, entry.reason


def failed(bench: Bench) -> str:
    """Land a batch and fail it."""
    batch = bench.land([person("crm/a")]).batch_id
    claim = bench.control.claim("w", now=bench.clock.now(), lease_s=60, policy=QueuePolicy())
    assert claim
    fail(bench.control, claim, now=bench.clock.now())
    return batch


def test_a_batch_goes_first(bench: Bench, run: Run) -> None:
    """Without points it goes before all others, and its place is told."""
    admit(bench.control, "erp", 1, targets=("model",), priority_boost=50)
    batch = bench.land([person("crm/a")]).batch_id
    ran = run("prioritise", batch, *WHY)
    assert (ran.status, ran.err) == (0, "")
    assert "it is number 1 of 2 in the queue" in ran.out
    assert last_act(bench) == ("ada", "batch.prioritise", "the migration")
    assert run("prioritise", batch, "--boost", "-2", "--json").document["notes"] == [
        "it is number 2 of 2 in the queue"
    ]


def test_who_asks_is_the_login_name_unless_named(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --by the act is signed by the login name; with an empty one it is refused."""
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    batch = bench.land([person("crm/a")]).batch_id
    assert run("boost", batch, "1").status == 0
    assert last_act(bench) == ("grace", "batch.prioritise", None)
    ran = run("boost", batch, "2", "--by", " ")
    assert (ran.status, "nobody is named" in ran.err) == (2, True)
    assert bench.control.get_state(bench.land([]).batch_id, TARGET).priority_boost == 0


@pytest.mark.parametrize("what", [("source", "crm"), ("target", "model")])
def test_what_is_paused_is_listed_and_resumed(
    bench: Bench, run: Run, what: tuple[str, str]
) -> None:
    """A pause shows with who and why, in the queue too; twice is an error; resumed, nothing is listed."""
    bench.land([person("crm/a")])
    ran = run("pause", *what, *WHY)
    assert ran.status == 0
    for shown in (ran.out, run("pauses").out):
        assert " ".join(what) in shown
        assert "the migration" in shown
    assert "to be resumed" in " ".join(run("queue").out.split())
    again = run("pause", *what, *WHY)
    assert (again.status, again.out) == (2, "")
    assert "is paused already, by ada" in again.err
    (pause,) = run("pauses", "--json").document["pauses"]
    assert (pause["scope"], pause["scope_id"], pause["paused_by"]) == (*what, "ada")
    assert run("resume", *what).out == "nothing is paused\n"
    assert run("resume", *what).status == 2


def test_a_failed_batch_is_put_back(bench: Bench, run: Run) -> None:
    """Requeued it is PENDING; a second time is an error."""
    batch = failed(bench)
    (state,) = run("requeue", batch, *WHY, "--json").document["publish_states"]
    assert (state["status"], state["intent"]) == ("PENDING", "publish")
    assert last_act(bench) == ("ada", "batch.requeue", "the migration")
    again = run("requeue", batch)
    assert (again.status, "is PENDING" in again.err) == (2, True)


def test_a_waiting_batch_is_cancelled(bench: Bench, run: Run) -> None:
    """It is FAILED as cancelled, with who and why; a second time is an error."""
    batch = bench.land([person("crm/a")]).batch_id
    assert run("cancel", batch, *WHY).status == 0
    state = bench.control.get_state(batch, TARGET)
    assert state.status is PublishStatus.FAILED
    assert state.failure_details
    assert state.failure_details.error_message == "ada: the migration"
    again = run("cancel", batch, *WHY)
    assert (again.status, "is FAILED" in again.err) == (2, True)


def test_republishing_is_signed(bench: Bench, run: Run) -> None:
    """A republish says in the audit log who took the target back, and why."""
    batch = bench.land([person("crm/a")]).batch_id
    bench.publish()
    assert run("republish", batch, *WHY).status == 0
    assert last_act(bench) == ("ada", "batch.republish", "the migration")


@pytest.mark.parametrize(
    "wrong",
    [
        ("prioritise", UNKNOWN),
        ("requeue", UNKNOWN),
        ("republish", UNKNOWN),
        ("cancel", UNKNOWN, "--reason", "x"),
        ("cancel", "crm", "--reason", "x"),
        ("cancel", UNKNOWN),
        ("pause", "source", "crm"),
        ("pause", "source", "crm", "--reason", " "),
        ("pause", "source", "nowhere", "--reason", "x"),
        ("pause", "target", "nowhere", "--reason", "x"),
        ("pause", "tenant", "default", "--reason", "x"),
        ("resume", "source", "crm"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_ends_with_status_2(bench: Bench, run: Run, wrong: tuple[str, ...]) -> None:
    """An unknown id, a missing reason, or nothing to resume: an error on stderr, and nothing is done."""
    ran = run(*wrong)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err
    assert bench.control.list_acts() == []
    assert bench.control.list_pauses() == []


def test_the_answers_fit_a_hundred_columns(bench: Bench, run: Run) -> None:
    """However long a reason is, no line is wider than the terminal."""
    bench.land([person("crm/a")])
    ran = run("pause", "source", "crm", "--by", "ada", "--reason", "because " * 40)
    assert max(map(len, ran.out.splitlines())) <= 100
