"""The installed command, on an installation on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.published_home import PublishedHome, publish_home

PENSTOCK = Path(sys.executable).with_name("penstock")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> PublishedHome:
    return publish_home(tmp_path_factory.mktemp("cli"))


def penstock(home: PublishedHome, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [PENSTOCK, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PENSTOCK_HOME": str(home.home), "COLUMNS": "100"},
        check=False,
    )


def answer(home: PublishedHome, *arguments: str) -> Any:
    """Return what a query answers with --json."""
    ran = penstock(home, *arguments, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def test_batches_and_their_states_are_seen(home: PublishedHome) -> None:
    """The command lists the landed batches with what became of each."""
    found = answer(home, "batches", "--source", "shop")["batches"]
    assert [(each["batch_id"], each["states"]) for each in found] == [
        (home.waiting, {"registry": "PENDING"}),
        (home.second, {"registry": "COMPLETE"}),
        (home.first, {"registry": "COMPLETE"}),
    ]


def test_the_ledger_of_a_real_batch_balances(home: PublishedHome) -> None:
    """Creates, updates and deletes are all in the second batch's ledger, and every row balances."""
    (target,) = answer(home, "batch", "show", home.second)["targets"]
    assert all(row["balanced"] for row in target["ledger"])
    for column in ("created", "updated", "deleted", "unchanged"):
        assert sum(row[column] for row in target["ledger"]) > 0


def test_a_real_change_is_explained(home: PublishedHome) -> None:
    """What changed in a view is told by attribute, read from the stored batches and snapshot."""
    (view,) = answer(home, "plan", "explain", home.second, home.entity)["explanations"]
    (change,) = view["changes"]
    assert change["path"] == "sql"
    assert "amount > 100" in change["before"]
    assert "amount * 2" in change["after"]


def test_a_real_delete_is_explained_by_its_scope(home: PublishedHome) -> None:
    """A dropped table is deleted because its scope was wholly enumerated."""
    (table,) = answer(home, "plan", "explain", home.second, home.dropped)["explanations"]
    assert table["operation"]["action"] == "delete"
    assert table["completeness"] == "complete"
    assert "is complete, so what is absent is gone" in table["why"]


def test_the_plan_is_the_one_that_was_published(home: PublishedHome) -> None:
    """The stored plan's digest is the one that the publish state has, and its operations add up."""
    plan = answer(home, "plan", "show", home.second, "--limit", "1000")
    (state,) = answer(home, "publish-state", home.second)["publish_states"]
    assert plan["digest"] == state["plan_digest"]
    assert len(plan["operations"]) == plan["operations_in_all"]
    assert sum(count["operations"] for count in plan["counts"]) == plan["operations_in_all"]


def test_a_wrong_question_has_exit_status_two(home: PublishedHome) -> None:
    """An unknown batch ends the real process with status 2, one line on stderr and no traceback."""
    ran = penstock(home, "batch", "show", "shop@2020-01-01T00-00-00.000000Z")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: no batch 'shop@2020-01-01T00-00-00.000000Z'")
    assert "Traceback" not in ran.stderr


def test_help_imports_nothing_heavy(home: PublishedHome) -> None:
    """Asking for help loads neither Arrow nor SQLAlchemy nor Dagster."""
    probe = "import sys; sys.argv = ['penstock', '--help']\nfrom control_plane.cli import app\n"
    probe += "try: app()\nexcept SystemExit: pass\nprint(sorted({n.partition('.')[0] for n in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert "control_plane" in loaded
    assert not loaded & {"pyarrow", "numpy", "pandas", "sqlalchemy", "dagster", "pydantic", "boto3"}
