"""Proof that a form was filled in on a page of ours: a value in the form that has to match one in a cookie.

The cookie is bound to this host, goes along with nothing that another site starts, and no script can read it; so
another site can neither read the value nor send both.
"""

from __future__ import annotations

import hmac
import secrets

from fastapi import Request, Response

from control_plane.registry.pages.render import ROOT

COOKIE = "penstock_csrf"
_LENGTH = 43


def csrf_of(request: Request) -> str:
    """Return the value for the forms of a page: that of the browser's cookie, or a new one."""
    value = request.cookies.get(COOKIE, "")
    return value if len(value) == _LENGTH else secrets.token_urlsafe(32)


def remember(response: Response, value: str, *, secure: bool) -> None:
    """Have the browser keep the value."""
    response.set_cookie(COOKIE, value, httponly=True, samesite="strict", secure=secure, path=ROOT)


def is_ours(request: Request, sent: str) -> bool:
    """Say whether a form that was sent came from a page of ours."""
    value = request.cookies.get(COOKIE, "")
    return len(value) == _LENGTH and hmac.compare_digest(value.encode(), sent.encode())
