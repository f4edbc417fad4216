"""The outbox tells what was committed, and nothing else, on both databases."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from penstock.events.delivery import DeliveryPolicy
from penstock.events.envelope import NewEvent
from penstock.identity.ids import TenantId
from penstock.use_cases.deliver_events import remove_old_events
from resources.control_db.destinations import SqlDestinations
from resources.control_db.outbox import add_events
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW
from tests.contracts.event_values import BEGINNING, log_of, new_event, tell


def _event(event_id: str | None = None) -> NewEvent:
    return NewEvent(
        type="source_resumed",
        subject="crm@2026",
        tenant_id=TenantId("default"),
        time=NOW,
        data={"source_id": "crm", "by": "a\0b"},
        event_id=event_id,
    )


def _told(store: SqlControlStore) -> list[tuple[str, str]]:
    with store.engine.connect().execution_options(penstock_reading=True) as connection:
        rows = connection.execute(select(outbox_event).order_by(outbox_event.c.position)).all()
    return [(row.event_id, row.data["by"]) for row in rows]


def test_an_event_is_there_if_its_change_is(control_store: SqlControlStore) -> None:
    """What a transaction adds is told once it commits; what it takes back is never told."""
    with control_store.engine.begin() as connection:
        add_events(connection, [_event("a"), _event()])
    with control_store.engine.connect() as connection, connection.begin() as transaction:
        add_events(connection, [_event("b")])
        transaction.rollback()
    told = _told(control_store)
    assert [text for _, text in told] == ["a\ufffdb"] * 2
    assert told[0][0] == "a"
    assert len(told[1][0]) == 32


def test_an_event_of_the_same_id_is_told_once(control_store: SqlControlStore) -> None:
    """Adding an event again, in one transaction or another, changes nothing."""
    for _ in range(2):
        with control_store.engine.begin() as connection:
            add_events(connection, [_event("a"), _event("a")])
    assert [event_id for event_id, _ in _told(control_store)] == ["a"]


def test_new_events_come_behind_places_whose_events_are_gone(
    control_store: SqlControlStore,
) -> None:
    """Whoever has read to the end goes on with the next event, even if all that there was has been removed."""
    log, destinations = log_of(control_store), SqlDestinations.from_engine(control_store.engine)
    seen: list[str] = []
    place = BEGINNING
    for part in ("a", "b"):
        tell(control_store, *(new_event(f"{part}{n}") for n in range(3)))
        page = log.read(place, limit=9)
        assert all(event.cursor > place for event in page)
        seen, place = [*seen, *(event.subject for event in page)], page[-1].cursor
        old = NOW + timedelta(days=365)
        assert remove_old_events(log, destinations, DeliveryPolicy(), old) == 3
        assert log.count() == 0
    assert seen == ["a0", "a1", "a2", "b0", "b1", "b2"]
