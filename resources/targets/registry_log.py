"""The registry's statements: events into the log, from there into a projection, and what a projection holds.

Events are loaded straight into the log, by binary COPY on PostgreSQL, and the projection is changed from the stretch of
the log that they take; so each row travels to the server once. Table and column names are this package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TenantId
from penstock.plan.operations import Action
from penstock.ports.target import ApplyContext
from penstock.registry.events import StreamKind
from resources.control_db.log_order import NUMBER
from resources.targets.binary_copy import binary_copy

_SHARED = (
    "transaction_id",
    "source_id",
    "tenant_id",
    "kind",
    "batch_id",
    "plan_digest",
    "fencing_token",
    "recorded_at",
    "data",
)
_OWN = (
    "operation_id",
    "type_name",
    "key",
    "to_key",
    "action",
    "attributes",
    "before_digest",
    "after_digest",
)
_VERSION = "schema_version"
"""A column that a chunk has where some of it was validated."""
UNCHANGED = '{"unchanged":true}'
"""What the log says of an operation whose effect was there before it."""
_GONE_KEY = "tenant_id, kind, type_name, source_id, key, to_key"
_GONE = f"{_GONE_KEY}, version"
_WANTED = ("n", "operation_id", "type_name", "key", "to_key")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Positions in the log that a load took: after ``after`` and up to ``last``."""

    after: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Projection:
    """What is now, of one kind, as the log has made it."""

    kind: Kind
    tenant: TenantId
    source: SourceId
    postgres: bool

    @property
    def stream_kind(self) -> StreamKind:
        """What the log calls it."""
        return StreamKind.ENTITY if self.kind is Kind.ENTITY else StreamKind.RELATIONSHIP

    @property
    def table(self) -> str:
        """Its table."""
        return f"registry_{self.stream_kind}"

    @property
    def _kind(self) -> str:
        return f"'{self.stream_kind}'"

    @property
    def _ends(self) -> str:
        return "key, " if self.kind is Kind.ENTITY else "key, to_key, "

    def _same_key(self, other: str) -> str:
        ends = "" if self.kind is Kind.ENTITY else f" AND p.to_key = {other}.to_key"
        return f"{self._same_lane('p', other)} AND p.key = {other}.key{ends}"

    def _same_lane(self, one: str, other: str) -> str:
        return f"{one}.tenant_id = :tenant AND {one}.type_name = {other}.type_name AND {one}.source_id = :source"

    def _beside(self, one: str, other: str) -> str:
        """Match a row of a table that is kept beside those of what is now, for all kinds."""
        return (
            f"{self._same_lane(one, other)} AND {one}.kind = {self._kind} AND {one}.key = {other}.key "
            f"AND {one}.to_key = {self._to_key(other)}"
        )

    def _to_key(self, table: str) -> str:
        return "''" if self.kind is Kind.ENTITY else f"{table}.to_key"

    # Writing ------------------------------------------------------------------------------------------------

    def append(
        self,
        connection: Connection,
        rows: pa.Table,
        context: ApplyContext,
        *,
        data: str | None = None,
    ) -> Stretch:
        """Append an event per operation; an operation id that is in the log is a unique violation."""
        shared = (
            context.source_id,
            context.tenant_id,
            str(self.stream_kind),
            context.batch_id,
            context.plan_digest,
            context.fencing_token,
            self._moment(context.now),
            data,
        )
        load = _load_postgres if self.postgres else _load_sqlite
        return load(connection, rows, shared)

    def _moment(self, moment: datetime) -> Any:
        # SQLite keeps moments as SQLAlchemy writes them: naive text in UTC.
        if self.postgres:
            return moment
        return moment.replace(tzinfo=None).isoformat(" ", "microseconds")

    def change(
        self, connection: Connection, stretch: Stretch, rows: pa.Table, context: ApplyContext
    ) -> bool:
        """Do what a stretch of the log says; say whether every update and delete found what it expected.

        A create of what is there is a unique violation.
        """
        values = self._values(stretch, context)
        counts = {c["values"]: c["counts"] for c in pc.value_counts(rows["action"]).to_pylist()}
        if Action.DELETE in counts:
            connection.execute(text(self._drop_references()), values)
            connection.execute(text(self._remember()), values)
        statements = {
            Action.CREATE: self._create,
            Action.UPDATE: self._update,
            Action.DELETE: self._delete,
        }
        return all(
            connection.execute(text(statements[Action(name)]()), values).rowcount == count
            for name, count in counts.items()
        )

    def acknowledge(self, connection: Connection, stretch: Stretch, context: ApplyContext) -> None:
        """Count a stretch's events, whose effect was there already, as the last of their streams."""
        values = self._values(stretch, context)
        connection.execute(text(self._touch()), values)
        connection.execute(text(self._touch_gone()), values)

    def _values(self, stretch: Stretch, context: ApplyContext) -> dict[str, Any]:
        return {
            "source": context.source_id,
            "tenant": context.tenant_id,
            "plan": context.plan_digest,
            "now": self._moment(context.now),
            "by": f"batch:{context.batch_id}",
            "after": stretch.after,
            "last": stretch.last,
        }

    def _events(self, *actions: Action) -> str:
        # Other lanes write to the log at the same time; of this source and plan there is but one at once.
        listed = ", ".join(f"'{action}'" for action in actions)
        return (
            "e.position > :after AND e.position <= :last AND e.source_id = :source "
            f"AND e.plan_digest = :plan AND e.kind = {self._kind} AND e.action IN ({listed})"
        )

    def _create(self) -> str:
        # What comes back after it was deleted goes on counting where it ended.
        return (
            f"INSERT INTO {self.table} (source_id, type_name, {self._ends}tenant_id, attributes, digest, "
            "operation_id, updated_at, updated_by, schema_version, version) "
            f"SELECT e.source_id, e.type_name, {self._ends.replace('key', 'e.key').replace('to_e.', 'e.to_')}"
            "e.tenant_id, e.attributes, e.after_digest, e.operation_id, e.recorded_at, :by, e.schema_version, "
            "COALESCE(g.version, 0) + 1 FROM registry_event AS e LEFT JOIN registry_gone AS g "
            f"ON {self._beside('g', 'e')} WHERE {self._events(Action.CREATE)}"
        )

    def _update(self) -> str:
        # Whoever attested it attested something else.
        return (
            f"UPDATE {self.table} AS p SET attributes = e.attributes, digest = e.after_digest, "
            "operation_id = e.operation_id, updated_at = :now, updated_by = :by, version = p.version + 1, "
            "review = NULL, reviewed_by = NULL, reviewed_at = NULL, schema_version = e.schema_version "
            f"FROM registry_event AS e WHERE {self._events(Action.UPDATE)} AND {self._same_key('e')} "
            "AND p.digest = e.before_digest"
        )

    def _gone(self) -> str:
        return f"{self._events(Action.DELETE)} AND {self._same_key('e')} AND p.digest = e.before_digest"

    def _delete(self) -> str:
        return self._delete_from(self.table, self._gone())

    def _drop_references(self) -> str:
        found = f"{self._events(Action.DELETE)} AND {self._beside('p', 'e')}"
        return self._delete_from("registry_reference", found)

    def _delete_from(self, table: str, found: str) -> str:
        if self.postgres:
            return f"DELETE FROM {table} AS p USING registry_event AS e WHERE {found}"
        return (
            f"DELETE FROM {table} WHERE rowid IN "
            f"(SELECT p.rowid FROM registry_event AS e CROSS JOIN {table} AS p WHERE {found})"
        )

    def _remember(self) -> str:
        return (
            f"INSERT INTO registry_gone ({_GONE}) SELECT p.tenant_id, {self._kind}, p.type_name, p.source_id, "
            f"p.key, {self._to_key('p')}, p.version + 1 FROM registry_event AS e CROSS JOIN {self.table} AS p "
            f"WHERE {self._gone()} ON CONFLICT ({_GONE_KEY}) DO UPDATE SET version = excluded.version"
        )

    def _touch(self) -> str:
        found = self._events(Action.CREATE, Action.UPDATE)
        return (
            f"UPDATE {self.table} AS p SET operation_id = e.operation_id, version = p.version + 1, "
            "updated_at = :now, updated_by = :by "
            f"FROM registry_event AS e WHERE {found} AND {self._same_key('e')}"
        )

    def _touch_gone(self) -> str:
        return (
            f"INSERT INTO registry_gone ({_GONE}) SELECT e.tenant_id, e.kind, e.type_name, e.source_id, e.key, "
            f"{self._to_key('e')}, 1 FROM registry_event AS e WHERE {self._events(Action.DELETE)} "
            f"ON CONFLICT ({_GONE_KEY}) DO UPDATE SET version = registry_gone.version + 1"
        )

    # Reading ------------------------------------------------------------------------------------------------

    def want(self, connection: Connection, rows: pa.Table) -> None:
        """Name operations or keys to ask about, in place of those asked about before."""
        columns = [pa.array(range(len(rows)), pa.int64()), *(rows[name] for name in _WANTED[1:])]
        if self.postgres:
            _want_postgres(connection, columns)
        else:
            _want_sqlite(connection, columns)

    def receipts(self, connection: Connection) -> set[bytes]:
        """Return those of the wanted operation ids that are in the log."""
        query = text(
            "SELECT e.operation_id FROM registry_wanted AS w "
            "JOIN registry_event AS e ON e.operation_id = w.operation_id"
        )
        return {bytes(row[0]) for row in connection.execute(query)}

    def digests(self, connection: Connection) -> list[bytes | None]:
        """Return the digest of every wanted key, in order, None where absent."""
        return [digest for digest, _ in self.held(connection, "NULL")]

    def held(
        self, connection: Connection, attributes: str = "p.attributes"
    ) -> list[tuple[bytes | None, str | None]]:
        """Return digest and attributes of every wanted key, in order, None where absent."""
        query = text(
            f"SELECT p.digest, {attributes} FROM registry_wanted AS w LEFT JOIN {self.table} AS p "
            f"ON {self._same_key('w')} ORDER BY w.n"
        )
        found = connection.execute(query, {"tenant": self.tenant, "source": self.source})
        return [(None if row[0] is None else bytes(row[0]), row[1]) for row in found]


def _load_postgres(connection: Connection, rows: pa.Table, shared: Sequence[Any]) -> Stretch:
    driver = connection.connection.driver_connection
    assert driver is not None
    sequence = "pg_get_serial_sequence('registry_event', 'position')"
    with driver.cursor() as cursor:
        number = f"SELECT nextval({sequence}), {NUMBER}"
        after, transaction = cursor.execute(number).fetchone()
        names = ", ".join((*_SHARED, *_OWN, _VERSION))
        with cursor.copy(f"COPY registry_event ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            own = [*(rows[name] for name in _OWN), _version_fields(rows)]
            for piece in binary_copy([transaction, *shared, *own]):
                copy.write(piece)
        (last,) = cursor.execute(f"SELECT currval({sequence})").fetchone()
    return Stretch(after=after, last=last)


def _version_fields(rows: pa.Table) -> pa.Array | None:
    """Return the versions of schemas as the server's 4-byte integers, or None where nothing was validated."""
    if _VERSION not in rows.column_names:
        return None
    versions = rows[_VERSION].combine_chunks()
    words = pc.fill_null(versions, 0).to_numpy(zero_copy_only=False).astype(">i4")
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(4), len(versions), [None, pa.py_buffer(words.tobytes())]
    )
    return pc.if_else(
        pc.is_valid(versions), pc.cast(packed, pa.binary()), pa.scalar(None, pa.binary())
    )


def _load_sqlite(connection: Connection, rows: pa.Table, shared: Sequence[Any]) -> Stretch:
    after = connection.scalar(text("SELECT max(position) FROM registry_event")) or 0
    values = ", ".join(["?"] * (len(_SHARED) + len(_OWN) + 1))
    # There is one writer at a time, so positions are in the order of commits by themselves.
    columns = [[value] * len(rows) for value in (0, *shared)]
    columns += [rows[name].to_pylist() for name in _OWN]
    is_validated = _VERSION in rows.column_names
    columns.append(rows[_VERSION].to_pylist() if is_validated else [None] * len(rows))
    connection.exec_driver_sql(
        f"INSERT INTO registry_event ({', '.join((*_SHARED, *_OWN, _VERSION))}) VALUES ({values})",
        list(zip(*columns, strict=True)),
    )
    last = connection.scalar(text("SELECT max(position) FROM registry_event")) or 0
    return Stretch(after=after, last=last)


_WANTED_COLUMNS = "n bigint, operation_id {bytes}, type_name text, key text, to_key text"


def _want_postgres(connection: Connection, columns: Sequence[pa.Array]) -> None:
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS registry_wanted ({_WANTED_COLUMNS.format(bytes='bytea')}) "
        "ON COMMIT DELETE ROWS"
    )
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.execute("TRUNCATE registry_wanted")
        with cursor.copy(
            f"COPY registry_wanted ({', '.join(_WANTED)}) FROM STDIN (FORMAT BINARY)"
        ) as copy:
            for piece in binary_copy(columns):
                copy.write(piece)


def _want_sqlite(connection: Connection, columns: Sequence[pa.Array]) -> None:
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS registry_wanted ({_WANTED_COLUMNS.format(bytes='blob')})"
    )
    connection.exec_driver_sql("DELETE FROM registry_wanted")
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    if rows:
        connection.exec_driver_sql("INSERT INTO registry_wanted VALUES (?, ?, ?, ?, ?)", rows)
