"""Questions about what the registry holds and held. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from penstock.diff.fields import FieldChange, explain
from penstock.identity.ids import TenantId
from penstock.ports.registry import Held, Page, Search
from penstock.registry.attributes import plain
from penstock.registry.events import API_SOURCE, RecordedEvent, StreamId, StreamKind
from penstock.registry.identifiers import named
from penstock.registry.problems import Problem, ProblemError, ProblemKind, json_type
from penstock.use_cases.registry_platform import RegistryPlatform
from penstock.use_cases.registry_refusals import is_gone, is_missing
from penstock.use_cases.registry_view import sources_seen_from

MOST_LISTED = 1_000
"""How many rows or events one page may have."""
MOST_DEPTH = 2
MOST_NODES = 1_000
_EXPORTED_AT_ONCE = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryItem:
    """One event of a stream, and what it changed."""

    event: RecordedEvent
    changes: tuple[FieldChange, ...]
    """Against the version before, by path; empty where one of the two has no attributes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Some of a stream's events, oldest first."""

    items: tuple[HistoryItem, ...]
    next: int | None
    """The version after which to go on, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What changed between two versions."""

    before: RecordedEvent
    after: RecordedEvent
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """An entity of a graph."""

    stream: StreamId
    """Of unknown type, ``?``, where a relationship leads to no entity that is there."""
    held: Held | None
    distance: int
    """Relationships between it and the entity that was asked about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """An entity with what is around it."""

    nodes: tuple[Node, ...]
    edges: tuple[Held, ...]
    complete: bool
    """Whether nothing was left out for want of room."""


def get(platform: RegistryPlatform, stream: StreamId) -> Held | Problem:
    """Return what is there; of what was deleted, the problem says when and by whom."""
    held = platform.store.get(stream)
    return held if held is not None else _absent(platform, stream)


def get_many(
    platform: RegistryPlatform, streams: Sequence[StreamId]
) -> list[Held | None] | Problem:
    """Return what is there of each, in order."""
    if len(streams) > MOST_LISTED:
        return _too_many(len(streams), "streams")
    return platform.store.get_many(streams)


def search(platform: RegistryPlatform, what: Search) -> Page | Problem:
    """Return a page of what matches."""
    errors = [*_limit_errors(what.limit), *_filter_errors(what)]
    if errors:
        return _invalid(errors)
    try:
        return platform.store.search(what)
    except ValueError as error:
        return _invalid([ProblemError(path="/after", rule="cursor", message=str(error))])


def export(platform: RegistryPlatform, what: Search) -> Iterator[Held]:
    """Yield everything that matches, a page at a time; what is written meanwhile may or may not be among it."""
    page = platform.store.search(replace(what, limit=_EXPORTED_AT_ONCE))
    yield from page.items
    while page.next is not None:
        page = platform.store.search(replace(what, limit=_EXPORTED_AT_ONCE, after=page.next))
        yield from page.items


def counts(platform: RegistryPlatform, tenant: TenantId) -> dict[tuple[StreamKind, str], int]:
    """Return how many entities and relationships there are of each type."""
    return platform.store.count_by_type(tenant)


# What was ---------------------------------------------------------------------------------------------------


def history(
    platform: RegistryPlatform, stream: StreamId, *, after: int = 0, limit: int = 100
) -> History | Problem:
    """Return a stream's events from version ``after + 1`` on, each with what it changed."""
    if errors := [*_limit_errors(limit), *_number_errors(after, "after", 0)]:
        return _invalid(errors)
    first = max(after - 1, 0)  # with the one before, to compare the first with
    events = platform.store.history(stream, after=first, limit=limit + after - first + 1)
    wanted = events[after - first :]
    if not events:
        return is_missing(stream)
    before = events[0] if after else None
    items = []
    for event in wanted[:limit]:
        items.append(HistoryItem(event=event, changes=_changes(before, event)))
        before = event
    more = len(wanted) > limit
    return History(items=tuple(items), next=after + limit if more else None)


def as_of(
    platform: RegistryPlatform,
    stream: StreamId,
    *,
    at: datetime | None = None,
    version: int | None = None,
) -> RecordedEvent | Problem:
    """Return the event that made what was there at a moment, or at a version; its state is None where that was gone."""
    if (at is None) == (version is None):
        return _invalid([ProblemError(path="", rule="oneOf", message="name a moment or a version")])
    if version is not None:
        return _version(platform, stream, version)
    if at is None or at.tzinfo is None:
        message = "the moment has no time zone: write it as 2026-11-20T19:24:14Z"
        return _invalid([ProblemError(path="/at", rule="format", message=message)])
    if (event := platform.store.as_of(stream, at)) is not None:
        return event
    first = platform.store.history(stream, limit=1)
    if not first:
        return is_missing(stream)
    return Problem(
        kind=ProblemKind.NOT_FOUND,
        detail=f"{named(stream)} was not there yet at {at.isoformat()}: its first version is of "
        f"{first[0].recorded_at.isoformat()}",
    )


def difference(
    platform: RegistryPlatform, stream: StreamId, before: int, after: int
) -> Difference | Problem:
    """Return what changed between two versions of a stream, by path."""
    one, other = _version(platform, stream, before), _version(platform, stream, after)
    if isinstance(one, Problem):
        return one
    if isinstance(other, Problem):
        return other
    return Difference(before=one, after=other, changes=_changes(one, other))


def _version(platform: RegistryPlatform, stream: StreamId, version: int) -> RecordedEvent | Problem:
    if errors := _number_errors(version, "version", 1):
        return _invalid(errors)
    if events := platform.store.history(stream, after=version - 1, limit=1):
        return events[0]
    last = platform.store.as_of(stream, platform.clock.now())
    if last is None:
        return is_missing(stream)
    return Problem(
        kind=ProblemKind.NOT_FOUND,
        detail=f"{named(stream)} has no version {version}: it has 1 to {last.version}",
    )


def _changes(before: RecordedEvent | None, after: RecordedEvent) -> tuple[FieldChange, ...]:
    if before is None or before.state is None or after.state is None:
        return ()
    return tuple(explain(plain(before.state), plain(after.state)))


# What is around -----------------------------------------------------------------------------------------------


def neighbours(
    platform: RegistryPlatform, stream: StreamId, *, depth: int = 1, limit: int = 200
) -> Graph | Problem:
    """Return an entity with what it is joined to, up to ``depth`` relationships away, nearest first.

    Relationships of its own source are followed, and from an entity of the API's those of every source.
    """
    errors = _number_errors(depth, "depth", 1, MOST_DEPTH)
    if errors := [*errors, *_number_errors(limit, "limit", 1, MOST_NODES)]:
        return _invalid(errors)
    held = platform.store.get(stream)
    if held is None:
        return _absent(platform, stream)
    walk = _Walk(
        platform=platform, limit=limit, nodes={stream: Node(stream=stream, held=held, distance=0)}
    )
    for distance in range(1, depth + 1):
        walk.step(distance)
    return walk.graph()


@dataclass(kw_only=True)
class _Walk:
    """A breadth-first walk over relationships, with room for so many nodes."""

    platform: RegistryPlatform
    limit: int
    nodes: dict[StreamId, Node]

    def __post_init__(self) -> None:
        self._edges: dict[StreamId, Held] = {}
        self._complete = True

    def step(self, distance: int) -> None:
        """Go one relationship further from every node that was reached last."""
        for node in [each for each in self.nodes.values() if each.distance == distance - 1]:
            for edge in self._edges_of(node.stream):
                self._edges.setdefault(edge.stream, edge)
        for edge in list(self._edges.values()):
            for key in (edge.stream.key, str(edge.stream.to_key)):
                self._reach(edge.stream, key, distance)

    def graph(self) -> Graph:
        """Return what was found, without relationships that lead to what found no room."""
        kept = tuple(edge for edge in self._edges.values() if self._has_both_ends(edge.stream))
        return Graph(
            nodes=tuple(self.nodes.values()),
            edges=kept,
            complete=self._complete and len(kept) == len(self._edges),
        )

    def _edges_of(self, stream: StreamId) -> list[Held]:
        found: list[Held] = []
        source = None if stream.source_id == API_SOURCE else stream.source_id
        at = Search(
            tenant_id=stream.tenant_id,
            kind=StreamKind.RELATIONSHIP,
            source_id=source,
            limit=self.limit,
        )
        for ends in (replace(at, from_key=stream.key), replace(at, to_key=stream.key)):
            page = self.platform.store.search(ends)
            self._complete = self._complete and page.next is None
            found += page.items
        return found

    def _reach(self, edge: StreamId, key: str, distance: int) -> None:
        if self._at(edge, key):
            return
        sources = sources_seen_from(edge.source_id)
        (there,) = self.platform.store.entities_with_keys(edge.tenant_id, sources, [key])
        nothing = replace(edge, kind=StreamKind.ENTITY, type_name="?", key=key, to_key=None)
        found = self.platform.store.get_many(there) if there else [None]
        for stream, held in zip(there or [nothing], found, strict=True):
            if len(self.nodes) >= self.limit:
                self._complete = False
                return
            self.nodes[stream] = Node(stream=stream, held=held, distance=distance)

    def _at(self, edge: StreamId, key: str) -> bool:
        """Say whether an end of a relationship is among the nodes."""
        seen_from = sources_seen_from(edge.source_id)
        return any(each.key == key and each.source_id in seen_from for each in self.nodes)

    def _has_both_ends(self, edge: StreamId) -> bool:
        return self._at(edge, edge.key) and self._at(edge, str(edge.to_key))


# Refusals -----------------------------------------------------------------------------------------------------


def _absent(platform: RegistryPlatform, stream: StreamId) -> Problem:
    last = platform.store.as_of(stream, platform.clock.now())
    return is_missing(stream) if last is None else is_gone(last)


def _limit_errors(limit: int) -> list[ProblemError]:
    return _number_errors(limit, "limit", 1, MOST_LISTED)


def _number_errors(
    value: int, what: str, least: int, most: int | None = None
) -> list[ProblemError]:
    if value >= least and (most is None or value <= most):
        return []
    wanted = f"at least {least}" if most is None else f"between {least} and {most:,}"
    message = f"{what} is {value}: it has to be {wanted}"
    return [ProblemError(path=f"/{what}", rule="range", message=message, value_type="integer")]


def _filter_errors(what: Search) -> list[ProblemError]:
    return [
        ProblemError(
            path=f"/equals/{name}",
            rule="type",
            message=f"{name} is compared with {json_type(value)}: only a scalar can be looked for",
            value_type=json_type(value),
        )
        for name, value in what.equals.items()
        if isinstance(value, dict | list)
    ]


def _invalid(errors: list[ProblemError]) -> Problem:
    return Problem(kind=ProblemKind.INVALID_REQUEST, detail=errors[0].message, errors=tuple(errors))


def _too_many(count: int, what: str) -> Problem:
    return Problem(
        kind=ProblemKind.TOO_MANY,
        detail=f"{count:,} {what} are over the limit of {MOST_LISTED:,} at once: ask in parts",
    )
