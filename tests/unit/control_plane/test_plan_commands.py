"""The command line on plans that are looked at and not executed."""

from __future__ import annotations

import pytest

from penstock.publish.state import PublishStatus
from tests.fixtures.memory import TARGET, Bench, person
from tests.unit.control_plane.commands import Run, runner


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


def batches(bench: Bench) -> tuple[str, str]:
    """A published batch, and one that waits and would lose most of its rows."""
    first = bench.land([person(f"crm/{n}") for n in range(60)])
    bench.publish()
    return first.batch_id, bench.land([person("crm/0", v=1)]).batch_id


def test_a_dry_run_shows_the_plan_and_does_nothing(bench: Bench, run: Run) -> None:
    """Its operations, guards and holds are shown; the batch still waits without a plan."""
    _, waiting = batches(bench)
    shown = run("plan", "--dry-run", waiting)
    assert shown.status == 0
    assert "nothing was done: this was a dry run" in shown.out
    assert "would be held" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    document = run("plan", "--dry-run", waiting, "--limit", "3", "--json").document
    assert (document["operations_in_all"], len(document["operations"])) == (60, 3)
    state = bench.control.get_state(waiting, TARGET)  # type: ignore[arg-type]
    assert (state.status, state.plan_digest) == (PublishStatus.PENDING, None)


def test_plans_are_compared(bench: Bench, run: Run) -> None:
    """What only one of them does, and what both do otherwise, by type and one by one."""
    first, waiting = batches(bench)
    shown = run("plan", "compare", first, waiting)
    assert shown.status == 0
    assert "as stored" in shown.out
    assert "as it would be planned now" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    document = run("plan", "compare", first, waiting, "--json").document
    (of_type,) = document["types"]
    assert (of_type["differ"], of_type["only_first"], of_type["same"]) == (60, 0, 0)


@pytest.mark.parametrize(
    "question",
    [
        ("plan", "--dry-run", "crm@2020-01-01T00-00-00.000000Z"),
        ("plan", "--dry-run", "no-batch"),
        ("plan", "compare", "BATCH", "crm@2020-01-01T00-00-00.000000Z"),
        ("plan", "--dry-run", "BATCH", "--target", "elsewhere"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_an_error(bench: Bench, run: Run, question: tuple[str, ...]) -> None:
    """An unknown batch or target is one line on stderr, and exit status 2."""
    batch, _ = batches(bench)
    ran = run(*(batch if word == "BATCH" else word for word in question))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: ")


def test_plan_alone_says_what_it_can_do(run: Run) -> None:
    """Without a question the help is shown, with an exit status that a script notices."""
    ran = run("plan")
    assert ran.status == 2
    assert "--dry-run" in ran.out
