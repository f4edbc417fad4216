"""Every command that is signed, with a reason that is longer than what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.batch.guard_policy import GuardPolicy
from tests.fixtures.memory import Bench, person
from tests.unit.control_plane.commands import Run, runner

TOO_LONG = ("--by", "ada", "--reason", "y" * 2001)
ACTS: tuple[tuple[str, ...], ...] = (
    ("prioritise", "BATCH"),
    ("boost", "BATCH", "1"),
    ("pause", "source", "crm"),
    ("resume", "source", "crm"),
    ("requeue", "BATCH"),
    ("cancel", "BATCH"),
    ("republish", "BATCH"),
    ("rollback", "BATCH"),
    ("approve", "BATCH", "--plan", "PLAN"),
    ("reject", "BATCH", "--plan", "PLAN"),
    ("dead-letters", "requeue", "LETTER"),
    ("dead-letters", "fix", "LETTER", "--patch", "PATCH"),
    ("dead-letters", "discard", "LETTER"),
    ("drift", "repair", "crm"),
    ("breaker", "reset", "model"),
)


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


@pytest.fixture
def names(bench: Bench, tmp_path: Path) -> dict[str, str]:
    """A batch that is COMPLETE, with a dead letter and a hold; and a patch that would apply."""
    bench.land([person("crm/a"), person("crm/b")])
    bench.publish()
    bench.target.poison.add("crm/c")
    batch = bench.land([person("crm/a"), person("crm/c", v=1)]).batch_id
    state = bench.publish(guard_policy=GuardPolicy(max_deletes=0)).state
    bench.target.poison.clear()
    (letter,) = bench.control.list_dead_letters()
    patch = tmp_path / "patch.json"
    patch.write_text('[{"op": "add", "path": "/v", "value": 2}]')
    assert state.plan_digest
    return {
        "BATCH": batch,
        "PLAN": state.plan_digest,
        "LETTER": letter.dead_letter_id,
        "PATCH": str(patch),
    }


def everything(bench: Bench) -> list[Any]:
    """What any of the acts would change."""
    control = bench.control
    return [
        control.list_states(),
        control.list_acts(),
        control.list_pauses(),
        control.list_dead_letters(),
        control.list_approvals(),
        control.list_breakers(),
        [found.key for found in bench.platform.objects.list("")],
    ]


@pytest.mark.parametrize("act", ACTS, ids=" ".join)
def test_a_reason_that_is_too_long_changes_nothing(
    bench: Bench, run: Run, names: dict[str, str], act: tuple[str, ...]
) -> None:
    """The error says how long it is and how long it may be, with status 2."""
    before = everything(bench)
    ran = run(*(names.get(word, word) for word in act), *TOO_LONG)
    assert (ran.status, ran.out) == (2, "")
    assert "the reason has 2,001 characters: at most 2,000 are kept" in " ".join(ran.err.split())
    assert everything(bench) == before
