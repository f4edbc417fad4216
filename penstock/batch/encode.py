"""From what an extractor yields to Arrow rows of the contract, a bounded chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import SCHEMAS, Entity, Kind, Relationship
from penstock.batch.source import Extracted
from penstock.batch.typed import attributes_text
from penstock.errors import BadRow, NotCanonical
from penstock.identity.canonical import canonical_json, canonical_text, value_of

CHUNK_ROWS = 32_768
CHUNK_BYTES = 32 * 1024 * 1024
KEY_COLUMNS = {
    Kind.ENTITY: ("entity_type", "entity_key"),
    Kind.RELATIONSHIP: ("relationship_type", "from_key", "to_key"),
}

Where = Callable[[int], str]
"""Names a row, by its number in a chunk, e.g. ``entities/part-00000.parquet, row 17``."""


def encode(items: Iterable[Extracted]) -> Iterator[tuple[Kind, pa.Table]]:
    """Yield chunks with the columns of ``SCHEMAS[kind]`` and canonical attributes, in the order of the items.

    A chunk has at most ``CHUNK_ROWS`` rows and, single rows apart, some ``CHUNK_BYTES``. Raises :class:`BadRow` for a
    row or a table that cannot be encoded.
    """
    pending: dict[Kind, _Pending] = {}
    for item in items:
        if isinstance(item, pa.Table | pa.RecordBatch):
            yield from _encoded_table(item)
            continue
        if not isinstance(item, Entity | Relationship):
            raise BadRow(
                f"an extractor yielded a {type(item).__name__}: yield Entity, Relationship or Arrow tables"
            )
        kind = Kind.ENTITY if isinstance(item, Entity) else Kind.RELATIONSHIP
        rows = pending.setdefault(kind, _Pending(kind))
        rows.add(item)
        if rows.full:
            yield kind, pending.pop(kind).table()
    yield from ((kind, rows.table()) for kind, rows in pending.items())


class _Pending:
    """Rows of one kind that have come one at a time; their attributes are text at once, so that nothing is shared."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.size_bytes = 0
        self._keys: list[tuple[str, ...]] = []
        self._texts: list[bytes | None] = []
        self._tombstones: list[bool] = []

    @property
    def rows(self) -> int:
        return len(self._keys)

    @property
    def full(self) -> bool:
        return self.rows >= CHUNK_ROWS or self.size_bytes >= CHUNK_BYTES

    def add(self, row: Entity | Relationship) -> None:
        self._keys.append(_keys_of(row))
        self._tombstones.append(row.deleted)
        if row.deleted:
            self._texts.append(None)
            return
        try:
            text = canonical_text(row.attributes)
        except NotCanonical as error:
            raise BadRow(f"{_named(self.kind, self._keys[-1])}: {error}") from error
        self._texts.append(text)
        self.size_bytes += len(text)

    def table(self) -> pa.Table:
        columns = [
            _key_column(self.kind, name, [keys[n] for keys in self._keys])
            for n, name in enumerate(KEY_COLUMNS[self.kind])
        ]
        columns += [pa.array(self._texts, pa.string()), pa.array(self._tombstones, pa.bool_())]
        return pa.Table.from_arrays(columns, schema=SCHEMAS[self.kind])


def _keys_of(row: Entity | Relationship) -> tuple[str, ...]:
    if isinstance(row, Entity):
        return row.entity_type, row.entity_key
    return row.relationship_type, row.from_key, row.to_key


def _named(kind: Kind, keys: tuple[Any, ...]) -> str:
    columns = zip(KEY_COLUMNS[kind], keys, strict=True)
    return "the row with " + ", ".join(f"{name} {value!r}" for name, value in columns)


def _key_column(kind: Kind, name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        bad = next(v for v in values if not _is_text(v))
        raise BadRow(
            f"{kind}: {name} {bad!r} is not text that UTF-8 can carry: convert it at the source"
        ) from error


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return value is None
    return value.encode("utf-8", "replace").decode() == value


# Arrow tables -------------------------------------------------------------------------------------------------


def kind_of(names: Iterable[str]) -> Kind:
    """Say of what kind rows with these columns are, or raise :class:`BadRow`."""
    there = set(names)
    for kind, keys in KEY_COLUMNS.items():
        if keys[1] in there:
            return kind
    raise BadRow(
        f"an Arrow table has the columns {sorted(there)}: it needs entity_type and entity_key, or "
        "relationship_type, from_key and to_key"
    )


def _encoded_table(table: pa.Table | pa.RecordBatch) -> Iterator[tuple[Kind, pa.Table]]:
    kind = kind_of(table.schema.names)
    contract = set(SCHEMAS[kind].names)
    typed = [name for name in table.schema.names if name not in contract]
    if len(set(table.schema.names)) != len(table.schema.names):
        raise BadRow(f"an Arrow table names a column twice: {sorted(table.schema.names)}")
    if typed and "attributes" in table.schema.names:
        raise BadRow(
            f"an Arrow table has both attributes and the columns {typed}: put everything into the one or the others"
        )
    whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    for chunk in bounded_chunks(whole):
        texts = _typed_text(chunk, typed) if typed else None
        yield from ((kind, rows) for rows in bounded_chunks(contract_rows(kind, chunk, texts)))


def bounded_chunks(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table into chunks of at most ``CHUNK_ROWS`` rows and, single rows apart, some ``CHUNK_BYTES``."""
    start = 0
    while start < len(table):
        length = min(CHUNK_ROWS, len(table) - start)
        while length > 1 and table.slice(start, length).nbytes > CHUNK_BYTES:
            length //= 2
        yield table.slice(start, length)
        start += length


def _typed_text(chunk: pa.Table, typed: list[str]) -> pa.Array:
    columns = {name: _whole(chunk[name]) for name in typed}
    try:
        return attributes_text(columns)
    except NotCanonical as error:
        raise BadRow(f"an Arrow table cannot be encoded: {error}") from error


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def contract_rows(
    kind: Kind, chunk: pa.Table, texts: pa.Array | None = None, *, where: Where = "row {}".format
) -> pa.Table:
    """Return a chunk with exactly the columns of ``SCHEMAS[kind]``.

    Attributes are ``texts``, which are canonical, or else the chunk's own, made canonical. Raises :class:`BadRow`.
    """
    columns = [_text_column(kind, chunk, name) for name in KEY_COLUMNS[kind]]
    tombstones = _tombstones(kind, chunk)
    if texts is None:
        texts = canonical_column(_text_column(kind, chunk, "attributes"), tombstones, where)
    columns += [_without(texts.cast(pa.string()), tombstones), tombstones]
    return pa.Table.from_arrays(columns, schema=SCHEMAS[kind])


def _text_column(kind: Kind, chunk: pa.Table, name: str) -> pa.Array:
    if name in chunk.schema.names:
        try:
            return plain_text(chunk[name])
        except BadRow as error:
            raise BadRow(f"{kind}: column {name} {error}") from error
    if name == "attributes":
        return pa.array(["{}"] * len(chunk), pa.string())
    raise BadRow(f"{kind} have no column {name}; the columns are {chunk.schema.names}: add it")


def plain_text(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of any Arrow text type as one ``string`` array; :class:`BadRow` for other types."""
    is_ = pa.types
    kind = column.type.value_type if is_.is_dictionary(column.type) else column.type
    checks = (is_.is_string, is_.is_large_string, is_.is_string_view, is_.is_null)
    if not any(check(kind) for check in checks):
        raise BadRow(f"is {column.type}, not text: cast it to string")
    return _whole(column).cast(pa.string())


def _tombstones(kind: Kind, chunk: pa.Table) -> pa.Array:
    if "tombstone" not in chunk.schema.names:
        return pa.array(np.zeros(len(chunk), bool))
    column = _whole(chunk["tombstone"])
    if not (pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise BadRow(f"{kind}: column tombstone is {column.type}, not bool: cast it")
    return pc.fill_null(column.cast(pa.bool_()), False)


def _without(texts: pa.Array, tombstones: pa.Array) -> pa.Array:
    if not tombstones.true_count:
        return texts
    return pc.if_else(tombstones, pa.scalar(None, pa.string()), texts)


def canonical_column(texts: pa.Array, tombstones: pa.Array, where: Where) -> pa.Array:
    """Return attributes as canonical text; null stands for no attributes. Raises :class:`BadRow`, naming the row."""
    made: list[bytes | None] = []
    for n, (text, dead) in enumerate(
        zip(texts.cast(pa.binary()).to_pylist(), tombstones.to_pylist(), strict=True)
    ):
        if dead:
            made.append(None)
            continue
        try:
            made.append(canonical_json(text) if text is not None else b"{}")
        except NotCanonical as error:
            raise BadRow(f"{where(n)}: attributes: {error}") from error
    return pa.array(made, pa.string())


def decoded(kind: Kind, rows: pa.Table) -> Iterator[Entity | Relationship]:
    """Yield rows of the contract as Python values, for a transform."""
    for row in rows.to_pylist():
        attributes = value_of(row["attributes"]) if row["attributes"] is not None else {}
        keys = {name: row[name] for name in KEY_COLUMNS[kind]}
        if kind is Kind.ENTITY:
            yield Entity(**keys, attributes=attributes, deleted=row["tombstone"])
        else:
            yield Relationship(**keys, attributes=attributes, deleted=row["tombstone"])
