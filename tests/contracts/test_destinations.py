"""Destinations are kept, leased and changed, and their secrets stay apart, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, select

from penstock.errors import IllegalMove, NotFound, SecretUnreadable
from penstock.events.delivery import Delivery, DestinationStatus, Wanted
from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import TenantId
from resources.control_db.destinations import SqlDestinations
from resources.control_db.event_tables import destination_secret
from resources.control_db.store import SqlControlStore
from resources.sealing import SecretBox
from tests.contracts.control_values import NOW, at
from tests.contracts.event_values import ACT, destination

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


@pytest.fixture
def destinations(control_store: SqlControlStore) -> SqlDestinations:
    return SqlDestinations.from_engine(control_store.engine).with_box(SecretBox([OLD]))


def delivery(number: int, *, delivered: bool = True) -> Delivery:
    """One try."""
    return Delivery(
        event_id=str(number), event_type="t", at=at(number), delivered=delivered, attempt=1
    )


def test_a_destination_comes_back_as_it_was_given(destinations: SqlDestinations) -> None:
    """What was added is found, by its tenant too; an id is taken once."""
    new = destination(wanted=Wanted(types=("batch_failed",), subjects=("crm@",)))
    destinations.add(new, "whsec_eA==", act=ACT)
    assert destinations.get("hook") == new
    assert destinations.find() == destinations.find(TenantId("default")) == [new]
    assert destinations.find(TenantId("acme")) == []
    with pytest.raises(IllegalMove, match="already"):
        destinations.add(new, None, act=ACT)
    with pytest.raises(NotFound, match="'other'"):
        destinations.get("other")


def test_one_server_at_a_time_has_a_destination(destinations: SqlDestinations) -> None:
    """A lease keeps others out until it ends, and what its holder records after that is refused."""
    destinations.add(destination(), None, act=ACT)
    mine = destinations.lease("hook", "one", now=NOW, lease_s=60)
    assert mine is not None
    assert destinations.lease("hook", "two", now=NOW, lease_s=60) is None
    assert destinations.due(NOW) == []
    theirs = destinations.lease("hook", "two", now=at(1), lease_s=60)
    assert theirs is not None
    place = OutboxCursor(transaction=1, position=2)
    nothing = {"deliveries": [], "failed": None, "keep": 9}
    assert not destinations.record(mine, cursor=place, **nothing)
    assert destinations.record(theirs, cursor=place, **nothing)
    assert destinations.get("hook").cursor == place
    assert [each.destination_id for each in destinations.due(at(1))] == ["hook"]


def test_whatever_somebody_changes_takes_it_from_its_server(destinations: SqlDestinations) -> None:
    """A replay that is asked for while events are sent is not overwritten by how far they came."""
    destinations.add(destination(cursor=OutboxCursor(position=9)), None, act=ACT)
    lease = destinations.lease("hook", "one", now=NOW, lease_s=60)
    assert lease is not None
    destinations.replay("hook", OutboxCursor(position=3), act=ACT)
    ahead = OutboxCursor(position=10)
    assert not destinations.record(lease, cursor=ahead, deliveries=[], failed=None, keep=9)
    assert destinations.get("hook").cursor == OutboxCursor(position=3)


def test_disabling_and_enabling(destinations: SqlDestinations) -> None:
    """One that is disabled is not due; enabled again it goes on where it was."""
    destinations.add(destination(cursor=OutboxCursor(position=9)), None, act=ACT)
    off = destinations.disable("hook", why="it is moved", act=ACT)
    assert (off.status, off.disabled_why) == (DestinationStatus.DISABLED, "it is moved")
    assert destinations.due(NOW) == []
    assert destinations.lease("hook", "one", now=NOW, lease_s=60) is None
    changed = destinations.change("hook", address="https://example.org/new", act=ACT)
    assert changed.address == "https://example.org/new"
    on = destinations.enable("hook", act=ACT)
    assert (on.status, on.cursor.position, on.disabled_at) == (DestinationStatus.ENABLED, 9, None)


def test_secrets_rotate(destinations: SqlDestinations) -> None:
    """After a rotation both secrets count for a while, then the new one alone; none outlives its destination."""
    destinations.add(destination(), "old", act=ACT)
    destinations.rotate("hook", "new", old_until=at(5), act=ACT)
    assert destinations.secrets("hook", at(4)) == ["new", "old"]
    assert destinations.secrets("hook", at(5)) == ["new"]
    assert "old" not in repr(destinations.get("hook"))
    destinations.remove("hook", act=ACT)
    assert destinations.secrets("hook", NOW) == []
    with pytest.raises(NotFound):
        destinations.rotate("hook", "x", old_until=NOW, act=ACT)


def test_secrets_are_sealed_and_keys_are_changed(destinations: SqlDestinations) -> None:
    """No secret lies in the clear; what an older version left there is sealed, and an old key can be given up."""
    destinations.add(destination(), "whsec_first", act=ACT)
    with destinations.engine.begin() as connection:
        bare = {"destination_id": "hook", "number": 2, "secret": "whsec_bare", "created_at": NOW}
        connection.execute(insert(destination_secret), bare)
    both = ["whsec_bare", "whsec_first"]
    assert destinations.secrets("hook", NOW) == both
    changing = SqlDestinations.from_engine(destinations.engine).with_box(SecretBox([NEW, OLD]))
    assert changing.secrets("hook", NOW) == both
    assert (changing.seal_anew(), changing.seal_anew()) == (2, 0)
    with destinations.engine.connect() as connection:
        kept = list(connection.execute(select(destination_secret.c.secret)).scalars())
    assert not any("whsec" in each for each in kept)
    changed = SqlDestinations.from_engine(destinations.engine).with_box(SecretBox([NEW]))
    assert changed.secrets("hook", NOW) == both
    with pytest.raises(SecretUnreadable, match="no key of this installation") as refused:
        destinations.secrets("hook", NOW)
    assert not any(each in str(refused.value) for each in (*kept, OLD, NEW))
    assert destinations.seal_anew() == 0


def test_the_last_tries_are_kept(destinations: SqlDestinations) -> None:
    """Of each destination so many tries are remembered, the newest first."""
    for name in ("hook", "other"):
        destinations.add(destination(name), None, act=ACT)
    for round_of in range(3):
        lease = destinations.lease("hook", "one", now=NOW, lease_s=60)
        assert lease is not None
        tries = [delivery(round_of * 2), delivery(round_of * 2 + 1, delivered=False)]
        destinations.record(lease, cursor=OutboxCursor(), deliveries=tries, failed=None, keep=3)
    assert [each.event_id for each in destinations.deliveries("hook")] == ["5", "4", "3"]
    assert destinations.deliveries("other") == []
    assert destinations.get("hook").delivered_at == NOW + timedelta(minutes=4)
