"""What has to be done for workers again and again: give out tasks, and give up those that went silent."""

from __future__ import annotations

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.work import forget_gone_workers, lose_silent_workers

SIGNAL_S = 0.1
"""How soon a server that has to stop is no longer listening; nobody is heard any sooner for it."""
SILENT_S = 2.0
GONE_S = 600.0


def give_out(services: Services) -> bool:
    """Give what there is to those who wait at this server."""
    return services.room.look()


def listen(services: Services) -> bool:
    """Have those who wait looked after as soon as somebody commits."""
    services.work_signal.wait(SIGNAL_S)
    if services.room.waiting:
        services.room.notice()
    return True


def lose_silent(services: Services) -> float:
    """Give up workers of which nothing was heard for too long."""
    lose_silent_workers(services.workshop)
    return SILENT_S


def forget_gone(services: Services) -> float:
    """Remove workers that have been gone for long."""
    forget_gone_workers(services.workshop)
    return GONE_S


loops = (
    Loop(name="allotment", run_once=give_out),
    Loop(name="work signals", run_once=listen),
    Loop(name="silent workers", run_once=lose_silent),
    Loop(name="gone workers", run_once=forget_gone),
)
