"""The first page, signing in and out, and the pages' own files."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import services_of
from control_plane.service.pages.frame import FRAME
from control_plane.service.pages.showing import shown
from control_plane.web.session import session_router

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
router.include_router(session_router(FRAME, lambda request, text: services_of(request).admit(text)))


@router.get("/static/dashboard.css")
def style_sheet() -> Response:
    """The one style sheet."""
    return FRAME.style_sheet()


@router.get("/static/dashboard.js")
def script() -> Response:
    """The one script."""
    file = FRAME.folder / "static" / "dashboard.js"
    return FRAME.kept(file.read_bytes(), "text/javascript")


@router.get("/")
def overview(request: Request) -> Response:
    """Show how things stand."""
    return shown(request, "Overview", lambda _principal: ("overview.html", {}))
