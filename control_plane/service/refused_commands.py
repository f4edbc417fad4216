"""Refused commands in the audit log: who asked for what, and how it was refused.

What is done is recorded in the transaction of its doing, by the use cases; what is refused has none. So it is recorded
here, around the whole application, for the API and the pages alike. Of what was sent only the address is kept: bodies
and queries may hold secrets.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.service.services import Services
from control_plane.web.rates import Rates
from penstock.access.control import ControlRole
from penstock.access.limits import RateLimit
from penstock.access.tokens import Principal
from penstock.errors import InvalidIdentifier, PenstockError
from penstock.identity import ids
from penstock.identity.ids import SourceId
from penstock.ports.audit_log import AuditEntry
from penstock.use_cases.acts import By

ACT = "command.refused"
COMMANDS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
FORBIDDEN, IN_THE_WAY, AGAINST_A_RULE = 403, 409, 422
QUESTIONS = frozenset({"preview"})
"""Operations that are posted to and change nothing."""
OF_EACH_CALLER = RateLimit(per_second=1 / 300, burst=20)
"""So many refusals of a caller are recorded one by one; the others are counted, so that nobody floods the log."""
LONGEST = 255
"""Characters of an address, and of a subject, that are kept."""
_log = logging.getLogger(__name__)


class RefusedCommands:
    """ASGI middleware inside the gate; threads share nothing of it but its counts."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app, self._services = app, services
        self._rates = Rates(limit=OF_EACH_CALLER, clock=services.clock)
        self._uncounted: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and record it before its refusal leaves."""
        if scope["type"] != "http" or scope["method"] not in COMMANDS:
            await self._app(scope, receive, send)
            return

        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._look_at(scope, message["status"])
            await send(message)

        await self._app(scope, receive, recording)

    async def _look_at(self, scope: Scope, status: int) -> None:
        principal: Principal | None = scope["state"]["principal"]
        route: BaseRoute | None = scope.get("route")
        if (
            principal is None
            or status not in {FORBIDDEN, IN_THE_WAY, AGAINST_A_RULE}
            or route is None
            or "refusal" not in scope["state"]
            or getattr(route, "name", None) in QUESTIONS
            or _is_of_its_work(principal, status)
        ):
            return
        caller = principal.caller_id
        if self._rates.wait_s(caller) > 0:
            # Callers are tokens, which admins make: this does not grow without bounds.
            self._uncounted[caller] += 1
            return
        entry = self._entry(scope, principal, status, uncounted=self._uncounted.pop(caller, 0))
        try:
            await to_thread.run_sync(self._services.audit.record_act, entry)
        except PenstockError:
            _log.exception("a refused command could not be recorded")

    def _entry(
        self, scope: Scope, principal: Principal, status: int, *, uncounted: int
    ) -> AuditEntry:
        named: Mapping[str, Any] = scope.get("path_params", {})
        subject = next((str(text) for name, text in named.items() if name != "scope"), "")
        details: dict[str, Any] = {
            "command": f"{scope['method']} {scope['path'][:LONGEST]}",
            "status": status,
            "code": scope["state"]["refusal"],
            "tenant_id": principal.tenant_id,
        }
        if uncounted:
            details["refused_since_and_not_recorded"] = uncounted
        return By(actor=principal.actor).entry(
            ACT,
            (subject or scope["path"])[:LONGEST],
            now=self._services.clock.now(),
            source=_source(named) if status == IN_THE_WAY else None,
            details=details,
        )


def _is_of_its_work(principal: Principal, status: int) -> bool:
    """Say whether it is a worker that has lost a lease, or comes too late: that is no act of a person."""
    return principal.role is ControlRole.WORKER and status != FORBIDDEN


def _source(named: Mapping[str, Any]) -> SourceId | None:
    """Return the source that a command was about, whose tenant may read of it.

    Only where its state was in the way: whether the caller may see it at all has been asked by then, and only then.
    """
    try:
        if "batch" in named:
            return ids.split_batch_id(str(named["batch"]))[0]
        return ids.source_id(str(named["source"])) if "source" in named else None
    except InvalidIdentifier:
        return None
