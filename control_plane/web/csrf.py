"""Proof that a form was filled in on a page of ours: a value in the form that has to match one in a cookie.

The cookie is bound to this host, goes along with nothing that another site starts, and no script can read it; so
another site can neither read the value nor send both.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from fastapi import Request, Response

_LENGTH = 43


@dataclass(frozen=True, kw_only=True, slots=True)
class Csrf:
    """The proof of one server's pages."""

    cookie: str
    path: str

    def value_of(self, request: Request) -> str:
        """Return the value for the forms of a page: that of the browser's cookie, or a new one."""
        value = request.cookies.get(self.cookie, "")
        return value if len(value) == _LENGTH else secrets.token_urlsafe(32)

    def remember(self, request: Request, response: Response, value: str) -> Response:
        """Have the browser keep the value, and return the response."""
        response.set_cookie(
            self.cookie,
            value,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path=self.path,
        )
        return response

    def is_ours(self, request: Request, sent: str) -> bool:
        """Say whether a form that was sent came from a page of ours."""
        value = request.cookies.get(self.cookie, "")
        return len(value) == _LENGTH and hmac.compare_digest(value.encode(), sent.encode())
