"""What the API is sent: models of bodies, and patches by their content type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request
from pydantic import Field

from control_plane.registry.documents import Key
from control_plane.web.bodies import Body, ReasonField
from control_plane.web.documents import Json
from control_plane.web.problem_responses import HttpProblemKind, http_problem, invalid
from penstock.identity.ids import SLUG, TYPE_NAME
from penstock.registry.commands import JsonPatch, MergePatch
from penstock.registry.events import API_SOURCE, StreamId
from penstock.registry.problems import ProblemError
from penstock.strict import Whole

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

SourceName = Annotated[str, Field(pattern=f"^{SLUG.pattern}$", examples=["api"])]
TypeNameField = Annotated[str, Field(pattern=f"^{TYPE_NAME.pattern}$", examples=["table"])]


Attributes = Annotated[Json, Field(examples=[{"owner": "ada", "rows": 1204}])]


class NewEntity(Body):
    """An entity to make."""

    type: TypeNameField
    key: Key
    source: SourceName = API_SOURCE
    attributes: Attributes
    reason: ReasonField = ""


class NewRelationship(Body):
    """A relationship to make."""

    type: Annotated[str, Field(pattern=f"^{TYPE_NAME.pattern}$", examples=["owned_by"])]
    from_key: Key
    to_key: Key
    source: SourceName = API_SOURCE
    attributes: Annotated[Json, Field(examples=[{}])] = Field(default_factory=dict)
    reason: ReasonField = ""


class AllAttributes(Body):
    """All attributes that it is to have."""

    attributes: Attributes
    reason: ReasonField = ""


class BackTo(Body):
    """To which version."""

    version: Whole = Field(ge=1, le=2**53, examples=[1])
    reason: ReasonField = ""


PATCH_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            MERGE_PATCH: {
                "schema": {"type": "object", "additionalProperties": True},
                "examples": {"owner": {"value": {"owner": "bob", "retired_at": None}}},
            },
            JSON_PATCH: {
                "schema": {
                    "type": "array",
                    "maxItems": 1000,
                    "items": {
                        "type": "object",
                        "required": ["op", "path"],
                        "properties": {
                            "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
                            "path": {"type": "string"},
                            "from": {"type": "string"},
                            "value": {},
                        },
                    },
                },
                "examples": {
                    "owner": {"value": [{"op": "replace", "path": "/owner", "value": "bob"}]}
                },
            },
        },
    }
}
"""The two bodies of a PATCH, for the OpenAPI description."""


async def read_patch(request: Request) -> Mapping[str, Any] | Sequence[Any]:
    """Return a patch: an object for a merge patch, a list for a JSON patch, by the content type alone."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in {MERGE_PATCH, JSON_PATCH}:
        raise http_problem(
            HttpProblemKind.UNSUPPORTED_MEDIA_TYPE,
            f"a patch is sent as {MERGE_PATCH} or as {JSON_PATCH}",
            headers={"Accept-Patch": f"{MERGE_PATCH}, {JSON_PATCH}"},
        )
    try:
        patch = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON: {error.msg}") from None
    wanted, name = (dict, "an object") if media == MERGE_PATCH else (list, "an array")
    if not isinstance(patch, wanted):
        message = f"a body of {media} is {name}"
        raise invalid(message, ProblemError(path="", rule="type", message=message))
    read: Mapping[str, Any] | Sequence[Any] = patch
    return read


Patch = Annotated[Mapping[str, Any] | Sequence[Any], Depends(read_patch)]


def patching(
    stream: StreamId, patch: Mapping[str, Any] | Sequence[Any], expected: bytes | None, reason: str
) -> MergePatch | JsonPatch:
    """Return the command that a patch asks for."""
    if isinstance(patch, Mapping):
        return MergePatch(stream=stream, patch=patch, expected=expected, reason=reason)
    return JsonPatch(stream=stream, operations=patch, expected=expected, reason=reason)
