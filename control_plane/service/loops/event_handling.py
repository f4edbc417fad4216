"""Acts on events that came in."""

from __future__ import annotations

from datetime import datetime, timedelta

from control_plane.service.event_handlers import handlers_of
from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.handle_events import Handling, handle_waiting
from resources.control_db.inbox import SqlInbox
from resources.control_db.loop_leases import SqlLoopLeases
from resources.event_wiring import jitter, owner_name

NAME = "event_handling"
_LEASE_S = 30.0
_LOOK_EVERY_S = 0.1
"""Seconds between two looks for what other servers took in; this one's own routes wake the loop."""
_OWNER = owner_name()
_sure_until: dict[int, datetime] = {}
"""Of each server of this process that has the lease, until when it need not ask for it again."""


def run_once(services: Services) -> bool | float:
    """Act on a page of what waits, if no other server does."""
    inbox = SqlInbox.from_engine(services.engine)
    now = services.clock.now()
    if not _is_sure(services, now):
        # Whoever does not have the lease writes nothing while there is nothing to do.
        if not inbox.next_waiting(now=now, limit=1):
            return _LOOK_EVERY_S
        if not _take(services, now):
            return _LOOK_EVERY_S
    handling = Handling(
        inbox=inbox,
        handlers=handlers_of(services),
        clock=services.clock,
        policy=services.settings.handling_policy,
        jitter=jitter,
        tracer=services.platform.tracer,
    )
    return True if handle_waiting(handling) else _LOOK_EVERY_S


def close(services: Services) -> None:
    """Leave the lease to other servers."""
    if _sure_until.pop(id(services), None) is not None:
        SqlLoopLeases.from_engine(services.engine).give_back(NAME, _OWNER)


def _is_sure(services: Services, now: datetime) -> bool:
    return now < _sure_until.get(id(services), now)


def _take(services: Services, now: datetime) -> bool:
    leases = SqlLoopLeases.from_engine(services.engine)
    if not leases.take(NAME, _OWNER, now=now, lease_s=_LEASE_S):
        return False
    # A page may take the other half.
    _sure_until[id(services)] = now + timedelta(seconds=_LEASE_S / 2)
    return True


loop = Loop(name=NAME, run_once=run_once, close=close)
