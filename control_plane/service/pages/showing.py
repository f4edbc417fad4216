"""Rendering the operators' pages for who has signed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request, Response

from control_plane.service.pages.frame import FRAME
from control_plane.service.refusals import refusal
from control_plane.web.calling import current_caller
from control_plane.web.session import to_sign_in
from penstock.access.tokens import Principal
from penstock.errors import PenstockError

Values = Callable[[Principal], tuple[str, Mapping[str, Any]]]
"""Returns a template's name, and what goes into it."""


def shown(request: Request, section: str, values: Values) -> Response:
    """Render a page for who has signed in, or say why not."""
    principal = current_caller(request)
    if principal is None:
        return to_sign_in(FRAME, request)
    around = FRAME.around(request, section)
    try:
        name, inside = values(principal)
        answer = FRAME.page(name, {**around, **inside})
    except PenstockError as error:
        problem = refusal(error)
        said = {"title": problem.title, "said": problem.detail}
        answer = FRAME.page("refused.html", {**around, **said}, status=problem.status)
    return FRAME.csrf.remember(request, answer, around["csrf"])
