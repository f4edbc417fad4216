"""The book of alerts in the control database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select, update

from penstock.events.alerts import Alert, AlertKind, Condition, Severity
from resources.control_db.engine import Database, upsert
from resources.control_db.metric_tables import alert
from resources.control_db.rows import storable_json, storable_text


class SqlAlertBook(Database):
    """:class:`penstock.ports.alert_book.AlertBook` in SQL."""

    def list_alerts(self, *, passed_since: datetime, limit: int = 1000) -> list[Alert]:
        """Return alerts that stand, or passed since a moment or untold, newest first."""
        untold = and_(alert.c.told_at.is_not(None), alert.c.told_passed_at.is_(None))
        query = (
            select(alert)
            .where(or_(alert.c.passed_at.is_(None), alert.c.passed_at >= passed_since, untold))
            .order_by(alert.c.last_at.desc(), alert.c.alert_id)
            .limit(limit)
        )
        with self._reading() as connection:
            return [_alert_of(row) for row in connection.execute(query)]

    def write_alerts(self, alerts: Sequence[Alert]) -> None:
        """Write alerts as they are now."""
        with self._writing() as connection:
            upsert(connection, alert, [_row_of(item) for item in alerts])

    def mark_told(self, alert_ids: Sequence[str], *, now: datetime, passed: bool = False) -> None:
        """Note that people were told of alerts."""
        column = "told_passed_at" if passed else "told_at"
        statement = update(alert).where(alert.c.alert_id.in_(alert_ids)).values({column: now})
        with self._writing() as connection:
            connection.execute(statement)


def _alert_of(row: Row[Any]) -> Alert:
    return Alert(
        condition=Condition(
            kind=AlertKind(row.kind),
            key=row.key,
            tenant_id=row.tenant_id,
            severity=Severity(row.severity),
            title=row.title,
            body=row.body,
            details=row.details,
        ),
        first_at=row.first_at,
        last_at=row.last_at,
        times=row.times,
        passed_at=row.passed_at,
        told_at=row.told_at,
        told_passed_at=row.told_passed_at,
    )


def _row_of(item: Alert) -> dict[str, Any]:
    condition = item.condition
    return {
        "alert_id": item.alert_id,
        "kind": str(condition.kind),
        "key": storable_text(condition.key),
        "tenant_id": condition.tenant_id,
        "severity": str(condition.severity),
        "title": storable_text(condition.title),
        "body": storable_text(condition.body),
        "details": storable_json(dict(condition.details)),
        "first_at": item.first_at,
        "last_at": item.last_at,
        "times": item.times,
        "passed_at": item.passed_at,
        "told_at": item.told_at,
        "told_passed_at": item.told_passed_at,
    }
