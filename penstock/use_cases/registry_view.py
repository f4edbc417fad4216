"""What is there, as a command sees it: the store, under what earlier commands of the same batch have decided.

Nothing is written through a view. What was read is kept, so that all of a decision is about one state of things; what
may have changed since is for the append to find out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import Append, End, Held, RegistryStore, Search
from penstock.registry.events import (
    API_SOURCE,
    RecordedEvent,
    StreamId,
    StreamKind,
)

MOST_REFERRERS = 1_000
"""How many references to an entity are looked at, and so how many relationships one delete may take along."""


@dataclass(kw_only=True)
class RegistryView:
    """Reads for one command, or for the commands of one batch in order."""

    store: RegistryStore
    tenant: TenantId
    now: datetime
    announced: frozenset[StreamId] = frozenset()
    """What later commands of the same batch create: it may be referred to already."""
    doomed: frozenset[StreamId] = frozenset()
    """What commands of the same batch delete: it refers to nothing any more."""
    _seen: dict[StreamId, Held | None] = field(default_factory=dict)
    _decided: dict[StreamId, Append] = field(default_factory=dict)
    _types: list[Held] | None = None
    _ends: dict[tuple[str, SourceId, End, str], list[StreamId]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Relationships that were decided on, by type, source and end."""
    _keys: dict[str, list[StreamId]] = field(default_factory=lambda: defaultdict(list))
    """Entities that were decided on or announced, by key."""

    def __post_init__(self) -> None:
        """Note what is announced."""
        for stream in self.announced:
            self._note(stream)

    def get(self, stream: StreamId) -> Held | None:
        """Return what is there."""
        return self.get_many([stream])[0]

    def get_many(self, streams: Sequence[StreamId]) -> list[Held | None]:
        """Return what is there of each, in order."""
        missing = [each for each in dict.fromkeys(streams) if each not in self._seen]
        if missing:
            self._seen.update(zip(missing, self.store.get_many(missing), strict=True))
        return [self._seen[each] for each in streams]

    def touched(self, stream: StreamId) -> bool:
        """Say whether an earlier command of the batch writes to a stream."""
        return stream in self._decided

    def is_to_be(self, stream: StreamId) -> bool:
        """Say whether something is there, or will be once the batch is carried out."""
        return stream in self.announced or self.get(stream) is not None

    def last(self, stream: StreamId) -> RecordedEvent | None:
        """Return the last event of a stream."""
        return self.store.as_of(stream, self.now)

    def event(self, stream: StreamId, version: int) -> RecordedEvent | None:
        """Return the event that made a version, or None if there is none."""
        events = self.store.history(stream, after=version - 1, limit=1) if version > 0 else []
        return events[0] if events else None

    def decided(self, appends: Iterable[Append]) -> None:
        """Show what comes after as if these had been appended."""
        for append in appends:
            stream = append.event.stream
            self._seen[stream] = self._after(append, self.get(stream))
            self._decided[stream] = append
            self._note(stream)

    def _note(self, stream: StreamId) -> None:
        if stream.kind is StreamKind.ENTITY:
            self._keys[stream.key].append(stream)
        elif stream.kind is StreamKind.RELATIONSHIP:
            for end in End:
                place = (stream.type_name, stream.source_id, end, str(_end_of(stream, end)))
                self._ends[place].append(stream)

    def _after(self, append: Append, before: Held | None) -> Held | None:
        event = append.event
        if event.state is None:
            return None
        return Held(
            stream=event.stream,
            state=event.state,
            version_tag=event.operation_id,
            version=before.version + 1 if before else 1,
            status=append.status,
            review=append.review,
            reviewed_by=event.actor if append.review else None,
            reviewed_at=self.now if append.review else None,
            schema_version=event.schema_version,
            updated_at=self.now,
            updated_by=event.actor,
        )

    # What spans streams -------------------------------------------------------------------------------------

    def relationship_types(self) -> list[Held]:
        """Return the declared relationship types of the tenant."""
        if self._types is None:
            search = Search(
                tenant_id=self.tenant, kind=StreamKind.RELATIONSHIP_TYPE, limit=MOST_REFERRERS
            )
            self._types = list(self.store.search(search).items)
        return self._types

    def referrers(self, stream: StreamId, ignoring: frozenset[tuple[str, End]]) -> list[StreamId]:
        """Return what refers to an entity and goes on doing so once the batch is carried out."""
        found = self.store.referrers(stream, ignoring=ignoring, limit=MOST_REFERRERS + 1)
        kept = [each for each in found if each not in self.doomed and self._still(each, stream)]
        new = [
            each
            for each, append in self._decided.items()
            if each not in kept and _refers(append, stream, ignoring)
        ]
        return kept + new

    def _still(self, referrer: StreamId, stream: StreamId) -> bool:
        append = self._decided.get(referrer)
        if append is None:
            return True
        if append.event.state is None:
            return False
        return append.references is None or stream in append.references or _is_edge(referrer)

    def others_at(self, edge: StreamId, end: End) -> list[Held]:
        """Return the relationships of an edge's type and source that have an end of it, but for itself."""
        key = edge.key if end is End.FROM else str(edge.to_key)
        return [each for each in self.edges_at(edge, end, key) if each.stream != edge]

    def edges_at(self, like: StreamId, end: End, key: str) -> list[Held]:
        """Return some relationships of the type and source of ``like`` that have this end."""
        search = Search(
            tenant_id=self.tenant,
            kind=StreamKind.RELATIONSHIP,
            type_name=like.type_name,
            source_id=like.source_id,
            from_key=key if end is End.FROM else None,
            to_key=key if end is End.TO else None,
            limit=10,
        )
        found = {each.stream: each for each in self.store.search(search).items}
        for stream in self._ends.get((like.type_name, like.source_id, end, key), ()):
            found.pop(stream, None)
            if stream in self._decided and (held := self._seen[stream]) is not None:
                found[stream] = held
        return [each for each in found.values() if each.stream not in self.doomed]

    def entities_with_key(self, source: SourceId, key: str) -> list[StreamId]:
        """Return the entities of a source, or of the API's, that have a key, of whatever type."""
        (found,) = self.store.entities_with_keys(self.tenant, sources_seen_from(source), [key])
        coming = [
            each for each in self._keys.get(key, ()) if each.source_id in sources_seen_from(source)
        ]
        return [each for each in dict.fromkeys([*found, *coming]) if self.is_to_be(each)]


def sources_seen_from(source: SourceId) -> list[SourceId]:
    """Return where entities are looked for that something of a source refers to: there, and in what the API wrote."""
    return list(dict.fromkeys([source, API_SOURCE]))


def _is_edge(stream: StreamId) -> bool:
    return stream.kind is StreamKind.RELATIONSHIP


def _end_of(stream: StreamId, end: End) -> str | None:
    return stream.key if end is End.FROM else stream.to_key


def _refers(append: Append, entity: StreamId, ignoring: frozenset[tuple[str, End]]) -> bool:
    stream = append.event.stream
    if append.event.state is None or stream == entity:
        return False
    if entity in (append.references or ()):
        return True
    if not _is_edge(stream) or entity.source_id not in {API_SOURCE, stream.source_id}:
        return False
    return any(
        _end_of(stream, end) == entity.key and (stream.type_name, end) not in ignoring
        for end in End
    )
