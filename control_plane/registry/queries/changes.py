"""The change feed: every event of the tenant in the order of commits, by cursor or as server-sent events.

A cursor is the last event that was seen. Whoever keeps it and comes back with it misses nothing and sees nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from control_plane.registry.backend import Backend
from control_plane.registry.calling import BackendOf, Reader
from control_plane.registry.documents import EventPage, cursor_text, event_document
from control_plane.registry.queries.reading import Limit, next_link
from control_plane.web.calling import StrictRoute
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import HttpProblemKind, http_problem, invalid
from control_plane.web.responses import Responses, problems
from penstock.identity.ids import TenantId
from penstock.registry.events import Cursor, RecordedEvent
from penstock.registry.problems import ProblemError

router = APIRouter(tags=["Changes"], route_class=StrictRoute)
EVENT_STREAM = "text/event-stream"
AT_ONCE = 500
_CURSOR = re.compile(r"([0-9a-f]{1,15})-([0-9a-f]{1,15})")
_PATTERN = f"^{_CURSOR.pattern}$"
After = Annotated[
    str | None,
    Query(
        max_length=40,
        json_schema_extra={"pattern": _PATTERN},
        description="The `next` of a page, or the `cursor` of the last event that was seen; from the beginning "
        "without it.",
        examples=["1f4-2a"],
    ),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=40,
        json_schema_extra={"pattern": _PATTERN, "format": "feed-cursor"},
        description="What a follower sends that was cut off; it counts before `after`.",
    ),
]
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": _PATTERN},
        "event": {"const": "change"},
        "data": {"type": "string", "description": "An event, as JSON."},
    },
    "required": ["id", "event", "data"],
}
_STREAMED: Responses = {
    200: {
        "description": "Events, each with its cursor as `id`; a comment when there is nothing new for a while.",
        "content": {EVENT_STREAM: {"schema": _EVENT}},
    }
}


@router.get("/changes", response_model=EventPage, responses=problems())
def list_changes(
    request: Request, backend: BackendOf, caller: Reader, after: After = None, limit: Limit = 100
) -> Response:
    """List what has happened after a place in the feed; an empty page says that this is all for now."""
    since = _cursor(after, "query/after")
    events = backend.platform.store.read_log(since, limit=limit, tenant=caller.tenant_id)
    here = events[-1].cursor if events else since
    place = cursor_text(here.transaction, here.position)
    page = {"items": [event_document(event) for event in events], "next": place}
    return json_response(page, headers=next_link(request, place) if events else {})


@router.get(
    "/changes/stream", responses={**_STREAMED, **problems()}, response_class=StreamingResponse
)
async def follow_changes(
    backend: BackendOf, caller: Reader, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Follow the feed as server-sent events: what has happened since, and then what happens."""
    since = _cursor(after, "query/after")
    if last_event_id is not None:
        since = _cursor(last_event_id, "header/Last-Event-ID")
    if not backend.streams.take():
        raise http_problem(
            HttpProblemKind.UNAVAILABLE,
            f"{backend.limits.streams} others follow already: poll /changes instead, or try again later",
            headers={"Retry-After": "30"},
        )
    following = _Following(backend=backend, tenant=caller.tenant_id, since=since)
    return _Feed(following)


class _Feed(StreamingResponse):
    """A stream of events that leaves its place to others when it ends, however it ends."""

    def __init__(self, following: _Following) -> None:
        super().__init__(
            following.texts(), media_type=EVENT_STREAM, headers={"X-Accel-Buffering": "no"}
        )
        self._places = following.backend.streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.give_back()


@dataclass(kw_only=True)
class _Following:
    """One follower."""

    backend: Backend
    tenant: TenantId
    since: Cursor

    async def texts(self) -> AsyncIterator[bytes]:
        """Yield events as they are committed, and a sign of life after each stretch without any."""
        yield b"retry: 1000\n\n"
        bell = _Bell()
        leave = await to_thread.run_sync(self.backend.signal.subscribe, bell.ring)
        try:
            async for text in self._followed(bell):
                yield text
        finally:
            leave()

    async def _followed(self, bell: _Bell) -> AsyncIterator[bytes]:
        heard_at = anyio.current_time()
        while True:
            bell.quiet()
            events = await to_thread.run_sync(self._more)
            if events:
                heard_at = anyio.current_time()
                yield b"".join(map(_text, events))
                continue
            if anyio.current_time() - heard_at >= self.backend.heartbeat_s:
                heard_at = anyio.current_time()
                yield b": nothing new\n\n"
            await bell.heard(within_s=min(self.backend.poll_s, self.backend.heartbeat_s))

    def _more(self) -> list[RecordedEvent]:
        store = self.backend.platform.store
        events = store.read_log(self.since, limit=AT_ONCE, tenant=self.tenant)
        if events:
            self.since = events[-1].cursor
        return events


class _Bell:
    """Wakes a follower, from whatever thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the follower; one whose server has ended sleeps on."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)

    def quiet(self) -> None:
        """Forget that it has rung."""
        self._rung.clear()

    async def heard(self, *, within_s: float) -> None:
        """Return when it rings, at the latest after so many seconds."""
        with anyio.move_on_after(within_s):
            await self._rung.wait()


def _text(event: RecordedEvent) -> bytes:
    place = cursor_text(event.cursor.transaction, event.cursor.position)
    data = orjson.dumps(event_document(event)).decode()
    return f"id: {place}\nevent: change\ndata: {data}\n\n".encode()


def _cursor(text: str | None, where: str) -> Cursor:
    if text is None:
        return Cursor()
    match = _CURSOR.fullmatch(text)
    if match is None:
        message = f"{text[:40]!r} is no place in the feed: send the `next` of a page, or the `cursor` of an event"
        error = ProblemError(path=f"/{where}", rule="cursor", message=message)
        raise invalid(message, error)
    return Cursor(transaction=int(match[1], 16), position=int(match[2], 16))
