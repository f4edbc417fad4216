"""Events: what happened, by cursor or as server-sent events, and what others tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from control_plane.service.calling import LoopsOf, Operator, ServicesOf, Viewer, signed
from control_plane.service.event_documents import (
    CURSOR_PATTERN,
    Accepted,
    EventPage,
    InboxDocument,
    InboxPage,
    cursor_of,
    cursor_text,
    event_document,
    inbox_document,
)
from control_plane.service.services import Services
from control_plane.web.bodies import Why
from control_plane.web.calling import StrictRoute
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import HttpProblemKind, http_problem, invalid
from control_plane.web.responses import Responses, problems
from penstock.errors import NotFound
from penstock.events.catalogue import TOLD
from penstock.events.cloudevents import BATCH, STRUCTURED
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.identity.ids import TenantId
from penstock.ports.events import InboxEvent, InboxStatus, Received
from penstock.use_cases.handle_events import arrival_of
from penstock.use_cases.take_events import read_events
from resources.control_db.inbox import SqlInbox
from resources.control_db.outbox_log import SqlEventLog

router = APIRouter(tags=["Events"], route_class=StrictRoute)
EVENT_STREAM = "text/event-stream"
AT_ONCE = 500
After = Annotated[
    str | None,
    Query(
        max_length=40,
        pattern=CURSOR_PATTERN,
        description="The `next` of a page; from the beginning of what is kept without it.",
        examples=["1f4-2a"],
    ),
]
Types = Annotated[
    list[Annotated[str, Field(json_schema_extra={"enum": list(TOLD)})]] | None,
    Query(alias="type", description="Only events of these types.", max_length=40),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=40,
        pattern=CURSOR_PATTERN,
        json_schema_extra={"format": "feed-cursor"},
        description="What a follower sends that was cut off; it counts before `after`.",
    ),
]
Position = Annotated[int, Path(ge=1, le=2**53)]
_ENVELOPE: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "maxLength": 255},
        "source": {"type": "string", "minLength": 1, "maxLength": 500},
        "type": {"type": "string"},
        "subject": {"type": "string", "minLength": 1, "maxLength": 500},
        "time": {"type": "string", "format": "date-time"},
        "tenant": {"type": "string"},
        "data": {"type": "object"},
    },
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            STRUCTURED: {"schema": _ENVELOPE},
            BATCH: {"schema": {"type": "array", "maxItems": 1000, "items": _ENVELOPE}},
        },
    }
}
_SENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": CURSOR_PATTERN},
        "event": {"enum": list(TOLD)},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""One server-sent event."""
_STREAMED: Responses = {
    200: {
        "description": "Events, each with its place as `id`; a comment when there is nothing new for a while.",
        "content": {EVENT_STREAM: {"schema": _SENT}},
    }
}


@router.post(
    "/events",
    status_code=202,
    response_model=Accepted,
    openapi_extra=_BODY,
    responses={202: {"description": "They are kept, and acted on soon."}, **problems(413, 422)},
)
async def take_events(
    request: Request, services: ServicesOf, loops: LoopsOf, caller: Operator
) -> Response:
    """Tell one event, or up to 1,000, as CloudEvents: an event that comes again changes nothing.

    All of a batch are taken, or none.
    """
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is no JSON: {error}") from None
    events = read_events(
        body,
        content_type=request.headers.get("content-type", ""),
        headers=request.headers,
        now=services.clock.now(),
    )
    arrivals = [arrival_of(event, caller.tenant_id) for event in events]
    new = await services.intake.ask(Received(arrivals, caller.actor))
    loops.wake("event_handling")
    return json_response({"accepted": new, "known": len(arrivals) - new}, status=202)


@router.get("/events", response_model=EventPage, responses=problems())
def list_events(
    services: ServicesOf,
    caller: Viewer,
    after: After = None,
    types: Types = None,
    limit: Limit = 100,
) -> Response:
    """List what has happened after a place, in the order of commits; an empty page says that this is all for now."""
    since = cursor_of(after)
    log = SqlEventLog.from_engine(services.engine)
    events = log.read(since, limit=limit, tenant=caller.only_tenant, types=_known(types))
    here = events[-1].cursor if events else since
    page = {"items": [event_document(event) for event in events], "next": cursor_text(here)}
    return json_response(page)


@router.get(
    "/events/stream", responses={**_STREAMED, **problems()}, response_class=StreamingResponse
)
async def follow_events(
    services: ServicesOf,
    caller: Viewer,
    after: After = None,
    types: Types = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow what happens as server-sent events: what happened after a place first; from now on without one."""
    place = after if last_event_id is None else last_event_id
    since = None if place is None else cursor_of(place)
    chosen = _known(types)
    if since is None:
        since = await to_thread.run_sync(SqlEventLog.from_engine(services.engine).end)
    if not services.streams.take():
        raise http_problem(
            HttpProblemKind.UNAVAILABLE,
            f"{services.limits.streams} others follow already: poll /events instead, or try again later",
            headers={"Retry-After": "30"},
        )
    following = _Following(services=services, tenant=caller.only_tenant, types=chosen, since=since)
    return _Feed(following)


@router.get("/events/inbox", response_model=InboxPage, responses=problems())
def list_inbox(
    services: ServicesOf,
    caller: Viewer,
    status: InboxStatus | None = None,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Limit = 100,
) -> Response:
    """List events that came in, newest first, with what became of them."""
    inbox = SqlInbox.from_engine(services.engine)
    found = inbox.find(tenant=caller.only_tenant, status=status, before=before, limit=limit)
    return json_response({"items": [inbox_document(event) for event in found]})


@router.post(
    "/events/inbox/{position}/requeue",
    response_model=InboxDocument,
    responses={200: {"description": "It is tried again."}, **problems(404, 409, 413)},
)
def requeue_event(
    position: Position, body: Why, services: ServicesOf, loops: LoopsOf, caller: Operator
) -> Response:
    """Have an event that is dead tried again."""
    inbox = SqlInbox.from_engine(services.engine)
    _own(inbox, position, caller.only_tenant)
    by = signed(caller, body.reason)
    act = by.entry("event.requeue", str(position), now=services.clock.now())
    event = inbox.requeue(position, act=act)
    loops.wake("event_handling")
    return json_response(inbox_document(event))


def _own(inbox: SqlInbox, position: int, tenant: TenantId | None) -> InboxEvent:
    event = inbox.get(position)
    if tenant is not None and event.arrival.tenant_id != tenant:
        raise NotFound(f"there is no event {position} in the inbox")
    return event


def _known(types: Sequence[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(types or ()) - set(TOLD))
    if unknown:
        raise invalid(f"there is no event {unknown[0][:63]!r}; these are: {', '.join(TOLD)}")
    return tuple(types or ())


class _Feed(StreamingResponse):
    """A stream of events that leaves its place to others when it ends, however it ends."""

    def __init__(self, following: _Following) -> None:
        super().__init__(
            following.texts(), media_type=EVENT_STREAM, headers={"X-Accel-Buffering": "no"}
        )
        self._places = following.services.streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.give_back()


@dataclass(kw_only=True)
class _Following:
    """One follower."""

    services: Services
    tenant: TenantId | None
    types: tuple[str, ...]
    since: OutboxCursor

    async def texts(self) -> AsyncIterator[bytes]:
        """Yield events as they are committed, and a sign of life after each stretch without any."""
        yield b"retry: 1000\n\n"
        quiet_s, poll_s = 0.0, self.services.live_poll_s
        while True:
            events = await to_thread.run_sync(self._more)
            if events:
                quiet_s = 0.0
                yield b"".join(map(_text, events))
                continue
            if quiet_s >= self.services.heartbeat_s:
                quiet_s = 0.0
                yield b": nothing new\n\n"
            await anyio.sleep(poll_s)
            quiet_s += poll_s

    def _more(self) -> list[OutboxEvent]:
        log = SqlEventLog.from_engine(self.services.engine)
        events = log.read(self.since, limit=AT_ONCE, tenant=self.tenant, types=self.types)
        if events:
            self.since = events[-1].cursor
        return events


def _text(event: OutboxEvent) -> bytes:
    data = orjson.dumps(event_document(event)).decode()
    return f"id: {cursor_text(event.cursor)}\nevent: {event.type}\ndata: {data}\n\n".encode()
