"""Up to where what follows the outbox has come, each under its name."""

from __future__ import annotations

from sqlalchemy import Engine, select, update

from penstock.events.envelope import OutboxCursor
from resources.control_db.engine import Database, insert_new
from resources.control_db.event_tables import loop_place


class SqlLogPlace(Database):
    """:class:`penstock.ports.events.LogPlace` in SQL."""

    name: str

    @classmethod
    def named(cls, engine: Engine, name: str) -> SqlLogPlace:
        """Return the place of one follower."""
        place = cls.from_engine(engine)
        place.name = name
        return place

    def get(self) -> OutboxCursor:
        """Return the place, the beginning before the first move."""
        query = select(loop_place).where(loop_place.c.name == self.name)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return OutboxCursor()
        return OutboxCursor(transaction=row.transaction_id, position=row.position)

    def move(self, *, since: OutboxCursor, to: OutboxCursor) -> bool:
        """Go on to a place; False, and nothing done, unless it is still ``since``."""
        table = loop_place.c
        still_there = (
            (table.name == self.name)
            & (table.transaction_id == since.transaction)
            & (table.position == since.position)
        )
        goes_on = update(loop_place).where(still_there)
        with self._writing() as connection:
            insert_new(
                connection, loop_place, [{"name": self.name, "transaction_id": 0, "position": 0}]
            )
            moved = connection.execute(
                goes_on.values(transaction_id=to.transaction, position=to.position)
            )
        return moved.rowcount == 1
