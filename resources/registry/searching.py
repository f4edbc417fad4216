"""Finding what is now, in the order of its key, so that writes do not disturb a page that goes on later."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Table, func, select, text, tuple_
from sqlalchemy.sql.elements import ColumnElement

from penstock.errors import InvalidIdentifier
from penstock.identity.canonical import value_of
from penstock.identity.ids import TenantId
from penstock.ports.registry import Page, Search
from penstock.registry.events import StreamKind
from penstock.registry.matching import has_all, words_in
from resources.registry.requirements import LANES
from resources.registry.rows import TABLES, held_of

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a row stands among those of its kind and tenant."""

    type_name: str = ""
    source_id: str = ""
    key: str = ""
    to_key: str = ""

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
    for row in _rows(connection, search, place_of(search.after)):
        if not (search.equals or words) or has_all(
            row.key, value_of(row.attributes), search.equals, words
        ):
            yield row


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
    wanted = {
        "tenant_id": search.tenant_id,
        "kind": str(search.kind) if "kind" in table.c else None,
        "status": search.status,
        "review": search.review,
        "key": search.from_key,
        "to_key": search.to_key,
    }
    if search.to_key is not None and "to_key" not in table.c:
        wanted["key"], wanted["to_key"] = "", None  # only relationships end somewhere
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def count_in(connection: Connection, tenant: TenantId) -> dict[tuple[StreamKind, str], int]:
    """Return how many entities and relationships of each type there are now."""
    found = {}
    for kind in (StreamKind.ENTITY, StreamKind.RELATIONSHIP):
        table = TABLES[kind]
        query = (
            select(table.c.type_name, func.count())
            .where(table.c.tenant_id == tenant)
            .group_by(table.c.type_name)
        )
        found.update({(kind, name): n for name, n in connection.execute(query)})
    return found
