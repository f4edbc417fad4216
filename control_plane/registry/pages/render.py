"""The frame of the registry's pages: no script, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from control_plane.registry.addresses import SESSION_COOKIE
from control_plane.web.csrf import Csrf
from control_plane.web.frame import Frame

ROOT = "/registry"
"""Where the pages are mounted."""
FRAME = Frame(
    root=ROOT,
    folder=Path(__file__).parent,
    title="Penstock registry",
    menu=(("Types", "/"), ("Entities", "/entities"), ("Schemas", "/schemas")),
    styles="registry",
    csrf=Csrf(cookie="penstock_csrf", path=ROOT),
    session_cookie=SESSION_COOKIE,
    cookie_path=ROOT,
    token_command="penstock registry token create",  # noqa: S106  a command, not a secret
)
