"""Leases on what one server at a time does."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_

from resources.control_db.engine import Database, insert_into
from resources.control_db.event_tables import loop_lease


class SqlLoopLeases(Database):
    """Who does what, until when."""

    def take(self, name: str, owner: str, *, now: datetime, lease_s: float) -> bool:
        """Take a lease, or keep it for longer; False if another has it."""
        row = {"name": name, "owner": owner, "until": now + timedelta(seconds=lease_s)}
        with self._writing() as connection:
            statement = insert_into(connection, loop_lease)
            excluded = statement.excluded
            mine = or_(loop_lease.c.owner == owner, loop_lease.c.until <= now)
            taken = statement.on_conflict_do_update(
                index_elements=["name"],
                set_={"owner": excluded.owner, "until": excluded.until},
                where=mine,
            )
            return connection.execute(taken.returning(loop_lease.c.name), row).first() is not None

    def give_back(self, name: str, owner: str) -> None:
        """Let others have a lease at once; one that somebody else has by now stays theirs."""
        mine = (loop_lease.c.name == name) & (loop_lease.c.owner == owner)
        with self._writing() as connection:
            connection.execute(delete(loop_lease).where(mine))
