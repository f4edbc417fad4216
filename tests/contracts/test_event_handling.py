"""Events that came in take effect once, by subject in order, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_plane.service.leasing import LEASE_S, HeldLease
from penstock.errors import BadEvent, NotFound
from penstock.events.catalogue import example
from penstock.events.facts import EventData
from penstock.events.handling import HandlingPolicy
from penstock.ports.events import Arrival, InboxStatus
from penstock.use_cases.handle_events import Handling, handle_waiting, remove_old_arrivals
from resources.control_db.inbox import SqlInbox
from resources.control_db.loop_leases import SqlLoopLeases
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, at
from tests.contracts.test_inbox import ACT, arrival
from tests.fixtures.clock import FixedClock

POLICY = HandlingPolicy(attempts=3, first_delay_s=1, max_delay_s=1)


class Acting:
    """A handler that does what it is asked for once, and fails for the archives it is told of."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: set[str] = set()
        self.failing: dict[str, Exception] = {}

    def __call__(self, arrival: Arrival, data: EventData, *, key: str) -> None:
        archive = data.as_json()["archive"]
        if archive in self.failing:
            raise self.failing[archive]
        if key not in self.keys:
            self.keys.add(key)
            self.done.append(archive)


@pytest.fixture
def inbox(control_store: SqlControlStore) -> SqlInbox:
    return SqlInbox.from_engine(control_store.engine)


@pytest.fixture
def acting() -> Acting:
    return Acting()


@pytest.fixture
def handling(inbox: SqlInbox, acting: Acting) -> Handling:
    return Handling(
        inbox=inbox,
        handlers={"archive_discovered": acting},
        clock=FixedClock(NOW),
        policy=POLICY,
        jitter=lambda: 0.0,
    )


def take(inbox: SqlInbox, *names: str) -> None:
    """Take events in, of the subject that their first letter is."""
    data = example("archive_discovered")
    arrivals = [arrival(name, name[0], data={**data, "archive": name}) for name in names]
    inbox.accept(arrivals, received_from="kim", now=NOW)


def test_each_takes_effect_once(inbox: SqlInbox, acting: Acting, handling: Handling) -> None:
    """Events that come again, before or after they were handled, have no further effect."""
    take(inbox, "a1", "a2", "b1")
    take(inbox, "a1")
    assert handle_waiting(handling) == 3
    take(inbox, "a2", "b2")
    assert handle_waiting(handling) == 1
    assert acting.done == ["a1", "a2", "b1", "b2"]
    assert handle_waiting(handling) == 0


def test_what_fails_waits_and_its_subject_with_it(
    inbox: SqlInbox, acting: Acting, handling: Handling
) -> None:
    """A subject waits for the event that failed and then goes on in order; others do not notice."""
    take(inbox, "a1", "a2", "b1")
    acting.failing["a1"] = NotFound("there is no source")
    handle_waiting(handling)
    assert acting.done == ["b1"]
    assert handle_waiting(handling) == 0
    acting.failing.clear()
    handling.clock.sleep(1)
    assert handle_waiting(handling) == 2
    assert acting.done == ["b1", "a1", "a2"]


def test_what_fails_too_often_is_dead_until_somebody_requeues_it(
    inbox: SqlInbox, acting: Acting, handling: Handling
) -> None:
    """After the last attempt it is kept with its error and its subject goes on; requeued it is tried again."""
    take(inbox, "a1", "a2")
    acting.failing["a1"] = RuntimeError("secret words")
    for _ in range(3):
        handle_waiting(handling)
        handling.clock.sleep(1)
    (dead,) = inbox.find(status=InboxStatus.DEAD)
    assert (dead.attempts, dead.error_code) == (3, "unexpected")
    assert "secret" not in (dead.error_message or "")
    handle_waiting(handling)
    assert acting.done == ["a2"]
    acting.failing.clear()
    inbox.requeue(dead.position, act=ACT)
    handle_waiting(handling)
    assert acting.done == ["a2", "a1"]


def test_what_can_never_be_done_is_dead_at_once(
    inbox: SqlInbox, acting: Acting, handling: Handling
) -> None:
    """An event that is wrong, or that nothing acts on, is not tried again."""
    take(inbox, "a1")
    acting.failing["a1"] = BadEvent("no")
    other = arrival("b1", "b", type="collection_failed", data=example("collection_failed"))
    inbox.accept([other], received_from="kim", now=NOW)
    handle_waiting(handling)
    assert [e.attempts for e in inbox.find(status=InboxStatus.DEAD)] == [1, 1]


def test_a_handler_that_died_before_it_was_recorded_runs_again(
    inbox: SqlInbox, acting: Acting, handling: Handling
) -> None:
    """What took effect and was not recorded is handled again under the same key, and has no further effect."""
    take(inbox, "a1")
    (event,) = inbox.next_waiting(now=NOW, limit=9)
    handle_waiting(handling)
    again = Handling(
        inbox=_Forgetful(inbox, event),
        handlers=handling.handlers,
        clock=handling.clock,
        policy=POLICY,
        jitter=lambda: 0.0,
    )
    handle_waiting(again)
    assert acting.done == ["a1"]


class _Forgetful:
    """An inbox that hands out an event once more."""

    def __init__(self, inbox: SqlInbox, event: Any) -> None:
        self._inbox, self._event = inbox, event

    def next_waiting(self, **_options: Any) -> list[Any]:
        return [self._event]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)


def test_what_is_done_is_forgotten_in_time(inbox: SqlInbox, handling: Handling) -> None:
    """Events that took effect longer ago than the policy keeps them are removed."""
    take(inbox, "a1")
    handle_waiting(handling)
    later = NOW + timedelta(seconds=POLICY.keep_s + 1)
    assert remove_old_arrivals(inbox, POLICY, NOW) == 0
    assert remove_old_arrivals(inbox, POLICY, later) == 1
    assert inbox.find() == []


def test_one_server_at_a_time_runs_a_loop(control_store: SqlControlStore) -> None:
    """A lease is kept by its owner, refused to others, and free when its time is up."""
    leases = SqlLoopLeases.from_engine(control_store.engine)
    took = [
        leases.take("loop", owner, now=at(minute), lease_s=60)
        for owner, minute in (("one", 0), ("two", 0.5), ("one", 0.5), ("two", 1.4), ("two", 1.6))
    ]
    assert took == [True, False, True, False, True]


def test_a_lease_that_is_given_back_is_free_at_once(control_store: SqlControlStore) -> None:
    """Its owner alone gives it back; another's word changes nothing."""
    leases = SqlLoopLeases.from_engine(control_store.engine)
    assert leases.take("loop", "one", now=NOW, lease_s=60)
    leases.give_back("loop", "two")
    assert not leases.take("loop", "two", now=NOW, lease_s=60)
    leases.give_back("loop", "one")
    assert leases.take("loop", "two", now=NOW, lease_s=60)


def test_a_held_lease_is_asked_for_once_in_half_its_time(
    control_store: SqlControlStore, clock: FixedClock
) -> None:
    """In between its server is sure of it; then it asks, and is told if another has it. Back it gives what it had."""
    leases = SqlLoopLeases.from_engine(control_store.engine)
    one, two = (
        HeldLease(name="loop", leases=leases, clock=clock, owner=owner) for owner in ("one", "two")
    )
    assert (one.take(), one.is_sure, two.take(), two.is_sure) == (True, True, False, False)
    two.give_back()
    clock.sleep(LEASE_S / 2 - 1)
    leases.give_back("loop", "one")
    assert one.take()
    clock.sleep(2)
    assert two.take()
    assert (one.is_sure, one.take()) == (False, False)
    two.give_back()
    assert (two.is_sure, one.take()) == (False, True)
