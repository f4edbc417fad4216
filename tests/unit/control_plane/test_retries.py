"""The command line on retries: a publish's attempts, the targets' breakers, and closing one by hand."""

from __future__ import annotations

import pytest

from penstock.ports.target import Unavailable
from penstock.publish.breaker import BreakerPolicy, BreakerStatus
from penstock.publish.state import PublishStatus
from tests.fixtures.memory import TARGET, Bench, person
from tests.unit.control_plane.commands import Run, runner


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


@pytest.fixture
def down(bench: Bench) -> str:
    """A batch whose target went down until its breaker opened; its id."""
    policy = BreakerPolicy(min_calls=2, open_s=300)
    object.__setattr__(bench.platform, "breaker_policy", policy)
    batch = bench.land([person("crm/a")]).batch_id
    bench.target.away = [Unavailable(message="connection refused by the host " + "x" * 90)] * 2
    assert bench.publish().state.status is PublishStatus.RETRYING
    return batch


def test_a_batch_is_shown_with_its_attempts(run: Run, down: str) -> None:
    """Each attempt says when it failed, why, and what was decided then; nothing is cut off."""
    shown = run("publish-state", down)
    assert shown.status == 0
    assert "attempts that failed, to model" in shown.out
    assert "breaker_open" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    (attempt,) = run("publish-state", down, "--json").document["attempts"]["model"]
    assert (attempt["tier"], attempt["retry_tier"], attempt["code"]) == (
        "first",
        "first",
        "breaker_open",
    )
    assert attempt["retry_at"].endswith("Z")


def test_a_batch_without_trouble_has_no_attempts(bench: Bench, run: Run) -> None:
    """What went through at once has nothing to tell."""
    batch = bench.land([person("crm/a")]).batch_id
    bench.publish()
    assert "attempts" not in run("publish-state", batch).out
    assert run("publish-state", batch, "--json").document["attempts"] == {"model": []}


def test_every_target_has_a_breaker(bench: Bench, run: Run) -> None:
    """One that was never called in vain is closed."""
    (breaker,) = run("breakers", "--json").document["breakers"]
    assert (breaker["target_id"], breaker["status"], breaker["failures"]) == ("model", "closed", 0)


def test_an_open_breaker_is_shown_and_closed_by_hand(bench: Bench, run: Run, down: str) -> None:
    """What waited for it is due at once, and who closed it stands in the audit log."""
    shown = run("breakers")
    assert "open" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    done = run("breaker", "reset", "model", "--by", "ann", "--reason", "it is up", "--json")
    assert done.document["woken"] == 1
    assert done.document["breaker"]["status"] == "closed"
    now = bench.clock.now()
    assert bench.control.get_breaker(TARGET, now=now).status is BreakerStatus.CLOSED
    assert bench.publish().state.status is PublishStatus.COMPLETE
    (entry,) = bench.control.list_acts(subject="model")
    assert (entry.actor, entry.act, entry.reason) == ("ann", "breaker.reset", "it is up")
    assert entry.details["was"] == "open"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nobody", "there is no target 'nobody'"),
        ("model", "is closed"),
        ("No/Body", "not a valid id"),
    ],
)
def test_what_cannot_be_reset_is_an_error(run: Run, target: str, said: str) -> None:
    """A target that is not there, or whose breaker is closed, is one line on stderr, and nothing is recorded."""
    ran = run("breaker", "reset", target)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert run("audit", "--json").document == []


def test_a_ledger_with_losses_says_so(bench: Bench, run: Run) -> None:
    """Lost writes have a column of their own, and the batch says how many operations are missing and why."""
    bench.target.dropped = {"crm/b"}
    batch = bench.land([person("crm/a"), person("crm/b")]).batch_id
    bench.publish()
    shown = run("batch", "show", batch)
    assert "lost" in shown.out
    assert "1: 1 rejected" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    (target,) = run("batch", "show", batch, "--json").document["targets"]
    assert [row["balanced"] for row in target["ledger"]] == [False]
