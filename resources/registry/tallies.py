"""Projections that count: what there is by type, and what happened by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, ClassVar

from sqlalchemy import Connection, Row, text

from penstock.identity.ids import TenantId
from penstock.registry.events import StreamKind
from resources.targets.registry_log import UNCHANGED

Tally = Mapping[tuple[str, ...], int]


class _Counting:
    """A table of counts by some texts."""

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    rebuildable: ClassVar[bool] = True

    @classmethod
    def table(cls, generation: int) -> str:
        """Return the name of a generation's table."""
        return f"registry_{cls.name}_{generation}"

    def create(self, connection: Connection, generation: int) -> None:
        """Make the table of a generation."""
        collated = ' COLLATE "C"' if connection.dialect.name == "postgresql" else ""
        columns = ", ".join(f"{name} text{collated} NOT NULL" for name in self.columns)
        connection.execute(
            text(
                f"CREATE TABLE {self.table(generation)} ({columns}, events bigint NOT NULL, "
                f"PRIMARY KEY ({', '.join(self.columns)}))"
            )
        )

    def drop(self, connection: Connection, generation: int) -> None:
        """Drop the table of a generation."""
        connection.execute(text(f"DROP TABLE {self.table(generation)}"))

    def write(self, connection: Connection, generation: int, prepared: Tally) -> None:
        """Add to the counts."""
        table, names = self.table(generation), ", ".join(self.columns)
        statement = text(
            f"INSERT INTO {table} ({names}, events) "
            f"VALUES ({', '.join(':' + name for name in self.columns)}, :events) "
            f"ON CONFLICT ({names}) DO UPDATE SET events = {table}.events + excluded.events"
        )
        rows = [
            {**dict(zip(self.columns, counted, strict=True)), "events": events}
            for counted, events in sorted(prepared.items())
            if events
        ]
        if rows:
            connection.execute(statement, rows)


class Counts(_Counting):
    """How many streams of each type hold something, by tenant."""

    name = "counts"
    columns = ("tenant_id", "kind", "type_name")

    def prepare(self, events: Sequence[Row[Any]]) -> Tally:
        """Return by how much events change the counts."""
        tally: Counter[tuple[str, ...]] = Counter()
        for event in events:
            if event.data != UNCHANGED:
                change = (event.after_digest is not None) - (event.before_digest is not None)
                tally[event.tenant_id, event.kind, event.type_name] += change
        return tally


class Activity(_Counting):
    """How many events there were each day (UTC), by tenant and action."""

    name = "activity"
    columns = ("tenant_id", "day", "action")

    def prepare(self, events: Sequence[Row[Any]]) -> Tally:
        """Return how often each action happened on each day."""
        return Counter(
            (event.tenant_id, event.recorded_at.date().isoformat(), event.action)
            for event in events
        )


def counted(
    connection: Connection, generation: int, tenant: TenantId
) -> dict[tuple[StreamKind, str], int]:
    """Return what a generation of :class:`Counts` says of a tenant."""
    query = text(
        f"SELECT kind, type_name, events FROM {Counts.table(generation)} WHERE tenant_id = :tenant"
    )
    rows = connection.execute(query, {"tenant": tenant})
    return {(StreamKind(kind), type_name): events for kind, type_name, events in rows}


def active(
    connection: Connection, generation: int, tenant: TenantId, since: date
) -> dict[tuple[date, str], int]:
    """Return what a generation of :class:`Activity` says of a tenant, from a day on."""
    query = text(
        f"SELECT day, action, events FROM {Activity.table(generation)} "
        "WHERE tenant_id = :tenant AND day >= :since"
    )
    rows = connection.execute(query, {"tenant": tenant, "since": since.isoformat()})
    return {(date.fromisoformat(day), action): events for day, action, events in rows}
