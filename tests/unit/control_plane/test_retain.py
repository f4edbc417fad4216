"""The command line on retention."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.publish.retention import RetentionPolicy
from tests.fixtures.memory import Bench, person
from tests.unit.control_plane.commands import Run, runner


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    policy = RetentionPolicy(keep_batches=1)
    object.__setattr__(bench.platform, "retention_policy", policy)
    return runner(bench, monkeypatch, capsys)


def test_a_dry_run_and_a_run_say_the_same(bench: Bench, run: Run) -> None:
    """What would go goes, signed by whoever ran it."""
    first = bench.land([person("crm/a", v=1)]).batch_id
    bench.publish()
    bench.land([person("crm/a", v=2)])
    bench.publish()
    bench.clock.moment += timedelta(days=100)
    tried = run("retain", "--dry-run", "--json").document
    assert (tried["dry_run"], tried["batches"]) == (True, [first])
    shown = run("retain", "--dry-run")
    assert "would go: 1 batches" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    done = run("retain", "--by", "ann", "--json").document
    assert done == {**tried, "dry_run": False}
    (entry,) = bench.control.list_acts()
    assert entry.actor == "ann"
    assert "gone: 0 batches" in run("retain").out
