"""The gate: what every request passes before anything of it is parsed, and the headers that every response leaves with.

In order: the address's rate, who is calling, the caller's rate, the body's size, its nesting.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.web.problem_responses import HttpProblem, HttpProblemKind, http_problem, invalid
from control_plane.web.rates import Rates
from control_plane.web.remembering import Remembered
from penstock.access.limits import RequestLimits, nested
from penstock.access.tokens import Principal
from penstock.errors import PenstockError
from penstock.ports.clock import Clock

_SAFE = {"GET", "HEAD"}
_LARGE = 256 * 1024
"""Bytes whose nesting is counted in a thread, so that others are not kept waiting."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie",
}
"""What a response says unless it says otherwise itself."""


class CannotTell(PenstockError):
    """Whether a token stands cannot be told at the moment; the message says why."""

    code = "cannot_tell"


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """What the gate of one server goes by."""

    admit: Callable[[str], Principal | None]
    """Who a token's text speaks for; raises :class:`CannotTell`."""
    is_guarded: Callable[[str], bool]
    """Whether a path is not handed on without a caller. Where it is, a session's cookie changes nothing."""
    limits: RequestLimits
    clock: Clock
    cookie: str
    """The cookie of a page's session."""
    realm: str
    how: str
    """Which tokens there are, for one who has shown none."""
    remembered: Remembered | None = None
    """Who was let in a moment ago, and is not looked up again."""
    takes_large: Callable[[str], bool] = lambda _path: False
    """Whether bodies may be larger at a path."""


@dataclass
class Gate:
    """ASGI middleware around the whole application."""

    app: ASGIApp
    entrance: Entrance

    def __post_init__(self) -> None:
        limits, clock = self.entrance.limits, self.entrance.clock
        self._addresses = Rates(limit=limits.of_address, clock=clock)
        self._callers = Rates(limit=limits.of_caller, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send, scope)
        try:
            scope.setdefault("state", {})["principal"] = await self._admit(scope)
            receive = await self._take_body(scope, receive)
        except HttpProblem as problem:
            await problem.response(scope["path"])(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Principal | None:
        address = scope["client"][0] if scope.get("client") else "unknown"
        _not_too_often(self._addresses.wait_s(address), "address")
        text = self._shown(scope)
        principal = None if text is None else await self._principal(text)
        if principal is not None:
            _not_too_often(self._callers.wait_s(principal.caller_id), "token")
        elif self.entrance.is_guarded(scope["path"]):
            raise http_problem(
                HttpProblemKind.UNAUTHENTICATED,
                f"send `Authorization: Bearer <token>` with a token that stands: {self.entrance.how}",
                headers={"WWW-Authenticate": f'Bearer realm="{self.entrance.realm}"'},
            )
        return principal

    async def _principal(self, text: str) -> Principal | None:
        remembered = self.entrance.remembered
        if remembered is not None and (known := remembered.get(text)) is not None:
            return known
        try:
            principal = await to_thread.run_sync(self.entrance.admit, text)
        except CannotTell as error:
            raise http_problem(
                HttpProblemKind.UNAVAILABLE, str(error), headers={"Retry-After": "10"}
            ) from None
        if remembered is not None and principal is not None:
            remembered.add(text, principal)
        return principal

    def _shown(self, scope: Scope) -> str | None:
        """Return the token that a request shows: as a bearer, or, where nothing can be changed, in a page's session."""
        headers = Headers(scope=scope)
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and text.strip():
            return text.strip()
        if scope["method"] not in _SAFE and self.entrance.is_guarded(scope["path"]):
            return None
        return cookie_parser(headers.get("cookie", "")).get(self.entrance.cookie)

    async def _take_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read a body whole, as far as it may go, and return a ``receive`` that hands it on."""
        limits = self.entrance.limits
        most = limits.batch_bytes if self.entrance.takes_large(scope["path"]) else limits.body_bytes
        told = Headers(scope=scope).get("content-length", "0")
        if told.isdecimal() and int(told) > most:
            raise _too_large(most)
        body = await _read(receive, most)
        if body is None:
            return _then(b"", receive, gone=True)
        count = nested(body) if len(body) <= _LARGE else await to_thread.run_sync(nested, body)
        if count > limits.nested:
            raise invalid(
                f"the body holds arrays and objects {count:,} deep: at most {limits.nested} are taken"
            )
        return _then(body, receive)


def _not_too_often(wait_s: float, whose: str) -> None:
    if wait_s > 0:
        seconds = str(math.ceil(wait_s))
        raise http_problem(
            HttpProblemKind.RATE_LIMITED,
            f"this {whose} asks too often: wait {seconds} s",
            headers={"Retry-After": seconds},
        )


def _too_large(most: int) -> HttpProblem:
    return http_problem(
        HttpProblemKind.TOO_LARGE,
        f"the body has more than {most:,} bytes: send less at once",
        headers={"Connection": "close"},
    )


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return a request's body; None if the client has gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _then(body: bytes, receive: Receive, *, gone: bool = False) -> Receive:
    """Return a ``receive`` that gives the body at once, and then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    if gone:
        messages = [{"type": "http.disconnect"}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _with_headers(send: Send, scope: Scope) -> Callable[[Message], Awaitable[None]]:
    wanted: dict[str, Any] = dict(HEADERS)
    if scope.get("scheme") == "https":
        wanted["Strict-Transport-Security"] = "max-age=31536000"

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in wanted.items():
                headers.setdefault(name, value)
        await send(message)

    return send_on
