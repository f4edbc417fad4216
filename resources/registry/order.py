"""The numbers that readers order the log by on PostgreSQL: those of transactions, which belong to a server.

An event keeps the number of its transaction plus the shift of the server that the database lives in. After a dump has
been restored into another server, whose own numbers may begin lower, :func:`settle` finds a shift that puts whatever
is to come behind all that is there; until then nothing is appended or read, and the error says what to do.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from resources.control_db.following import LOWEST, NEXT

NUMBER = "CAST(CAST(pg_current_xact_id() AS text) AS bigint) + registry_shift()"
"""SQL of the number of the transaction that runs it."""

WATERMARK = f"({LOWEST} + (SELECT registry_shift()))"
"""SQL of the lowest number that an event may still come in with."""

_IDENTITY = "(SELECT c.system_identifier FROM pg_control_system() AS c)"
_LAST = (
    "SELECT GREATEST((SELECT max(transaction_id) FROM registry_event), "
    "(SELECT max(transaction_id) FROM registry_projection), "
    "(SELECT max(last_transaction) FROM registry_seal), 0)"
)
_IS_SETTLED = text(
    f"SELECT EXISTS (SELECT 1 FROM registry_server AS s WHERE s.system_identifier = {_IDENTITY} "
    f"AND s.shift + {NEXT} > ({_LAST}))"
)


def is_settled(connection: Connection) -> bool:
    """Say whether what is appended now comes after all that is there."""
    return connection.dialect.name != "postgresql" or bool(connection.scalar(_IS_SETTLED))


def settle(connection: Connection) -> None:
    """Make what is appended from now on come after all that is there, whatever server the log comes from.

    Runs in a transaction that nobody else settles in at the same time.
    """
    if is_settled(connection):
        return
    # No transaction that is running now may come to a number below: the oldest one gets the first of the new ones.
    oldest = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
    connection.execute(text("DELETE FROM registry_server"))
    connection.execute(
        text(
            "INSERT INTO registry_server (system_identifier, shift) "
            f"SELECT {_IDENTITY}, GREATEST(0, ({_LAST}) + 1 - {oldest})"
        )
    )
