"""Schemas and relationship types as the API shows them, and as it takes them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BeforeValidator, Field

from control_plane.registry.documents import EventDocument, Tag, moment
from control_plane.web.bodies import Body, ReasonField
from control_plane.web.documents import Document, Json, Moment
from penstock.identity.ids import TYPE_NAME
from penstock.ports.registry import Held
from penstock.registry.attributes import plain
from penstock.registry.compatibility import Compatibility
from penstock.registry.inference import Proposal
from penstock.registry.relationship_types import MAX_DESCRIPTION, MAX_TYPES, Cardinality
from penstock.registry.schemas import SchemaStatus
from penstock.strict import Flag, Whole, no_text
from penstock.use_cases.registry_trials import Trial

_SCHEMA = {
    "title": "table",
    "type": "object",
    "properties": {"owner": {"type": "string"}, "rows": {"type": "integer"}},
    "required": ["owner"],
}
SchemaJson = Annotated[
    Json,
    Field(
        description="A JSON Schema, 2020-12 or draft 7, with a title: what type it is of.",
        examples=[_SCHEMA],
    ),
]
SchemaId = Annotated[
    str,
    Path(
        min_length=1, max_length=127, description="What follows from its title.", examples=["table"]
    ),
]
TypeId = Annotated[str, Path(pattern=f"^{TYPE_NAME.pattern}$", examples=["owned_by"])]
VersionNumber = Annotated[int, Field(ge=1, le=2**53), BeforeValidator(no_text)]
TypeNames = Annotated[
    list[Annotated[str, Field(pattern=f"^{TYPE_NAME.pattern}$")]], Field(max_length=MAX_TYPES)
]


class NewSchema(Body):
    """A schema to define, as a draft."""

    document: SchemaJson
    compatibility: Compatibility | None = None
    reason: ReasonField = ""


class SchemaDraft(Body):
    """Another draft of a schema."""

    document: SchemaJson
    reason: ReasonField = ""


class WhichVersion(Body):
    """A version of a schema."""

    version: VersionNumber | None = Field(
        default=None, description="Null for the one that was active last."
    )
    reason: ReasonField = ""


class ThisVersion(Body):
    """A version of a schema."""

    version: Whole = Field(ge=1, le=2**53, examples=[1])
    reason: ReasonField = ""


class Rules(Body):
    """The rules of a schema."""

    compatibility: Compatibility
    reason: ReasonField = ""


class TriedDraft(Body):
    """What would come after a schema's versions."""

    document: SchemaJson
    compatibility: Compatibility | None = Field(
        default=None, description="Null for the schema's own mode."
    )


class Rows(Body):
    """Rows that a schema is to be inferred from."""

    title: Annotated[str, Field(min_length=1, max_length=255, examples=["table"])]
    rows: Annotated[
        list[Json],
        Field(min_length=1, max_length=10_000, examples=[[{"owner": "ada", "rows": 1204}]]),
    ]


class DeclaredType(Body):
    """What is to hold for the relationships of one type."""

    from_types: TypeNames = Field(default_factory=list, examples=[["table"]])
    to_types: TypeNames = Field(default_factory=list, examples=[["person"]])
    cardinality: Cardinality = Cardinality.MANY_TO_MANY
    containment: Flag = False
    may_dangle: Flag = False
    attributes: Json | None = Field(default=None, description="A JSON Schema of its attributes.")
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] = ""


class SchemaProblem(Document):
    """Why a draft is not taken as a schema."""

    path: str
    rule: str
    message: str


class VersionDocument(Document):
    """One version of a schema. It never changes."""

    number: int
    document: Json
    digest: str
    pins: dict[str, int] = Field(description="What its references without a version mean.")
    created_at: str
    created_by: str
    reason: str


class VersionList(Document):
    """All versions of a schema, oldest first."""

    items: list[VersionDocument]


class SchemaDocument(Document):
    """A schema: its draft, how far that is, and which version is active."""

    kind: Literal["schema"]
    schema_id: str
    title: str
    status: SchemaStatus
    document: Json = Field(
        description="The draft; that of the active version while nothing is revised."
    )
    problems: list[SchemaProblem]
    versions: int = Field(description="How many there are.")
    active_version: int | None
    last_active_version: int | None
    compatibility: Compatibility
    created_at: str
    created_by: str
    version: int = Field(description="Of the schema's own history: each act makes one more.")
    etag: Tag
    updated_at: Moment
    updated_by: str


class SchemaPage(Document):
    """Some of what was found."""

    items: list[SchemaDocument]
    next: str | None


class RelationshipTypeDocument(Document):
    """A relationship type."""

    kind: Literal["relationship_type"]
    name: str
    from_types: list[str] = Field(description="Empty for any.")
    to_types: list[str] = Field(description="Empty for any.")
    cardinality: Cardinality
    containment: bool = Field(description="Whether the from end contains the to end.")
    may_dangle: bool = Field(description="Whether its ends need not be in the registry.")
    attributes: Json | None
    description: str
    version: int
    etag: Tag
    updated_at: Moment
    updated_by: str


class RelationshipTypePage(Document):
    """Some of what was found."""

    items: list[RelationshipTypeDocument]
    next: str | None


class SchemaEvents(Document):
    """What happened to a schema, oldest first."""

    items: list[EventDocument]
    next: int | None


class IncompatibilityDocument(Document):
    """Where a document breaks what the mode promises."""

    path: str
    rule: str
    message: str
    remedy: str
    against_version: int = Field(description="The version that it is not compatible with.")
    direction: Compatibility


class TrialDocument(Document):
    """Whether a document could be the next version."""

    compatible: bool
    mode: Compatibility
    problems: list[SchemaProblem]
    incompatibilities: list[IncompatibilityDocument]


class StatisticDocument(Document):
    """What was seen at one place of the rows."""

    seen: int
    share: float = Field(description="Of what is around it that has one, from 0 to 1.")
    kinds: dict[str, int] = Field(description="Values by JSON type.")
    distinct: int | None = Field(description="Different texts; null for too many to count.")


class ProposalDocument(Document):
    """A schema that rows are valid under: to be edited, and defined."""

    document: Json
    rows: int
    statistics: dict[str, StatisticDocument] = Field(
        description="By JSON pointer into the rows; `*` for any item or name."
    )


def trial_document(trial: Trial) -> Json:
    """Return what became of a document that was tried out."""
    return {
        "compatible": trial.compatible,
        "mode": str(trial.mode),
        "problems": [each.to_state() for each in trial.problems],
        "incompatibilities": [asdict(each) for each in trial.incompatibilities],
    }


def proposal_document(proposal: Proposal) -> Json:
    """Return a schema that was read off rows."""
    return {
        "document": dict(proposal.document),
        "rows": proposal.rows,
        "statistics": {
            place: {**asdict(each), "kinds": dict(each.kinds)}
            for place, each in proposal.statistics.items()
        },
    }


def schema_document(held: Held) -> Json:
    """Return a schema as it is."""
    state: dict[str, Any] = dict(plain(held.state))
    versions = state.pop("versions")
    for name in ("changed_at", "changed_by"):
        state.pop(name)
    return {"kind": "schema", **state, "versions": len(versions), **_now(held)}


def relationship_type_document(held: Held) -> Json:
    """Return a relationship type as it is."""
    return {"kind": "relationship_type", **plain(held.state), **_now(held)}


def _now(held: Held) -> Json:
    return {
        "version": held.version,
        "etag": held.version_tag.hex(),
        "updated_at": moment(held.updated_at),
        "updated_by": held.updated_by,
    }
