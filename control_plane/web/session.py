"""Signing in to the pages: the token goes into a cookie that no script and no other site can use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from anyio import to_thread
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from control_plane.web.calling import current_caller
from control_plane.web.frame import Frame
from penstock.access.tokens import Principal

_LONGEST_TOKEN = 8_192
_SESSION_S = 12 * 3600

Text = Annotated[str, Form(max_length=_LONGEST_TOKEN)]
Proof = Annotated[str, Form(alias="csrf", max_length=100)]
Admit = Callable[[Request, str], Principal | None]
"""Returns whom a token's text speaks for at the server of a request."""


def to_sign_in(frame: Frame, request: Request) -> RedirectResponse:
    """Send who has not signed in to where that is done, and from there back."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    where = f"{frame.root}/login?next={quote(back)}"
    return RedirectResponse(where, status_code=303, headers=frame.headers)


def session_router(frame: Frame, admit: Admit) -> APIRouter:
    """Return the pages for signing in and out."""
    router = APIRouter(include_in_schema=False)
    home = f"{frame.root}/"

    @router.get("/login")
    def sign_in_page(request: Request, next: str = home) -> Response:  # noqa: A002  the query's name
        """Ask for a token."""
        return _asking(frame, request, next, said=None)

    @router.post("/login")
    async def sign_in(
        request: Request,
        token: Text,
        csrf_value: Proof,
        next: Annotated[str, Form(max_length=4_000)] = home,  # noqa: A002  the field's name
    ) -> Response:
        """Let in who has a token that stands."""
        if not frame.csrf.is_ours(request, csrf_value):
            return _asking(
                frame, request, next, said="The form had expired: try again.", status=403
            )
        if await to_thread.run_sync(admit, request, token.strip()) is None:
            said = "This token is not known, has expired or was revoked."
            return _asking(frame, request, next, said=said, status=401)
        where = _within(frame.root, next)
        response = RedirectResponse(where, status_code=303, headers=frame.headers)
        response.set_cookie(
            frame.session_cookie,
            token.strip(),
            max_age=_SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path=frame.cookie_path,
        )
        return response

    @router.post("/logout")
    def sign_out(request: Request, csrf_value: Proof) -> Response:
        """Forget the token."""
        if not frame.csrf.is_ours(request, csrf_value):
            return _asking(
                frame, request, home, said="The form had expired: try again.", status=403
            )
        response = RedirectResponse(f"{frame.root}/login", status_code=303, headers=frame.headers)
        response.delete_cookie(
            frame.session_cookie, path=frame.cookie_path, httponly=True, samesite="strict"
        )
        return response

    return router


def _asking(
    frame: Frame, request: Request, back: str, *, said: str | None, status: int = 200
) -> Response:
    around = frame.around(request, "")
    values = {
        **around,
        "principal": current_caller(request) if said is None else None,
        "next": _within(frame.root, back),
        "said": said,
    }
    answer = frame.page("login.html", values, status=status)
    return frame.csrf.remember(request, answer, around["csrf"])


def _within(root: str, target: str) -> str:
    """Return where to go after signing in: a page of ours, and nothing else that somebody put into a link."""
    parts = urlsplit(target)
    inside = parts.path == root or parts.path.startswith(f"{root}/")
    # A browser resolves dots before it asks, and would be led out by them.
    dots = {".", ".."} & {unquote(step) for step in parts.path.split("/")}
    plain = not parts.scheme and not parts.netloc and not dots and "\\" not in target
    return target if inside and plain and target.isprintable() else f"{root}/"
