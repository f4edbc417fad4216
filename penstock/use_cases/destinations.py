"""What people do with destinations of events: each act is signed, and in the audit log."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from penstock.errors import BadEvent, InvalidIdentifier, NotFound
from penstock.events.catalogue import TOLD
from penstock.events.delivery import (
    Answer,
    Destination,
    DestinationKind,
    DestinationStatus,
    Wanted,
)
from penstock.events.envelope import SOURCE, OutboxCursor, OutboxEvent
from penstock.events.facts import fact_id
from penstock.identity import ids
from penstock.identity.ids import TenantId
from penstock.ports.clock import Clock
from penstock.ports.events import Destinations, EventLog
from penstock.use_cases.acts import By
from penstock.use_cases.deliver_events import Sender

_EXCHANGE = re.compile(r"(?!amq\.)[A-Za-z0-9_.:-]{1,127}")
MOST_SUBJECTS = 50
OLD_SECRET_S = 24 * 3600.0
"""How long the secret before still signs after a rotation."""
TEST = "penstock.test"
"""The type of what is sent to try a destination; it is no fact, so it is not in the catalogue."""


@dataclass(frozen=True, kw_only=True)
class Directory:
    """What acts on destinations need."""

    destinations: Destinations
    log: EventLog
    clock: Clock
    check_address: Callable[[str], object]
    """Raises ``InvalidIdentifier`` for an address that webhooks cannot be sent to."""
    new_secret: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class NewDestination:
    """What somebody wants events to be sent to."""

    destination_id: str
    tenant_id: TenantId
    kind: DestinationKind
    address: str
    wanted: Wanted = Wanted()
    since: datetime | None = None
    """Events from this moment on are sent, as far as they are kept; without it those that come from now on."""


@dataclass(frozen=True, kw_only=True)
class Added:
    """A destination that was added."""

    destination: Destination
    secret: str | None
    """What its webhooks are signed with: this is the only time that it is told."""


def add_destination(directory: Directory, new: NewDestination, *, by: By) -> Added:
    """Have events sent somewhere."""
    ids.slug(new.destination_id, what="destination")
    _check_address(directory, new.kind, new.address)
    _check_wanted(new.wanted)
    now = directory.clock.now()
    cursor = directory.log.end() if new.since is None else directory.log.place_before(new.since)
    destination = Destination(
        destination_id=new.destination_id,
        tenant_id=new.tenant_id,
        kind=new.kind,
        address=new.address,
        wanted=new.wanted,
        status=DestinationStatus.ENABLED,
        created_at=now,
        created_by=by.actor,
        cursor=cursor,
    )
    secret = directory.new_secret() if new.kind is DestinationKind.WEBHOOK else None
    details = {"kind": new.kind.value, "address": new.address, "tenant_id": new.tenant_id}
    act = by.entry("destination.add", new.destination_id, now=now, details=details)
    directory.destinations.add(destination, secret, act=act)
    return Added(destination=destination, secret=secret)


def own_destination(
    destinations: Destinations, destination_id: str, tenant: TenantId | None
) -> Destination:
    """Return a destination of a tenant, or of any if that is None; raises ``NotFound`` for another's."""
    found = destinations.get(destination_id)
    if tenant is not None and found.tenant_id != tenant:
        raise NotFound(
            f"there is no destination {destination_id!r}: `penstock destinations` lists what there is"
        )
    return found


def change_destination(
    directory: Directory,
    destination_id: str,
    *,
    tenant: TenantId | None,
    address: str | None = None,
    wanted: Wanted | None = None,
    by: By,
) -> Destination:
    """Change where events are sent, or which."""
    before = own_destination(directory.destinations, destination_id, tenant)
    details: dict[str, Any] = {}
    if address is not None:
        _check_address(directory, before.kind, address)
        details["address"] = address
    if wanted is not None:
        _check_wanted(wanted)
        details |= {"types": list(wanted.types), "subjects": list(wanted.subjects)}
    now = directory.clock.now()
    act = by.entry("destination.change", destination_id, now=now, details=details)
    return directory.destinations.change(destination_id, address=address, wanted=wanted, act=act)


def remove_destination(
    directory: Directory, destination_id: str, *, tenant: TenantId | None, by: By
) -> None:
    """Send it nothing any more, and forget it."""
    own_destination(directory.destinations, destination_id, tenant)
    act = by.entry("destination.remove", destination_id, now=directory.clock.now())
    directory.destinations.remove(destination_id, act=act)


def enable_destination(
    directory: Directory, destination_id: str, *, tenant: TenantId | None, by: By
) -> Destination:
    """Have it sent events again, from where it was."""
    own_destination(directory.destinations, destination_id, tenant)
    act = by.entry("destination.enable", destination_id, now=directory.clock.now())
    return directory.destinations.enable(destination_id, act=act)


def disable_destination(
    directory: Directory, destination_id: str, *, tenant: TenantId | None, by: By
) -> Destination:
    """Have it sent nothing until it is enabled."""
    own_destination(directory.destinations, destination_id, tenant)
    act = by.entry("destination.disable", destination_id, now=directory.clock.now())
    why = by.reason or f"{by.actor} disabled it"
    return directory.destinations.disable(destination_id, why=why, act=act)


def replay_destination(
    directory: Directory,
    destination_id: str,
    *,
    tenant: TenantId | None,
    since: datetime | OutboxCursor,
    by: By,
) -> Destination:
    """Have it sent again what came since a moment, or after a place."""
    own_destination(directory.destinations, destination_id, tenant)
    place = since if isinstance(since, OutboxCursor) else directory.log.place_before(since)
    details = {"transaction": place.transaction, "position": place.position}
    now = directory.clock.now()
    act = by.entry("destination.replay", destination_id, now=now, details=details)
    return directory.destinations.replay(destination_id, place, act=act)


def rotate_secret(
    directory: Directory, destination_id: str, *, tenant: TenantId | None, by: By
) -> str:
    """Sign with a new secret, and with the one before for a day; returns the new one, which is told only now."""
    found = own_destination(directory.destinations, destination_id, tenant)
    if found.kind is not DestinationKind.WEBHOOK:
        raise BadEvent(f"{destination_id!r} is no webhook: nothing that it is sent is signed")
    now, secret = directory.clock.now(), directory.new_secret()
    act = by.entry("destination.rotate", destination_id, now=now)
    until = now + timedelta(seconds=OLD_SECRET_S)
    directory.destinations.rotate(destination_id, secret, old_until=until, act=act)
    return secret


def try_destination(
    directory: Directory, sender: Sender, destination_id: str, *, tenant: TenantId | None, by: By
) -> Answer:
    """Send one event of type ``penstock.test`` at once, and return what was said of it."""
    found = own_destination(directory.destinations, destination_id, tenant)
    now = directory.clock.now()
    event = OutboxEvent(
        cursor=found.cursor,
        event_id=fact_id(TEST, destination_id, now.isoformat()),
        type=TEST,
        source=SOURCE,
        subject=destination_id,
        tenant_id=found.tenant_id,
        time=now,
        data={"destination_id": destination_id, "asked_by": by.actor},
    )
    return sender.send(found, event, directory.destinations.secrets(destination_id, now))


def wanted_of(types: Sequence[str] | None, subjects: Sequence[str] | None) -> Wanted | None:
    """Return a filter of what was given; None where nothing was."""
    if types is None and subjects is None:
        return None
    return Wanted(types=tuple(types or ()), subjects=tuple(subjects or ()))


def _check_address(directory: Directory, kind: DestinationKind, address: str) -> None:
    if kind is DestinationKind.WEBHOOK:
        directory.check_address(address)
    elif not _EXCHANGE.fullmatch(address):
        raise InvalidIdentifier(
            f"{address!r} is no exchange of ours: use up to 127 of letters, digits and _.:-, not beginning with amq."
        )


def _check_wanted(wanted: Wanted) -> None:
    unknown = sorted(set(wanted.types) - set(TOLD))
    if unknown:
        raise BadEvent(f"there is no event {unknown[0]!r} to send; these are: {', '.join(TOLD)}")
    if len(wanted.subjects) > MOST_SUBJECTS or not all(wanted.subjects):
        raise BadEvent(f"give up to {MOST_SUBJECTS} beginnings of subjects, none of them empty")
