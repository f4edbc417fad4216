"""What the registry's log holds: one event for each change of a schema, an entity, a relationship or its type.

An event carries the whole state after it, so that reading a stream up to any moment is reading its last event; there is
nothing to replay and so no snapshot of an aggregate to keep. ``operation_id`` is unique over the log: it is the receipt
of a published operation, and of a command under its idempotency key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from penstock.identity.ids import SourceId, TenantId

API_SOURCE = SourceId("api")
"""The source of what was written through the API, not published from a batch."""


class StreamKind(StrEnum):
    """What a stream of events is about."""

    ENTITY = "entity"
    RELATIONSHIP = "relationship"
    SCHEMA = "schema"
    RELATIONSHIP_TYPE = "relationship_type"


class EventAction(StrEnum):
    """What happened. The first three are also those of a plan's operations."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RESTORE = "restore"
    DEPRECATE = "deprecate"
    REINSTATE = "reinstate"
    """A deprecated entity is in use again."""
    PROPOSE = "propose"
    """An entity is put forward for attestation."""
    ATTEST = "attest"
    REJECT = "reject"
    EDIT = "edit"
    """The draft of a schema has changed."""
    VALIDATE = "validate"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    MARK_FOR_DELETION = "mark_for_deletion"
    CONFIGURE = "configure"
    """The rules of a schema (its compatibility) have changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamId:
    """One aggregate: what may be appended to under an expected version.

    For an entity: its type and key; for a relationship, ``to_key`` too; for a schema and a relationship type, its id in
    both ``type_name`` and ``key``.
    """

    tenant_id: TenantId
    source_id: SourceId
    kind: StreamKind
    type_name: str
    key: str
    to_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """An event that is to be appended."""

    stream: StreamId
    action: EventAction
    state: Mapping[str, Any] | None
    """Attributes of an entity or relationship, or a schema's whole state, after the event; None once gone."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say: a reason, a comment, the status after; by name."""
    operation_id: bytes
    """16 bytes; again is a repetition of the same command."""
    schema_version: int | None = None
    """The version that the state was validated against."""
    actor: str
    event_version: int = 1
    """Of the form of ``data`` and ``state`` of this kind and action; older forms are upcast when they are read."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Cursor:
    """A place in the log's order of commits: what comes after it has not been seen."""

    transaction: int = 0
    position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEvent:
    """An event as the log holds it."""

    cursor: Cursor
    stream: StreamId
    action: EventAction
    state: Mapping[str, Any] | None
    data: Mapping[str, Any]
    operation_id: bytes
    schema_version: int | None
    actor: str
    """Who; for a published operation, ``batch:<batch id>``."""
    event_version: int
    recorded_at: datetime
    version: int = 0
    """Which event of its stream it is, from 1; 0 where it was read with the log and not with its stream."""
    status: str | None = None
    """Of the row after the event; None where it stays as it was, as with published operations."""
    review: str | None = None
    batch_id: str | None = None
    before_digest: bytes | None = None
    after_digest: bytes | None = None
