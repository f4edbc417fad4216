"""What the pages ask: the dashboard's reads, workflows, workers and forecasts over one server's services."""

from __future__ import annotations

from control_plane.service.services import Services
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.dashboard import Dashboard
from penstock.use_cases.forecasting import Forecasting
from penstock.use_cases.work import Workshop
from resources import wiring
from resources.control_db.dashboard import SqlDashboard


def dashboard_of(services: Services) -> Dashboard:
    """Return what the dashboard's use cases are given."""
    views = SqlDashboard.from_engine(services.engine)
    return Dashboard(platform=services.platform, views=views)


def coordination_of(services: Services) -> Coordination:
    """Return what the use cases of workflows are given."""
    return wiring.open_coordination(services.platform)


def workshop_of(services: Services) -> Workshop:
    """Return what the use cases of workers are given."""
    return wiring.open_workshop(services.platform, services.settings)


def forecasting_of(services: Services) -> Forecasting:
    """Return what the use cases of forecasts are given."""
    return wiring.open_forecasting(services.settings, services.platform)
