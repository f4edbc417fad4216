"""Sends events to their destinations."""

from __future__ import annotations

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from resources.control_db.outbox_log import SqlEventLog
from resources.delivery.dispatching import Dispatcher
from resources.event_wiring import open_delivering, open_sender, owner_name

_WAIT_S = 0.5
"""Within this time a destination that is to be tried again is."""
_dispatchers: dict[int, Dispatcher] = {}


def run_once(services: Services) -> bool:
    """Begin to send what is due, or wait for something to send."""
    dispatcher_of(services).dispatch(wait_s=_WAIT_S)
    return True


def dispatcher_of(services: Services) -> Dispatcher:
    """Return the one dispatcher of a server."""
    key = id(services)
    if key not in _dispatchers:
        sender = open_sender(services.settings, services.clock)
        delivering = open_delivering(
            services.settings, services.engine, services.clock, sender, owner_name()
        )
        log = SqlEventLog.from_engine(services.engine)
        _dispatchers[key] = Dispatcher(delivering, log, sender)
    return _dispatchers[key]


def close(services: Services) -> None:
    """Let what is being sent come to its end, and close all connections."""
    dispatcher = _dispatchers.pop(id(services), None)
    if dispatcher is not None:
        dispatcher.close()


loop = Loop(name="event_delivery", run_once=run_once, close=close)
