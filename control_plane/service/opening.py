"""Opening the control plane that settings describe, and serving it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.service.services import Services
from control_plane.web.ports import require_free
from resources.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_FAREWELL_S = 3
"""Seconds that followers of streams have to go when the server stops."""


def open_services(settings: Settings) -> Services:
    """Return what the control plane stands on, bringing the control database's schema up to date."""
    from resources.control_db.control_tokens import SqlControlTokens
    from resources.control_db.store import SqlControlStore
    from resources.wiring import open_platform

    platform = open_platform(settings)
    control = platform.control
    assert isinstance(control, SqlControlStore)
    return Services(
        platform=platform,
        engine=control.engine,
        tokens=SqlControlTokens.from_engine(control.engine),
        audit=control,
        settings=settings,
        limits=settings.control_limits,
        close=control.close,
    )


def application(settings: Settings) -> FastAPI:
    """Return the whole server over what settings describe."""
    from control_plane.service.app import create_app

    return create_app(open_services(settings))


def serve(settings: Settings, *, host: str, port: int, behind: str | None = None) -> None:
    """Serve the control plane until Ctrl-C or SIGTERM; raises ``PortTaken``."""
    import uvicorn

    require_free(host, port)
    uvicorn.run(
        application(settings),
        host=host,
        port=port,
        proxy_headers=behind is not None,
        forwarded_allow_ips=behind or "",
        server_header=False,
        timeout_graceful_shutdown=_FAREWELL_S,
    )
