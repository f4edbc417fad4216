"""Begins turns of workflows that wait for what Penstock itself tells."""

from __future__ import annotations

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.told_triggers import Following, trigger_told
from resources.control_db.loop_places import SqlLogPlace
from resources.control_db.outbox_log import SqlEventLog
from resources.wiring import open_coordination

NAME = "told_triggers"


def run_once(services: Services) -> bool:
    """Begin what waits for what was told since the last look, if no other server does; True if there is more."""
    return trigger_told(following_of(services))


def following_of(services: Services) -> Following:
    """Return what following the outbox for workflows needs."""
    return Following(
        coordination=open_coordination(services.platform),
        log=SqlEventLog.from_engine(services.engine),
        place=SqlLogPlace.named(services.engine, NAME),
        is_ours=services.lease(NAME).take,
    )


def close(services: Services) -> None:
    """Leave the lease to other servers."""
    services.lease(NAME).give_back()


loop = Loop(name=NAME, run_once=run_once, close=close)
