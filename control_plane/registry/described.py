"""What the OpenAPI description says of responses besides their bodies: headers, links, and what may be refused."""

from __future__ import annotations

from control_plane.web.responses import Responses, problems

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
