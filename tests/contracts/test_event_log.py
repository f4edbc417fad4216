"""The outbox is read in the order of commits by tenant and type, followed, and cleared, on both databases."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from penstock.events.delivery import DeliveryPolicy, DestinationStatus
from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import TenantId
from penstock.use_cases.deliver_events import remove_old_events
from resources.control_db.destinations import SqlDestinations
from resources.control_db.outbox import add_events
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW
from tests.contracts.event_values import (
    ACT,
    BEGINNING,
    destination,
    log_of,
    new_event,
    tell,
    told,
)


def test_pages_follow_one_another(control_store: SqlControlStore) -> None:
    """Whoever goes on from the last event of a page meets every event once, of one tenant or type if they ask."""
    acme = TenantId("acme")
    tell(control_store, *(new_event(str(n)) for n in range(5)), new_event("x", tenant_id=acme))
    log, after, seen = log_of(control_store), BEGINNING, []
    while page := log.read(after, limit=2):
        seen += [event.subject for event in page]
        after = page[-1].cursor
    assert seen == ["0", "1", "2", "3", "4", "x"]
    assert after == log.end()
    assert [e.subject for e in log.read(BEGINNING, limit=9, tenant=acme)] == ["x"]
    assert log.read(BEGINNING, limit=9, types=("batch_landed",)) == []


def test_what_commits_late_is_not_skipped(new_control_url: Callable[[str], str]) -> None:
    """On PostgreSQL a reader waits for an older transaction that is still running, and then reads both in order."""
    store = SqlControlStore(new_control_url("postgres"))
    log = log_of(store)
    with store.engine.connect() as slow, slow.begin() as transaction:
        add_events(slow, [new_event("slow")])
        with store.engine.begin() as quick:
            add_events(quick, [new_event("quick")])
        assert log.read(BEGINNING, limit=9) == []
        transaction.commit()
    assert [event.subject for event in told(store)] == ["slow", "quick"]
    store.close()


def test_a_waiter_wakes_when_there_is_more(control_store: SqlControlStore) -> None:
    """Waiting ends with the next event, and in vain after its time."""
    log = log_of(control_store)
    with log.waiter() as waiter:
        assert not waiter.wait(0, 0, timeout_s=0.01)
        teller = threading.Timer(0.05, tell, (control_store, new_event()))
        teller.start()
        assert waiter.wait(0, 0, timeout_s=60)
        teller.join()


def test_whoever_waits_is_let_go_when_a_waiter_is_closed(control_store: SqlControlStore) -> None:
    """Long before its time, and no connection is made anew, which nobody would close."""
    log = log_of(control_store)
    with ThreadPoolExecutor(1) as pool:
        for moment_s in (0.0, 0.01, 0.1):
            waiter = log.waiter()
            waiting = pool.submit(waiter.wait, 0, 0, timeout_s=600)
            threading.Event().wait(moment_s)
            waiter.close()
            assert not waiting.result(timeout=60)
            assert not waiter.wait(0, 0, timeout_s=600)
    gc.collect()


def test_an_event_s_place_is_known(control_store: SqlControlStore) -> None:
    """A place can be found by an event's id and by a moment; behind everything where nothing is so young."""
    early, late = tell(control_store, new_event("a"), new_event("b", time=NOW + timedelta(hours=1)))
    log = log_of(control_store)
    assert log.place_of(early.event_id) == early.cursor
    assert log.place_of("nothing") is None
    after = log.place_before(NOW + timedelta(minutes=1))
    assert [e.subject for e in log.read(after, limit=9)] == ["b"]
    assert log.place_before(NOW + timedelta(hours=2)) == late.cursor


def test_old_events_go_when_nobody_needs_them(control_store: SqlControlStore) -> None:
    """An enabled destination holds what it was not sent, for a while; one that is disabled holds nothing."""
    policy = DeliveryPolicy(keep_events_s=10, hold_events_s=1000)
    first, *_ = tell(control_store, *(new_event(str(n)) for n in range(3)))
    log, destinations = log_of(control_store), SqlDestinations.from_engine(control_store.engine)
    destinations.add(destination(cursor=first.cursor), None, act=ACT)
    off = destination("off", status=DestinationStatus.DISABLED)
    destinations.add(off, None, act=ACT)

    def left(seconds: float) -> list[str]:
        remove_old_events(log, destinations, policy, NOW + timedelta(seconds=seconds))
        return [event.subject for event in log.read(OutboxCursor(), limit=9)]

    assert left(5) == ["0", "1", "2"]
    assert left(20) == ["1", "2"]
    assert left(2000) == []
