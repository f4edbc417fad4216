"""Opening the registry that settings describe, and serving it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from control_plane.registry.auth.oidc import OidcBearer
from control_plane.registry.backend import Backend
from control_plane.web.ports import require_free
from penstock.ports.clock import Clock
from penstock.use_cases.registry_platform import RegistryPlatform
from resources.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_ID_BYTES = 16
_FAREWELL_S = 3
"""Seconds that followers of the change feed have to go when the server stops."""


def open_backend(settings: Settings, *, clock: Clock | None = None) -> Backend:
    """Return what the registry's interfaces stand on, bringing the control database's schema up to date."""
    from resources.clock import SystemClock
    from resources.control_db.schema import upgrade
    from resources.control_db.store import SqlControlStore
    from resources.registry.store import SqlRegistryStore
    from resources.registry.tokens import SqlTokens
    from resources.registry.waking import LogWaker

    clock = clock or SystemClock()
    if settings.database_url is None:
        settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.control_url)
    control = SqlControlStore(settings.control_url)
    issuer = settings.registry_oidc
    waker = LogWaker(control.engine)

    def close() -> None:
        waker.close()
        control.close()

    return Backend(
        platform=RegistryPlatform(
            store=SqlRegistryStore(control.engine),
            clock=clock,
            new_id=lambda: secrets.token_bytes(_ID_BYTES),
        ),
        tokens=SqlTokens.from_engine(control.engine),
        audit=control,
        signal=waker,
        limits=settings.registry_limits,
        oidc=None if issuer is None else OidcBearer.of(issuer, clock),
        close=close,
    )


def application(backend: Backend) -> FastAPI:
    """Return the whole server over a backend, which it closes at its end: REST and pages."""
    from control_plane.registry.app import create_app
    from control_plane.registry.pages.router import router

    return create_app(backend, pages=router)


def serve(settings: Settings, *, host: str, port: int, behind: str | None = None) -> None:
    """Serve the registry until Ctrl-C or SIGTERM; raises ``PortTaken``."""
    import uvicorn

    from resources.clock import SystemClock
    from resources.registry.running import projecting

    require_free(host, port)
    backend = open_backend(settings)
    app = application(backend)
    with projecting(settings.control_url, SystemClock(), backend.signal):
        uvicorn.run(
            app,
            host=host,
            port=port,
            proxy_headers=behind is not None,
            forwarded_allow_ips=behind or "",
            server_header=False,
            timeout_graceful_shutdown=_FAREWELL_S,
        )
