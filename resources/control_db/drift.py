"""Drift in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from penstock.identity.ids import SourceId, TargetId
from penstock.ports.control import Settlement
from penstock.ports.drift import Drift, DriftCursor, DriftStatus
from resources.control_db.engine import Database, upsert
from resources.control_db.letter_records import pages
from resources.control_db.rows import storable_json, storable_text
from resources.control_db.tables import drift, drift_cursor

_CURSOR = [drift_cursor.c[field.name] for field in fields(DriftCursor)]
_DRIFT = [drift.c[field.name] for field in fields(Drift)]


class SqlDrift(Database):
    """:class:`penstock.ports.drift.Drifts` in SQL."""

    def drift_cursors(self, source: SourceId, target: TargetId) -> list[DriftCursor]:
        """Return how far each type of a lane has been looked at."""
        table = drift_cursor.c
        query = select(*_CURSOR).where(table.source_id == source, table.target_id == target)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.kind, table.type_name)).mappings()
            return [DriftCursor(**row) for row in rows]

    def record_look(self, cursor: DriftCursor, found: Sequence[Drift], fine: Sequence[str]) -> None:
        """Record one look in one transaction: the cursor, findings (again is an update), and what is fine by id."""
        gone = {"status": str(DriftStatus.GONE), "settled_at": cursor.updated_at}
        with self._writing() as connection:
            upsert(connection, drift_cursor, [asdict(cursor)])
            for page in pages([_row_of(each) for each in found]):
                upsert(connection, drift, page)
            for ids in pages(fine):
                mine = drift.c.drift_id.in_(ids)
                is_open = drift.c.status.in_([str(DriftStatus.OPEN), str(DriftStatus.LEFT)])
                connection.execute(update(drift).where(mine, is_open).values(**gone))

    def list_drift(
        self,
        *,
        source: SourceId | None = None,
        target: TargetId | None = None,
        status: DriftStatus | None = None,
        limit: int = 1000,
    ) -> list[Drift]:
        """Return findings, newest first."""
        table = drift.c
        query = select(*_DRIFT).order_by(table.found_at.desc(), table.drift_id).limit(limit)
        for column, value in (
            (table.source_id, source),
            (table.target_id, target),
            (table.status, None if status is None else str(status)),
        ):
            if value is not None:
                query = query.where(column == value)
        with self._reading() as connection:
            rows = connection.execute(query).mappings()
            return [Drift(**{**row, "status": DriftStatus(row["status"])}) for row in rows]

    def settle_drift(
        self,
        drift_ids: Sequence[str],
        status: DriftStatus,
        *,
        now: datetime,
        plan_digest: str | None = None,
    ) -> None:
        """Settle open findings."""
        values = {"status": str(status), "settled_at": now, "plan_digest": plan_digest}
        with self._writing() as connection:
            for page in pages(drift_ids):
                mine = drift.c.drift_id.in_(page)
                is_open = drift.c.status == str(DriftStatus.OPEN)
                connection.execute(update(drift).where(mine, is_open).values(**values))


def repair_drift(connection: Connection, settlement: Settlement, now: datetime) -> None:
    """Mark findings as repaired, in the transaction that records the repair."""
    values = {
        "status": str(DriftStatus.REPAIRED),
        "settled_at": now,
        "plan_digest": settlement.settled_by,
    }
    for page in pages(settlement.drift_ids):
        mine = drift.c.drift_id.in_(page) & (drift.c.status == str(DriftStatus.OPEN))
        connection.execute(update(drift).where(mine).values(**values))


def _row_of(found: Drift) -> dict[str, Any]:
    texts = {name: storable_text(getattr(found, name)) for name in ("key", "to_key")}
    return {
        **asdict(found),
        **texts,
        "status": str(found.status),
        "fields": storable_json(list(found.fields)),
    }
