"""Removes events that nobody needs any more, and seals anew what an old key has sealed."""

from __future__ import annotations

from control_plane.service.looping import Loop
from control_plane.service.loops.told_triggers import following_of
from control_plane.service.services import Services
from penstock.use_cases.deliver_events import remove_old_events
from penstock.use_cases.handle_events import remove_old_arrivals
from penstock.use_cases.told_triggers import needed_from
from resources.control_db.inbox import SqlInbox
from resources.control_db.outbox_log import SqlEventLog
from resources.event_wiring import open_destinations

_EVERY_S = 600.0


def run_once(services: Services) -> float:
    """Remove what is old, and give up old keys. Several servers at it harm nothing."""
    now, settings = services.clock.now(), services.settings
    log = SqlEventLog.from_engine(services.engine)
    destinations = open_destinations(settings, services.engine)
    destinations.seal_anew()
    remove_old_events(
        log,
        destinations,
        settings.delivery_policy,
        now,
        needed_from=needed_from(following_of(services)),
    )
    remove_old_arrivals(SqlInbox.from_engine(services.engine), settings.handling_policy, now)
    return _EVERY_S


loop = Loop(name="event_retention", run_once=run_once)
