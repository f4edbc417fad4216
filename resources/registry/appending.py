"""Appending a command's events, and what is now with them, in one transaction."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import psycopg
from sqlalchemy import (
    Connection,
    Row,
    Table,
    bindparam,
    delete,
    exc,
    insert,
    select,
    tuple_,
)
from sqlalchemy.sql.elements import BindParameter

from penstock.ports.audit_log import AuditEntry
from penstock.ports.registry import (
    ABSENT,
    Append,
    Appended,
    Held,
    Requirement,
    Unmet,
    VersionConflict,
)
from penstock.registry.events import StreamId
from resources.control_db.audit_log import add_act
from resources.control_db.engine import upsert
from resources.registry.locks import enter
from resources.registry.requirements import unmet
from resources.registry.rows import (
    TABLES,
    address_of,
    beside_of,
    digest_of,
    held_of,
    matches,
    read_rows,
    text_of,
)
from resources.targets.registry_tables import registry_event, registry_gone, registry_reference

Row_ = dict[str, Any]


class Refused(Exception):
    """What was written has to be taken back; holds the answer."""

    def __init__(self, answer: Unmet) -> None:
        super().__init__(answer)
        self.answer = answer


def append_in(
    connection: Connection,
    appends: Sequence[Append],
    requires: Sequence[Requirement],
    now: datetime,
    entry: AuditEntry | None = None,
    *,
    careful: bool = False,
) -> Appended | VersionConflict:
    """Append in a transaction that has written nothing yet; :class:`Refused` means that it has to be rolled back.

    Operation ids that are in the log already are looked for where something else is not as expected; elsewhere they
    are an ``IntegrityError``, upon which to try again with ``careful``.
    """
    # On SQLite there is one writer at a time, so positions are in the order of commits by themselves.
    number = enter(connection, appends, requires) if _is_postgres(connection) else 0
    streams = [append.event.stream for append in appends]
    assert len(set(streams)) == len(streams), "an append has at most one event of each stream"
    rows = read_rows(connection, streams)
    if careful or any(_conflict(append, rows, set()) for append in appends):
        known = _known(connection, appends)
        if appends and all(append.event.operation_id in known for append in appends):
            return Appended(held=_held(rows, streams), repeated=True)
        for append in appends:
            if (conflict := _conflict(append, rows, known)) is not None:
                return conflict
    written = _write(connection, appends, rows, number, now, entry) if appends else []
    if (failed := unmet(connection, requires)) is not None:
        raise Refused(Unmet(requirement=failed))
    return Appended(held=written)


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _held(rows: Mapping[StreamId, Row[Any]], streams: Iterable[StreamId]) -> list[Any]:
    return [held_of(rows[stream], stream.kind) if stream in rows else None for stream in streams]


def _known(connection: Connection, appends: Sequence[Append]) -> set[bytes]:
    """Return which operation ids are in the log, of the tenants that append."""
    log = registry_event.c
    ids = [append.event.operation_id for append in appends]
    tenants = {append.event.stream.tenant_id for append in appends}
    query = select(log.operation_id).where(log.operation_id.in_(ids), log.tenant_id.in_(tenants))
    return {bytes(found) for found in connection.scalars(query)}


def _conflict(
    append: Append, rows: Mapping[StreamId, Row[Any]], known: set[bytes]
) -> VersionConflict | None:
    stream = append.event.stream
    found = bytes(rows[stream].operation_id) if stream in rows else ABSENT
    as_expected = append.expected is None or append.expected == found
    if as_expected and append.event.operation_id not in known:
        return None
    return VersionConflict(stream=stream, expected=append.expected, found=found)


def _write(
    connection: Connection,
    appends: Sequence[Append],
    rows: Mapping[StreamId, Row[Any]],
    number: int,
    now: datetime,
    entry: AuditEntry | None,
) -> list[Held | None]:
    """Write events, rows and what is beside them; return what each append leaves."""
    texts = [text_of(append.event.state) for append in appends]
    events = [
        {**_event(append, text, rows.get(append.event.stream), now), "transaction_id": number}
        for append, text in zip(appends, texts, strict=True)
    ]
    absent = [append.event.stream for append in appends if append.event.stream not in rows]
    ended = _ended(connection, absent)
    upserts: dict[Table, list[Row_]] = defaultdict(list)
    gone: list[StreamId] = []
    versions: list[Row_] = []
    left: list[Held | None] = []
    for append, text in zip(appends, texts, strict=True):
        stream = append.event.stream
        row = rows.get(stream)
        version = (row.version if row is not None else ended.get(stream, 0)) + 1
        if text is None:
            gone.append(stream)
            versions.append({**beside_of(stream), "version": version})
            left.append(None)
        else:
            written = _row(append, text, row, version, now)
            upserts[TABLES[stream.kind]].append(written)
            left.append(held_of(SimpleNamespace(**written), stream.kind))
    with _at_once(connection):
        connection.execute(insert(registry_event).inline(), events)
        for table, changed in upserts.items():
            upsert(connection, table, changed)
        _remove(connection, gone)
        upsert(connection, registry_gone, versions)
        _refer(connection, appends, rows)
        if entry is not None:
            add_act(connection, entry)
    return left


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether the driver tells something new: an error that a pipeline ends with is being raised already."""
    return not str(record.msg).startswith("error ignored terminating")


# Commands meet on one stream every day; the loser is answered, and operators need no line for each.
logging.getLogger("psycopg").addFilter(_is_news)


@contextmanager
def _at_once(connection: Connection) -> Iterator[None]:
    """Send statements that answer nothing without waiting for each: on PostgreSQL all of them are one round trip."""
    if not _is_postgres(connection):
        yield
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    try:
        with driver.pipeline():
            yield
    except psycopg.Error as error:
        # What a pipeline raises at its end goes past SQLAlchemy.
        raise exc.DBAPIError.instance(None, None, error, psycopg.Error) from error


def _event(append: Append, text: str | None, row: Row[Any] | None, now: datetime) -> Row_:
    event, stream = append.event, append.event.stream
    return {
        "operation_id": event.operation_id,
        "source_id": stream.source_id,
        "tenant_id": stream.tenant_id,
        "kind": str(stream.kind),
        "type_name": stream.type_name,
        "key": stream.key,
        "to_key": stream.to_key,
        "action": str(event.action),
        "attributes": text,
        "before_digest": None if row is None else bytes(row.digest),
        "after_digest": None if text is None else digest_of(stream, text),
        "recorded_at": now,
        "actor": event.actor,
        "data": text_of(event.data) if event.data else None,
        "status": append.status,
        "review": append.review,
        "schema_version": event.schema_version,
        "event_version": event.event_version,
    }


def _row(append: Append, text: str, row: Row[Any] | None, version: int, now: datetime) -> Row_:
    event = append.event
    reviewed: tuple[str | None, datetime | None] = (event.actor, now)
    if append.review is None:
        reviewed = (None, None)
    elif row is not None and row.review == append.review:
        reviewed = (row.reviewed_by, row.reviewed_at)
    return {
        **address_of(event.stream),
        "attributes": text,
        "digest": digest_of(event.stream, text),
        "operation_id": event.operation_id,
        "updated_at": now,
        "updated_by": event.actor,
        "version": version,
        "status": append.status,
        "review": append.review,
        "reviewed_by": reviewed[0],
        "reviewed_at": reviewed[1],
        "schema_version": event.schema_version,
    }


def _ended(connection: Connection, streams: Sequence[StreamId]) -> dict[StreamId, int]:
    """Return how many events streams had when they were last deleted."""
    if not streams:
        return {}
    table = registry_gone
    columns = [table.c[name] for name in _GONE_KEY]
    wanted = [_in_order(beside_of(stream)) for stream in streams]
    found = {}
    for start in range(0, len(wanted), 500):
        query = select(*columns, table.c.version).where(
            tuple_(*columns).in_(wanted[start : start + 500])
        )
        found.update({tuple(row[:-1]): row[-1] for row in connection.execute(query)})
    return {
        stream: found[address]
        for stream, address in zip(streams, wanted, strict=True)
        if address in found
    }


_GONE_KEY = ("tenant_id", "kind", "type_name", "source_id", "key", "to_key")


def _in_order(address: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(str(address[name]) for name in _GONE_KEY)


def _remove(connection: Connection, streams: Sequence[StreamId]) -> None:
    by_table: dict[Table, list[Row_]] = defaultdict(list)
    for stream in streams:
        by_table[TABLES[stream.kind]].append(address_of(stream))
    for table, addresses in by_table.items():
        named: dict[str, BindParameter[Any]] = {
            f"b_{name}": bindparam(f"b_{name}") for name in addresses[0]
        }
        statement = delete(table).where(
            *(table.c[name.removeprefix("b_")] == value for name, value in named.items())
        )
        values = [{f"b_{n}": v for n, v in address.items()} for address in addresses]
        connection.execute(statement, values)


def _refer(
    connection: Connection, appends: Sequence[Append], rows: Mapping[StreamId, Row[Any]]
) -> None:
    """Keep what the states name in place of what they named before; what was not there named nothing."""
    table = registry_reference
    new: list[Row_] = []
    for append in appends:
        stream = append.event.stream
        if append.event.state is not None and append.references is None:
            continue
        if stream in rows:
            connection.execute(delete(table).where(*matches(table, beside_of(stream))))
        if append.event.state is None:
            continue
        new += [
            {
                **beside_of(stream),
                "target_type": named.type_name,
                "target_source": named.source_id,
                "target_key": named.key,
            }
            for named in dict.fromkeys(append.references or ())
        ]
    if new:
        connection.execute(insert(table), new)
