"""What SQLite looks up it does not go through: its plans for what is asked again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

from penstock.events.envelope import OutboxCursor
from penstock.ports.registry import Search
from penstock.registry.events import Cursor
from resources.control_db.inbox import SqlInbox
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.store import SqlControlStore
from resources.control_db.workflows import SqlWorkflows
from resources.registry.store import SqlRegistryStore
from tests.contracts.control_values import NOW, batch_id
from tests.contracts.registry_values import create, entity


def plans(engine: Engine, ask: Callable[[], object]) -> str:
    """Return how SQLite does what is asked."""
    asked: list[tuple[str, Any]] = []

    def note(*said: Any) -> None:
        asked.append((said[2], said[3]))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    found = []
    with engine.connect() as connection:
        for sql, values in asked:
            if sql.startswith(("SELECT", "WITH")):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
                found += [str(row[-1]) for row in rows]
    return "\n".join(found)


def test_logs_are_read_from_a_place_on(new_control_url: Callable[[str], str]) -> None:
    """However long a log is, whoever follows it looks at what is new and at nothing before."""
    store = SqlControlStore(new_control_url("sqlite"))
    outbox, registry = SqlEventLog.from_engine(store.engine), SqlRegistryStore(store.engine)
    for ask in (
        lambda: outbox.read(OutboxCursor(transaction=0, position=7), limit=9),
        lambda: registry.read_log(Cursor(transaction=0, position=7), limit=9),
    ):
        said = plans(store.engine, ask)
        assert "transaction_id=? AND position>?" in said or "rowid>?" in said
        assert "SCAN" not in said
    store.close()


def test_events_that_wait_are_looked_up(new_control_url: Callable[[str], str]) -> None:
    """However many events wait, the next are found by their index, and what holds them up by its own."""
    store = SqlControlStore(new_control_url("sqlite"))
    inbox = SqlInbox.from_engine(store.engine)
    said = plans(store.engine, lambda: inbox.next_waiting(now=NOW, limit=9))
    assert "ix_inbox_event_waiting" in said
    assert "ix_inbox_event_retrying (tenant_id=? AND subject=?)" in said
    store.close()


def test_types_and_sources_are_looked_up(new_control_url: Callable[[str], str]) -> None:
    """A page of a search probes the key's index for each type and source, whatever lies between."""
    store = SqlControlStore(new_control_url("sqlite"))
    registry = SqlRegistryStore(store.engine)
    stream = entity("a")
    create(registry, stream)
    said = plans(
        store.engine,
        lambda: registry.search(Search(tenant_id=stream.tenant_id, type_name=stream.type_name)),
    )
    assert "(tenant_id=? AND type_name=? AND source_id>?)" in said
    assert "SCAN registry_entity" not in said
    store.close()


def test_who_is_behind_a_batch_is_looked_up(new_control_url: Callable[[str], str]) -> None:
    """However many tasks there were, those of a batch are found by its name, or by its source and moment."""
    store = SqlControlStore(new_control_url("sqlite"))
    workflows = SqlWorkflows.from_engine(store.engine)
    said = plans(store.engine, lambda: workflows.behind_batch(batch_id("a", 1)))
    assert "ix_workflow_task_batch_id (batch_id=?)" in said
    assert "ix_workflow_task_moment (source_id=? AND moment=?)" in said
    assert "SCAN workflow_task" not in said
    assert "SCAN workflow\n" not in said
    store.close()
