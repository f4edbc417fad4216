"""The projection that search goes by: an inverted index over what is now.

Three tables a generation: rows by number, one narrow table of (term, row), and the words of each tenant, from which the
beginning of a word is completed. Words are never taken out again: one that nothing has any more completes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Row, bindparam, text

from penstock.registry.events import StreamId, StreamKind
from penstock.registry.upcasting import CURRENT, Upcasters
from resources.registry.rows import recorded_of, stream_of
from resources.registry.terms import terms_of
from resources.targets.binary_copy import binary_copy

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
        last = {_address(event): event for event in events}
        return {address: self._filed(event) for address, event in last.items()}

    def _filed(self, event: Row[Any]) -> Filed:
        recorded = self.upcasters.upcast(recorded_of(event))
        if recorded.state is None:
            return Filed()
        stream = recorded.stream
        keys = (stream.key,)
        terms, words = terms_of(stream.tenant_id, stream.kind, keys, recorded.state)
        return Filed(terms=frozenset(terms), words=frozenset(words), there=True)

    def write(
        self, connection: Connection, generation: int, prepared: Mapping[Address, Filed]
    ) -> None:
        """File rows under what they are to be found by now, and under nothing else any more."""
        before = _rows(connection, generation, prepared)
        row_table = tables(generation)[0]
        number = connection.scalar(text(f"SELECT max(row) FROM {row_table}")) or 0
        new, changed, gone = [], [], []
        added: list[tuple[int, int]] = []
        removed: list[tuple[int, int]] = []
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
            added += [(term, row) for term in filed.terms - old]
            removed += [(term, row) for term in old - filed.terms]
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
            _load(connection, table, names, new)
        if changed:
            connection.execute(text(f"UPDATE {table} SET terms = :terms WHERE row = :row"), changed)
        if gone:
            connection.execute(text(f"DELETE FROM {table} WHERE row = :row"), gone)


def _write_words(connection: Connection, table: str, prepared: Mapping[Address, Filed]) -> None:
    words = sorted(
        {(address[0], word) for address, filed in prepared.items() for word in filed.words}
    )
    if not words:
        return
    if connection.dialect.name == "postgresql":
        statement = text(
            f"INSERT INTO {table} SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:words AS text[])) "
            "ON CONFLICT DO NOTHING"
        )
        tenants, said = zip(*words, strict=True)
        connection.execute(statement, {"tenants": list(tenants), "words": list(said)})
    else:
        connection.exec_driver_sql(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", words)


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
    added: Sequence[tuple[int, int]],
    removed: Sequence[tuple[int, int]],
) -> None:
    if added:
        # In the order of the key, so that neighbours are written together.
        _load(connection, table, ("term", "row"), sorted(added))
    if not removed:
        return
    if connection.dialect.name == "postgresql":
        statement = text(
            f"DELETE FROM {table} AS t USING unnest(CAST(:terms AS bigint[]), CAST(:rows AS bigint[])) "
            "AS r(term, row) WHERE t.term = r.term AND t.row = r.row"
        )
        terms, rows = zip(*removed, strict=True)
        connection.execute(statement, {"terms": list(terms), "rows": list(rows)})
    else:
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE term = ? AND row = ?", list(removed))


def _load(
    connection: Connection, table: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    if connection.dialect.name != "postgresql":
        marks = ", ".join("?" * len(names))
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", list(rows)
        )
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        for piece in binary_copy(columns):
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
