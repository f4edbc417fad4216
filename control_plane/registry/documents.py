"""What the API answers with: models for its OpenAPI description, and the JSON itself, made without them.

The models are what a client may rely on; a test holds every answer to them. Answers are written from plain values,
since an answer need not be validated on its way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from control_plane.web.documents import Document, Json, Moment
from penstock.access.tokens import Token
from penstock.diff.fields import FieldChange
from penstock.identity.ids import MAX_KEY_BYTES
from penstock.ports.registry import Held
from penstock.registry.access import Role
from penstock.registry.attributes import plain
from penstock.registry.events import RecordedEvent, StreamId, StreamKind
from penstock.registry.identifiers import address
from penstock.use_cases.registry_queries import Graph
from penstock.use_cases.registry_queries import HistoryItem as HistoryEntry

Tag = Annotated[str, Field(pattern="^[0-9a-f]{32}$", examples=["5f0c2f3b7a9d4c1e8b6a4d2c0e1f3a5b"])]
KEY_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+$"
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_KEY_BYTES,
        examples=["warehouse/sales/orders"],
        json_schema_extra={"pattern": KEY_PATTERN},
    ),
]


class EntityDocument(Document):
    """An entity, now or as it was."""

    kind: Literal["entity"]
    source: str = Field(description="Who says so: `api`, or the source that was published.")
    type: str
    key: Key
    attributes: Json
    version: int = Field(ge=1, description="The first is 1; each event makes one more.")
    etag: Tag = Field(description="What `If-Match` takes, in quotes.")
    status: str = Field(description="`active` or `deprecated`.")
    review: str | None = Field(description="`proposed`, `attested`, `rejected`, or null.")
    reviewed_by: str | None
    reviewed_at: Moment | None
    schema_version: int | None = Field(
        description="The version of the schema that it was validated against."
    )
    updated_at: Moment
    updated_by: str


class RelationshipDocument(Document):
    """A relationship, now or as it was."""

    kind: Literal["relationship"]
    source: str
    type: str
    from_key: Key
    to_key: Key
    attributes: Json
    version: int = Field(ge=1)
    etag: Tag
    schema_version: int | None
    updated_at: Moment
    updated_by: str


class EventDocument(Document):
    """What happened to one stream."""

    cursor: str = Field(description="Its place in the change feed.")
    kind: str
    source: str
    type: str
    key: str | None = None
    from_key: str | None = None
    to_key: str | None = None
    action: str
    version: int | None = Field(description="Of its stream after it.")
    etag: str
    state: Json | None = Field(description="The whole state after it; null once it is gone.")
    data: Json
    schema_version: int | None
    actor: str
    recorded_at: Moment
    batch_id: str | None
    event_version: int


class ChangeDocument(Document):
    """One field that an event has changed."""

    path: str = Field(examples=["columns[2].type"])
    change: str = Field(description="`added`, `removed`, `changed` or `changed type`.")
    before: Any
    after: Any


class HistoryItem(Document):
    """An event, and what it changed."""

    event: EventDocument
    changes: list[ChangeDocument]


class HistoryPage(Document):
    """Some of a stream's events, oldest first."""

    items: list[HistoryItem]
    next: int | None = Field(description="The version after which to go on. Null at the end.")


class DifferenceDocument(Document):
    """What changed between two versions."""

    before: EventDocument
    after: EventDocument
    changes: list[ChangeDocument]


class NodeDocument(Document):
    """An entity of a graph."""

    kind: Literal["entity"]
    source: str
    type: str = Field(description="`?` where a relationship leads to nothing that is there.")
    key: Key
    distance: int
    entity: EntityDocument | None


class GraphDocument(Document):
    """An entity with what is around it."""

    nodes: list[NodeDocument]
    edges: list[RelationshipDocument]
    complete: bool = Field(description="Whether nothing was left out for want of room.")


class TypeDocument(Document):
    """A type that is declared or in use."""

    kind: Literal["entity", "relationship"]
    type: str
    count: int
    declared: bool = Field(description="Whether a schema, or a relationship type, has its name.")


class TypesDocument(Document):
    """All types."""

    items: list[TypeDocument]


class FoundDocument(Document):
    """What is there of each that was asked for, in order; null where there is nothing."""

    items: list[EntityDocument | None]


class DeletedDocument(Document):
    """What is gone."""

    deleted: Json
    cascaded: list[Json]


class EventPage(Document):
    """Some of the change feed, in the order of commits."""

    items: list[EventDocument]
    next: str = Field(description="Where to go on, always: send it as `after`.")


class EntityPage(Document):
    """Some of what was found."""

    items: list[EntityDocument]
    next: str | None = Field(description="Where to go on: send it as `after`. Null at the end.")


class RelationshipPage(Document):
    """Some of what was found."""

    items: list[RelationshipDocument]
    next: str | None


class TokenDocument(Document):
    """What may be seen of a token."""

    token_id: str
    tenant: str
    role: Role
    name: str = Field(description="Whose it is: the actor of what is done with it.")
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    revoked_at: Moment | None
    revoked_by: str | None
    last_used_at: Moment | None


class NewTokenDocument(TokenDocument):
    """A token that has just been made."""

    text: str = Field(
        description="What `Authorization: Bearer` takes. It is not kept and not shown again."
    )


class TokenList(Document):
    """Tokens, oldest first."""

    items: list[TokenDocument]


def held_document(held: Held) -> Json:
    """Return what is there of an entity or a relationship."""
    document = {
        **address(held.stream),
        "attributes": plain(held.state),
        "version": held.version,
        "etag": held.version_tag.hex(),
        "schema_version": held.schema_version,
        "updated_at": moment(held.updated_at),
        "updated_by": held.updated_by,
    }
    if held.stream.kind is StreamKind.ENTITY:
        document |= {
            "status": held.status,
            "review": held.review,
            "reviewed_by": held.reviewed_by,
            "reviewed_at": None if held.reviewed_at is None else moment(held.reviewed_at),
        }
    return document


def event_document(event: RecordedEvent) -> Json:
    """Return an event."""
    return {
        "cursor": cursor_text(event.cursor.transaction, event.cursor.position),
        **address(event.stream),
        "action": str(event.action),
        "version": event.version,
        "etag": event.operation_id.hex(),
        "state": None if event.state is None else plain(event.state),
        "data": plain(event.data),
        "schema_version": event.schema_version,
        "actor": event.actor,
        "recorded_at": moment(event.recorded_at),
        "batch_id": event.batch_id,
        "event_version": event.event_version,
    }


def token_document(token: Token) -> Json:
    """Return what may be seen of a token."""
    moments = {
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
    }
    return {
        "token_id": token.token_id,
        "tenant": token.tenant_id,
        "role": str(token.role),
        "name": token.name,
        "created_by": token.created_by,
        "revoked_by": token.revoked_by,
        **{name: None if at is None else moment(at) for name, at in moments.items()},
    }


def page_document(items: Iterable[Mapping[str, Any]], after: str | None) -> Json:
    """Return a page."""
    return {"items": list(items), "next": after}


def stream_document(stream: StreamId) -> Json:
    """Return the address of a stream."""
    return dict(address(stream))


def moment(value: datetime) -> str:
    """Return a moment as JSON has it: UTC, with microseconds."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def cursor_text(transaction: int, position: int) -> str:
    """Return a place in the change feed as clients keep it."""
    return f"{transaction:x}-{position:x}"


def history_document(item: HistoryEntry) -> Json:
    """Return an event with what it changed."""
    return {"event": event_document(item.event), "changes": [change(each) for each in item.changes]}


def change(found: FieldChange) -> Json:
    """Return one changed field."""
    return {
        "path": found.path,
        "change": found.change,
        "before": plain(found.before),
        "after": plain(found.after),
    }


def graph_document(graph: Graph) -> Json:
    """Return an entity with what is around it."""
    return {
        "nodes": [
            {
                **address(node.stream),
                "distance": node.distance,
                "entity": None if node.held is None else held_document(node.held),
            }
            for node in graph.nodes
        ],
        "edges": [held_document(edge) for edge in graph.edges],
        "complete": graph.complete,
    }
