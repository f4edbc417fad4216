"""Problems as responses: ``application/problem+json`` (RFC 9457), whoever found them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson
from starlette.responses import Response

from penstock.registry.dialect import pointer
from penstock.registry.problems import (
    TYPE_PREFIX,
    Problem,
    ProblemError,
    ProblemKind,
    json_type,
)

MEDIA_TYPE = "application/problem+json"
_RULE = "value_error"
"""The type of what validators of ours raise, as ``ValueError``."""
_TRY_AGAIN_S = {ProblemKind.CONTENDED: 1}


class HttpProblemKind(Enum):
    """Problems of HTTP's own, which no use case knows: code, status, title."""

    UNAUTHENTICATED = ("unauthenticated", 401, "Say who you are")
    NO_SUCH_PATH = ("no_such_path", 404, "There is nothing at this address")
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, "This cannot be done here")
    TOO_LARGE = ("too_large", 413, "The request is too large")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported_media_type", 415, "The body is of another type")
    RATE_LIMITED = ("rate_limited", 429, "Too many requests")
    INTERNAL = ("internal", 500, "Something went wrong here")
    UNAVAILABLE = ("unavailable", 503, "Not now")


@dataclass(kw_only=True, eq=False)
class HttpProblem(Exception):
    """A refusal on its way to becoming a response."""

    status: int
    code: str
    title: str
    detail: str
    errors: tuple[ProblemError, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self, path: str) -> Response:
        """Return the problem document of a request to ``path``."""
        members = {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "instance": path,
            "errors": [error.members() for error in self.errors],
            **self.more,
        }
        return Response(
            orjson.dumps(members),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers=dict(self.headers),
        )


def http_problem(
    kind: HttpProblemKind, detail: str, *, headers: Mapping[str, str] | None = None
) -> HttpProblem:
    """Return a problem of HTTP's own."""
    code, status, title = kind.value
    return HttpProblem(
        status=status, code=code, title=title, detail=detail, headers=dict(headers or {})
    )


def refused(problem: Problem) -> HttpProblem:
    """Return a use case's refusal, ready to be raised."""
    wait_s = _TRY_AGAIN_S.get(problem.kind)
    return HttpProblem(
        status=problem.status,
        code=problem.code,
        title=problem.title,
        detail=problem.detail,
        errors=problem.errors,
        more=problem.more,
        headers={} if wait_s is None else {"Retry-After": str(wait_s)},
    )


def invalid(detail: str, *errors: ProblemError) -> HttpProblem:
    """Return the problem of a request that is not well-formed."""
    return refused(Problem(kind=ProblemKind.INVALID_REQUEST, detail=detail, errors=errors))


def unusable(detail: str, *errors: ProblemError) -> HttpProblem:
    """Return the problem of what is well-formed in each part and of no use together, or now."""
    return HttpProblem(
        status=422,
        code="unusable_parameters",
        title="The parameters cannot be used",
        detail=detail,
        errors=errors,
    )


def invalid_parts(errors: list[dict[str, Any]]) -> HttpProblem:
    """Return FastAPI's own validation errors as one problem; values are named by type, never repeated.

    What a schema says is 400; what only a rule in words can say, of parts that are each well-formed, is 422.
    """
    found = tuple(_part(error) for error in errors)
    shown = found[0].message if len(found) == 1 else f"{len(found)} parts of the request are wrong"
    refuse = unusable if all(error["type"] == _RULE for error in errors) else invalid
    return refuse(shown, *found)


def _part(error: dict[str, Any]) -> ProblemError:
    where, *steps = error["loc"]
    # Of a text that is no JSON the place is a count of characters, not a path.
    path = "" if error["type"] == "json_invalid" else pointer(steps)
    inside = path or f"/{where}" if where != "body" else path
    cause = error.get("ctx", {}).get("error")
    message = f"{error['msg']}: {cause}" if isinstance(cause, str) else error["msg"]
    is_no_json = error["type"] == "json_invalid"
    named = f"body at character {steps[0]}" if is_no_json else " ".join([where, *map(str, steps)])
    return ProblemError(
        path=inside,
        rule=error["type"],
        message=f"{named}: {message}",
        value_type=None if error["type"] in {"missing", "json_invalid"} else _type_of(error),
    )


def _type_of(error: dict[str, Any]) -> str | None:
    value = error.get("input")
    return None if isinstance(value, bytes) else json_type(value)
