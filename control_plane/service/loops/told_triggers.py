"""Begins turns of workflows that wait for what Penstock itself tells."""

from __future__ import annotations

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.told_triggers import Following, trigger_told
from resources.control_db.loop_leases import SqlLoopLeases
from resources.control_db.loop_places import SqlLogPlace
from resources.control_db.outbox_log import SqlEventLog
from resources.event_wiring import owner_name
from resources.wiring import open_coordination

NAME = "told_triggers"
_LEASE_S = 30.0
_OWNER = owner_name()


def run_once(services: Services) -> bool:
    """Begin what waits for what was told since the last look, if no other server does; True if there is more."""
    return trigger_told(following_of(services))


def following_of(services: Services) -> Following:
    """Return what following the outbox for workflows needs."""
    leases = SqlLoopLeases.from_engine(services.engine)
    return Following(
        coordination=open_coordination(services.platform),
        log=SqlEventLog.from_engine(services.engine),
        place=SqlLogPlace.named(services.engine, NAME),
        is_ours=lambda: leases.take(NAME, _OWNER, now=services.clock.now(), lease_s=_LEASE_S),
    )


def close(services: Services) -> None:
    """Leave the lease to other servers."""
    SqlLoopLeases.from_engine(services.engine).give_back(NAME, _OWNER)


loop = Loop(name=NAME, run_once=run_once, close=close)
