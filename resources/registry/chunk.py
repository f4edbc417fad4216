"""What is there, as a chunk of published operations sees it: read within its own transaction, many keys at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, select

from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import End, Held, Page, Search
from penstock.registry.events import StreamId, StreamKind
from resources.registry.requirements import entities_in
from resources.registry.rows import held_of, matches, read_rows, stream_of
from resources.registry.store import SqlRegistryStore
from resources.targets.registry_tables import registry_reference, registry_relationship

_KEYS_AT_ONCE = 500
_DEFINED = {StreamKind.SCHEMA, StreamKind.RELATIONSHIP_TYPE}
_COLUMN = {End.FROM: "key", End.TO: "to_key"}
_Place = tuple[str, SourceId, End, str]


class ChunkStore(SqlRegistryStore):
    """:class:`penstock.ports.registry.RegistryChunk` in a transaction.

    Whoever applies a chunk holds the lane of its source alone, so commands wait that would change what is in it. What
    is in the API's source, and what is declared, is locked by reading it.
    """

    def __init__(self, connection: Connection) -> None:
        """Read through a connection whose transaction has begun."""
        super().__init__(connection.engine)
        self._connection = connection
        self._edges: dict[_Place, list[Held]] = {}
        self._keys: dict[tuple[tuple[SourceId, ...], str], list[StreamId]] = {}

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        yield self._connection

    # What is there ------------------------------------------------------------------------------------------

    def get_many(self, streams: Sequence[StreamId]) -> list[Held | None]:
        """Return what is there of each, in order, and keep it there until the transaction ends."""
        declared = [each for each in streams if each.kind in _DEFINED]
        others = [each for each in streams if each.kind not in _DEFINED]
        rows = read_rows(self._connection, declared, lock="share")
        rows |= read_rows(self._connection, others, lock="key share")
        return [held_of(rows[s], s.kind) if s in rows else None for s in streams]

    def entities_with_keys(
        self, tenant: TenantId, sources: Sequence[SourceId], keys: Sequence[str]
    ) -> list[list[StreamId]]:
        """Return, for each key, the entities of these sources that have it, of whatever type."""
        missing = [key for key in keys if (tuple(sources), key) not in self._keys]
        if missing:
            self.know_keys(tenant, sources, missing)
        return [self._keys[tuple(sources), key] for key in keys]

    def search(self, search: Search) -> Page:
        """Return what matches; the relationships at an end of one source from what was read of it."""
        end = End.FROM if search.from_key is not None else End.TO
        key = search.from_key if end is End.FROM else search.to_key
        at_one_end = (search.from_key is None) != (search.to_key is None)
        name, source = search.type_name, search.source_id
        if not at_one_end or key is None or name is None or source is None:
            return super().search(search)
        place = (name, source, end, key)
        if place not in self._edges:
            self.know_edges(search.tenant_id, source, name, end, [key])
        return Page(items=self._edges[place][: search.limit], next=None)

    # Many at once -------------------------------------------------------------------------------------------

    def know_edges(
        self, tenant: TenantId, source: SourceId, type_name: str, end: End, keys: Sequence[str]
    ) -> None:
        """Read the relationships that have these ends at once; searches for them are answered from there."""
        table = registry_relationship
        address = {"tenant_id": tenant, "type_name": type_name, "source_id": source}
        for key in keys:
            self._edges[type_name, source, end, key] = []
        for some in _pieces(keys):
            query = select(table).where(*matches(table, address), table.c[_COLUMN[end]].in_(some))
            for row in self._connection.execute(query):
                held = held_of(row, StreamKind.RELATIONSHIP)
                found = held.stream.key if end is End.FROM else str(held.stream.to_key)
                self._edges[type_name, source, end, found].append(held)

    def know_keys(self, tenant: TenantId, sources: Sequence[SourceId], keys: Sequence[str]) -> None:
        """Read which entities have these keys at once; :meth:`entities_with_keys` answers from there."""
        found = entities_in(self._connection, tenant, sources, keys)
        self._keys.update({(tuple(sources), key): streams for key, streams in found.items()})

    def has_references(self, tenant: TenantId) -> bool:
        """Say whether anything of a tenant names an entity in its attributes."""
        table = registry_reference
        query = select(table.c.key).where(table.c.tenant_id == tenant).limit(1)
        return self._connection.execute(query).first() is not None

    def referring(
        self, entities: Sequence[StreamId], relationship_types: Sequence[str]
    ) -> dict[StreamId, list[StreamId]]:
        """Return what refers to entities of one source: relationships of these types, and what names them."""
        found: dict[StreamId, list[StreamId]] = defaultdict(list)
        if not entities:
            return found
        by_key: dict[str, list[StreamId]] = defaultdict(list)
        for entity in entities:
            by_key[entity.key].append(entity)
        for some in _pieces(sorted(by_key)):
            self._naming(entities[0], some, set(entities), found)
            for end in End if relationship_types else ():
                self._ending(entities[0], some, relationship_types, end, by_key, found)
        return {stream: list(dict.fromkeys(each)) for stream, each in found.items()}

    def _naming(
        self,
        like: StreamId,
        keys: Sequence[str],
        wanted: set[StreamId],
        found: dict[StreamId, list[StreamId]],
    ) -> None:
        table = registry_reference
        address = {"tenant_id": like.tenant_id, "target_source": like.source_id}
        query = select(table).where(*matches(table, address), table.c.target_key.in_(keys))
        for row in self._connection.execute(query):
            named = replace(like, type_name=row.target_type, key=row.target_key)
            referrer = stream_of(row, StreamKind(row.kind))
            if named in wanted and referrer != named:
                found[named].append(referrer)

    def _ending(
        self,
        like: StreamId,
        keys: Sequence[str],
        types: Sequence[str],
        end: End,
        by_key: dict[str, list[StreamId]],
        found: dict[StreamId, list[StreamId]],
    ) -> None:
        table = registry_relationship
        address = {"tenant_id": like.tenant_id, "source_id": like.source_id}
        column = table.c[_COLUMN[end]]
        query = select(table).where(
            *matches(table, address), table.c.type_name.in_(types), column.in_(keys)
        )
        for row in self._connection.execute(query):
            edge = stream_of(row, StreamKind.RELATIONSHIP)
            for entity in by_key[edge.key if end is End.FROM else str(edge.to_key)]:
                found[entity].append(edge)


def _pieces(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]
