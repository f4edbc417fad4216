"""Many commands in one request: all or nothing, or each by itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from control_plane.registry.bodies import Attributes, SourceName, TypeNameField
from control_plane.registry.calling import needs
from control_plane.registry.carrying import CommandsOf, done_document
from control_plane.registry.documents import (
    DeletedDocument,
    EntityDocument,
    Key,
    RelationshipDocument,
    Tag,
)
from control_plane.web.bodies import Body, ReasonField
from control_plane.web.calling import StrictRoute, of
from control_plane.web.documents import Document, ProblemDocument
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import HttpProblem
from control_plane.web.responses import problems
from penstock.identity.ids import TenantId
from penstock.registry import commands as does
from penstock.registry.access import Role
from penstock.registry.events import API_SOURCE, StreamId
from penstock.registry.identifiers import entity_stream, relationship_stream
from penstock.registry.problems import Problem, ProblemError
from penstock.registry.workflow import ReviewStep
from penstock.strict import Flag, Whole
from penstock.use_cases.registry_commands import carry_out_many
from penstock.use_cases.registry_platform import BatchResult

router = APIRouter(
    tags=["Batches"], route_class=StrictRoute, dependencies=[Depends(needs(Role.WRITER))]
)
MOST_COMMANDS = 1000
ACT = "batch.carry_out"
REFUSED = 422
Expected = Annotated[
    Tag | None,
    Field(description="The ETag that was seen, without quotes; null for whatever is there."),
]


class EntityAddress(Body):
    """Which entity."""

    type: TypeNameField
    key: Key
    source: SourceName = API_SOURCE

    def stream(self, tenant: TenantId) -> StreamId | Problem:
        """Return its stream."""
        return entity_stream(tenant, self.type, self.key, source=self.source)


class RelationshipAddress(Body):
    """Which relationship."""

    type: TypeNameField
    from_key: Key
    to_key: Key
    source: SourceName = API_SOURCE

    def stream(self, tenant: TenantId) -> StreamId | Problem:
        """Return its stream."""
        return relationship_stream(
            tenant, self.type, self.from_key, self.to_key, source=self.source
        )


class _Part(Body):
    """One command: what to do, and with what."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["entity"]}, {"required": ["relationship"]}]}
    )
    entity: EntityAddress | SkipJsonSchema[None] = None
    relationship: RelationshipAddress | SkipJsonSchema[None] = None
    reason: ReasonField = ""

    @model_validator(mode="after")
    def _about_one(self) -> _Part:
        named = self.model_fields_set & {"entity", "relationship"}
        if len(named) != 1 or (self.entity is None and self.relationship is None):
            raise ValueError("name either an entity or a relationship")
        return self

    def stream(self, tenant: TenantId) -> StreamId | Problem:
        """Return what it is about."""
        named = self.entity or self.relationship
        assert named is not None
        return named.stream(tenant)


class CreatePart(_Part):
    """Make it."""

    do: Literal["create"]
    attributes: Attributes

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.Create(stream=stream, attributes=self.attributes, reason=self.reason)


class ReplacePart(_Part):
    """Set all its attributes."""

    do: Literal["replace"]
    attributes: Attributes
    expected: Expected = None
    or_create: Flag = False

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.Replace(
            stream=stream,
            attributes=self.attributes,
            expected=_tag(self.expected),
            or_create=self.or_create,
            reason=self.reason,
        )


class MergePatchPart(_Part):
    """Change some attributes by a merge patch."""

    do: Literal["merge_patch"]
    patch: Attributes
    expected: Expected = None

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.MergePatch(
            stream=stream, patch=self.patch, expected=_tag(self.expected), reason=self.reason
        )


class JsonPatchPart(_Part):
    """Change some attributes by a JSON patch."""

    do: Literal["json_patch"]
    operations: Annotated[list[dict[str, Any]], Field(max_length=1000)]
    expected: Expected = None

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.JsonPatch(
            stream=stream,
            operations=self.operations,
            expected=_tag(self.expected),
            reason=self.reason,
        )


class DeletePart(_Part):
    """Remove it."""

    do: Literal["delete"]
    cascade: Flag = False
    expected: Expected = None

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.Delete(
            stream=stream,
            expected=_tag(self.expected),
            cascade=self.cascade,
            reason=self.reason,
        )


class RestorePart(_Part):
    """Bring it back."""

    do: Literal["restore"]

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.Restore(stream=stream, reason=self.reason)


class RollBackPart(_Part):
    """Give it the attributes of an earlier version."""

    do: Literal["rollback"]
    version: Whole = Field(ge=1, le=2**53)
    expected: Expected = None

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        return does.RollBack(
            stream=stream,
            version=self.version,
            expected=_tag(self.expected),
            reason=self.reason,
        )


class StewardPart(_Part):
    """Deprecate or reinstate an entity, put it forward, vouch for it or turn it down."""

    do: Literal["deprecate", "reinstate", "propose", "attest", "reject"]
    expected: Expected = None

    def command(self, stream: StreamId) -> does.Command:
        """Return the command."""
        expected = _tag(self.expected)
        match self.do:
            case "deprecate":
                return does.Deprecate(stream=stream, expected=expected, reason=self.reason)
            case "reinstate":
                return does.Reinstate(stream=stream, expected=expected, reason=self.reason)
            case step:
                return does.TakeStep(
                    stream=stream, step=ReviewStep(step), expected=expected, reason=self.reason
                )


Part = Annotated[
    CreatePart
    | ReplacePart
    | MergePatchPart
    | JsonPatchPart
    | DeletePart
    | RestorePart
    | RollBackPart
    | StewardPart,
    Field(discriminator="do"),
]
_EXAMPLE = {
    "do": "create",
    "entity": {"type": "table", "key": "warehouse/sales/orders"},
    "attributes": {"owner": "ada"},
}


class NewBatch(Body):
    """Commands, in the order in which they are to be carried out."""

    atomic: Flag = Field(default=True, description="All or nothing; else each by itself.")
    commands: Annotated[
        list[Part], Field(min_length=1, max_length=MOST_COMMANDS, examples=[[_EXAMPLE]])
    ]


class BatchItem(Document):
    """What became of one command."""

    status: int
    held: EntityDocument | RelationshipDocument | DeletedDocument | None = None
    problem: ProblemDocument | None = None


class BatchDocument(Document):
    """What became of each command, in order."""

    done: int
    items: list[BatchItem]


@router.post(
    "/batches",
    response_model=BatchDocument,
    responses={
        200: {"description": "What became of each."},
        **problems(404, 409, 412, 413, 422, 428),
    },
)
def carry_out_batch(body: NewBatch, commands: CommandsOf) -> Response:
    """Carry out many commands: all or nothing unless `atomic` is false."""
    tenant = commands.principal.tenant_id
    wanted = [part.command(of(part.stream(tenant))) for part in body.commands]
    answer = carry_out_many(
        commands.platform,
        wanted,
        commands.doing(ACT),
        atomic=body.atomic,
        idempotency_key=commands.idempotency_key,
    )
    done = answer.done if isinstance(answer, BatchResult) else 0
    left = answer.left_event if isinstance(answer, BatchResult) else False
    refused = isinstance(answer, Problem) or (body.atomic and done < len(wanted))
    status = REFUSED if refused else 200
    if not (body.atomic and left):
        commands.record(ACT, "batch", status, commands=len(wanted), done=done)
    result = of(answer)
    if refused:
        raise _refusal(result)
    items = [
        {"status": each.status, "problem": _problem(each)}
        if isinstance(each, Problem)
        else {"status": 200, "held": done_document(each)}
        for each in result.items
    ]
    return json_response({"done": done, "items": items})


def _refusal(result: BatchResult) -> HttpProblem:
    """Return the problem of an atomic batch, which names everything that is wrong with any of its commands."""
    wrong = [(n, each) for n, each in enumerate(result.items) if isinstance(each, Problem)]
    errors = [error for n, each in wrong for error in _errors(n, each)]
    causes = [each for _, each in wrong if each.code != "not_done"]
    return HttpProblem(
        status=REFUSED,
        code="batch_refused",
        title="A command of the batch was refused",
        detail=f"nothing was done: {len(causes)} of {len(result.items)} commands were refused; the first: "
        f"{causes[0].detail}",
        errors=tuple(errors),
        more={"items": [_problem(each) for each in result.items if isinstance(each, Problem)]},
    )


def _errors(n: int, problem: Problem) -> list[ProblemError]:
    if problem.code == "not_done":
        return []
    found = problem.errors or (ProblemError(path="", rule=problem.code, message=problem.detail),)
    return [
        ProblemError(
            path=f"/commands/{n}{each.path}",
            rule=each.rule,
            message=each.message,
            value_type=each.value_type,
            remedy=each.remedy,
        )
        for each in found
    ]


def _problem(problem: Problem) -> dict[str, Any]:
    return {**problem.members(), "instance": ""}


def _tag(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
