"""sql_table: upserts and deletes into tables of any database that SQLAlchemy reaches.

A chunk is one transaction: the fence is taken, receipts and what the tables hold are read, each operation is
judged, and what is left to do is written with its receipts. The fence's row is locked all the while, so nothing that
Penstock does can come in between; a row that someone else moves meanwhile is noticed and the chunk taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    event,
    exc,
    insert,
    inspect,
    make_url,
    select,
    update,
)

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost, PenstockError
from penstock.identity.ids import SourceId, TargetId, target_id
from penstock.plan.operations import DIGEST
from penstock.ports.target import (
    HELD_SCHEMA,
    PUBLISHED,
    Applied,
    ApplyContext,
    ApplyOutcome,
    HeldName,
    OperationFailure,
    Rejected,
    TargetDown,
    Unavailable,
)
from resources.control_db.tables import UtcTimestamp
from resources.targets.column_values import Refused
from resources.targets.outcomes import TargetTablesWrong, down, outcome_of
from resources.targets.preconditions import Moved, unstorable
from resources.targets.table_mapping import (
    SOURCE,
    TYPE_NAME,
    MappedTable,
    TableMapping,
    generic_table,
    mapped_tables,
)
from resources.targets.table_rows import Changes, TypeRows

BUSY_TIMEOUT_S = 30
_KEYS_AT_ONCE = 500
_MEND = "See docs/reference/targets.md for the columns that it needs"
_NEEDED = [
    "operation_id",
    "action",
    "kind",
    "type_name",
    "key",
    "to_key",
    "attributes",
    "before_attributes",
    "before_digest",
    "after_digest",
]


class BadTargetUrl(PenstockError):
    """A target's database URL cannot be used; the message never holds its password."""

    code = "bad_target_url"


def open_sql_table(
    database: str | URL | Engine, name: str, mappings: Iterable[TableMapping] = ()
) -> SqlTableTarget:
    """Return the target ``name`` in a database; types without a mapping go into its generic tables.

    Raises :class:`BadTargetUrl` and :class:`~resources.targets.table_mapping.BadTableMapping`. Connects to nothing yet.
    """
    engine = database if isinstance(database, Engine) else _open_engine(database, name)
    return SqlTableTarget(engine, target_id(name), mappings)


def _open_engine(url: str | URL, name: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        waits = parsed.get_backend_name() == "sqlite" and "timeout" not in parsed.query
        options = {"timeout": BUSY_TIMEOUT_S} if waits else {}
        engine = create_engine(
            parsed, connect_args=options, hide_parameters=True, pool_pre_ping=True
        )
    except (exc.ArgumentError, ValueError, ImportError) as error:
        # The text of a URL may hold a password, so it is not shown.
        raise BadTargetUrl(
            f"the database URL of target {name!r} cannot be used ({type(error).__name__}): write it as SQLAlchemy "
            "does, dialect+driver://user:password@host/database, and install the driver"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_with_the_write_lock)
    return engine


def _leave_transactions_to_us(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin_with_the_write_lock(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail half-way where another writes meanwhile.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class SqlTableTarget:
    """:class:`penstock.ports.target.Target` in tables of one database."""

    def __init__(self, engine: Engine, name: TargetId, mappings: Iterable[TableMapping]) -> None:
        self._engine = engine
        self._name = name
        self._metadata = MetaData()
        self._mapped = mapped_tables(self._metadata, mappings)
        self._generic = {kind: generic_table(self._metadata, kind) for kind in Kind}
        self._receipt, self._fence = _bookkeeping(self._metadata)

    def __repr__(self) -> str:
        shown = self._engine.url.render_as_string(hide_password=True)
        return f"SqlTableTarget({self._name!r}, {shown!r})"

    @property
    def target_id(self) -> TargetId:
        """The id under which sources name it."""
        return self._name

    @property
    def engine(self) -> Engine:
        """The database; whoever opened the target may dispose of it."""
        return self._engine

    @property
    def tables(self) -> Mapping[str, Table]:
        """All tables that this target writes to, by name."""
        return self._metadata.tables

    def prepare(self) -> None:
        """Create tables that are missing; those that are there are never changed.

        Raises :class:`~resources.targets.outcomes.TargetTablesWrong` for a table that lacks a column or may not be
        created, and :class:`~penstock.ports.target.TargetDown` if the database does not answer.
        """
        try:
            self._create_tables()
        except exc.DBAPIError:
            # Another worker may have created them between our look and our CREATE.
            try:
                self._create_tables()
            except exc.DBAPIError as error:
                outcome = outcome_of(error, mend=_MEND)
                raise TargetDown(Unavailable(message=outcome.message)) from error

    def _create_tables(self) -> None:
        with self._engine.begin() as connection:
            self._metadata.create_all(connection)
            for table in self._metadata.sorted_tables:
                _require_columns(connection, table)

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Apply one chunk in one transaction."""
        if not len(operations):
            return Applied(applied=0, already_applied=0)
        if (refused := unstorable(operations)) is not None:
            return refused
        try:
            with self._engine.begin() as connection:
                self._take_fence(connection, context)
                return self._apply(connection, operations, context)
        except Refused as error:
            return Rejected(code="refused_value", message=str(error))
        except Moved as error:
            return Unavailable(message=str(error))
        except exc.SQLAlchemyError as error:
            return outcome_of(error, mend=_MEND)

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Return digests, and attributes where a column keeps their text, of some rows; null where absent.

        With what was published, edits by hand in typed columns show in the attributes. Raises
        :class:`~penstock.ports.target.TargetDown` if the database does not answer.
        """
        try:
            found = self._held(source, kind, keys.to_pylist(), edits=PUBLISHED in keys.column_names)
        except exc.SQLAlchemyError as error:
            raise down(error, mend=_MEND) from error
        digests = pa.array([digest for digest, _ in found], DIGEST)
        attributes = pa.array([text for _, text in found], pa.string())
        return keys.append_column("digest", digests).append_column("attributes", attributes)

    def _held(
        self, source: SourceId, kind: Kind, rows: Sequence[Mapping[str, Any]], *, edits: bool
    ) -> list[tuple[bytes | None, str | None]]:
        found: list[tuple[bytes | None, str | None]] = [(None, None)] * len(rows)
        with self._engine.begin() as connection:
            for type_name, numbers in _numbers_by_type(rows).items():
                of_type = TypeRows(
                    mapped=self._table(kind, type_name), source=source, type_name=type_name
                )
                wanted = [rows[n] for n in numbers]
                held = of_type.held(connection, wanted, with_attributes=True, with_values=edits)
                for n in numbers:
                    key = of_type.key_of(rows[n])
                    if (there := held.get(key)) is not None:
                        published = rows[n].get(PUBLISHED)
                        text = of_type.text_of(key, there, published, connection.dialect)
                        found[n] = (there.digest, text)
        return found

    def list_held(
        self, source: SourceId, kind: Kind, *, after: HeldName | None, limit: int
    ) -> pa.Table:
        """Return the next rows of a source by type and key, those of mapped types from their own tables alone.

        Raises :class:`~penstock.ports.target.TargetDown` if the database does not answer.
        """
        found, listed = [HELD_SCHEMA.empty_table()], 0
        try:
            with self._engine.begin() as connection:
                for type_name in self._types(connection, source, kind):
                    if listed >= limit or (after is not None and type_name < after.type_name):
                        continue
                    of_type = TypeRows(
                        mapped=self._table(kind, type_name), source=source, type_name=type_name
                    )
                    begins = (
                        _key_of(after, kind) if after and type_name == after.type_name else None
                    )
                    found.append(of_type.page(connection, after=begins, limit=limit - listed))
                    listed += len(found[-1])
        except exc.SQLAlchemyError as error:
            raise down(error, mend=_MEND) from error
        return pa.concat_tables(found)

    def _types(self, connection: Connection, source: SourceId, kind: Kind) -> list[str]:
        """Return the types that there may be rows of, in order."""
        mapped = {name for of_kind, name in self._mapped if of_kind is kind}
        table = self._generic[kind].table
        mine = table.c[SOURCE] == source
        query = select(table.c[TYPE_NAME]).where(mine).distinct()
        return sorted(mapped.union(connection.scalars(query)))

    def _table(self, kind: Kind, type_name: str) -> MappedTable:
        return self._mapped.get((kind, type_name), self._generic[kind])

    def _take_fence(self, connection: Connection, context: ApplyContext) -> None:
        """Raise the lane's token, and hold its row so that no other worker writes at the same time."""
        fence = self._fence
        lane = and_(fence.c.source_id == context.source_id, fence.c.target_id == context.target_id)
        query = select(fence.c.token).where(lane).with_for_update()
        if (seen := connection.scalar(query)) is None:
            values = {"source_id": context.source_id, "target_id": context.target_id, "token": 0}
            with _ignoring_a_lost_race(connection):
                connection.execute(insert(fence).values(values))
            seen = connection.scalar(query) or 0
        if seen > context.fencing_token:
            raise LeaseLost(
                f"fencing token {context.fencing_token} for source {context.source_id!r} on target "
                f"{context.target_id!r} is stale: another worker has claimed the lane since (token {seen})"
            )
        if seen < context.fencing_token:
            connection.execute(update(fence).where(lane).values(token=context.fencing_token))

    def _apply(
        self, connection: Connection, operations: pa.Table, context: ApplyContext
    ) -> Applied:
        rows = operations.select(_NEEDED).to_pylist()
        receipts = self._receipts(connection, [row["operation_id"] for row in rows])
        new = [row for row in rows if row["operation_id"] not in receipts]
        failures: list[OperationFailure] = []
        for (kind, type_name), operations_of_type in _by_kind_and_type(new).items():
            of_type = TypeRows(
                mapped=self._table(kind, type_name), source=context.source_id, type_name=type_name
            )
            changes = Changes(of_type)
            if type_name in context.shared_types:
                # Who edits by hand takes no fence: the rows are locked, and read whole.
                held = of_type.held(
                    connection,
                    operations_of_type,
                    with_attributes=True,
                    with_values=True,
                    lock=True,
                )
                changes.judge(operations_of_type, held, shared=connection.dialect)
            else:
                changes.judge(operations_of_type, of_type.held(connection, operations_of_type))
            changes.write(connection)
            failures += changes.failures
        failed = {failure.operation_id for failure in failures}
        fresh = [row["operation_id"] for row in new if row["operation_id"] not in failed]
        self._record(connection, fresh, context)
        return Applied(
            applied=len(fresh), already_applied=len(rows) - len(new), failures=tuple(failures)
        )

    def _receipts(self, connection: Connection, ids: Sequence[bytes]) -> set[bytes]:
        column = self._receipt.c.operation_id
        found: set[bytes] = set()
        for start in range(0, len(ids), _KEYS_AT_ONCE):
            some = ids[start : start + _KEYS_AT_ONCE]
            found.update(
                bytes(i) for i in connection.scalars(select(column).where(column.in_(some)))
            )
        return found

    def _record(self, connection: Connection, ids: Sequence[bytes], context: ApplyContext) -> None:
        shared = {
            "source_id": context.source_id,
            "target_id": context.target_id,
            "plan_digest": context.plan_digest,
            "applied_at": context.now,
        }
        if ids:
            connection.execute(insert(self._receipt), [{"operation_id": i, **shared} for i in ids])


def _bookkeeping(metadata: MetaData) -> tuple[Table, Table]:
    receipt = Table(
        "penstock_receipts",
        metadata,
        Column("operation_id", LargeBinary(16), primary_key=True),
        Column("source_id", String(63), nullable=False),
        Column("target_id", String(63), nullable=False),
        Column("plan_digest", String(64), nullable=False),
        Column("applied_at", UtcTimestamp, nullable=False),
    )
    fence = Table(
        "penstock_fences",
        metadata,
        Column("source_id", String(63), primary_key=True),
        Column("target_id", String(63), primary_key=True),
        Column("token", BigInteger, nullable=False),
    )
    return receipt, fence


def _require_columns(connection: Connection, table: Table) -> None:
    there = {c["name"].lower() for c in inspect(connection).get_columns(table.name, table.schema)}
    missing = [column for column in table.columns if column.name.lower() not in there]
    if missing:
        wanted = ", ".join(f"{c.name} {c.type.compile(connection.dialect)}" for c in missing)
        raise TargetTablesWrong(
            f"table {table.fullname!r} lacks columns that its mapping needs: {wanted}. Add them, or map the type to "
            "another table: Penstock changes no table that it finds"
        )


@contextmanager
def _ignoring_a_lost_race(connection: Connection) -> Iterator[None]:
    try:
        with connection.begin_nested():
            yield
    except exc.IntegrityError:
        return


def _key_of(name: HeldName, kind: Kind) -> tuple[str, ...]:
    return (name.key,) if kind is Kind.ENTITY else (name.key, name.to_key or "")


def _numbers_by_type(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for n, row in enumerate(rows):
        groups.setdefault(row["type_name"], []).append(n)
    return groups


def _by_kind_and_type(
    rows: Iterable[dict[str, Any]],
) -> dict[tuple[Kind, str], list[dict[str, Any]]]:
    groups: dict[tuple[Kind, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((Kind(row["kind"]), row["type_name"]), []).append(row)
    return groups
