"""The registry's store on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, exc, func, literal_column, select

from penstock.errors import InvalidIdentifier
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.registry import (
    Append,
    Appended,
    End,
    Held,
    Page,
    Requirement,
    Search,
    Unmet,
    VersionConflict,
)
from penstock.registry.events import Cursor, RecordedEvent, StreamId, StreamKind
from penstock.registry.upcasting import CURRENT, Upcasters
from resources.control_db.engine import Database
from resources.registry.appending import Refused, append_in
from resources.registry.log import read_in
from resources.registry.projections import live_generation
from resources.registry.requirements import entities_in, referrers_in
from resources.registry.rows import EVENT_COLUMNS, held_of, matches, read_rows, recorded_of
from resources.registry.searching import count_in, search_in
from resources.registry.tallies import Activity, active
from resources.targets.registry_tables import STREAM_HASH, registry_event

_TRIES = 5
_AGAIN = ("40P01", "40001")
"""Deadlock detected, serialization failure: nothing was done, and the same may work now."""
_TOO_LARGE = "54000"
_UNDEFINED_TABLE = "42P01"
T = TypeVar("T")


class SqlRegistryStore(Database):
    """:class:`penstock.ports.registry.RegistryStore` in a control database."""

    def __init__(self, engine: Engine, *, upcasters: Upcasters = CURRENT) -> None:
        """Use an engine that ``resources.control_db.engine.open_engine`` made."""
        self.engine = engine
        self._upcasters = upcasters

    # Writing ------------------------------------------------------------------------------------------------

    def append(
        self,
        appends: Sequence[Append],
        *,
        requires: Sequence[Requirement] = (),
        now: datetime,
        entry: AuditEntry | None = None,
    ) -> Appended | VersionConflict | Unmet:
        """Append events of one command, in one transaction with its audit entry; at most one of each stream."""
        moment = now if now.tzinfo is None else now.astimezone(UTC)  # naive ones are refused below
        careful = False
        for left in range(_TRIES - 1, -1, -1):
            try:
                with self._writing() as connection:
                    return append_in(connection, appends, requires, moment, entry, careful=careful)
            except Refused as refused:
                return refused.answer
            except exc.IntegrityError:
                if careful:
                    raise
                careful = True
            except exc.OperationalError as error:
                state = getattr(error.orig, "sqlstate", None)
                if state == _TOO_LARGE:
                    raise InvalidIdentifier(
                        "a key is longer than an index of PostgreSQL can hold (about 2,700 bytes): shorten it"
                    ) from error
                if state not in _AGAIN or not left:
                    raise
        raise AssertionError("unreachable")

    # What is now --------------------------------------------------------------------------------------------

    def get(self, stream: StreamId) -> Held | None:
        """Return what is there now."""
        return self.get_many([stream])[0]

    def get_many(self, streams: Sequence[StreamId]) -> list[Held | None]:
        """Return what is there now of each, in order."""
        with self._reading() as connection:
            rows = read_rows(connection, streams)
        return [held_of(rows[s], s.kind) if s in rows else None for s in streams]

    def entities_with_keys(
        self, tenant: TenantId, sources: Sequence[SourceId], keys: Sequence[str]
    ) -> list[list[StreamId]]:
        """Return, for each key, the entities of these sources that have it, of whatever type."""
        with self._reading() as connection:
            found = entities_in(connection, tenant, sources, keys)
        return [found[key] for key in keys]

    def referrers(
        self,
        stream: StreamId,
        *,
        ignoring: frozenset[tuple[str, End]] = frozenset(),
        limit: int = 100,
    ) -> list[StreamId]:
        """Return what refers to an entity."""
        with self._reading() as connection:
            return referrers_in(connection, stream, ignoring, limit=limit)

    def search(self, search: Search) -> Page:
        """Return a page of what matches, ordered by type, source and key."""
        return self._of_projections(lambda connection: search_in(connection, search))

    def count_by_type(self, tenant: TenantId) -> dict[tuple[StreamKind, str], int]:
        """Return how many entities and relationships there are of each type."""
        return self._of_projections(lambda connection: count_in(connection, tenant))

    def activity(self, tenant: TenantId, *, since: date) -> dict[tuple[date, str], int]:
        """Return how often each action happened on each day (UTC), as far as the projection has come."""

        def read(connection: Connection) -> dict[tuple[date, str], int]:
            generation = live_generation(connection, Activity.name)
            return {} if generation is None else active(connection, generation, tenant, since)

        return self._of_projections(read)

    def _of_projections(self, read: Callable[[Connection], T]) -> T:
        """Read what projections have written; again where a rebuild has just taken its tables away."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                with self._reading() as connection:
                    return read(connection)
            except exc.DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None)
                gone = state == _UNDEFINED_TABLE or "no such table" in str(error.orig)
                if not (gone and left):
                    raise
        raise AssertionError("unreachable")

    # What was -----------------------------------------------------------------------------------------------

    def operations(
        self, tenant: TenantId, operation_ids: Sequence[bytes]
    ) -> list[RecordedEvent | None]:
        """Return the events that operations of a tenant left, in order."""
        log = registry_event.c
        query = select(*EVENT_COLUMNS).where(
            log.operation_id.in_(operation_ids), log.tenant_id == tenant
        )
        with self._reading() as connection:
            found = {
                bytes(row.operation_id): self._recorded(row, self._version(connection, row))
                for row in connection.execute(query).all()
            }
        return [found.get(each) for each in operation_ids]

    def _version(self, connection: Connection, row: Any) -> int:
        """Return which event of its stream a row of the log is."""
        log = registry_event.c
        stream = recorded_of(row).stream
        place = (log.transaction_id, log.position)
        earlier = _events_of(stream, connection, func.count()).where(
            func.row(*place) <= func.row(row.transaction_id, row.position)
            if connection.dialect.name == "postgresql"
            else log.position <= row.position
        )
        return int(connection.scalar(earlier) or 0)

    def history(self, stream: StreamId, *, after: int = 0, limit: int = 100) -> list[RecordedEvent]:
        """Return a stream's events, oldest first, after the ``after``-th."""
        with self._reading() as connection:
            query = _in_order(_events_of(stream, connection, *EVENT_COLUMNS))
            rows = connection.execute(query.offset(after).limit(limit)).all()
        return [self._recorded(row, after + n) for n, row in enumerate(rows, start=1)]

    def as_of(self, stream: StreamId, moment: datetime) -> RecordedEvent | None:
        """Return the last event of a stream that was recorded at or before ``moment``."""
        log = registry_event.c
        with self._reading() as connection:
            events = _events_of(stream, connection, *EVENT_COLUMNS)
            last = events.where(log.recorded_at <= moment).order_by(
                log.transaction_id.desc(), log.position.desc()
            )
            row = connection.execute(last.limit(1)).first()
            return None if row is None else self._recorded(row, self._version(connection, row))

    def _recorded(self, row: Any, version: int) -> RecordedEvent:
        return self._upcasters.upcast(recorded_of(row, version))

    def read_log(
        self, after: Cursor, *, limit: int, tenant: TenantId | None = None
    ) -> list[RecordedEvent]:
        """Return events in the order of their commits, only as far as nothing can come in between any more."""
        with self._reading() as connection:
            return read_in(connection, after, limit=limit, tenant=tenant, upcasters=self._upcasters)


def _events_of(stream: StreamId, connection: Connection, *columns: Any) -> Select[Any]:
    """Return a query for a stream's events, which finds them by an index."""
    address = {
        "tenant_id": stream.tenant_id,
        "source_id": stream.source_id,
        "kind": str(stream.kind),
        "type_name": stream.type_name,
        "key": stream.key,
        "to_key": stream.to_key,
    }
    query = select(*columns).select_from(registry_event).where(*matches(registry_event, address))
    if connection.dialect.name == "postgresql":
        hashed = func.hashtextextended(stream.key + (stream.to_key or ""), 0)
        query = query.where(literal_column(STREAM_HASH) == hashed)

    return query


def _in_order(query: Select[Any]) -> Select[Any]:
    log = registry_event.c
    return query.order_by(log.transaction_id, log.position)
