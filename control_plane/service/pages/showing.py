"""Rendering the operators' pages for who has signed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.pages.frame import FRAME
from control_plane.service.refusals import refusal
from control_plane.web.calling import current_caller
from control_plane.web.session import to_sign_in
from penstock.access.control import ControlRole
from penstock.access.tokens import Principal
from penstock.errors import PenstockError

Values = Callable[[Principal], tuple[str, Mapping[str, Any]]]
"""Returns a template's name, and what goes into it."""
PART = "x-penstock-part"
"""The header with which our script asks for what is inside a page's frame."""
_SAID = "penstock_control_said"
_LONGEST_SAID = 2_000


def shown(
    request: Request,
    section: str,
    values: Values,
    *,
    said: str | None = None,
    status: int = 200,
    typed: Mapping[str, str] | None = None,
) -> Response:
    """Render a page for who has signed in, or say why not.

    ``said`` is why what was asked for was refused, ``typed`` what was in the form, so that nobody types it twice.
    """
    principal = current_caller(request)
    if principal is None:
        return to_sign_in(FRAME, request)
    is_part = PART in request.headers
    around = {
        **FRAME.around(request, section),
        "layout": "part.html" if is_part else "layout.html",
        "done": None if is_part else _what_was_done(request),
        "said": said,
        "typed": {"reason": "", "patch": "", "of": "", **(typed or {})},
        "may_act": principal.role.includes(ControlRole.OPERATOR),
        "is_live": request.method == "GET",
    }
    try:
        name, inside = values(principal)
        answer: Response = FRAME.page(name, {**around, **inside}, status=status)
    except PenstockError as error:
        problem = refusal(error)
        answer = refused(request, section, problem.title, problem.detail, problem.status)
    if around["done"]:
        answer.delete_cookie(_SAID, path=DASHBOARD, httponly=True, samesite="strict")
    return FRAME.csrf.remember(request, answer, around["csrf"])


def refused(request: Request, section: str, title: str, said: str, status: int) -> Response:
    """Render a page that says why there is no other."""
    around = FRAME.around(request, section)
    return FRAME.page("refused.html", {**around, "title": title, "said": said}, status=status)


def say_on_next_page(request: Request, answer: Response, text: str) -> Response:
    """Have the next page say what was done: in a cookie, which no link from elsewhere can set."""
    answer.set_cookie(
        _SAID,
        quote(text[:_LONGEST_SAID], safe=" "),
        max_age=60,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=DASHBOARD,
    )
    return answer


def _what_was_done(request: Request) -> str | None:
    return unquote(request.cookies.get(_SAID, "")) or None
