"""What the OpenAPI description says of responses besides their bodies: headers, links, and what may be refused."""

from __future__ import annotations

from typing import Any

from control_plane.registry.problem_responses import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]

_ETAG = {
    "description": "The version of what is there, for `If-Match` and `If-None-Match`.",
    "schema": {"type": "string", "pattern": '^"[0-9a-f]*"$'},
}
_LOCATION = {"description": "Where it is read.", "schema": {"type": "string"}}
_REPLAYED = {
    "description": "Whether this answers a repetition.",
    "schema": {"type": "string", "enum": ["true"]},
}
_LINK = {
    "description": 'The next page, as `<address>; rel="next"`.',
    "schema": {"type": "string"},
}
_CHANGED_HEADERS = {"ETag": _ETAG, "Location": _LOCATION, "Idempotent-Replayed": _REPLAYED}
_REASONS = {
    400: "The request is not well-formed.",
    401: "There is no token, or none that stands.",
    403: "The token's role does not allow this.",
    404: "There is nothing there; whether another tenant has it is not told.",
    409: "What is there is in the way.",
    412: "What is there is not at the version that `If-Match` says.",
    413: "The request is larger than is taken.",
    415: "The body is of another media type.",
    422: "What was sent is well-formed, and the registry's rules refuse it.",
    428: "`If-Match` has to say which version is meant.",
    429: "Too many requests: `Retry-After` says how long to wait.",
    503: "Not now: `Retry-After` says when.",
}


def problems(*statuses: int) -> Responses:
    """Return the responses that refuse, beside those that every operation has."""
    wanted = sorted({400, 401, 403, 429, 503, *statuses})
    return {status: _problem(status) for status in wanted}


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    described: dict[str, Any] = {
        "description": _REASONS[status],
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if status in {429, 503}:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return described


WRITES = (404, 409, 412, 413, 422, 428)
READ: Responses = {
    200: {"description": "It is there.", "headers": {"ETag": _ETAG}},
    304: {"description": "It is as `If-None-Match` says.", "headers": {"ETag": _ETAG}},
    **problems(404, 422),
}
LISTED: Responses = {
    200: {"description": "What was found, a page at a time.", "headers": {"Link": _LINK}},
    **problems(422),
}
LISTED_OF_ONE: Responses = {**LISTED, **problems(404)}
ASKED: Responses = {200: {"description": "The answer."}, **problems(404)}
CHANGED: Responses = {
    200: {"description": "What it left.", "headers": _CHANGED_HEADERS},
    **problems(415, *WRITES),
}
MADE: Responses = {
    201: {"description": "It is made.", "headers": _CHANGED_HEADERS},
    **problems(*WRITES),
}
MADE_OR_CHANGED: Responses = {
    201: {"description": "It is made.", "headers": _CHANGED_HEADERS},
    **CHANGED,
}
DELETED: Responses = {
    200: {"description": "It is gone.", "headers": {"Idempotent-Replayed": _REPLAYED}},
    **problems(*WRITES),
}
