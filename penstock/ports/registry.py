"""The registry's store: an append-only log, and what is now, kept by it in the same transaction.

Every adapter keeps these promises: an append is all or nothing; it succeeds only if each stream is as the caller
expects; an ``operation_id`` that is in the log changes nothing and says so; readers of the log see events in the order
of their transactions' commits and never skip one, whatever commits late; what is now is never behind the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from penstock.identity.ids import SourceId, TenantId
from penstock.registry.events import Cursor, NewEvent, RecordedEvent, StreamId, StreamKind

ABSENT = b""
"""The expected version of a stream that must hold nothing now: never written to, or deleted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What the registry holds now of one stream: the row that a read by key returns."""

    stream: StreamId
    state: Mapping[str, Any]
    version_tag: bytes
    """The ``operation_id`` of the last event: what an ETag says, and what an append expects."""
    version: int
    """1 for the first event of the stream, one more with each."""
    status: str = "active"
    """``active`` or ``deprecated`` for an entity; a schema's lifecycle status."""
    review: str | None = None
    """None, ``proposed``, ``attested`` or ``rejected``."""
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    schema_version: int | None = None
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Append:
    """One event, and what its stream must be at for it to be appended."""

    event: NewEvent
    expected: bytes | None
    """The version tag of what is there now, :data:`ABSENT`, or None for whatever there is."""
    status: str = "active"
    """Of the row after the event."""
    review: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionConflict:
    """A stream was not as expected; nothing was appended."""

    stream: StreamId
    expected: bytes | None
    found: bytes
    """:data:`ABSENT` where there is nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Appended:
    """Events are in the log and what is now has followed."""

    held: Sequence[Held | None]
    """What each append left, in order; None where it is gone."""
    repeated: bool = False
    """Every event was there already, under the same ``operation_id``: nothing was done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What to list. Everything is limited to one tenant."""

    tenant_id: TenantId
    kind: StreamKind = StreamKind.ENTITY
    type_name: str | None = None
    source_id: SourceId | None = None
    status: str | None = None
    review: str | None = None
    equals: Mapping[str, Any] = field(default_factory=dict)
    """Attributes by name that have to be equal to a scalar, or hold it where they are lists."""
    words: str | None = None
    """Words, all of which occur in the key or in a text attribute; the last may be the beginning of one."""
    from_key: str | None = None
    """For relationships: those that begin here."""
    to_key: str | None = None
    after: str | None = None
    """Opaque place after which to go on."""
    limit: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some of what was found, in an order that writes do not disturb."""

    items: Sequence[Held]
    next: str | None
    """Where to go on, or None."""


class RegistryStore(Protocol):
    """Log and current rows, for one tenant at a time: no call returns anything of another's."""

    def append(self, appends: Sequence[Append], *, now: datetime) -> Appended | VersionConflict:
        """Append events of one command, in one transaction."""
        ...

    def get(self, stream: StreamId) -> Held | None:
        """Return what is there now."""
        ...

    def get_many(self, streams: Sequence[StreamId]) -> list[Held | None]:
        """Return what is there now of each, in order."""
        ...

    def search(self, search: Search) -> Page:
        """Return a page of what matches, ordered by type, source and key."""
        ...

    def history(self, stream: StreamId, *, after: int = 0, limit: int = 100) -> list[RecordedEvent]:
        """Return a stream's events, oldest first, after the ``after``-th."""
        ...

    def as_of(self, stream: StreamId, moment: datetime) -> RecordedEvent | None:
        """Return the last event of a stream that was recorded at or before ``moment``."""
        ...

    def read_log(
        self, after: Cursor, *, limit: int, tenant: TenantId | None = None
    ) -> list[RecordedEvent]:
        """Return events in the order of their commits, only as far as nothing can come in between any more."""
        ...

    def count_by_type(self, tenant: TenantId) -> dict[tuple[StreamKind, str], int]:
        """Return how many entities and relationships there are of each type."""
        ...


class EventReader(Protocol):
    """Follows the log."""

    def follow(self, after: Cursor, *, poll_s: float) -> Iterator[Sequence[RecordedEvent]]:
        """Yield events as they are committed; an empty sequence after each ``poll_s`` seconds without any."""
        ...
