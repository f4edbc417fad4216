"""The numbers that readers order logs by on PostgreSQL: those of transactions, which belong to a server.

A row of a log keeps the number of its transaction plus the shift of the server that the database lives in. After a dump
has been restored into another server, whose own numbers may begin lower, :func:`settle` finds a shift that puts
whatever is to come behind all that is there; until then nothing is added or read, and the error says what to do.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, Table, literal, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from resources.control_db.tables import metadata

log_server = Table(
    "log_server",
    metadata,
    Column("system_identifier", BigInteger, primary_key=True, autoincrement=False),
    Column("shift", BigInteger, nullable=False),
)
"""On PostgreSQL, the server that the database lives in, and what is added to its transactions' numbers; one row."""


class _Later(FunctionElement[bool]):
    """Of four clauses, whether the first two, a row's number and position, come after the others, a place's."""

    name = "later"
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> _Later:
        """Stand as it is in a condition: compared with 1, as SQLAlchemy would have it on SQLite, no index serves it."""
        del against
        return self


@compiles(_Later)
def _as_rows(element: _Later, compiler: Any, **named: Any) -> str:
    number, position, *place = (compiler.process(each, **named) for each in element.clauses)
    return f"(({number}, {position}) > ({', '.join(place)}))"


@compiles(_Later, "sqlite")
def _as_positions(element: _Later, compiler: Any, **named: Any) -> str:
    # Every number is 0 there, and of rows SQLite looks up no more than the first column: it would go through the log.
    number, position, *place = (compiler.process(each, **named) for each in element.clauses)
    return f"({number} = {place[0]} AND {position} > {place[1]})"


def later(log: Table, number: int, position: int) -> _Later:
    """Return the condition that a row of a log comes after a place."""
    place = (literal(number, BigInteger), literal(position, BigInteger))
    return _Later(log.c.transaction_id, log.c.position, *place)


_HERE = "SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()"
_OLDEST = (
    "SELECT min(CAST(CAST(x AS text) AS bigint)) FROM pg_snapshot_xip(pg_current_snapshot()) AS x "
    "WHERE NOT EXISTS (SELECT 1 FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid "
    "WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted "
    "AND CAST(CAST(l.transactionid AS text) AS bigint) = (CAST(CAST(x AS text) AS bigint) & 4294967295) "
    f"AND a.datid <> ({_HERE}))"
)
"""The oldest transaction that the snapshot takes for running, but for those that are seen to run in other databases:
they cannot write to a log of this one. One that has ended since the snapshot is not seen anywhere, and counts."""
_NEXT = "CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"
"""The number that no transaction has yet."""

NUMBER = "CAST(CAST(pg_current_xact_id() AS text) AS bigint) + (SELECT log_shift())"
"""SQL of the number of the transaction that runs it."""

WATERMARK = (
    "(CASE WHEN pg_snapshot_xmin(pg_current_snapshot()) = pg_snapshot_xmax(pg_current_snapshot()) "
    f"THEN {_NEXT} ELSE COALESCE(({_OLDEST}), {_NEXT}) END + (SELECT log_shift()))"
)
"""SQL of the lowest number that a row may still come in with."""

_IDENTITY = "(SELECT c.system_identifier FROM pg_control_system() AS c)"
_LAST = (
    "SELECT GREATEST((SELECT max(transaction_id) FROM registry_event), "
    "(SELECT max(transaction_id) FROM registry_projection), "
    "(SELECT max(last_transaction) FROM registry_seal), "
    "(SELECT max(transaction_id) FROM outbox_event), "
    "(SELECT max(transaction_id) FROM metric_cursor), "
    "(SELECT max(transaction_id) FROM loop_place), "
    "(SELECT max(heard_transaction) FROM workflow), "
    "(SELECT max(cursor_transaction) FROM destination), 0)"
)
"""The highest number that is anywhere: events may have been removed that somebody has read."""
_IS_SETTLED = text(
    f"SELECT EXISTS (SELECT 1 FROM log_server AS s WHERE s.system_identifier = {_IDENTITY} "
    f"AND s.shift + {_NEXT} > ({_LAST}))"
)


def is_settled(connection: Connection) -> bool:
    """Say whether what is added now comes after all that is there."""
    return connection.dialect.name != "postgresql" or bool(connection.scalar(_IS_SETTLED))


def settle(connection: Connection) -> None:
    """Make what is added from now on come after all that is there, whatever server the database comes from.

    Runs in a transaction that nobody else settles in at the same time.
    """
    if is_settled(connection):
        return
    # No transaction that is running now may come to a number below: the oldest one gets the first of the new ones.
    oldest = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
    connection.execute(text("DELETE FROM log_server"))
    connection.execute(
        text(
            "INSERT INTO log_server (system_identifier, shift) "
            f"SELECT {_IDENTITY}, GREATEST(0, ({_LAST}) + 1 - {oldest})"
        )
    )
