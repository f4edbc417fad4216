"""The commands of the drift audit, over a platform in memory with a table as its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.batch.source import SourceSpec
from penstock.identity.ids import TargetId
from resources.targets.sql_table import SqlTableTarget, open_sql_table
from tests.fixtures.memory import SOURCE, TARGET, Bench, person
from tests.unit.control_plane.commands import Run, runner

ENTER = (
    "INSERT INTO penstock_entities SELECT _penstock_source, type_name, 'crm/by-hand', attributes, "
    "_penstock_digest, _penstock_operation FROM penstock_entities WHERE key = 'crm/0'"
)


@pytest.fixture
def target(bench: Bench, tmp_path: Path) -> Iterator[SqlTableTarget]:
    """A table that five people were published to, whose notes are people's."""
    opened = open_sql_table(f"sqlite:///{tmp_path / 'down.db'}", TARGET)
    bench.platform = replace(bench.platform, targets={TARGET: opened})
    spec = SourceSpec(
        source_id=SOURCE,
        targets=(TARGET,),
        ownership={"person": {"notes": "human"}},  # type: ignore[dict-item]
    )
    bench.control.sync_sources([spec])
    bench.land([person(f"crm/{n}", v=1, notes="") for n in range(5)])
    bench.publish()
    yield opened
    opened.engine.dispose()


@pytest.fixture
def run(
    bench: Bench,
    target: SqlTableTarget,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return runner(bench, monkeypatch, capsys)


def write(target: SqlTableTarget, *statements: str) -> None:
    """Do something by hand."""
    with target.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def spoil(target: SqlTableTarget) -> None:
    """Delete one person, change another and the notes of a third, and enter a fourth."""
    write(
        target,
        ENTER,
        "DELETE FROM penstock_entities WHERE key = 'crm/1'",
        """UPDATE penstock_entities SET attributes = '{"notes":"x","v":2}' WHERE key = 'crm/2'""",
        """UPDATE penstock_entities SET attributes = '{"notes":"x","v":1}' WHERE key = 'crm/3'""",
    )


def test_nothing_drifted(run: Run) -> None:
    """Before a look, and after one that finds nothing."""
    assert "no findings" in run("drift").out
    (report,) = run("drift", "check", SOURCE, "--all", "--json").document
    assert (report["checked"], report["missing"], report["differing"]) == (5, 0, 0)
    assert (report["listed"], report["extra"]) == (5, 0)
    answer = run("drift", "--json").document
    assert answer["findings"] == []
    (coverage,) = answer["coverage"]
    assert (coverage["rows"], coverage["open"], coverage["lists"]) == (5, 0, True)
    assert coverage["oldest_turn_finished_at"] == coverage["oldest_listing_finished_at"]


def test_findings_are_shown(run: Run, target: SqlTableTarget) -> None:
    """What waits and what nobody published, by field, within the width of a terminal; the rest with --all."""
    spoil(target)
    ran = run("drift", "check", SOURCE, "--all")
    assert (ran.status, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 100
    shown = run("drift")
    for said in ("crm/1", "missing", "v restored", "notes kept", "crm/by-hand", "extra"):
        assert said in shown.out
    assert "crm/3" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    assert "crm/3" in run("drift", "--all").out
    found = run("drift", "--json").document["findings"]
    assert {each["key"]: each["finding"] for each in found} == {
        "crm/1": "missing",
        "crm/2": "differs",
        "crm/by-hand": "extra",
    }
    assert len(run("drift", "--limit", "1", "--json").document["findings"]) == 1
    assert run("drift", "--source", "elsewhere", "--json").document["findings"] == []


def test_a_repair_is_asked_for_and_signed(bench: Bench, run: Run, target: SqlTableTarget) -> None:
    """The batch is in the queue, the act in the audit log; asked for without findings it is an error."""
    ran = run("drift", "repair", SOURCE, "--by", "ada")
    assert (ran.status, ran.out) == (2, "")
    assert "nothing was found that differs" in ran.err
    spoil(target)
    run("drift", "check", SOURCE, "--all")
    answer = run("drift", "repair", SOURCE, "--by", "ada", "--reason", "a wrong shell", "--json")
    (state,) = answer.document["publish_states"]
    assert (state["status"], state["intent"]) == ("PENDING", "repair")
    (act,) = bench.control.list_acts()
    assert (act.actor, act.act, act.reason) == ("ada", "drift.repair", "a wrong shell")
    batch = bench.publish().state.batch_id
    shown = run("plan", "show", batch).out
    assert "notes kept, v restored" in shown
    findings = run("drift", "--all", "--json").document["findings"]
    assert {each["key"]: each["status"] for each in findings} == {
        "crm/1": "repaired",
        "crm/2": "repaired",
        "crm/3": "left",
        "crm/by-hand": "left",
    }


def test_conflicts_are_foreseen_and_listed(bench: Bench, run: Run, target: SqlTableTarget) -> None:
    """A dry run says what would be decided by field, and the executed plan says what was, within the width."""
    spoil(target)
    manifest = bench.land([person(f"crm/{n}", v=3, notes="new") for n in range(5)])
    foreseen = run("plan", "--dry-run", manifest.batch_id)
    assert (foreseen.status, foreseen.err) == (0, "")
    assert "notes kept, against the source" in foreseen.out
    bench.publish()
    shown = run("plan", "show", manifest.batch_id)
    assert "notes kept, against the source, v restored" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    explained = run("plan", "explain", manifest.batch_id, "crm/3")
    assert "notes kept, against the source" in explained.out
    document = run("plan", "show", manifest.batch_id, "--json").document["merges"]
    assert (document["operations"], document["conflicts"]) == (2, 2)


def test_one_of_several_targets_is_named(bench: Bench, run: Run) -> None:
    """A repair is of one target; an unknown source, and a malformed one, are errors."""
    spec = SourceSpec(source_id=SOURCE, targets=(TARGET, TargetId("other")))
    bench.control.sync_sources([spec])
    ran = run("drift", "repair", SOURCE)
    assert ran.status == 2
    assert f"name one of {TARGET}, other" in ran.err
    for source in ("nobody", "No Body"):
        for command in ("check", "repair"):
            ran = run("drift", command, source)
            assert (ran.status, ran.out) == (2, "")


def test_before_the_first_publish(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to look at, and that is said."""
    started = runner(bench, monkeypatch, capsys)
    assert "nothing has been published yet" in started("drift", "check", SOURCE).out
    assert started("drift", "--json").document == {"findings": [], "coverage": []}


def test_a_target_that_cannot_list_is_said_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its count of extra rows is a question mark, not a nought."""
    bench.land([person("crm/a")])
    bench.publish()
    started = runner(bench, monkeypatch, capsys)
    for question in (("drift", "check", SOURCE), ("drift",)):
        assert "cannot list" in " ".join(started(*question).out.split())
