"""The customers' status page: one address for each tenant, as a page, as JSON and as an Atom feed.

A tenant's page is for whom its token lets in, or for everybody if ``PENSTOCK_STATUS_PUBLIC`` names it. To all others
there is no such page, whether there is such a tenant or not: it is decided before anything is looked up.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any
from xml.etree import ElementTree as Xml

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from control_plane.answers import plain
from control_plane.service.addresses import CSRF_COOKIE, SESSION_COOKIE
from control_plane.service.calling import services_of
from control_plane.service.forecasting import forecasting_of
from control_plane.service.pages.frame import FRAME as OPERATORS
from control_plane.service.services import Services
from control_plane.web.calling import current_caller
from control_plane.web.csrf import Csrf
from control_plane.web.frame import Frame
from control_plane.web.session import session_router, to_sign_in
from penstock.errors import InvalidIdentifier
from penstock.identity import ids
from penstock.identity.ids import TenantId
from penstock.use_cases.status_board import (
    MOST_DAYS,
    BoardIncident,
    StatusBoard,
    status_board,
)

STATUS = "/status"
OWN = f"{STATUS}/-"
"""Where the pages' own addresses are: no tenant is called so."""
KEPT_S = 10
"""Seconds for which a board stands: however many look, it is put together once."""
_ATOM = "http://www.w3.org/2005/Atom"
_FEW_DAYS = 30

FRAME = Frame(
    root=OWN,
    folder=OPERATORS.folder,
    title="Status",
    menu=(),
    styles="status",
    csrf=Csrf(cookie=CSRF_COOKIE, path="/"),
    session_cookie=SESSION_COOKIE,
    cookie_path="/",
    token_command="penstock token create NAME --role viewer --tenant TENANT",  # noqa: S106  a command, not a secret
)
router = APIRouter(prefix=STATUS, include_in_schema=False)
_signing_in = APIRouter(prefix="/-", include_in_schema=False)
_signing_in.include_router(
    session_router(FRAME, lambda request, text: services_of(request).admit(text))
)
router.include_router(_signing_in)
Days = Annotated[int, Query(ge=1, le=MOST_DAYS)]


@router.get("/-/static/status.css")
def style_sheet() -> Response:
    """The one style sheet."""
    return FRAME.style_sheet()


@router.get("/-/")
def home(request: Request) -> Response:
    """Lead to the caller's own page."""
    principal = current_caller(request)
    if principal is None:
        return to_sign_in(FRAME, request)
    if principal.only_tenant is None:
        return _none(request)
    where = f"{STATUS}/{principal.only_tenant}"
    return RedirectResponse(where, status_code=303, headers=FRAME.headers)


@router.get("/{tenant}.json")
def document(request: Request, tenant: str, days: Days = _FEW_DAYS) -> Response:
    """Return the status as JSON."""
    board = _board(request, tenant, days)
    if board is None:
        return _missing_document()
    return _kept(request, tenant, orjson.dumps(_document(board)), "application/json")


@router.get("/{tenant}.atom")
def feed(request: Request, tenant: str) -> Response:
    """Return the incidents as a feed."""
    board = _board(request, tenant, _FEW_DAYS)
    if board is None:
        return _missing_document()
    page = str(request.url.replace(path=f"{STATUS}/{board.tenant_id}", query="", fragment=""))
    return _kept(request, tenant, _feed(board, page), "application/atom+xml")


@router.get("/{tenant}")
def page(request: Request, tenant: str, days: Days = _FEW_DAYS) -> Response:
    """Show the status."""
    board = _board(request, tenant, days)
    if board is None:
        return _none(request)
    around = FRAME.around(request, "")
    values = {"board": board, "span": days, "most": MOST_DAYS, "few": _FEW_DAYS, "status": STATUS}
    shown = FRAME.page("status.html", {**around, **values})
    if around["principal"] is not None:  # it holds a form of this caller's
        return FRAME.csrf.remember(request, shown, around["csrf"])
    return _kept(request, tenant, bytes(shown.body), "text/html", headers=FRAME.headers)


# Who sees what ----------------------------------------------------------------------------------------------


def _board(request: Request, tenant: str, days: int) -> StatusBoard | None:
    """Return a tenant's board, if whoever asks may see it."""
    services = services_of(request)
    try:
        wanted = ids.tenant_id(tenant)
    except InvalidIdentifier:
        return None
    principal = current_caller(request)
    public = wanted in services.settings.status_public
    if not public and (principal is None or not principal.sees(wanted)):
        return None
    board = _boards_of(request).get(services, wanted, days)
    everywhere = principal is not None and principal.only_tenant is None
    return None if everywhere and not public and not _is_there(board) else board


def _is_there(board: StatusBoard) -> bool:
    """Say whether a tenant has anything, to those who see all tenants and may have mistyped one."""
    return bool(board.sources or board.open_incidents or board.past_incidents)


@dataclass
class _Boards:
    """Boards that were put together within the last seconds."""

    kept: dict[tuple[TenantId, int], tuple[float, StatusBoard]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, services: Services, tenant: TenantId, days: int) -> StatusBoard:
        """Return a board that is not older than :data:`KEPT_S`; who asks meanwhile waits for the same."""
        with self.lock:
            now_s = services.clock.monotonic_s()
            self.kept = {k: v for k, v in self.kept.items() if 0 <= now_s - v[0] < KEPT_S}
            if (tenant, days) not in self.kept:
                board = status_board(forecasting_of(services), tenant, days=days)
                self.kept[tenant, days] = (now_s, board)
            return self.kept[tenant, days][1]


def _boards_of(request: Request) -> _Boards:
    state = request.app.state
    if not hasattr(state, "status_boards"):
        state.status_boards = _Boards()
    boards: _Boards = state.status_boards
    return boards


def _none(request: Request) -> Response:
    """Say that there is no such page: in the same words for what is not there and for what is not the caller's."""
    around = FRAME.around(request, "")
    answer = FRAME.page("status_missing.html", around, status=404)
    return FRAME.csrf.remember(request, answer, around["csrf"])


def _missing_document() -> Response:
    said = {
        "title": "There is no such status",
        "detail": "it is not there, or not for whoever shows this token, or none",
    }
    return Response(orjson.dumps(said), status_code=404, media_type="application/json")


def _kept(
    request: Request, tenant: str, body: bytes, media: str, *, headers: dict[str, str] | None = None
) -> Response:
    """Return what may be kept for some seconds, or that what the caller has kept still stands."""
    public = tenant in services_of(request).settings.status_public
    who = "public" if public else "private"
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    sent = {
        **(headers or {}),
        "Cache-Control": f"{who}, max-age={KEPT_S}",
        "ETag": tag,
        "Vary": "Authorization, Cookie",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=sent)
    return Response(body, media_type=f"{media}; charset=utf-8", headers=sent)


# Forms ------------------------------------------------------------------------------------------------------


def _document(board: StatusBoard) -> dict[str, Any]:
    incidents = [*board.open_incidents, *board.past_incidents]
    return {
        "tenant_id": board.tenant_id,
        "as_of": plain(board.as_of),
        "sources": [{**plain(source), "good_share": source.good_share} for source in board.sources],
        "incidents": [_shown_incident(each) for each in incidents],
    }


def _shown_incident(each: BoardIncident) -> dict[str, Any]:
    shown: dict[str, Any] = plain(each)
    shown["messages"] = [
        {name: message[name] for name in ("at", "phase", "text")} for message in shown["messages"]
    ]
    return shown


def _feed(board: StatusBoard, page_url: str) -> bytes:
    """Return an Atom feed (RFC 4287) of a board's incidents, newest first."""
    Xml.register_namespace("", _ATOM)
    incidents = [*board.open_incidents, *board.past_incidents]
    midnight = board.as_of.replace(hour=0, minute=0)
    updated = max([each.updated_at for each in incidents], default=midnight)
    root = Xml.Element(f"{{{_ATOM}}}feed")
    _text(root, "id", f"urn:penstock:status:{board.tenant_id}")
    _text(root, "title", f"Status of {board.tenant_id}")
    _text(root, "updated", updated.isoformat())
    _text(_text(root, "author", None), "name", "Penstock")
    _link(root, "self", f"{page_url}.atom")
    _link(root, "alternate", page_url)
    for each in sorted(incidents, key=lambda incident: incident.opened_at, reverse=True):
        entry = _text(root, "entry", None)
        _text(entry, "id", f"urn:penstock:incident:{each.incident_id}")
        _text(entry, "title", f"{each.title} ({each.phase})")
        _text(entry, "published", each.opened_at.isoformat())
        _text(entry, "updated", each.updated_at.isoformat())
        _link(entry, "alternate", f"{page_url}#{each.incident_id}")
        _text(entry, "content", _said(each)).set("type", "text")
    text: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _said(each: BoardIncident) -> str:
    lines = [f"{m.at:%Y-%m-%d %H:%M} UTC, {m.phase}: {m.text}" for m in each.messages]
    return "\n".join([*lines, f"{each.opened_at:%Y-%m-%d %H:%M} UTC: opened"])


def _text(parent: Xml.Element, name: str, text: str | None) -> Xml.Element:
    child = Xml.SubElement(parent, f"{{{_ATOM}}}{name}")
    child.text = None if text is None else _xml_text(text)
    return child


def _xml_text(text: str) -> str:
    """Return text without the control characters that XML has no way to write."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _link(parent: Xml.Element, rel: str, href: str) -> None:
    Xml.SubElement(parent, f"{{{_ATOM}}}link", {"rel": rel, "href": href})
