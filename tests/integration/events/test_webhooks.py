"""Webhooks are signed, tried again, given up, replayed, and hold up nobody else, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from penstock.errors import BadEvent, InvalidIdentifier, NotFound
from penstock.events.delivery import DestinationStatus, Wanted
from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import TenantId
from penstock.use_cases import destinations as acts
from resources.control_db.store import SqlControlStore
from resources.delivery.dispatching import Dispatcher
from resources.event_wiring import open_directory
from tests.contracts.event_values import new_event, tell, types
from tests.fixtures.webhook import Hook
from tests.integration.events.world import KIM, World

ACME = TenantId("acme")


@pytest.fixture
def world(control_store: SqlControlStore) -> World:
    return World(control_store)


@pytest.fixture
def dispatcher(world: World) -> Iterator[Dispatcher]:
    made = world.dispatcher()
    yield made
    made.close()


def subjects(hook: Hook) -> list[str]:
    """What it was told of, in order."""
    return [event["subject"] for event in hook.events]


def test_events_arrive_signed_and_in_order(
    world: World, hook: Hook, dispatcher: Dispatcher, control_store: SqlControlStore
) -> None:
    """A receiver is sent what is its tenant's and wanted from now on, in order, signed with its secret."""
    tell(control_store, new_event("before"))
    hook.secret = world.add("hook", hook.url, wanted=Wanted(subjects=("n",))).secret or ""
    told = tell(
        control_store,
        *(new_event(f"n{number}") for number in range(5)),
        new_event("other"),
        new_event("n", tenant_id=ACME),
    )
    world.run_until(lambda: len(hook.events) == 5, dispatcher)
    assert subjects(hook) == ["n0", "n1", "n2", "n3", "n4"]
    assert hook.ids() == [event.event_id for event in told[1:6]]
    assert hook.refused == 0
    assert hook.events[0]["specversion"] == "1.0"
    dispatcher.settle()
    assert world.directory.destinations.get("hook").cursor == world.log.end()
    tries = world.directory.destinations.deliveries("hook")
    assert [(each.delivered, each.status_code) for each in tries] == [(True, 200)] * 5


def test_a_secret_that_no_key_opens_stops_its_destination_alone(
    world: World, hook: Hook, control_store: SqlControlStore
) -> None:
    """Nothing unsigned is sent: the destination says why, its events wait, and the others' go on."""
    world.add("lost", hook.url, wanted=Wanted(subjects=("lost",)))
    world.settings = world.settings.model_copy(
        update={"secret_keys": [SecretStr(Fernet.generate_key().decode())]}
    )
    world.directory = open_directory(world.settings, control_store.engine, world.clock)
    hook.secret = world.add("hook", hook.url, wanted=Wanted(subjects=("n",))).secret or ""
    tell(control_store, new_event("lost"), new_event("n"))
    dispatcher = world.dispatcher()

    def both() -> bool:
        failing = world.directory.destinations.get("lost").last_error
        return len(hook.events) == 1 and failing is not None

    world.run_until(both, dispatcher)
    dispatcher.close()
    assert subjects(hook) == ["n"]
    lost = world.directory.destinations.get("lost")
    assert "PENSTOCK_SECRET_KEYS" in (lost.last_error or "")
    assert lost.cursor < world.log.end()


def test_a_secret_rotates_without_a_gap(
    world: World, hook: Hook, dispatcher: Dispatcher, control_store: SqlControlStore
) -> None:
    """After a rotation receivers with the old secret, and with the new one, take what they are sent."""
    old = world.add("hook", hook.url).secret or ""
    new = acts.rotate_secret(world.directory, "hook", tenant=None, by=KIM)
    assert new != old
    for number, secret in enumerate((old, new), start=1):
        hook.secret = secret
        tell(control_store, new_event(str(number)))
        world.run_until(lambda number=number: len(hook.events) == number, dispatcher)  # type: ignore[misc]
    assert hook.refused == 0


def test_one_that_is_dead_holds_up_only_itself(
    world: World, hook: Hook, dispatcher: Dispatcher, control_store: SqlControlStore
) -> None:
    """While one hangs and another refuses, a third is sent everything; the others are, once they are back."""
    hanging, refusing = Hook(), Hook()
    for each in (hanging, refusing):
        threading.Thread(target=each.server.serve_forever, daemon=True).start()
    hanging.hangs.clear()
    refusing.status = 503
    refusing.retry_after = "0"
    for name, each in (("a_hanging", hanging), ("b_refusing", refusing), ("c_good", hook)):
        each.secret = world.add(name, each.url).secret or ""
    tell(control_store, *(new_event(str(number)) for number in range(10)))
    world.run_until(lambda: len(hook.events) == 10, dispatcher)
    failing = world.directory.destinations.get("b_refusing")
    world.run_until(
        lambda: world.directory.destinations.get("b_refusing").failures > failing.failures,
        dispatcher,
    )
    assert "503" in (world.directory.destinations.get("b_refusing").last_error or "")
    assert hanging.events == refusing.events == []
    hanging.hangs.set()
    refusing.status = 200
    world.run_until(
        lambda: len(hanging.events) == len(refusing.events) == 10,
        dispatcher,
    )
    assert subjects(hanging) == subjects(refusing) == subjects(hook)
    dispatcher.settle()
    assert world.directory.destinations.get("b_refusing").failures == 0
    dispatcher.close()
    for each in (hanging, refusing):
        each.server.shutdown()
        each.server.server_close()


def test_one_that_takes_nothing_for_long_is_given_up_and_told_of(
    control_store: SqlControlStore, hook: Hook
) -> None:
    """It is disabled with an audit entry and an event, keeps its place, and goes on from there when enabled."""
    world = World(control_store, disable_after_s=0.05)
    dispatcher = world.dispatcher()
    hook.secret = world.add("hook", hook.url).secret or ""
    hook.status = 500
    tell(control_store, new_event("kept"))
    destinations = world.directory.destinations
    world.run_until(
        lambda: destinations.get("hook").status is DestinationStatus.DISABLED, dispatcher
    )
    assert "answered 500" in (destinations.get("hook").disabled_why or "")
    assert [a.act for a in control_store.list_acts(subject="hook")] == [
        "destination.disable",
        "destination.add",
    ]
    assert types(control_store)[-1] == "destination_disabled"
    hook.status = 200
    acts.enable_destination(world.directory, "hook", tenant=None, by=KIM)
    world.run_until(lambda: len(hook.events) == 2, dispatcher)
    assert subjects(hook) == ["kept", "hook"]
    dispatcher.close()


def test_one_that_is_gone_is_given_up_at_once(
    world: World, hook: Hook, dispatcher: Dispatcher, control_store: SqlControlStore
) -> None:
    """A receiver that answers 410 is sent nothing more."""
    hook.secret = world.add("hook", hook.url).secret or ""
    hook.status = 410
    tell(control_store, new_event())
    destinations = world.directory.destinations
    world.run_until(
        lambda: destinations.get("hook").status is DestinationStatus.DISABLED, dispatcher
    )
    assert destinations.get("hook").failures == 1


def test_what_was_sent_is_sent_again_on_request(
    world: World, hook: Hook, dispatcher: Dispatcher, control_store: SqlControlStore
) -> None:
    """A replay from a place or a moment sends the same events with the same ids again."""
    hook.secret = world.add("hook", hook.url).secret or ""
    told = tell(control_store, *(new_event(str(number)) for number in range(3)))
    world.run_until(lambda: len(hook.events) == 3, dispatcher)
    dispatcher.settle()
    acts.replay_destination(world.directory, "hook", tenant=None, since=told[0].cursor, by=KIM)
    world.run_until(lambda: len(hook.events) == 5, dispatcher)
    dispatcher.settle()
    since = told[0].time - timedelta(seconds=1)
    acts.replay_destination(world.directory, "hook", tenant=None, since=since, by=KIM)
    world.run_until(lambda: len(hook.events) == 8, dispatcher)
    assert subjects(hook) == ["0", "1", "2", "1", "2", "0", "1", "2"]
    assert len(set(hook.ids())) == 3


def test_several_servers_send_each_event_once(
    world: World, hook: Hook, control_store: SqlControlStore
) -> None:
    """While both are well, two servers that send at the same time send nothing twice, and all in order."""
    hook.secret = world.add("hook", hook.url).secret or ""
    servers = [world.dispatcher(name) for name in ("one", "two")]
    tell(control_store, *(new_event(str(number)) for number in range(150)))
    world.run_until(lambda: len(hook.events) >= 150, *servers)
    for each in servers:
        each.settle()
        each.close()
    assert subjects(hook) == [str(number) for number in range(150)]


def test_what_was_sent_by_a_server_that_died_is_sent_again(
    world: World, hook: Hook, control_store: SqlControlStore
) -> None:
    """A lease that runs out lets another server go on from what was recorded: at least once, in order."""
    hook.secret = world.add("hook", hook.url).secret or ""
    tell(control_store, new_event("0"), new_event("1"))
    delivering, sender = world.delivering("died")
    now = world.clock.now() - timedelta(hours=1)
    lease = delivering.destinations.lease("hook", "died", now=now, lease_s=60)
    assert lease is not None
    (first,) = delivering.log.read(lease.destination.cursor, limit=1)
    secrets = delivering.destinations.secrets("hook", now)
    assert sender.send(lease.destination, first, secrets).taken
    other = world.dispatcher("other")
    world.run_until(lambda: len(hook.events) == 3, other)
    other.close()
    sender.close()
    assert subjects(hook) == ["0", "0", "1"]
    stale = delivering.destinations.record(
        lease, cursor=OutboxCursor(), deliveries=[], failed=None, keep=9
    )
    assert not stale


def test_a_private_address_is_refused_and_nothing_secret_is_said(
    control_store: SqlControlStore, hook: Hook
) -> None:
    """Without leave of the settings no private address is taken, and what is refused repeats no secret."""
    world = World(control_store)
    strict = acts.Directory(
        destinations=world.directory.destinations,
        log=world.log,
        clock=world.clock,
        check_address=_strictly,
        new_secret=world.directory.new_secret,
    )
    new = acts.NewDestination(
        destination_id="hook",
        tenant_id=TenantId("default"),
        kind=acts.DestinationKind.WEBHOOK,
        address="https://127.0.0.1/",
    )
    with pytest.raises(InvalidIdentifier, match="public"):
        acts.add_destination(strict, new, by=KIM)
    added = world.add("hook", hook.url)
    assert (added.secret or "?") not in repr(world.directory.destinations.get("hook"))
    hook.secret = "whsec_" + "b" * 32
    delivering, sender = world.delivering()
    answer = acts.try_destination(world.directory, sender, "hook", tenant=None, by=KIM)
    assert (answer.taken, answer.status_code) == (False, 401)
    assert (added.secret or "?") not in repr(answer)
    hook.secret = added.secret or ""
    assert acts.try_destination(world.directory, sender, "hook", tenant=None, by=KIM).taken
    assert hook.events[-1]["type"] == "penstock.test"
    sender.close()
    del delivering


def _strictly(url: str) -> object:
    from resources.delivery.guarded import check_url
    from resources.delivery.webhook_limits import WebhookLimits

    return check_url(url, WebhookLimits())


def test_what_cannot_be_wanted_is_refused(world: World, hook: Hook) -> None:
    """Unknown types, and destinations of another tenant, are refused."""
    with pytest.raises(BadEvent, match="no event 'nonsense'"):
        world.add("hook", hook.url, wanted=Wanted(types=("nonsense",)))
    world.add("hook", hook.url)
    for act in (acts.enable_destination, acts.disable_destination, acts.remove_destination):
        with pytest.raises(NotFound):
            act(world.directory, "hook", tenant=ACME, by=KIM)
    acts.remove_destination(world.directory, "hook", tenant=TenantId("default"), by=KIM)
    with pytest.raises(NotFound):
        world.directory.destinations.get("hook")
