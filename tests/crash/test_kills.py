"""The smaller set of ``make crash``: each step killed once or so, on each database with one of the targets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.observe import differences

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("database", "target"),
    [("sqlite", "wiki"), pytest.param("postgres", "registry", marks=pytest.mark.postgres)],
)
def test_whatever_is_killed_ends_as_if_nothing_had_happened(database: str, target: str) -> None:
    """Workers killed in each step of a source's life leave, after recovery, what an undisturbed run leaves."""
    command = [sys.executable, "-m", "tests.crash", "--small"]
    command += ["--database", database, "--target", target]
    ran = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = re.search(r"crash: (\d+) kills in .*: 0 differences", ran.stdout)
    assert said is not None, ran.stdout
    assert int(said[1]) >= 4


def test_a_difference_is_seen() -> None:
    """What is missing, what is too much, and what is there twice, are told."""
    same = {"effect": [("create", "a")], "held": [("a",)]}
    assert differences(same, same) == []
    other = {"effect": [("create", "a"), ("create", "a")], "held": []}
    assert differences(same, other) == [
        "effect: too much ('create', 'a')",
        "held: missing ('a',)",
    ]
