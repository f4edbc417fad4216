"""A worker in a process of its own, to be killed: ``python -m tests.unit.targets.worker TARGET URL``."""

from __future__ import annotations

import sys

import pyarrow as pa

from penstock.ports.target import Target
from resources.control_db.engine import open_engine
from resources.targets.registry import open_registry
from resources.targets.sql_table import open_sql_table
from tests.unit.targets.chunks import CONTEXT, chunk, created

CHUNKS, ROWS = 20, 1_000


def open_target(name: str, url: str) -> Target:
    """Open one of the two targets in a control database."""
    engine = open_engine(url)
    target: Target = (
        open_registry(engine) if name == "registry" else open_sql_table(engine, "tables")
    )
    target.prepare()
    return target


def keys(number: int) -> list[str]:
    """Return the keys of one chunk."""
    return [f"crm/{number}/{row}" for row in range(ROWS)]


def chunk_of(number: int) -> pa.Table:
    """Return one chunk, the same in every process."""
    return chunk([created(key, text="x" * 500) for key in keys(number)])


def main(name: str, url: str) -> None:
    """Apply all chunks, telling when each is about to be sent."""
    target = open_target(name, url)
    chunks = [chunk_of(number) for number in range(CHUNKS)]
    for number, operations in enumerate(chunks):
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        target.apply(operations, CONTEXT)


if __name__ == "__main__":
    main(*sys.argv[1:])
