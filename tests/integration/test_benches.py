"""The benches: that they run and what form their answer has, never how fast anything is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

PENSTOCK = Path(sys.executable).with_name("penstock")


@pytest.mark.parametrize(
    "name", ["diff", "plan", "land", "execute", "drift", "letters", "eta", "control"]
)
def test_a_bench_answers_in_the_documented_form(name: str) -> None:
    """A quick run of a bench ends with status 0 and one JSON object of figures, each with its unit and goal."""
    ran = subprocess.run(
        [PENSTOCK, "bench", name, "--quick", "--json"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert set(document) == {"bench", "machine", "results"}
    assert document["bench"] == name
    assert {"cpu", "cores", "memory_gib", "python"} <= set(document["machine"])
    figures = [(result["name"], result["unit"], result["peer"]) for result in document["results"]]
    assert figures
    assert len(set(figures)) == len(figures)
    for result in document["results"]:
        assert set(result) == {"name", "value", "unit", "peer", "goal", "met"}
        assert math.isfinite(result["value"])
        assert (result["goal"] is None) == (result["met"] is None)
