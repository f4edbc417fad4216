"""Forecasting over what the server stands on."""

from __future__ import annotations

from control_plane.service.services import Services
from penstock.use_cases.forecasting import Forecasting
from resources.wiring import open_forecasting


def forecasting_of(services: Services) -> Forecasting:
    """Return what forecasting use cases are given; it costs nothing and opens nothing."""
    return open_forecasting(services.settings, services.platform)
