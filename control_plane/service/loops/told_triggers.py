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
_has_lease: set[int] = set()
"""Servers of this process that have had the lease, and give it back at their end."""


def run_once(services: Services) -> bool:
    """Begin what waits for what was told since the last look, if no other server does; True if there is more."""
    return trigger_told(following_of(services))


def following_of(services: Services) -> Following:
    """Return what following the outbox for workflows needs."""
    return Following(
        coordination=open_coordination(services.platform),
        log=SqlEventLog.from_engine(services.engine),
        place=SqlLogPlace.named(services.engine, NAME),
        is_ours=lambda: _take(services),
    )


def _take(services: Services) -> bool:
    leases, now = SqlLoopLeases.from_engine(services.engine), services.clock.now()
    if not leases.take(NAME, _OWNER, now=now, lease_s=_LEASE_S):
        return False
    _has_lease.add(id(services))
    return True


def close(services: Services) -> None:
    """Leave the lease to other servers."""
    if id(services) in _has_lease:
        _has_lease.discard(id(services))
        SqlLoopLeases.from_engine(services.engine).give_back(NAME, _OWNER)


loop = Loop(name=NAME, run_once=run_once, close=close)
