"""Pausing a source or a target from its page, and having it go on."""

from __future__ import annotations

from control_plane.service.services import Services
from penstock.errors import NotFound
from penstock.identity import ids
from penstock.ports.pauses import PauseScope
from penstock.use_cases import operate
from penstock.use_cases.acts import By


def pause_or_resume(services: Services, scope: PauseScope, name: str, act: str, by: By) -> str:
    """Do one of the two acts that sources and targets have in common, and return what to say of it.

    Raises ``NotFound`` for any other act.
    """
    platform = services.platform
    match act, scope:
        case "pause", PauseScope.SOURCE:
            operate.pause_source(platform, ids.source_id(name), by=by)
            return f"Paused: nothing more is claimed of {name}; what is in hand ends"
        case "pause", PauseScope.TARGET:
            operate.pause_target(platform, ids.target_id(name), by=by)
            return f"Paused: nothing more is claimed for {name}; what is in hand ends"
        case "resume", _:
            operate.resume(platform, scope, name, by=by)
            return f"Resumed: {name} goes on"
        case _:
            raise NotFound(f"a {scope} cannot be asked to {act!r}")
