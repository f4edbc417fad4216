"""A SQLite database whose outbox has given positions twice is put right by its migration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from penstock.events.envelope import OutboxCursor
from resources.control_db.engine import open_engine
from resources.control_db.inbox import SqlInbox
from resources.control_db.outbox import add_events
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.schema import MIGRATIONS, upgrade
from tests.contracts.control_values import NOW
from tests.contracts.event_values import new_event
from tests.contracts.test_inbox import arrival

BEFORE = "0017"
VALUES = {"VARCHAR": "x", "TEXT": "x", "DATETIME": "2026-01-01 00:00:00.000000", "JSON": "{}"}
PLACES = {
    "destination": "cursor_position",
    "loop_place": "position",
    "metric_cursor": "position",
    "workflow": "heard_position",
}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Engine]:
    """A database as it was before numbers were given once, with two events in the outbox."""
    engine = open_engine(f"sqlite:///{tmp_path / 'control.db'}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
    for position, name in ((1, "a"), (2, "b")):
        insert(engine, "outbox_event", position=position, event_id=name, subject=name)
    yield engine
    engine.dispose()


def insert(engine: Engine, table: str, **values: Any) -> None:
    """Insert a row in SQL of that time, with the least that it needs: the stores know of later columns."""
    with engine.begin() as connection:
        columns = connection.execute(text(f"PRAGMA table_info({table})")).all()
        least = {c.name: VALUES.get(c.type.split("(")[0], 0) for c in columns if c.notnull}
        row = {name: value for name, value in (least | values).items() if value is not None}
        marks = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"), row)


def follow(engine: Engine, **positions: int | None) -> None:
    """Have those who follow the outbox be somewhere."""
    for table, position in positions.items():
        words = {"kind": "on_demand", "status": "completed"} if table == "workflow" else {}
        insert(engine, table, **{PLACES[table]: position}, **words)


def places(engine: Engine) -> dict[str, int | None]:
    """Where each of those who follow the outbox is."""
    with engine.connect() as connection:
        asked = {t: text(f"SELECT {column} FROM {t}") for t, column in PLACES.items()}
        return {table: connection.scalar(query) for table, query in asked.items()}


def next_position(engine: Engine) -> int:
    """The position of an event that is told now."""
    with engine.begin() as connection:
        add_events(connection, [new_event("new")])
    return SqlEventLog.from_engine(engine).end().position


def read(engine: Engine, after: int) -> list[str]:
    """What an outbox has after a position."""
    log = SqlEventLog.from_engine(engine)
    return [e.subject for e in log.read(OutboxCursor(transaction=0, position=after), limit=9)]


def test_who_is_ahead_of_the_outbox_gets_what_was_skipped(old: Engine) -> None:
    """Those who read up to an event that is gone read all that is there, and others go on where they were."""
    follow(old, destination=1, loop_place=70, metric_cursor=90, workflow=50)
    upgrade(old)
    assert places(old) == {"destination": 1, "loop_place": 0, "metric_cursor": 0, "workflow": 0}
    assert (read(old, 0), read(old, 1)) == (["a", "b"], ["b"])


@pytest.mark.parametrize("ahead", PLACES)
def test_positions_go_on_behind_every_place(old: Engine, ahead: str) -> None:
    """Clients that followed the outbox along with who is furthest ahead miss nothing from then on."""
    follow(old, **{**dict.fromkeys(PLACES, 2), ahead: 90})
    upgrade(old)
    assert places(old) == {**dict.fromkeys(PLACES, 2), ahead: 0}
    assert next_position(old) == 91


def test_where_nobody_is_ahead_nothing_changes(old: Engine) -> None:
    """Events and places stay as they were, and the next event comes behind the last."""
    follow(old, destination=1, loop_place=2, metric_cursor=0, workflow=None)
    before = places(old)
    upgrade(old)
    assert places(old) == before
    assert read(old, 0) == ["a", "b"]
    assert next_position(old) == 3


def test_events_of_the_inbox_go_on_behind_those_that_the_audit_log_names(old: Engine) -> None:
    """What an operator had tried again, and is gone, is not mistaken for an event that comes in later."""
    insert(old, "inbox_event", position=4, status="done")
    insert(old, "audit_entry", entry_id=1, act="event.requeue", subject="7")
    insert(old, "audit_entry", entry_id=2, act="hold.approve", subject="99")
    upgrade(old)
    inbox = SqlInbox.from_engine(old)
    inbox.accept([arrival("new")], received_from="kim", now=NOW)
    assert [event.position for event in inbox.find()] == [8, 4]
