"""``penstock priority`` shows what goes first and what a changed policy would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW
from tests.contracts.work_values import add_task, add_workflow
from tests.fixtures.memory import Bench, person
from tests.unit.control_plane.commands import Run, runner


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``penstock`` over a platform in memory."""
    return runner(bench, monkeypatch, capsys)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A file with a policy that boosts."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"boosts": [{"name": "vip", "points": 9}]}), encoding="utf-8")
    return path


def test_a_preview_names_the_parts_that_differ(bench: Bench, run: Run, policy: Path) -> None:
    """Places and points now and then, for people and as JSON."""
    bench.land([person("crm/a")])
    shown = run("priority", "preview", str(policy))
    assert shown.status == 0
    assert "rule vip" in shown.out
    assert "0 of 1 would stand elsewhere; nothing was changed" in shown.out
    (shift,) = run("priority", "preview", str(policy), "--json").document["preview"]
    assert shift["after"]["parts"]["rule vip"] == 9.0


def test_tasks_are_listed_and_previewed(bench: Bench, run: Run, policy: Path) -> None:
    """Those of workflows have a queue of their own."""
    control = bench.platform.control
    assert isinstance(control, SqlControlStore)
    bench.clock.moment = NOW
    task_id = add_task(control.engine, add_workflow(control.engine, "a"))
    (task,) = run("priority", "tasks", "--json").document["tasks"]
    assert task["task"]["task_id"] == task_id
    assert task["waits_for"] == "a worker of tenant acme that can collect"
    assert "collect of crm" in run("priority", "tasks").out
    found = run("priority", "preview", str(policy), "--of", "tasks", "--json").document
    assert (found["waiting"], found["moved"]) == (1, 0)


def test_a_policy_that_cannot_be_used_is_named(run: Run, tmp_path: Path) -> None:
    """Which field, and what is wrong with it."""
    path = tmp_path / "bad.json"
    path.write_text('{"age_weight": -1}', encoding="utf-8")
    refused = run("priority", "preview", str(path))
    assert refused.status == 2
    assert "age_weight" in refused.err
    assert "cannot be read" in run("priority", "preview", str(tmp_path / "none.json")).err


def test_nothing_that_waits_is_said(run: Run, policy: Path) -> None:
    """Instead of an empty table."""
    assert "nothing waits" in run("priority", "preview", str(policy)).out
    assert "no task is ready" in run("priority", "tasks").out
