"""What queries share: conditional answers, pages with links, and filters as they are written in a query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import Query, Request, Response
from pydantic import AwareDatetime

from control_plane.registry.carrying import not_modified
from control_plane.registry.conditional import etag, none_match
from control_plane.registry.documents import held_document, page_document
from control_plane.web.calling import of
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import refused, unusable
from penstock.ports.registry import Held, Page, Search
from penstock.registry.events import StreamId
from penstock.registry.identifiers import named
from penstock.registry.problems import Problem, ProblemError, ProblemKind
from penstock.use_cases.registry_decisions import left_by
from penstock.use_cases.registry_platform import RegistryPlatform
from penstock.use_cases.registry_queries import as_of, get, search

Limit = Annotated[int, Query(ge=1, le=1000, description="Most that one page has.")]
After = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=8_192,
        description="Where to go on: the `next` of the page before.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]
At = Annotated[
    AwareDatetime | None,
    Query(description="As it was at a moment.", examples=["2026-11-20T19:24:14Z"]),
]
Version = Annotated[
    int | None, Query(ge=1, le=2**53, description="As a version left it.", examples=[1])
]
Where = Annotated[
    list[str] | None,
    Query(
        description="`name=value`: only what has this value, or holds it in a list. A value that reads as a JSON "
        'scalar is one (`rows=3`, `name="3"`); any other is text. Several have all to hold.',
        examples=[["owner=ada"]],
        max_length=20,
        json_schema_extra={"items": {"type": "string", "pattern": "^[^=]+="}},
    ),
]


def one(
    platform: RegistryPlatform,
    stream: StreamId,
    if_none_match: str | None,
    *,
    at: datetime | None = None,
    version: int | None = None,
) -> Response:
    """Answer with what a stream holds, or held; with 304 where the caller has seen just that."""
    if at is not None and version is not None:
        raise unusable("name a moment or a version, not both")
    is_past = at is not None or version is not None
    held = _held_then(platform, stream, at, version) if is_past else of(get(platform, stream))
    if none_match(if_none_match, held.version_tag):
        return not_modified(held.version_tag)
    return json_response(held_document(held), headers={"ETag": etag(held.version_tag)})


def _held_then(
    platform: RegistryPlatform, stream: StreamId, at: datetime | None, version: int | None
) -> Held:
    event = of(as_of(platform, stream, at=at, version=version))
    held = left_by(event)
    if held is None:
        raise refused(
            Problem(
                kind=ProblemKind.NOT_FOUND,
                detail=f"{named(stream)} was gone then: {event.actor} deleted it at {event.recorded_at.isoformat()}",
            )
        )
    return held


def searched(platform: RegistryPlatform, wanted: Search) -> Page:
    """Return a page of what matches; a cursor that no page has ended with is no fault of form."""
    found = search(platform, wanted)
    if isinstance(found, Problem) and [each.rule for each in found.errors] == ["cursor"]:
        raise unusable(found.detail, *found.errors)
    return of(found)


def listed(request: Request, page: Page) -> Response:
    """Answer with a page, and a link to the next one."""
    items = [held_document(held) for held in page.items]
    return json_response(page_document(items, page.next), headers=next_link(request, page.next))


def next_link(request: Request, after: object | None) -> dict[str, str]:
    """Return the header that leads to the next page, as a path: behind a proxy nobody knows the host."""
    if after is None:
        return {}
    url = request.url.include_query_params(after=after)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}


def equals(where: list[str] | None) -> Mapping[str, Any]:
    """Read filters; raises a problem that names each one that is none."""
    found: dict[str, Any] = {}
    errors = []
    for number, each in enumerate(where or ()):
        name, given, text = each.partition("=")
        if not given or not name or name in found:
            message = f"{each[:100]!r} is no filter of its own: write name=value, each name once"
            errors.append(
                ProblemError(path=f"/query/where/{number}", rule="format", message=message)
            )
        found[name] = _scalar(text)
    if errors:
        raise unusable(errors[0].message, *errors)
    return found


def _scalar(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, dict | list) else value
