"""Finding what is now, in the order of its key, so that writes do not disturb a page that goes on later."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Table, case, func, select, text, tuple_
from sqlalchemy.sql.elements import ColumnElement

from penstock.errors import InvalidIdentifier
from penstock.identity.canonical import value_of
from penstock.identity.ids import TenantId
from penstock.ports.registry import Page, Search
from penstock.registry.events import StreamId, StreamKind
from penstock.registry.matching import has_all, words_in
from resources.registry.candidates import candidates_in
from resources.registry.log import later
from resources.registry.projections import live_tracking
from resources.registry.requirements import LANES
from resources.registry.rows import TABLES, held_of, read_rows
from resources.registry.tallies import counted
from resources.targets.registry_log import UNCHANGED
from resources.targets.registry_tables import registry_event

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a row stands among those of its kind and tenant."""

    type_name: str = ""
    source_id: str = ""
    key: str = ""
    to_key: str = ""

    @property
    def parts(self) -> tuple[bytes, ...]:
        """What places are ordered by, byte by byte."""
        return _key_of(self.type_name, self.source_id, self.key, self.to_key)

    def token(self) -> str:
        """Return the place as an opaque text."""
        parts = [self.type_name, self.source_id, self.key, self.to_key]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def place_of(token: str | None) -> Place:
    """Return the place that a text stands for; None is before everything."""
    if token is None:
        return Place()
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        type_name, source_id, key, to_key = map(str, parts)
    except (ValueError, TypeError) as error:
        raise InvalidIdentifier(
            f"{token[:80]!r} is no cursor that a page of the registry ended with: begin without one"
        ) from error
    return Place(type_name=type_name, source_id=source_id, key=key, to_key=to_key)


def search_in(connection: Connection, search: Search) -> Page:
    """Return a page of what matches now."""
    rows = list(islice(_matching(connection, search), search.limit + 1))
    items = [held_of(row, search.kind) for row in rows[: search.limit]]
    more = len(rows) > search.limit and bool(items)
    return Page(items=items, next=_place(rows[search.limit - 1]).token() if more else None)


def _place(row: Row[Any]) -> Place:
    return Place(
        type_name=row.type_name,
        source_id=row.source_id,
        key=row.key,
        to_key=getattr(row, "to_key", None) or "",
    )


def _matching(connection: Connection, search: Search) -> Iterator[Row[Any]]:
    """Yield the rows that match, in order."""
    words = list(words_in([search.words or ""]))
    after = place_of(search.after)
    candidates = candidates_in(connection, search, words)
    if candidates is None:
        rows = _rows(connection, search, after)
    else:
        rows = _candidates(connection, search, after, candidates)
    for row in rows:
        if not (search.equals or words) or has_all(
            row.key, value_of(row.attributes), search.equals, words
        ):
            yield row


def _candidates(
    connection: Connection, search: Search, after: Place, candidates: Iterable[StreamId]
) -> Iterator[Row[Any]]:
    """Yield the rows of candidates that match but for attributes and words, in order."""
    places = sorted((_key(stream), stream) for stream in candidates)
    wanted = [stream for place, stream in places if place > after.parts]
    table = TABLES[search.kind]
    for start in range(0, len(wanted), _ROWS_AT_ONCE):
        rows = read_rows(connection, wanted[start : start + _ROWS_AT_ONCE])
        yield from (row for row in rows.values() if _fits(table, search, row))


def _key(stream: StreamId) -> tuple[bytes, ...]:
    return _key_of(stream.type_name, stream.source_id, stream.key, stream.to_key or "")


def _key_of(*parts: str) -> tuple[bytes, ...]:
    return tuple(part.encode() for part in parts)


def _fits(table: Table, search: Search, row: Row[Any]) -> bool:
    wanted = {**_asked(table, search), "type_name": search.type_name, "source_id": search.source_id}
    return all(value is None or getattr(row, name) == value for name, value in wanted.items())


def _rows(connection: Connection, search: Search, after: Place) -> Iterator[Row[Any]]:
    """Yield the rows that match but for attributes and words."""
    for type_name, source_id in _lanes(connection, search, after):
        same = (type_name, source_id) == (after.type_name, after.source_id)
        begin = after if same else Place(type_name=type_name, source_id=source_id)
        yield from _lane(connection, search, begin, fresh=not same)


def _lanes(connection: Connection, search: Search, after: Place) -> list[tuple[str, str]]:
    table = TABLES[search.kind]
    if table.name == "registry_definition":
        columns = (table.c.type_name, table.c.source_id)
        query = select(*columns).where(*conditions(table, search)).distinct().order_by(*columns)
        found = [(row.type_name, row.source_id) for row in connection.execute(query)]
    else:
        every = LANES.format(table=table.name) + (
            "SELECT type_name, source_id FROM lanes WHERE type_name IS NOT NULL"
        )
        rows = connection.execute(text(every), {"tenant": search.tenant_id})
        found = [(row.type_name, row.source_id) for row in rows]
    return [
        (type_name, source_id)
        for type_name, source_id in found
        if search.type_name in {None, type_name}
        and search.source_id in {None, source_id}
        and (type_name, source_id) >= (after.type_name, after.source_id)
    ]


def _lane(
    connection: Connection, search: Search, begin: Place, *, fresh: bool
) -> Iterator[Row[Any]]:
    """Yield the rows of one type and source: a range of the key's index."""
    table = TABLES[search.kind]
    ends = [table.c.key, *([table.c.to_key] if "to_key" in table.c else [])]
    here = [table.c.type_name == begin.type_name, table.c.source_id == begin.source_id]
    at_once = min(search.limit + 1, _ROWS_AT_ONCE)
    while True:
        query = select(table).where(*conditions(table, search), *here)
        if not fresh:
            query = query.where(tuple_(*ends) > tuple((begin.key, begin.to_key)[: len(ends)]))
        rows = connection.execute(query.order_by(*ends).limit(at_once)).all()
        yield from rows
        if len(rows) < at_once:
            return
        begin, fresh = _place(rows[-1]), False
        at_once = _ROWS_AT_ONCE


def conditions(table: Table, search: Search) -> list[ColumnElement[bool]]:
    """Return what a search asks of a row, but for attributes and words."""
    asked = _asked(table, search)
    return [table.c[name] == value for name, value in asked.items() if value is not None]


def _asked(table: Table, search: Search) -> dict[str, str | None]:
    asked: dict[str, str | None] = {
        "tenant_id": search.tenant_id,
        "status": search.status,
        "review": search.review,
        "key": search.from_key,
    }
    if "kind" in table.c:
        asked["kind"] = str(search.kind)
    if "to_key" in table.c:
        asked["to_key"] = search.to_key
    elif search.to_key is not None:
        asked["key"] = ""  # only relationships end somewhere, and no key is empty
    return asked


def count_in(connection: Connection, tenant: TenantId) -> dict[tuple[StreamKind, str], int]:
    """Return how many entities and relationships of each type there are now.

    That is what the projection has counted, and what has happened since.
    """
    tracking = live_tracking(connection, "counts")
    if tracking is None:
        return _count_rows(connection, tenant)
    found = Counter(counted(connection, tracking.generation, tenant))
    log = registry_event.c
    change = case((log.after_digest.is_not(None), 1), else_=0) - case(
        (log.before_digest.is_not(None), 1), else_=0
    )
    query = (
        select(log.kind, log.type_name, func.sum(change))
        .where(later(tracking.cursor), log.tenant_id == tenant)
        .where(func.coalesce(log.data, "") != UNCHANGED)
        .group_by(log.kind, log.type_name)
    )
    for kind, type_name, changed in connection.execute(query):
        found[StreamKind(kind), type_name] += int(changed)
    return {key: n for key, n in found.items() if n and key[0] in _COUNTED}


_COUNTED = (StreamKind.ENTITY, StreamKind.RELATIONSHIP)


def _count_rows(connection: Connection, tenant: TenantId) -> dict[tuple[StreamKind, str], int]:
    found = {}
    for kind in _COUNTED:
        table = TABLES[kind]
        query = (
            select(table.c.type_name, func.count())
            .where(table.c.tenant_id == tenant)
            .group_by(table.c.type_name)
        )
        found.update({(kind, name): n for name, n in connection.execute(query)})
    return found
