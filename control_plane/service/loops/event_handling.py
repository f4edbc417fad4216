"""Acts on events that came in."""

from __future__ import annotations

from control_plane.service.event_handlers import handlers_of
from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.handle_events import Handling, handle_waiting
from resources.control_db.inbox import SqlInbox
from resources.event_wiring import jitter

NAME = "event_handling"
_LOOK_EVERY_S = 0.1
"""Seconds between two looks for what other servers took in; this one's own routes wake the loop."""


def run_once(services: Services) -> bool | float:
    """Act on a page of what waits, if no other server does."""
    inbox = SqlInbox.from_engine(services.engine)
    lease = services.lease(NAME)
    # Whoever does not have the lease writes nothing while there is nothing to do.
    if not lease.is_sure and not inbox.next_waiting(now=services.clock.now(), limit=1):
        return _LOOK_EVERY_S
    if not lease.take():
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
    services.lease(NAME).give_back()


loop = Loop(name=NAME, run_once=run_once, close=close)
