"""Acts from the pages: a form of ours, an operator, one use case, and a page that says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse

from control_plane.service.addresses import DASHBOARD
from control_plane.service.pages.frame import FRAME
from control_plane.service.pages.showing import Values, refused, say_on_next_page, shown
from control_plane.service.refusals import refusal
from control_plane.web.bodies import LONGEST_REASON
from control_plane.web.calling import current_caller
from penstock.access.control import ControlRole
from penstock.access.tokens import Principal
from penstock.errors import PenstockError, Unsigned
from penstock.use_cases.acts import By

FORBIDDEN = 403
Proof = Annotated[str, Form(alias="csrf")]
Reason = Annotated[str, Form()]
Act = Callable[[Principal, By], str]
"""Does what was asked for, and returns what to say of it."""


class NotForYou(PenstockError):
    """What is everybody's is not for those of one tenant to change."""

    code = "forbidden"


def acted(
    request: Request,
    section: str,
    act: Act,
    *,
    csrf: str,
    reason: str,
    back: str,
    again: Values,
    typed: Mapping[str, str] | None = None,
) -> Response:
    """Do what a form asks for and go ``back`` to a page, or show the page that it was on ``again`` with why not."""
    principal = current_caller(request)
    if principal is None:
        where = f"{DASHBOARD}/login?next={quote(back)}"
        return RedirectResponse(where, status_code=303, headers=FRAME.headers)
    if not FRAME.csrf.is_ours(request, csrf):
        # This may be another site's doing: it is not recorded as what the caller was refused.
        said = "The form had expired, and nothing was done: go back, load the page again and repeat it."
        return refused(request, section, "Nothing was done", said, FORBIDDEN)
    if not principal.role.includes(ControlRole.OPERATOR):
        request.state.refusal = NotForYou.code
        said = f"This takes the role {ControlRole.OPERATOR}, and yours is {principal.role}: nothing was done."
        return refused(request, section, "Not with this role", said, FORBIDDEN)
    try:
        if len(reason) > LONGEST_REASON:
            raise Unsigned(
                f"the reason has {len(reason):,} characters: at most {LONGEST_REASON:,} are kept"
            )
        done = act(principal, By(actor=principal.actor, reason=reason.strip() or None))
    except NotForYou as error:
        request.state.refusal = error.code
        return refused(request, section, "Not for one tenant", str(error), FORBIDDEN)
    except PenstockError as error:
        problem = refusal(error)
        request.state.refusal = problem.code
        kept = {"reason": reason, **(typed or {})}
        return shown(
            request, section, again, said=problem.detail, status=problem.status, typed=kept
        )
    answer = RedirectResponse(back, status_code=303, headers=FRAME.headers)
    return say_on_next_page(request, answer, done)


def for_all(principal: Principal, what: str) -> None:
    """Raise :class:`NotForYou` for a caller of one tenant who would change what others rely on."""
    if principal.only_tenant is not None:
        raise NotForYou(
            f"{what} is there for all tenants, and your token is for {principal.only_tenant} alone: nothing was done"
        )
