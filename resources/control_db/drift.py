"""Drift in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    delete,
    func,
    select,
    update,
)

from penstock.identity.ids import SourceId, TargetId
from penstock.ports.control import Settlement
from penstock.ports.drift import EXTRA, Drift, DriftCursor, DriftStatus, ListingCursor
from penstock.ports.target import HeldName
from resources.control_db.drift_tables import drift_listing
from resources.control_db.engine import Database, upsert
from resources.control_db.leases import check_claims, claims_of
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

    def listing_cursors(self, source: SourceId, target: TargetId) -> list[ListingCursor]:
        """Return how far each kind of a lane has been listed."""
        table = drift_listing.c
        mine = and_(table.source_id == source, table.target_id == target)
        query = select(drift_listing).where(mine).order_by(table.kind)
        with self._reading() as connection:
            return [_listing_of(row) for row in connection.execute(query).mappings()]

    def lane_claims(self, source: SourceId, target: TargetId) -> int:
        """Return how often a lane was claimed: as long as it is so often, nobody has written to the target."""
        with self._reading() as connection:
            return claims_of(connection, source, target)

    def record_look(
        self,
        cursor: DriftCursor | ListingCursor,
        found: Sequence[Drift],
        fine: Sequence[str],
        *,
        claims: int | None = None,
    ) -> None:
        """Record one look in one transaction: the cursor, findings (again is an update), and what is fine by id.

        What was not found again in a whole turn, by the cursor, is gone. Raises ``LaneBusy`` if the lane was claimed
        since it had been ``claims`` times.
        """
        with self._writing() as connection:
            check_claims(connection, cursor.source_id, cursor.target_id, claims)
            if isinstance(cursor, DriftCursor):
                upsert(connection, drift_cursor, [asdict(cursor)])
            else:
                upsert(connection, drift_listing, [_listing_row(cursor)])
            for page in pages([_row_of(each) for each in found]):
                upsert(connection, drift, page)
            for ids in pages(fine):
                _gone(connection, drift.c.drift_id.in_(ids), cursor.updated_at)
            if cursor.turn_finished_at is not None:
                unseen = drift.c.found_at < cursor.turn_finished_at
                _gone(connection, and_(_of_cursor(cursor), unseen), cursor.updated_at)

    def forget_type(self, cursor: DriftCursor, *, now: datetime) -> None:
        """Drop the cursor of a type that is no longer known; findings of it, which extra rows are none of, are gone."""
        table = drift_cursor.c
        names = ("source_id", "target_id", "kind", "type_name")
        with self._writing() as connection:
            mine = and_(*(table[name] == getattr(cursor, name) for name in names))
            connection.execute(delete(drift_cursor).where(mine))
            _gone(connection, _of_cursor(cursor), now)

    def list_drift(
        self,
        *,
        source: SourceId | None = None,
        target: TargetId | None = None,
        status: DriftStatus | None = None,
        finding: str | None = None,
        limit: int = 1000,
    ) -> list[Drift]:
        """Return findings, newest first."""
        table = drift.c
        query = select(*_DRIFT).order_by(table.found_at.desc(), table.drift_id).limit(limit)
        for column, value in (
            (table.source_id, source),
            (table.target_id, target),
            (table.status, None if status is None else str(status)),
            (table.finding, finding),
        ):
            if value is not None:
                query = query.where(column == value)
        with self._reading() as connection:
            rows = connection.execute(query).mappings()
            return [Drift(**{**row, "status": DriftStatus(row["status"])}) for row in rows]

    def count_drift(self, source: SourceId, target: TargetId) -> dict[tuple[DriftStatus, str], int]:
        """Return how many findings of a lane there are, by status and finding."""
        table = drift.c
        mine = and_(table.source_id == source, table.target_id == target)
        query = select(table.status, table.finding, func.count()).where(mine)
        with self._reading() as connection:
            rows = connection.execute(query.group_by(table.status, table.finding))
            return {(DriftStatus(status), finding): n for status, finding, n in rows}

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


def _of_cursor(cursor: DriftCursor | ListingCursor) -> ColumnElement[bool]:
    """The condition of the findings that a cursor comes by."""
    table = drift.c
    of_kind = and_(
        table.source_id == cursor.source_id,
        table.target_id == cursor.target_id,
        table.kind == cursor.kind,
    )
    if isinstance(cursor, ListingCursor):
        return and_(of_kind, table.finding == EXTRA)
    return and_(of_kind, table.type_name == cursor.type_name, table.finding != EXTRA)


def _gone(connection: Connection, which: ColumnElement[bool], now: datetime) -> None:
    waiting = drift.c.status.in_([str(DriftStatus.OPEN), str(DriftStatus.LEFT)])
    values = {"status": str(DriftStatus.GONE), "settled_at": now}
    connection.execute(update(drift).where(which, waiting).values(**values))


def _listing_of(row: RowMapping) -> ListingCursor:
    values = dict(row)
    type_name, key, to_key = (values.pop(f"after_{name}") for name in ("type", "key", "to_key"))
    after = None if key is None else HeldName(type_name=type_name, key=key, to_key=to_key)
    return ListingCursor(**values, after=after)


def _listing_row(cursor: ListingCursor) -> dict[str, Any]:
    row = asdict(cursor)
    after = row.pop("after") or {"type_name": None, "key": None, "to_key": None}
    return {
        **row,
        "after_type": after["type_name"],
        "after_key": after["key"],
        "after_to_key": after["to_key"],
    }


def _row_of(found: Drift) -> dict[str, Any]:
    texts = {name: storable_text(getattr(found, name)) for name in ("key", "to_key")}
    return {
        **asdict(found),
        **texts,
        "status": str(found.status),
        "fields": storable_json(list(found.fields)),
    }
