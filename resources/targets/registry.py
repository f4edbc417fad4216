"""The registry: the default target, an event log and its projections in the control database.

A chunk is one transaction: fence, events, projections. It goes in optimistically, as if nothing of it had been
applied before and every precondition held; the log's unique operation ids, the projection's keys and the counts of
rows touched tell if that is so. If not, all of it is taken back and the chunk is sorted row by row, which costs more
and happens rarely.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Engine, exc, text

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost, PenstockError
from penstock.identity.ids import SourceId, TargetId, TenantId, target_id
from penstock.plan.operations import DIGEST
from penstock.ports.target import (
    HELD_SCHEMA,
    Applied,
    ApplyContext,
    ApplyOutcome,
    HeldName,
    OperationFailure,
    TargetDown,
    Unavailable,
)
from resources.control_db.engine import DatabaseUnreachable
from resources.control_db.schema import upgrade
from resources.registry.screening import BulkRules, keep_references, screened
from resources.targets.outcomes import down, outcome_of
from resources.targets.preconditions import Moved, conflict, unstorable
from resources.targets.registry_listing import list_held
from resources.targets.registry_log import UNCHANGED, Projection
from resources.targets.registry_tables import CHANNEL, LANE_LOCK

_KEYS_AT_ONCE = 5_000
_MEND = "Run `penstock up`, which migrates the control database"
_JUDGED = ["operation_id", "key", "to_key", "type_name", "action", "before_digest", "after_digest"]


class SourceOfAnother(PenstockError):
    """A source has been handed to another tenant; what the registry holds of it has not."""

    code = "source_of_another"


def open_registry(
    engine: Engine, name: str = "registry", *, rules: BulkRules | None = None
) -> RegistryTarget:
    """Return the registry that lives in the control database behind ``engine``; ``rules`` are those of its commands."""
    return RegistryTarget(engine, target_id(name), rules or BulkRules())


class RegistryTarget:
    """:class:`penstock.ports.target.Target` in the control database, on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine, name: TargetId, rules: BulkRules) -> None:
        self._engine = engine
        self._name = name
        self._rules = rules
        self._postgres = engine.dialect.name == "postgresql"

    def __repr__(self) -> str:
        return f"RegistryTarget({self._name!r})"

    @property
    def target_id(self) -> TargetId:
        """The id under which sources name it."""
        return self._name

    @property
    def engine(self) -> Engine:
        """The control database; whoever opened the target may dispose of it."""
        return self._engine

    def prepare(self) -> None:
        """Bring the tables up to date; raises :class:`~penstock.ports.target.TargetDown`."""
        try:
            upgrade(self._engine)
        except DatabaseUnreachable as error:
            raise TargetDown(Unavailable(message=str(error))) from error
        except exc.SQLAlchemyError as error:
            raise down(error, mend=_MEND) from error

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Apply one chunk in one transaction."""
        if not len(operations):
            return Applied(applied=0, already_applied=0)
        if (refused := unstorable(operations)) is not None:
            return refused
        try:
            return self._apply(operations, context)
        except Moved as error:
            return Unavailable(message=str(error))
        except (exc.SQLAlchemyError, psycopg.Error) as error:
            # COPY goes past SQLAlchemy, and so do its errors.
            return outcome_of(error, mend=_MEND)

    def _apply(self, operations: pa.Table, context: ApplyContext) -> Applied:
        kinds = [Kind(kind) for kind in pc.unique(operations["kind"]).to_pylist()]
        outcomes = []
        with self._engine.begin() as connection:
            if self._postgres:
                _enter_lane(connection, context)
            _take_fence(connection, context)
            for kind in kinds:
                # A wave is of one kind as a rule; a filter would copy all of the chunk's attributes.
                same_kind = pc.equal(operations["kind"], str(kind))
                rows = operations if len(kinds) == 1 else operations.filter(same_kind)
                outcomes.append(self._apply_kind(connection, rows, kind, context))
        return Applied(
            applied=sum(o.applied for o in outcomes),
            already_applied=sum(o.already_applied for o in outcomes),
            failures=tuple(failure for o in outcomes for failure in o.failures),
        )

    def _apply_kind(
        self, connection: Connection, rows: pa.Table, kind: Kind, context: ApplyContext
    ) -> Applied:
        """Apply what no declared schema or relationship type refuses."""
        projection = self._projection(kind, context.tenant_id, context.source_id)
        screening = screened(connection, rows, kind, context, self._rules)
        outcome = Applied(applied=0, already_applied=0)
        if len(screening.rows):
            done = _apply_all(connection, projection, screening.rows, context)
            outcome = done or _apply_sorted(connection, projection, screening.rows, context)
        if screening.references:
            keep_references(connection, screening)
        return replace(outcome, failures=(*screening.failures, *outcome.failures))

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Return digest and attributes of some entities or relationships, null where absent.

        Raises :class:`~penstock.ports.target.TargetDown` if the database does not answer.
        """
        try:
            held = self._held(source, kind, keys)
        except (exc.SQLAlchemyError, psycopg.Error) as error:
            raise down(error, mend=_MEND) from error
        digests = pa.array([digest for digest, _ in held], DIGEST)
        attributes = pa.array([text for _, text in held], pa.string())
        return keys.append_column("digest", digests).append_column("attributes", attributes)

    def list_held(
        self, source: SourceId, kind: Kind, *, after: HeldName | None, limit: int
    ) -> pa.Table:
        """Return the next rows of a source by type and key.

        Raises :class:`~penstock.ports.target.TargetDown` if the database does not answer.
        """
        try:
            with self._engine.connect().execution_options(penstock_reading=True) as connection:
                tenant = _tenant(connection, source)
                if tenant is None:
                    return HELD_SCHEMA.empty_table()
                return list_held(connection, tenant, source, kind, after=after, limit=limit)
        except (exc.SQLAlchemyError, psycopg.Error) as error:
            raise down(error, mend=_MEND) from error

    def _held(
        self, source: SourceId, kind: Kind, keys: pa.Table
    ) -> list[tuple[bytes | None, str | None]]:
        held: list[tuple[bytes | None, str | None]] = []
        # On SQLite this begins without the write lock; the names of what is wanted go into a temporary table.
        with self._engine.connect().execution_options(penstock_reading=True) as connection:
            tenant = _tenant(connection, source)
            if tenant is None:
                return [(None, None)] * len(keys)
            projection = self._projection(kind, tenant, source)
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                projection.want(connection, _as_operations(keys.slice(start, _KEYS_AT_ONCE), kind))
                held += projection.held(connection)
        return held

    def _projection(self, kind: Kind, tenant: TenantId, source: SourceId) -> Projection:
        return Projection(kind=kind, tenant=tenant, source=source, postgres=self._postgres)


def _tenant(connection: Connection, source: SourceId) -> TenantId | None:
    """Return for whom a source has been published here; None if it never has been."""
    query = text("SELECT max(tenant_id) FROM target_fence WHERE source_id = :source")
    found = connection.scalar(query, {"source": source})
    return None if found is None else TenantId(found)


def _enter_lane(connection: Connection, context: ApplyContext) -> None:
    """Wait for commands on this source to end and keep new ones out; wake up who follows the log.

    This comes before anything is written: so a transaction's number, by which readers order the log, is drawn when
    those that wrote to the same streams before have committed.
    """
    connection.execute(
        text(f"SELECT pg_advisory_xact_lock({LANE_LOCK}), pg_notify('{CHANNEL}', '')"),
        {"tenant": context.tenant_id, "source": context.source_id},
    )


def _take_fence(connection: Connection, context: ApplyContext) -> None:
    """Raise the lane's token, and hold its row so that no other worker writes at the same time."""
    statement = text(
        "INSERT INTO target_fence (source_id, target_id, token, tenant_id) "
        "VALUES (:source, :target, :token, :tenant) ON CONFLICT (source_id, target_id) "
        "DO UPDATE SET token = excluded.token, tenant_id = excluded.tenant_id "
        "WHERE target_fence.token <= excluded.token "
        "AND COALESCE(target_fence.tenant_id, excluded.tenant_id) = excluded.tenant_id RETURNING token"
    )
    values = {
        "source": context.source_id,
        "target": context.target_id,
        "token": context.fencing_token,
        "tenant": context.tenant_id,
    }
    if connection.execute(statement, values).first() is not None:
        return
    query = text(
        "SELECT tenant_id FROM target_fence WHERE source_id = :source AND target_id = :target"
    )
    tenant = connection.scalar(query, values)
    if tenant not in (None, context.tenant_id):
        raise SourceOfAnother(
            f"source {context.source_id!r} is declared for tenant {context.tenant_id!r} and has been published "
            f"into the registry for {tenant!r}, who still sees it and its history: declare it under an id of its "
            "own, or give it back its tenant"
        )
    raise LeaseLost(
        f"fencing token {context.fencing_token} for source {context.source_id!r} on target "
        f"{context.target_id!r} is stale: another worker has claimed the lane since"
    )


def _apply_all(
    connection: Connection, projection: Projection, rows: pa.Table, context: ApplyContext
) -> Applied | None:
    """Apply all operations if all are new and expect what is there; None, and nothing done, if not."""
    with connection.begin_nested() as savepoint:
        try:
            stretch = projection.append(connection, rows, context)
            if projection.change(connection, stretch, rows, context):
                return Applied(applied=len(rows), already_applied=0)
        except (exc.IntegrityError, psycopg.IntegrityError):
            pass
        savepoint.rollback()
    return None


def _apply_sorted(
    connection: Connection, projection: Projection, rows: pa.Table, context: ApplyContext
) -> Applied:
    """Sort operations into applied before, in conflict, true already and to be applied, and apply those."""
    projection.want(connection, rows)
    receipts, held = projection.receipts(connection), projection.digests(connection)
    to_do: list[int] = []
    so_already: list[int] = []
    failures: list[OperationFailure] = []
    for n, row in enumerate(rows.select(_JUDGED).to_pylist()):
        if row["operation_id"] in receipts:
            continue
        if held[n] == row["before_digest"]:
            to_do.append(n)
        elif held[n] == row["after_digest"]:
            so_already.append(n)
        else:
            failures.append(conflict(row, held[n]))
    if to_do:
        some = rows.take(pa.array(to_do))
        stretch = projection.append(connection, some, context)
        if not projection.change(connection, stretch, some, context):
            raise Moved("rows of the registry have been changed past its fence, a moment ago")
    if so_already:
        # Nothing is left to change, but the event is recorded: it is the operation's receipt.
        some = rows.take(pa.array(so_already))
        stretch = projection.append(connection, some, context, data=UNCHANGED)
        projection.acknowledge(connection, stretch, context)
    applied = len(to_do) + len(so_already)
    return Applied(
        applied=applied,
        already_applied=len(rows) - applied - len(failures),
        failures=tuple(failures),
    )


def _as_operations(keys: pa.Table, kind: Kind) -> pa.Table:
    """Dress keys up as operations to ask about."""
    n = len(keys)
    to_key = keys["to_key"] if kind is Kind.RELATIONSHIP else pa.nulls(n, pa.string())
    columns = {"operation_id": pa.nulls(n, DIGEST), "to_key": to_key}
    return pa.table({**columns, **{name: keys[name] for name in ("type_name", "key")}})
