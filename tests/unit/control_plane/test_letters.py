"""The commands that deal with dead letters, over a platform in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.memory import Bench, person
from tests.unit.control_plane.commands import Run, runner

WHY = ("--by", "ada", "--reason", "mended")


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


@pytest.fixture
def letter(bench: Bench, run: Run) -> dict[str, Any]:
    """The dead letter of a person whom the target refuses."""
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a", v=1), person("crm/b", v=1)])
    bench.publish()
    bench.target.poison.clear()
    found: dict[str, Any]
    (found,) = run("dead-letters", "--json").document["dead_letters"]
    return found


def test_letters_are_listed_grouped_and_shown(run: Run, letter: dict[str, Any]) -> None:
    """With id, cause and data, within the width of a terminal."""
    for question in (
        ("dead-letters",),
        ("dead-letters", "groups"),
        ("dead-letters", "show", letter["dead_letter_id"]),
    ):
        ran = run(*question)
        assert (ran.status, ran.err) == (0, "")
        assert "poison" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 100
        assert run(*question, "--json").document


def test_letters_are_tried_again(bench: Bench, run: Run, letter: dict[str, Any]) -> None:
    """All of one cause go in a correction, which the next publish brings."""
    assert run("dead-letters", "requeue", "--fingerprint", letter["fingerprint"], *WHY).status == 0
    bench.publish()
    assert ("person", "crm/a") in bench.target.entities
    assert bench.control.list_acts()[0].actor == "ada"


def test_a_letter_is_mended(bench: Bench, run: Run, letter: dict[str, Any], tmp_path: Path) -> None:
    """The patched attributes are what is published; a patch that does not apply changes nothing."""
    patch = tmp_path / "patch.json"
    patch.write_text('[{"op": "remove", "path": "/nothing"}]')
    ran = run("dead-letters", "fix", letter["dead_letter_id"], "--patch", str(patch), *WHY)
    assert (ran.status, ran.out) == (2, "")
    assert bench.control.list_acts() == []
    patch.write_text('[{"op": "replace", "path": "/v", "value": 2}]')
    ran = run("dead-letters", "fix", letter["dead_letter_id"], "--patch", str(patch), *WHY)
    assert (ran.status, ran.err) == (0, "")
    bench.publish()
    assert bench.target.entities["person", "crm/a"] == '{"v":2}'


def test_a_letter_is_discarded(bench: Bench, run: Run, letter: dict[str, Any]) -> None:
    """With a reason; it is then neither requeued nor discarded again."""
    name = letter["dead_letter_id"]
    assert run("dead-letters", "discard", name).status == 2
    assert run("dead-letters", "discard", name, *WHY).status == 0
    for again in ("discard", "requeue"):
        ran = run("dead-letters", again, name, *WHY)
        assert (ran.status, ran.out) == (2, "")
        assert "discarded" in ran.err
    assert [act.act for act in bench.control.list_acts()] == ["dead_letter.discard"]


def test_what_is_unknown_is_an_error(run: Run, letter: dict[str, Any]) -> None:
    """No letter has that id."""
    for what in (("show",), ("requeue", *WHY), ("discard", *WHY)):
        ran = run("dead-letters", what[0], "0" * 32, *what[1:])
        assert (ran.status, ran.out) == (2, "")
        assert "0" * 32 in ran.err
