"""The book of alerts on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

from penstock.events.alerts import Alert, AlertKind, Condition, Severity
from resources.control_db.alert_book import SqlAlertBook
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, at

HELD = Alert(
    condition=Condition(
        kind=AlertKind.HOLD,
        key="crm@1 -> registry",
        tenant_id="default",
        severity=Severity.WARNING,
        title="3 operations are held",
        body="approve\0 them",
        details={"held": 3},
    ),
    first_at=NOW,
    last_at=NOW,
)


def test_alerts_are_read_as_they_were_written(control_store: SqlControlStore) -> None:
    """An alert comes back whole, and again is the same alert."""
    book = SqlAlertBook.from_engine(control_store.engine)
    book.write_alerts([HELD])
    later = replace(HELD, last_at=at(1), times=2, told_at=at(1))
    book.write_alerts([later])
    (read,) = book.list_alerts(passed_since=NOW)
    body = replace(later.condition, body="approve\ufffd them")
    assert read == replace(later, condition=body)


def test_what_has_passed_is_listed_until_that_is_told(control_store: SqlControlStore) -> None:
    """Alerts that people know of stay until they know that they have passed; others only for a while."""
    book = SqlAlertBook.from_engine(control_store.engine)
    other = replace(HELD, condition=replace(HELD.condition, key="erp@1 -> registry"))
    book.write_alerts([replace(HELD, passed_at=at(1)), replace(other, passed_at=at(1))])
    book.mark_told([HELD.alert_id], now=NOW)
    assert len(book.list_alerts(passed_since=at(1))) == 2
    (left,) = book.list_alerts(passed_since=at(2))
    assert left.alert_id == HELD.alert_id
    book.mark_told([HELD.alert_id], now=at(3), passed=True)
    assert book.list_alerts(passed_since=at(2)) == []
