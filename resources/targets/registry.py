"""The registry: the default target, an event log and its projections in the control database.

A chunk is one transaction: fence, events, projections. It goes in optimistically, by four set statements
whose row counts must be what they would be if nothing had been applied before and every precondition held. If one
is not, all of it is taken back and the chunk is sorted row by row, which costs more and happens rarely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Engine, exc, text

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost
from penstock.identity.ids import SourceId, TargetId, target_id
from penstock.plan.operations import DIGEST, Action
from penstock.ports.target import (
    Applied,
    ApplyContext,
    ApplyOutcome,
)
from resources.control_db.schema import upgrade
from resources.targets.binary_copy import binary_copy
from resources.targets.outcomes import outcome_of
from resources.targets.preconditions import conflict, unstorable

_STAGED = (
    "n",
    "operation_id",
    "type_name",
    "key",
    "to_key",
    "action",
    "attributes",
    "before_digest",
    "after_digest",
)
_BATCH_OF_KEYS = 5_000
_MEND = "Run `penstock up`, which migrates the control database"


def open_registry(engine: Engine, name: str = "registry") -> RegistryTarget:
    """Return the registry that lives in the control database behind ``engine``."""
    return RegistryTarget(engine, target_id(name))


class RegistryTarget:
    """:class:`penstock.ports.target.Target` in the control database, on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine, name: TargetId) -> None:
        self._engine = engine
        self._name = name
        self._postgres = engine.dialect.name == "postgresql"

    def __repr__(self) -> str:
        return f"RegistryTarget({self._name!r})"

    @property
    def target_id(self) -> TargetId:
        """The id under which sources name it."""
        return self._name

    def prepare(self) -> None:
        """Bring the tables up to date."""
        upgrade(self._engine)

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Apply one chunk in one transaction."""
        if not len(operations):
            return Applied(applied=0, already_applied=0)
        if (refused := unstorable(operations)) is not None:
            return refused
        try:
            return self._apply(operations, context)
        except (exc.SQLAlchemyError, psycopg.Error) as error:
            # COPY goes past SQLAlchemy, and so do its errors.
            return outcome_of(error, mend=_MEND)

    def _apply(self, operations: pa.Table, context: ApplyContext) -> Applied:
        kinds = [Kind(kind) for kind in pc.unique(operations["kind"]).to_pylist()]
        outcomes = []
        with self._engine.begin() as connection:
            self._fence(connection, context)
            for kind in kinds:
                rows = operations.filter(pc.equal(operations["kind"], str(kind)))
                outcomes.append(self._apply_kind(connection, kind, rows, context))
        return Applied(
            applied=sum(o.applied for o in outcomes),
            already_applied=sum(o.already_applied for o in outcomes),
            failures=tuple(failure for o in outcomes for failure in o.failures),
        )

    def _fence(self, connection: Connection, context: ApplyContext) -> None:
        """Raise the lane's token, and hold its row so that no other worker writes at the same time."""
        statement = text(
            "INSERT INTO target_fence (source_id, target_id, token) VALUES (:source, :target, :token) "
            "ON CONFLICT (source_id, target_id) DO UPDATE SET token = excluded.token "
            "WHERE target_fence.token <= excluded.token RETURNING token"
        )
        values = {
            "source": context.source_id,
            "target": context.target_id,
            "token": context.fencing_token,
        }
        if connection.execute(statement, values).first() is None:
            raise LeaseLost(
                f"fencing token {context.fencing_token} for source {context.source_id!r} on target "
                f"{context.target_id!r} is stale: another worker has claimed the lane since"
            )

    def _apply_kind(
        self, connection: Connection, kind: Kind, rows: pa.Table, context: ApplyContext
    ) -> Applied:
        chunk = _Chunk(kind=kind, context=context, postgres=self._postgres)
        with connection.begin_nested() as savepoint:
            chunk.stage(connection, rows)
            if chunk.write(connection) == chunk.expected(rows):
                return Applied(applied=len(rows), already_applied=0)
            savepoint.rollback()
        return self._apply_sorted(connection, chunk, rows)

    def _apply_sorted(self, connection: Connection, chunk: _Chunk, rows: pa.Table) -> Applied:
        """Sort the rows into applied before, in conflict, and to be applied, and apply those."""
        chunk.stage(connection, rows)
        receipts, found = chunk.receipts(connection), chunk.digests(connection)
        fresh, effective, failures, already = [], [], [], 0
        for n, row in enumerate(rows.select(_NEEDED).to_pylist()):
            holds = found[n]
            if row["operation_id"] in receipts:
                already += 1
            elif holds == row["before_digest"]:
                fresh.append(n)
                effective.append(n)
            elif holds == row["after_digest"]:
                fresh.append(
                    n
                )  # it is so already: the event is recorded, nothing is left to change
            else:
                failures.append(conflict(row, holds))
        if fresh:
            chunk.stage(connection, rows.take(pa.array(fresh)))
            chunk.append_events(connection)
        if effective:
            chunk.stage(connection, rows.take(pa.array(effective)))
            chunk.write_projection(connection)
        return Applied(applied=len(fresh), already_applied=already, failures=tuple(failures))

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Return digest and attributes of some entities or relationships, null where absent."""
        chunk = _Chunk(kind=kind, context=None, postgres=self._postgres, source=source)
        digests: list[bytes | None] = []
        attributes: list[str | None] = []
        with self._engine.begin() as connection:
            for start in range(0, len(keys), _BATCH_OF_KEYS):
                chunk.stage(connection, _as_operations(keys.slice(start, _BATCH_OF_KEYS), kind))
                for row in chunk.current(connection):
                    digests.append(None if row[0] is None else bytes(row[0]))
                    attributes.append(row[1])
        return keys.append_column("digest", pa.array(digests, DIGEST)).append_column(
            "attributes", pa.array(attributes, pa.string())
        )


_NEEDED = ["operation_id", "key", "to_key", "type_name", "action", "before_digest", "after_digest"]


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """The statements for operations of one kind; table and column names are this module's own."""

    kind: Kind
    context: ApplyContext | None
    postgres: bool
    source: SourceId | None = None

    @property
    def table(self) -> str:
        return "registry_entity" if self.kind is Kind.ENTITY else "registry_relationship"

    @property
    def same_key(self) -> str:
        ends = "" if self.kind is Kind.ENTITY else " AND p.to_key = s.to_key"
        return f"p.source_id = :source AND p.type_name = s.type_name AND p.key = s.key{ends}"

    @property
    def values(self) -> dict[str, Any]:
        if self.context is None:
            return {"source": self.source}
        return {
            "source": self.context.source_id,
            "tenant": self.context.tenant_id,
            "kind": str(self.kind),
            "batch": self.context.batch_id,
            "plan": self.context.plan_digest,
            "token": self.context.fencing_token,
            # SQLite keeps moments as SQLAlchemy writes them: naive text in UTC.
            "now": self.context.now
            if self.postgres
            else self.context.now.replace(tzinfo=None).isoformat(" ", "microseconds"),
        }

    # Staging ------------------------------------------------------------------------------------------------

    def stage(self, connection: Connection, rows: pa.Table) -> None:
        """Load rows into the connection's own staging table, in place of what it held."""
        columns = [pa.array(range(len(rows)), pa.int64()), *(rows[name] for name in _STAGED[1:])]
        if self.postgres:
            _stage_postgres(connection, columns)
        else:
            _stage_sqlite(connection, columns)

    # The optimistic way -------------------------------------------------------------------------------------

    def expected(self, rows: pa.Table) -> tuple[int, ...]:
        counts = {c["values"]: c["counts"] for c in pc.value_counts(rows["action"]).to_pylist()}
        return (len(rows), *(counts.get(str(action), 0) for action in Action))

    def write(self, connection: Connection) -> tuple[int, ...]:
        """Append events and change the projection; return how many rows each statement touched."""
        return (self.append_events(connection), *self.write_projection(connection))

    def append_events(self, connection: Connection) -> int:
        return connection.execute(
            text(
                "INSERT INTO registry_event (operation_id, source_id, tenant_id, kind, type_name, key, to_key, "
                "action, attributes, before_digest, after_digest, batch_id, plan_digest, fencing_token, recorded_at) "
                "SELECT operation_id, :source, :tenant, :kind, type_name, key, to_key, action, attributes, "
                "before_digest, after_digest, :batch, :plan, :token, :now FROM registry_stage WHERE true "
                "ORDER BY n ON CONFLICT (operation_id) DO NOTHING"
            ),
            self.values,
        ).rowcount

    def write_projection(self, connection: Connection) -> tuple[int, int, int]:
        """Create, update and delete where the preconditions hold; return how many of each."""
        values = self.values
        return (
            connection.execute(text(self._create()), values).rowcount,
            connection.execute(text(self._update()), values).rowcount,
            connection.execute(text(self._delete()), values).rowcount,
        )

    def _create(self) -> str:
        end = "" if self.kind is Kind.ENTITY else "to_key, "
        return (
            f"INSERT INTO {self.table} "
            f"(source_id, type_name, key, {end}tenant_id, attributes, digest, operation_id, updated_at) "
            f"SELECT :source, type_name, key, {end}:tenant, attributes, after_digest, operation_id, :now "
            "FROM registry_stage WHERE action = 'create' ON CONFLICT DO NOTHING"
        )

    def _update(self) -> str:
        return (
            f"UPDATE {self.table} AS p SET attributes = s.attributes, digest = s.after_digest, "
            "operation_id = s.operation_id, tenant_id = :tenant, updated_at = :now "
            f"FROM registry_stage AS s WHERE s.action = 'update' AND {self.same_key} "
            "AND p.digest = s.before_digest"
        )

    def _delete(self) -> str:
        gone = f"s.action = 'delete' AND {self.same_key} AND p.digest = s.before_digest"
        if self.postgres:
            return f"DELETE FROM {self.table} AS p USING registry_stage AS s WHERE {gone}"
        return (
            f"DELETE FROM {self.table} WHERE rowid IN "
            f"(SELECT p.rowid FROM registry_stage AS s CROSS JOIN {self.table} AS p WHERE {gone})"
        )

    # The careful way ----------------------------------------------------------------------------------------

    def receipts(self, connection: Connection) -> set[bytes]:
        query = text(
            "SELECT e.operation_id FROM registry_stage AS s "
            "JOIN registry_event AS e ON e.operation_id = s.operation_id"
        )
        return {bytes(row[0]) for row in connection.execute(query)}

    def digests(self, connection: Connection) -> list[bytes | None]:
        return [None if row[0] is None else bytes(row[0]) for row in self.current(connection)]

    def current(self, connection: Connection) -> Sequence[Any]:
        """Return digest and attributes of every staged key, in order."""
        query = text(
            f"SELECT p.digest, p.attributes FROM registry_stage AS s LEFT JOIN {self.table} AS p "
            f"ON {self.same_key} ORDER BY s.n"
        )
        return connection.execute(query, {"source": self.values["source"]}).all()


_STAGE_COLUMNS = (
    "n bigint, operation_id {bytes}, type_name text, key text, to_key text, action text, "
    "attributes text, before_digest {bytes}, after_digest {bytes}"
)


def _stage_postgres(connection: Connection, columns: list[Any]) -> None:
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS registry_stage ({_STAGE_COLUMNS.format(bytes='bytea')}) "
        "ON COMMIT DELETE ROWS"
    )
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        cursor.execute("TRUNCATE registry_stage")
        names = ", ".join(_STAGED)
        with cursor.copy(f"COPY registry_stage ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            for piece in binary_copy(columns):
                copy.write(piece)


def _stage_sqlite(connection: Connection, columns: list[Any]) -> None:
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS registry_stage ({_STAGE_COLUMNS.format(bytes='blob')})"
    )
    connection.exec_driver_sql("DELETE FROM registry_stage")
    places = ", ".join("?" * len(_STAGED))
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    connection.exec_driver_sql(f"INSERT INTO registry_stage VALUES ({places})", rows)


def _as_operations(keys: pa.Table, kind: Kind) -> pa.Table:
    """Dress keys up as rows to stage."""
    n = len(keys)
    columns = {name: pa.nulls(n, pa.string()) for name in ("action", "attributes")}
    columns |= {
        name: pa.nulls(n, DIGEST) for name in ("operation_id", "before_digest", "after_digest")
    }
    columns |= {name: keys[name] for name in ("type_name", "key")}
    to_key = keys["to_key"] if kind is Kind.RELATIONSHIP else pa.nulls(n, pa.string())
    return pa.table({**columns, "to_key": to_key})
