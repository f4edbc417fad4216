"""What keeps pages live: a stream that says that something has changed, and of what kind it was."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from control_plane.web.calling import current_caller
from control_plane.web.problem_responses import HttpProblemKind, http_problem
from penstock.identity.ids import TenantId
from penstock.ports.dashboard import DashboardViews

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
LastEventId = Annotated[str | None, Header(max_length=64)]


@router.get("/stream")
async def follow(
    request: Request, services: ServicesOf, last_event_id: LastEventId = None
) -> Response:
    """Say as server-sent events when something has changed; who comes back is told what was missed."""
    principal = current_caller(request)
    if principal is None:
        raise http_problem(HttpProblemKind.UNAUTHENTICATED, "sign in, and follow again")
    if not services.streams.take():
        raise http_problem(
            HttpProblemKind.UNAVAILABLE,
            f"{services.limits.streams} others follow already: load the page again to see what is new",
            headers={"Retry-After": "30"},
        )
    pulses = _pulses_of(request, services)
    return _Feed(_Following(services, pulses, principal.only_tenant, last_event_id))


class _Feed(StreamingResponse):
    """A stream that leaves its place to others when it ends, however it ends."""

    def __init__(self, following: _Following) -> None:
        super().__init__(
            following.texts(),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"},
        )
        self._places = following.services.streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.give_back()


@dataclass
class Pulses:
    """The last pulse of each tenant: however many pages follow, the database is asked once in a while."""

    views: DashboardViews
    services: Services
    _kept: dict[TenantId | None, tuple[float, Mapping[str, str]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, tenant: TenantId | None, now_s: float) -> Mapping[str, str]:
        """Return a pulse that is no older than one look."""
        with self._lock:
            at_s, marks = self._kept.get(tenant, (float("-inf"), {}))
            if not marks or now_s - at_s >= self.services.live_poll_s * 0.9:
                marks = self.views.pulse(tenant)
                self._kept[tenant] = (now_s, marks)
            return marks


def _pulses_of(request: Request, services: Services) -> Pulses:
    state = request.app.state
    if not hasattr(state, "pulses"):
        state.pulses = Pulses(dashboard_of(services).views, services)
    pulses: Pulses = state.pulses
    return pulses


@dataclass
class _Following:
    """One page that follows."""

    services: Services
    pulses: Pulses
    tenant: TenantId | None
    last_id: str | None

    async def texts(self) -> AsyncIterator[bytes]:
        """Yield what has changed, and a sign of life after each stretch without any."""
        before, quiet_s = await self._marks(), 0.0
        yield b"retry: 2000\n\n"
        if self.last_id is not None and self.last_id != _name(before):
            yield _changed(sorted(before), before)
        else:
            yield f"id: {_name(before)}\nevent: hello\ndata: {{}}\n\n".encode()
        while True:
            await anyio.sleep(self.services.live_poll_s)
            marks = await self._marks()
            topics = sorted(topic for topic in marks if marks[topic] != before.get(topic))
            before, quiet_s = marks, quiet_s + self.services.live_poll_s
            if topics:
                quiet_s = 0.0
                yield _changed(topics, marks)
            elif quiet_s >= self.services.heartbeat_s:
                quiet_s = 0.0
                yield b": nothing new\n\n"

    async def _marks(self) -> Mapping[str, str]:
        return await to_thread.run_sync(self.pulses.of, self.tenant, anyio.current_time())


def _changed(topics: list[str], marks: Mapping[str, str]) -> bytes:
    data = orjson.dumps({"topics": topics}).decode()
    return f"id: {_name(marks)}\nevent: changed\ndata: {data}\n\n".encode()


def _name(marks: Mapping[str, str]) -> str:
    return blake2b(repr(sorted(marks.items())).encode(), digest_size=8).hexdigest()
