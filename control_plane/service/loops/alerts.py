"""The loop that looks whether there is anything that people should be told of, and tells them."""

from __future__ import annotations

from control_plane.service.looping import Loop
from control_plane.service.services import Services
from penstock.events.alerts import AlertRoute
from penstock.use_cases.alert_conditions import incidents_of
from penstock.use_cases.alerts import WATCHES, AlertDesk, tell_of_alerts
from resources.settings import Settings

EVERY_S = 10.0


def routes_of(settings: Settings) -> list[AlertRoute]:
    """Return who is told of what: as set, or everybody of everything worth a warning."""
    if settings.alert_routes or not settings.alert_urls:
        return list(settings.alert_routes)
    return [AlertRoute(urls=tuple(settings.alert_urls))]


def desk_of(services: Services) -> AlertDesk:
    """Return what alerts need beside the platform."""
    from resources.alerts import AppriseAlerts
    from resources.control_db.alert_book import SqlAlertBook
    from resources.control_db.incidents import SqlIncidents
    from resources.control_db.metrics import SqlMetrics

    settings = services.settings
    routes = routes_of(settings)
    return AlertDesk(
        book=SqlAlertBook.from_engine(services.engine),
        metrics=SqlMetrics.from_engine(services.engine),
        routes=routes,
        senders=[AppriseAlerts(route.urls) for route in routes],
        runbooks=settings.runbook_url,
        policy=settings.alert_policy,
        watches=(*WATCHES, incidents_of(SqlIncidents.from_engine(services.engine))),
    )


def run_once(services: Services) -> float:
    """Look, and tell; returns when to look again."""
    tell_of_alerts(services.platform, desk_of(services))
    return EVERY_S


loop = Loop(name="alerts", run_once=run_once)
