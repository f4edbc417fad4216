"""The registry's store: an append-only log, and what is now, kept by it in the same transaction.

Every adapter keeps these promises: an append is all or nothing; it succeeds only if each stream is as the caller
expects and every requirement holds; an ``operation_id`` that is in the log changes nothing and says so; readers of
the log see events in the order of their transactions' commits and never skip one, whatever commits late; what is now
is never behind the log. The tenant is part of every key: source ``api`` is in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from penstock.identity.ids import SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
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
    """Who brought about ``review``: the actor of the last event that changed it to what it is."""
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
    """Of the row after the event. Where it differs from before, ``reviewed_by`` is the event's actor and
    ``reviewed_at`` the moment of the append; where it does not, both stay; with None, both are None."""
    references: tuple[StreamId, ...] | None = None
    """The entities that the state names (``x-references``): kept as the stream's references in place of those before,
    and dropped with the stream; None leaves them as they are. Published rows keep theirs in the same table."""


class End(StrEnum):
    """An end of a relationship."""

    FROM = "from"
    TO = "to"


@dataclass(frozen=True, kw_only=True, slots=True)
class Present:
    """One of several streams holds something, and nobody takes it away before the append has committed."""

    any_of: tuple[StreamId, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unchanged:
    """A stream is at a version, :data:`ABSENT` for one that holds nothing, until the append has committed."""

    stream: StreamId
    version_tag: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreferenced:
    """Nothing refers to an entity: :meth:`RegistryStore.referrers` is empty, and stays so.

    Whoever refers to an entity requires it :class:`Present`, so that the two wait for each other at its row.
    """

    stream: StreamId
    ignoring: frozenset[tuple[str, End]] = frozenset()
    """Relationship types whose relationships, by that end, do not count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sole:
    """No relationship of a type has this end in this source, but for the one that is allowed.

    Two appends with the same type, source, end and key wait for each other (by an advisory lock, in sorted order, on
    PostgreSQL), so that neither passes unseen by the other.
    """

    tenant_id: TenantId
    source_id: SourceId
    type_name: str
    end: End
    key: str
    allowed: StreamId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unused:
    """There is no entity (or relationship) of a type in any source of a tenant.

    Whoever writes one under a schema requires the schema :class:`Unchanged`, so that the two wait for each other.
    """

    tenant_id: TenantId
    kind: StreamKind
    type_name: str


Requirement = Present | Unchanged | Unreferenced | Sole | Unused
"""What has to hold once an append's events are applied, checked in its own transaction. Locks of rows first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmet:
    """A requirement does not hold; nothing was appended."""

    requirement: Requirement


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

    def append(
        self,
        appends: Sequence[Append],
        *,
        requires: Sequence[Requirement] = (),
        now: datetime,
        entry: AuditEntry | None = None,
    ) -> Appended | VersionConflict | Unmet:
        """Append events of one command, and what the audit log says of it, in one transaction.

        There is at most one event of each stream.
        With some but not all ``operation_id`` in the log already nothing is done either: it is a ``VersionConflict``
        of the first that is there.
        """
        ...

    def operations(
        self, tenant: TenantId, operation_ids: Sequence[bytes]
    ) -> list[RecordedEvent | None]:
        """Return the events that operations of a tenant left, in order, each with its version."""
        ...

    def get(self, stream: StreamId) -> Held | None:
        """Return what is there now."""
        ...

    def get_many(self, streams: Sequence[StreamId]) -> list[Held | None]:
        """Return what is there now of each, in order."""
        ...

    def entities_with_keys(
        self, tenant: TenantId, sources: Sequence[SourceId], keys: Sequence[str]
    ) -> list[list[StreamId]]:
        """Return, for each key, the entities of these sources that have it, of whatever type."""
        ...

    def referrers(
        self,
        stream: StreamId,
        *,
        ignoring: frozenset[tuple[str, End]] = frozenset(),
        limit: int = 100,
    ) -> list[StreamId]:
        """Return what refers to an entity: relationships that end or begin there, and streams whose references name it.

        Relationships lie in the entity's source, or in any if that is ``api``: their ends are looked for in their own
        source and in ``api``. An entity's reference to itself does not count.
        """
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


class RegistryChunk(RegistryStore, Protocol):
    """The store as one chunk of published operations sees it, in the transaction that will apply them.

    What is read stays as it is until that transaction ends, as far as commands could change it.
    """

    def know_edges(
        self, tenant: TenantId, source: SourceId, type_name: str, end: End, keys: Sequence[str]
    ) -> None:
        """Read the relationships that have these ends at once; searches for them are answered from there."""
        ...

    def know_keys(self, tenant: TenantId, sources: Sequence[SourceId], keys: Sequence[str]) -> None:
        """Read which entities have these keys at once; :meth:`entities_with_keys` answers from there."""
        ...

    def has_references(self, tenant: TenantId) -> bool:
        """Say whether anything of a tenant names an entity in its attributes."""
        ...

    def referring(
        self, entities: Sequence[StreamId], relationship_types: Sequence[str]
    ) -> dict[StreamId, list[StreamId]]:
        """Return what refers to entities of one source: relationships of these types, and what names them."""
        ...


class LogSignal(Protocol):
    """Tells that the log may have gone on, so that nobody has to look all the time."""

    def subscribe(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, in another thread, whenever there may be more to read, until the answer is called."""
        ...


class EventReader(Protocol):
    """Follows the log."""

    def follow(self, after: Cursor, *, poll_s: float) -> Iterator[Sequence[RecordedEvent]]:
        """Yield events as they are committed; an empty sequence after each ``poll_s`` seconds without any."""
        ...
