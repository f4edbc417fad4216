"""What acts on events that came in, over a server's services."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.service.services import Services
from penstock.use_cases.event_effects import Effects
from penstock.use_cases.handle_events import Handler
from resources.wiring import open_coordination, open_workshop


def handlers_of(services: Services) -> Mapping[str, Handler]:
    """Return what acts on each type of event."""
    effects = Effects(
        coordination=open_coordination(services.platform),
        workshop=open_workshop(services.platform, services.settings),
    )
    return effects.handlers()
