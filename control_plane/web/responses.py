"""What the OpenAPI descriptions say of refusals."""

from __future__ import annotations

from typing import Any

from control_plane.web.problem_responses import MEDIA_TYPE

Responses = dict[int | str, dict[str, Any]]
_REASONS = {
    400: "The request is not well-formed.",
    401: "There is no token, or none that stands.",
    403: "The token's role does not allow this.",
    404: "There is nothing there; whether another tenant has it is not told.",
    409: "What is there is in the way.",
    412: "What is there is not at the version that `If-Match` says.",
    413: "The request is larger than is taken.",
    415: "The body is of another media type.",
    422: "What was sent is well-formed, and the rules refuse it.",
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
