"""Where a search for attributes and words has to look: what the index says, and what it cannot know of yet.

The index follows the log, so what was appended since is looked at by itself; together they leave nothing out. Both may
say too much, so each candidate is checked against its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from penstock.ports.registry import Search
from penstock.registry.events import Cursor, StreamId
from resources.registry.log import later
from resources.registry.projections import live_tracking
from resources.registry.rows import stream_of
from resources.registry.search_index import completions, rows_under
from resources.registry.terms import LONGEST_WORD, equality_term, word_term
from resources.targets.registry_tables import registry_event

_MOST_CANDIDATES = 20_000
"""Beyond these it is quicker to go through the rows in order: they are found often."""
_MOST_LATE = 5_000
_MOST_COMPLETIONS = 100


def candidates_in(
    connection: Connection, search: Search, words: Sequence[str]
) -> set[StreamId] | None:
    """Return streams among which all are that match; None where the rows themselves have to be gone through."""
    if not (search.equals or words):
        return None
    tracking = live_tracking(connection, "search")
    if tracking is None:
        return None
    late = _late(connection, search, tracking.cursor)
    if late is None:
        return None
    groups = _groups(connection, search, words, tracking.generation)
    if not groups:
        return None
    if not all(groups):
        return late
    filed = rows_under(connection, tracking.generation, groups, _MOST_CANDIDATES)
    return None if filed is None else late.union(filed)


def _late(connection: Connection, search: Search, cursor: Cursor) -> set[StreamId] | None:
    """Return the streams that have changed since the index was there; None if they are too many."""
    log = registry_event.c
    columns: tuple[Any, ...] = (
        log.tenant_id,
        log.source_id,
        log.kind,
        log.type_name,
        log.key,
        log.to_key,
    )
    query = select(*columns).where(later(cursor)).limit(_MOST_LATE + 1)
    rows = connection.execute(query).all()
    if len(rows) > _MOST_LATE:
        return None
    return {
        stream_of(row, search.kind)
        for row in rows
        if (row.tenant_id, row.kind) == (search.tenant_id, search.kind)
    }


def _groups(
    connection: Connection, search: Search, words: Sequence[str], generation: int
) -> list[list[int]]:
    """Return, for each thing that is asked, the terms that rows with it are filed under one of."""
    tenant, kind = search.tenant_id, str(search.kind)
    terms = [equality_term(tenant, kind, name, wanted) for name, wanted in search.equals.items()]
    groups = [[term] for term in terms if term is not None]
    *whole, last = words or [""]
    groups += [[word_term(tenant, kind, word)] for word in whole]
    if last:
        found = completions(
            connection, generation, tenant, last[:LONGEST_WORD], _MOST_COMPLETIONS + 1
        )
        if len(found) <= _MOST_COMPLETIONS:
            groups.append([word_term(tenant, kind, word) for word in found])
    return groups
