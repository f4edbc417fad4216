"""The coordinator: what is due of all workflows, about twice a second."""

from __future__ import annotations

import logging

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.progress_workflows import progress_workflows
from resources.wiring import open_coordination

_log = logging.getLogger(__name__)


def look(services: Services) -> bool:
    """Look once; True if there was something to do, and there may be more."""
    looked = progress_workflows(open_coordination(services.platform))
    for trouble in looked.troubles:
        _log.warning("workflows: %s", trouble)
    return looked.did_something


loop = Loop(name="workflows", run_once=look)
