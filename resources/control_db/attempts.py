"""Attempts that failed, in the control database."""

from __future__ import annotations

from dataclasses import asdict, fields

from sqlalchemy import Connection, func, select

from penstock.identity.ids import BatchId, TargetId
from penstock.ports.attempts import PublishAttempt
from penstock.publish.retry import Tier
from penstock.publish.state import PublishState
from resources.control_db.engine import Database
from resources.control_db.rows import storable_text
from resources.control_db.tables import publish_attempt

_COLUMNS = [publish_attempt.c[field.name] for field in fields(PublishAttempt)]


class SqlAttempts(Database):
    """:class:`penstock.ports.attempts.Attempts` in SQL."""

    def list_attempts(self, batch: BatchId, target: TargetId) -> list[PublishAttempt]:
        """Return all attempts that failed, oldest first; those before the batch was last requeued are among them."""
        table = publish_attempt.c
        query = select(*_COLUMNS).where(table.batch_id == batch, table.target_id == target)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.attempt)).mappings()
            return [
                PublishAttempt(
                    **{
                        **row,
                        "tier": Tier(row["tier"]),
                        "retry_tier": None
                        if row["retry_tier"] is None
                        else Tier(row["retry_tier"]),
                    }
                )
                for row in rows
            ]


def record_attempt(connection: Connection, state: PublishState, attempt: PublishAttempt) -> None:
    """Add an attempt behind those that there are, in the transaction of the move that it led to."""
    table = publish_attempt
    key = {"batch_id": state.batch_id, "target_id": state.target_id}
    mine = (table.c.batch_id == state.batch_id) & (table.c.target_id == state.target_id)
    last = connection.execute(select(func.max(table.c.attempt)).where(mine)).scalar()
    row = {**asdict(attempt), **key, "attempt": (last or 0) + 1}
    row |= {
        "message": storable_text(attempt.message),
        "tier": int(attempt.tier),
        "retry_tier": None if attempt.retry_tier is None else int(attempt.retry_tier),
    }
    connection.execute(table.insert(), row)
