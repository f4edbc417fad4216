"""The frame of the operators' pages."""

from __future__ import annotations

from pathlib import Path

from control_plane.service.addresses import CSRF_COOKIE, DASHBOARD, SESSION_COOKIE
from control_plane.web.csrf import Csrf
from control_plane.web.frame import Frame

FRAME = Frame(
    root=DASHBOARD,
    folder=Path(__file__).parent,
    title="Penstock control plane",
    menu=(
        ("Overview", "/"),
        ("Queue", "/queue"),
        ("Batches", "/batches"),
        ("Holds", "/holds"),
        ("Dead letters", "/dead-letters"),
        ("Sources", "/sources"),
        ("Targets", "/targets"),
        ("Workflows", "/workflows"),
        ("Workers", "/workers"),
        ("Trends", "/trends"),
    ),
    styles="dashboard",
    csrf=Csrf(cookie=CSRF_COOKIE, path="/"),
    session_cookie=SESSION_COOKIE,
    cookie_path="/",
    token_command="penstock token create NAME --role operator",  # noqa: S106  a command, not a secret
    script="dashboard",
)
