"""The projection that search goes by: an inverted index over what is now.

Three tables a generation: rows by number, one narrow table of (term, row), and the words of each tenant, from which the
beginning of a word is completed. Words are never taken out again: one that nothing has any more completes to nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from sqlalchemy import Connection, Row, bindparam, text

from penstock.identity.canonical import value_of
from penstock.registry.attributes import plain
from penstock.registry.events import EventAction, StreamId, StreamKind
from penstock.registry.upcasting import CURRENT, Upcasters
from resources.registry.rows import recorded_of, stream_of
from resources.registry.terms import WordTerms, terms_of
from resources.targets.binary_copy import binary_copy
from resources.targets.registry_log import UNCHANGED

_STREAM = ("tenant_id", "kind", "type_name", "source_id", "key", "to_key")
_AT_ONCE = 500
Address = tuple[str, ...]


def tables(generation: int) -> tuple[str, str, str]:
    """Return the names of a generation's tables: rows, terms, words."""
    names = ("row", "term", "word")
    row, term, word = (f"registry_search_{name}_{generation}" for name in names)
    return row, term, word


@dataclass(frozen=True, slots=True)
class Filed:
    """What the index is to say of a row; nothing where it is gone."""

    terms: frozenset[int] = frozenset()
    words: frozenset[str] = frozenset()
    there: bool = False
    new: bool = False
    """Nothing was there before, so that there is nothing to look for."""


@dataclass(frozen=True)
class SearchIndex:
    """:class:`resources.registry.projections.LogProjection` that indexes."""

    upcasters: Upcasters = CURRENT
    name: str = "search"
    rebuildable: bool = True

    def create(self, connection: Connection, generation: int) -> None:
        """Make the tables of a generation."""
        row, term, word = tables(generation)
        postgres = connection.dialect.name == "postgresql"
        a_text, a_bytes = ('text COLLATE "C"', "bytea") if postgres else ("text", "blob")
        tail = "" if postgres else " WITHOUT ROWID"
        address = ", ".join(f"{name} {a_text} NOT NULL" for name in _STREAM)
        number = "bigint" if postgres else "integer"
        for statement in (
            f"CREATE TABLE {row} (row {number} PRIMARY KEY, {address}, terms {a_bytes} NOT NULL, "
            f"UNIQUE ({', '.join(_STREAM)}))",
            f"CREATE TABLE {term} (term bigint NOT NULL, row bigint NOT NULL, PRIMARY KEY (term, row)){tail}",
            f"CREATE TABLE {word} (tenant_id {a_text} NOT NULL, word {a_text} NOT NULL, "
            f"PRIMARY KEY (tenant_id, word)){tail}",
        ):
            connection.execute(text(statement))

    def drop(self, connection: Connection, generation: int) -> None:
        """Drop the tables of a generation."""
        for table in tables(generation):
            connection.execute(text(f"DROP TABLE {table}"))

    def prepare(self, events: Sequence[Row[Any]]) -> Mapping[Address, Filed]:
        """Return what the last event of each stream leaves to be filed."""
        last: dict[Address, Row[Any]] = {}
        new: dict[Address, bool] = {}
        for event in events:
            address = _address(event)
            last[address] = event
            new.setdefault(address, event.before_digest is None and event.data != UNCHANGED)
        known = {whose: WordTerms(*whose) for whose in {(a[0], a[1]) for a in last}}
        return {
            address: self._filed(event, known[address[0], address[1]], new=new[address])
            for address, event in last.items()
        }

    def _filed(self, event: Row[Any], known: WordTerms, *, new: bool) -> Filed:
        attributes = self._attributes(event)
        if attributes is None:
            return Filed(new=new)
        terms, words = terms_of(event.tenant_id, event.kind, event.key, attributes, known)
        return Filed(terms=frozenset(terms), words=frozenset(words), there=True, new=new)

    def _attributes(self, event: Row[Any]) -> Any:
        """Return the state that an event leaves as plain JSON."""
        kind, action = StreamKind(event.kind), EventAction(event.action)
        if event.event_version != self.upcasters.newest(kind, action):
            return plain(self.upcasters.upcast(recorded_of(event)).state)
        if event.attributes is None:
            return None
        # Only a text with a name that begins with $ may hold what is not plain JSON.
        text = event.attributes
        return plain(value_of(text)) if '"$' in text else orjson.loads(text)

    def write(
        self, connection: Connection, generation: int, prepared: Mapping[Address, Filed]
    ) -> None:
        """File rows under what they are to be found by now, and under nothing else any more."""
        before = _rows(
            connection, generation, [a for a, filed in prepared.items() if not filed.new]
        )
        row_table = tables(generation)[0]
        number = connection.scalar(text(f"SELECT max(row) FROM {row_table}")) or 0
        new: list[tuple[Any, ...]] = []
        changed: list[dict[str, Any]] = []
        gone: list[dict[str, Any]] = []
        added, removed = _Pairs(), _Pairs()
        for address, filed in prepared.items():
            row, old = before.get(address, (None, frozenset[int]()))
            if row is None:
                if not filed.there:
                    continue
                number += 1
                row = number
                new.append((row, *address, _packed(filed.terms)))
            elif not filed.there:
                gone.append({"row": row})
            elif old != filed.terms:
                changed.append({"row": row, "terms": _packed(filed.terms)})
            added.add(row, filed.terms - old)
            removed.add(row, old - filed.terms)
        self._write_rows(connection, row_table, new, changed, gone)
        _write_terms(connection, tables(generation)[1], added, removed)
        _write_words(connection, tables(generation)[2], prepared)

    @staticmethod
    def _write_rows(
        connection: Connection,
        table: str,
        new: Sequence[tuple[Any, ...]],
        changed: Sequence[dict[str, Any]],
        gone: Sequence[dict[str, Any]],
    ) -> None:
        if new:
            names = ("row", *_STREAM, "terms")
            _load(connection, table, names, list(zip(*new, strict=True)))
        if changed:
            connection.execute(text(f"UPDATE {table} SET terms = :terms WHERE row = :row"), changed)
        if gone:
            connection.execute(text(f"DELETE FROM {table} WHERE row = :row"), gone)


def _write_words(connection: Connection, table: str, prepared: Mapping[Address, Filed]) -> None:
    said: dict[str, set[str]] = defaultdict(set)
    for address, filed in prepared.items():
        said[address[0]] |= filed.words
    words = [(tenant, word) for tenant, some in sorted(said.items()) for word in sorted(some)]
    if not words:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "CREATE TEMP TABLE IF NOT EXISTS registry_said (tenant_id text, word text) ON COMMIT DELETE ROWS"
        )
        _load(connection, "registry_said", ("tenant_id", "word"), list(zip(*words, strict=True)))
        connection.exec_driver_sql(
            f"INSERT INTO {table} SELECT tenant_id, word FROM registry_said ON CONFLICT DO NOTHING"
        )
    else:
        connection.exec_driver_sql(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", words)


class _Pairs:
    """Terms and the rows that they are of, as they are gathered."""

    def __init__(self) -> None:
        self._terms: list[int] = []
        self._rows: list[int] = []
        self._counts: list[int] = []

    def add(self, row: int, terms: frozenset[int]) -> None:
        """Add the terms of a row."""
        if terms:
            self._terms += terms
            self._rows.append(row)
            self._counts.append(len(terms))

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return terms and rows in the order of the key, so that neighbours are written together."""
        terms = np.array(self._terms, np.int64)
        rows = np.repeat(np.array(self._rows, np.int64), self._counts)
        order = np.lexsort((rows, terms))
        return terms[order], rows[order]

    def __bool__(self) -> bool:
        return bool(self._terms)


def _address(event: Row[Any]) -> Address:
    return (
        event.tenant_id,
        event.kind,
        event.type_name,
        event.source_id,
        event.key,
        event.to_key or "",
    )


def _packed(terms: Iterable[int]) -> bytes:
    return np.sort(np.fromiter(terms, np.int64)).tobytes()


def _unpacked(terms: bytes) -> frozenset[int]:
    return frozenset(np.frombuffer(terms, np.int64).tolist())


def _rows(
    connection: Connection, generation: int, addresses: Iterable[Address]
) -> dict[Address, tuple[int, frozenset[int]]]:
    """Return number and terms of those rows that are filed."""
    table = tables(generation)[0]
    lanes: dict[Address, list[Address]] = {}
    for address in addresses:
        lanes.setdefault(address[:4], []).append(address)
    query = text(
        f"SELECT row, {', '.join(_STREAM)}, terms FROM {table} WHERE tenant_id = :tenant AND kind = :kind "
        "AND type_name = :type AND source_id = :source AND key IN :keys"
    ).bindparams(bindparam("keys", expanding=True))
    found = {}
    for lane, wanted in lanes.items():
        values = dict(zip(("tenant", "kind", "type", "source"), lane, strict=True))
        keys = sorted({address[4] for address in wanted})
        of_interest = set(wanted)
        for start in range(0, len(keys), _AT_ONCE):
            for row in connection.execute(
                query, {**values, "keys": keys[start : start + _AT_ONCE]}
            ):
                address = tuple(row[1:7])
                if address in of_interest:
                    found[address] = (row.row, _unpacked(bytes(row.terms)))
    return found


def _write_terms(
    connection: Connection,
    table: str,
    added: _Pairs,
    removed: _Pairs,
) -> None:
    if added:
        _load(connection, table, ("term", "row"), added.sorted())
    if not removed:
        return
    terms, rows = (column.tolist() for column in removed.sorted())
    if connection.dialect.name == "postgresql":
        statement = text(
            f"DELETE FROM {table} AS t USING unnest(CAST(:terms AS bigint[]), CAST(:rows AS bigint[])) "
            "AS r(term, row) WHERE t.term = r.term AND t.row = r.row"
        )
        connection.execute(statement, {"terms": terms, "rows": rows})
    else:
        pairs = list(zip(terms, rows, strict=True))
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE term = ? AND row = ?", pairs)


def _load(connection: Connection, table: str, names: Sequence[str], columns: Sequence[Any]) -> None:
    """Load rows, given as columns."""
    if connection.dialect.name != "postgresql":
        marks = ", ".join("?" * len(names))
        values = [
            column.tolist() if isinstance(column, np.ndarray) else column for column in columns
        ]
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})",
            list(zip(*values, strict=True)),
        )
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        for piece in binary_copy([pa.array(column) for column in columns]):
            copy.write(piece)


# Looking up ---------------------------------------------------------------------------------------------------


def completions(
    connection: Connection, generation: int, tenant: str, beginning: str, limit: int
) -> list[str]:
    """Return the words of a tenant that begin so, ``limit`` of them at most."""
    table = tables(generation)[2]
    # Byte by byte: UTF-8 keeps the order of code points, and none is above the last one.
    query = text(
        f"SELECT word FROM {table} WHERE tenant_id = :tenant AND word >= :first AND word < :last LIMIT :limit"
    )
    last = beginning + "\U0010ffff"
    values = {"tenant": tenant, "first": beginning, "last": last, "limit": limit}
    return list(connection.scalars(query, values))


def rows_under(
    connection: Connection, generation: int, groups: Sequence[Sequence[int]], limit: int
) -> list[StreamId] | None:
    """Return the rows that are filed under a term of each group; None if they are more than ``limit``."""
    row_table, table, _ = tables(generation)
    groups = sorted(groups, key=lambda group: _count(connection, table, group, limit))
    conditions = "".join(
        f" AND EXISTS (SELECT 1 FROM {table} AS t{n} WHERE t{n}.row = t0.row AND t{n}.term IN :g{n})"
        for n in range(1, len(groups))
    )
    query = text(
        f"SELECT DISTINCT t0.row FROM {table} AS t0 WHERE t0.term IN :g0{conditions} LIMIT :limit"
    ).bindparams(*(bindparam(f"g{n}", expanding=True) for n in range(len(groups))))
    values = {f"g{n}": list(group) for n, group in enumerate(groups)}
    numbers = list(connection.scalars(query, {**values, "limit": limit + 1}))
    if len(numbers) > limit:
        return None
    named = text(f"SELECT {', '.join(_STREAM)} FROM {row_table} WHERE row IN :rows").bindparams(
        bindparam("rows", expanding=True)
    )
    found = []
    for start in range(0, len(numbers), _AT_ONCE):
        for row in connection.execute(named, {"rows": numbers[start : start + _AT_ONCE]}):
            found.append(stream_of(row, StreamKind(row.kind)))
    return found


def _count(connection: Connection, table: str, group: Sequence[int], limit: int) -> int:
    query = text(
        f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE term IN :group LIMIT :limit) AS filed"
    ).bindparams(bindparam("group", expanding=True))
    return int(connection.scalar(query, {"group": list(group), "limit": limit + 1}) or 0)
