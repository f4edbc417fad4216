"""A worker that is killed while it applies chunks leaves nothing half-done and nothing to be done twice."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost
from penstock.ports.target import Applied
from tests.unit.targets.chunks import CONTEXT
from tests.unit.targets.worker import CHUNKS, ROWS, chunk_of, keys, open_target


def killed_after(chunks: int, name: str, url: str) -> None:
    """Run a worker and kill it when it is about to send the chunk after some."""
    command = [sys.executable, "-m", "tests.unit.targets.worker", name, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        for _ in range(chunks + 1):
            worker.stdout.readline()
        worker.kill()


@pytest.mark.parametrize("name", ["registry", "sql_table"])
def test_a_killed_worker_is_taken_over(name: str, control_url: str) -> None:
    """Each chunk of a killed worker is there whole or not at all; the next worker applies the rest, once."""
    killed_after(3, name, control_url)
    target = open_target(name, control_url)
    next_worker = replace(CONTEXT, fencing_token=2)
    outcomes = [target.apply(chunk_of(number), next_worker) for number in range(CHUNKS)]
    whole = {Applied(applied=ROWS, already_applied=0), Applied(applied=0, already_applied=ROWS)}
    assert set(outcomes) <= whole
    assert outcomes[:3] == [Applied(applied=0, already_applied=ROWS)] * 3
    wanted = pa.table({"type_name": ["person"] * ROWS, "key": keys(CHUNKS - 1)})
    answer = target.read_back(CONTEXT.source_id, Kind.ENTITY, wanted)
    assert answer["digest"].to_pylist() == chunk_of(CHUNKS - 1)["after_digest"].to_pylist()
    with pytest.raises(LeaseLost):
        target.apply(chunk_of(0), CONTEXT)
    target.engine.dispose()  # type: ignore[attr-defined]
