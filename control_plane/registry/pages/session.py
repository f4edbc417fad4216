"""Signing in to the pages: the token goes into a cookie that no script and no other site can use."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from control_plane.registry.calling import BackendOf, current_caller
from control_plane.registry.gate import SESSION_COOKIE
from control_plane.registry.pages import csrf
from control_plane.registry.pages.render import HEADERS, ROOT, page

router = APIRouter(include_in_schema=False)
_LONGEST_TOKEN = 8_192
_SESSION_S = 12 * 3600

Text = Annotated[str, Form(max_length=_LONGEST_TOKEN)]


def to_sign_in(request: Request) -> RedirectResponse:
    """Send who has not signed in to where that is done, and from there back."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{ROOT}/login?next={quote(back)}", status_code=303, headers=HEADERS)


@router.get("/login")
def sign_in_page(request: Request, next: str = f"{ROOT}/") -> Response:  # noqa: A002  the query's name
    """Ask for a token."""
    return _asking(request, next, said=None)


@router.post("/login")
def sign_in(
    request: Request,
    backend: BackendOf,
    token: Text,
    csrf_value: Annotated[str, Form(alias="csrf", max_length=100)],
    next: Annotated[str, Form(max_length=4_000)] = f"{ROOT}/",  # noqa: A002  the field's name
) -> Response:
    """Let in who has a token that stands."""
    if not csrf.is_ours(request, csrf_value):
        return _asking(request, next, said="The form had expired: try again.", status=403)
    if backend.admit(token.strip()) is None:
        return _asking(
            request, next, said="This token is not known, has expired or was revoked.", status=401
        )
    response = RedirectResponse(_within(next), status_code=303, headers=HEADERS)
    response.set_cookie(
        SESSION_COOKIE,
        token.strip(),
        max_age=_SESSION_S,
        httponly=True,
        samesite="strict",
        secure=_secure(request),
        path=ROOT,
    )
    return response


@router.post("/logout")
def sign_out(
    request: Request, csrf_value: Annotated[str, Form(alias="csrf", max_length=100)]
) -> Response:
    """Forget the token."""
    if not csrf.is_ours(request, csrf_value):
        return _asking(request, f"{ROOT}/", said="The form had expired: try again.", status=403)
    response = RedirectResponse(f"{ROOT}/login", status_code=303, headers=HEADERS)
    response.delete_cookie(SESSION_COOKIE, path=ROOT, httponly=True, samesite="strict")
    return response


def remembering(request: Request, response: Response, value: str) -> Response:
    """Have the browser keep the value that the forms of a page hold."""
    csrf.remember(response, value, secure=_secure(request))
    return response


def _asking(request: Request, back: str, *, said: str | None, status: int = 200) -> Response:
    value = csrf.csrf_of(request)
    values = {
        "principal": current_caller(request) if said is None else None,
        "section": "",
        "csrf": value,
        "next": _within(back),
        "said": said,
    }
    return remembering(request, page("login.html", values, status=status), value)


def _within(target: str) -> str:
    """Return where to go after signing in: a page of ours, and nothing else that somebody put into a link."""
    parts = urlsplit(target)
    inside = parts.path == ROOT or parts.path.startswith(f"{ROOT}/")
    # A browser resolves dots before it asks, and would be led out by them.
    dots = {".", ".."} & {unquote(step) for step in parts.path.split("/")}
    plain = not parts.scheme and not parts.netloc and not dots and "\\" not in target
    return target if inside and plain and target.isprintable() else f"{ROOT}/"


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
