"""The inbox keeps what comes in once, and hands it out by subject in order, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock.errors import IllegalMove, NotFound
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.events import Arrival, Handled, InboxStatus, Received
from resources.control_db.inbox import SqlInbox
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, at

ACT = AuditEntry(at=NOW, actor="kim", act="event.requeue", subject="1")


@pytest.fixture
def inbox(control_store: SqlControlStore) -> SqlInbox:
    return SqlInbox.from_engine(control_store.engine)


def arrival(event_id: str, subject: str = "s", **fields: Any) -> Arrival:
    """An event that comes in."""
    values: dict[str, Any] = {
        "source": "/collector",
        "event_id": event_id,
        "type": "archive_discovered",
        "subject": subject,
        "tenant_id": TenantId("default"),
        "time": NOW,
        "data": {"source_id": "crm"},
    }
    return Arrival(**{**values, **fields})


def waiting(inbox: SqlInbox, minute: float = 0) -> list[str]:
    """The ids of what can be handled."""
    return [e.arrival.event_id for e in inbox.next_waiting(now=at(minute), limit=9)]


def test_what_comes_twice_is_kept_once(inbox: SqlInbox) -> None:
    """The same source and id is the same event, in one call or at once; of another source or tenant it is not."""
    events = [arrival("a"), arrival("a"), arrival("b")]
    assert inbox.accept(events, received_from="kim", now=NOW) == 2
    with ThreadPoolExecutor(4) as pool:
        took = pool.map(
            lambda n: inbox.accept([arrival("c")], received_from=str(n), now=NOW), range(8)
        )
    assert sum(took) == 1
    others = [arrival("a", source="/other"), arrival("a", tenant_id=TenantId("acme"))]
    assert inbox.accept(others, received_from="kim", now=NOW) == 2
    assert waiting(inbox) == ["a", "b", "c", "a", "a"]


def test_what_several_send_is_stored_together(inbox: SqlInbox) -> None:
    """In their order, each told how many of its own are new: of the same event sent twice, the first one's is."""
    inbox.accept([arrival("old")], received_from="kim", now=NOW)
    odd = {
        "n": 1.5,
        "big": 2**60,
        "text": 'a"b\\u0000 \u2028 \U0001f600',
        "none": None,
        "l": [[], {}],
    }
    parts = [
        Received([arrival("a", data=odd, trace_parent=None), arrival("old")], "ada"),
        Received([arrival("b"), arrival("a"), arrival("c", error="no JSON")], "ben"),
        Received([], "eve"),
        Received([arrival("b")], "kim"),
    ]
    assert inbox.accept_each(parts, now=NOW) == [1, 2, 0, 0]
    assert waiting(inbox) == ["old", "a", "b"]
    found = {e.arrival.event_id: e for e in inbox.find()}
    assert found["a"].arrival == arrival("a", data=odd)
    assert [found[name].received_from for name in "abc"] == ["ada", "ben", "ben"]
    assert found["c"].status is InboxStatus.DEAD
    assert found["a"].received_at == NOW


def test_what_fails_holds_up_its_own_subject_alone(inbox: SqlInbox) -> None:
    """Until it is due again nothing of its subject is handed out, and all of others."""
    first, *_ = [arrival("1", "x"), arrival("2", "x"), arrival("3", "y")]
    inbox.accept([first, arrival("2", "x"), arrival("3", "y")], received_from="kim", now=NOW)
    position = inbox.next_waiting(now=NOW, limit=1)[0].position
    later = Handled(position=position, code="not_found", message="no such", retry_at=at(5))
    inbox.settle([later], now=NOW)
    assert waiting(inbox, 4) == ["3"]
    assert waiting(inbox, 5) == ["1", "2", "3"]
    (failed,) = [e for e in inbox.find() if e.arrival.event_id == "1"]
    assert (failed.attempts, failed.error_code) == (1, "not_found")


def test_one_that_is_dead_lets_others_go_on(inbox: SqlInbox) -> None:
    """It is kept with its error, somebody can have it tried again, and nothing else can be."""
    inbox.accept([arrival("1"), arrival("2")], received_from="kim", now=NOW)
    one, two = inbox.next_waiting(now=NOW, limit=9)
    inbox.settle(
        [Handled(position=one.position, code="bad", message="no"), Handled(position=two.position)],
        now=NOW,
    )
    assert waiting(inbox, 99) == []
    (dead,) = inbox.find(status=InboxStatus.DEAD)
    assert (dead.position, dead.error_message) == (one.position, "no")
    assert inbox.requeue(one.position, act=ACT).status is InboxStatus.WAITING
    assert waiting(inbox) == ["1"]
    with pytest.raises(IllegalMove, match="done"):
        inbox.requeue(two.position, act=ACT)
    with pytest.raises(NotFound):
        inbox.requeue(99_999, act=ACT)


def test_what_is_no_event_is_kept_as_dead(inbox: SqlInbox) -> None:
    """A message that cannot be read is there to be looked at, with what is wrong with it."""
    inbox.accept([arrival("1", error="no JSON\0")], received_from="kim", now=NOW)
    (dead,) = inbox.find(tenant=TenantId("default"))
    assert (dead.status, dead.error_message) == (InboxStatus.DEAD, "no JSON\ufffd")
    assert waiting(inbox) == []


def test_what_took_effect_is_forgotten_in_time(inbox: SqlInbox) -> None:
    """Old events that are done are removed; what waits or is dead stays."""
    inbox.accept([arrival("1"), arrival("2"), arrival("3", error="x")], received_from="k", now=NOW)
    inbox.settle([Handled(position=inbox.next_waiting(now=NOW, limit=1)[0].position)], now=NOW)
    assert inbox.remove(settled_before=NOW, limit=9) == 0
    assert inbox.remove(settled_before=at(1), limit=9) == 1
    assert sorted(e.arrival.event_id for e in inbox.find()) == ["2", "3"]
    assert inbox.find(before=1) == []


def test_no_event_gets_the_number_of_one_that_is_gone(inbox: SqlInbox) -> None:
    """The audit log and operators name events by their numbers: that of one that was removed names no other one."""
    numbers: list[int] = []
    for minute in range(3):
        inbox.accept([arrival(str(minute))], received_from="kim", now=at(minute))
        (event,) = inbox.next_waiting(now=at(minute), limit=9)
        numbers.append(event.position)
        inbox.settle([Handled(position=event.position)], now=at(minute))
        assert inbox.remove(settled_before=at(minute + 1), limit=9) == 1
    assert numbers == sorted(set(numbers))
