"""Acts on events that came in."""

from __future__ import annotations

from control_plane.service.event_handlers import handlers_of
from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.handle_events import Handling, handle_waiting
from resources.control_db.inbox import SqlInbox
from resources.control_db.loop_leases import SqlLoopLeases
from resources.event_wiring import jitter, owner_name

_LEASE_S = 30.0
_LOOK_EVERY_S = 0.1
"""Seconds between two looks for what other servers took in; this one's own routes wake the loop."""
_OWNER = owner_name()


def run_once(services: Services) -> bool | float:
    """Act on a page of what waits, if no other server does."""
    leases = SqlLoopLeases.from_engine(services.engine)
    inbox = SqlInbox.from_engine(services.engine)
    now = services.clock.now()
    if not inbox.next_waiting(now=now, limit=1):
        return _LOOK_EVERY_S
    if not leases.take("event_handling", _OWNER, now=now, lease_s=_LEASE_S):
        return _LOOK_EVERY_S
    handling = Handling(
        inbox=inbox,
        handlers=handlers_of(services),
        clock=services.clock,
        policy=services.settings.handling_policy,
        jitter=jitter,
    )
    return bool(handle_waiting(handling))


loop = Loop(name="event_handling", run_once=run_once)
