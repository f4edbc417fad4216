"""Watching: forecasts on record, and incidents opened and resolved by rules."""

from __future__ import annotations

from control_plane.service.forecasting import forecasting_of
from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.use_cases.watching import watch

EVERY_S = 10.0


def run_once(services: Services) -> float:
    """Do one round. Several servers may do it at once: nothing is opened or told twice."""
    watch(forecasting_of(services))
    return EVERY_S


loop = Loop(name="forecasts", run_once=run_once)
