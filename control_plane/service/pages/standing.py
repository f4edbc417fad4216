"""What the pages ask beside the use cases' platform: the dashboard's reads over one server's services."""

from __future__ import annotations

from control_plane.service.services import Services
from penstock.use_cases.dashboard import Dashboard
from resources.control_db.dashboard import SqlDashboard


def dashboard_of(services: Services) -> Dashboard:
    """Return what the dashboard's use cases are given."""
    views = SqlDashboard.from_engine(services.engine)
    return Dashboard(platform=services.platform, views=views)
