"""Published operations under the rules of the API: which of a chunk are refused, and what the others leave behind.

Wherever a verdict spans streams it is reached by the functions that commands use. A chunk is judged as a batch whose
commands may rely on each other: an operation may refer to what another creates, unless that one is refused too.

What is not declared is the plan's to judge, not the registry's: ends of relationships of an undeclared type, and
relationships of one that lead to what is deleted, are checked by the source's own plan before they come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from penstock.identity.ids import SourceId, TenantId, container_of
from penstock.ports.registry import Append, End, RegistryChunk
from penstock.registry.bulk_rules import (
    bad_keys,
    containers_among,
    created,
    deleted,
    judge,
    of_type,
    types_at,
    values_at,
    written,
)
from penstock.registry.events import EventAction, NewEvent, StreamId, StreamKind
from penstock.registry.identifiers import named, relationship_type_stream, schema_stream
from penstock.registry.problems import Problem, ProblemError, ProblemKind, summary
from penstock.registry.relationship_types import RelationshipType
from penstock.use_cases.registry_attributes import (
    ActiveSchema,
    active_schema,
    as_error,
    broken,
    candidates,
    no_such_entity,
)
from penstock.use_cases.registry_platform import RegistryPolicy
from penstock.use_cases.registry_refusals import is_referred_to
from penstock.use_cases.registry_relationships import (
    ends_ignored,
    is_undeclared,
    judge_relationship,
)
from penstock.use_cases.registry_validators import Validators
from penstock.use_cases.registry_view import MOST_REFERRERS, RegistryView, sources_seen_from

_NO_ID = bytes(16)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Operations of one kind that are about to be applied."""

    operations: pa.Table
    kind: StreamKind
    tenant: TenantId
    source: SourceId
    now: datetime
    store: RegistryChunk
    policy: RegistryPolicy
    validators: Validators

    def stream(self, n: int) -> StreamId:
        """Return what an operation is about."""
        names, keys, to_keys = self._columns
        return StreamId(
            tenant_id=self.tenant,
            source_id=self.source,
            kind=self.kind,
            type_name=names[n],
            key=keys[n],
            to_key=to_keys[n] if self.kind is StreamKind.RELATIONSHIP else None,
        )

    @cached_property
    def _columns(self) -> tuple[list[str], list[str], list[str | None]]:
        names, keys, to_keys = (
            self.operations[name].to_pylist() for name in ("type_name", "key", "to_key")
        )
        return names, keys, to_keys

    def streams(self, positions: Iterable[int]) -> dict[StreamId, int]:
        """Return what some operations are about."""
        return {self.stream(n): n for n in positions}

    def view(self, doomed: Iterable[StreamId] = ()) -> RegistryView:
        """Return what is there, but for what is deleted."""
        return RegistryView(
            store=self.store, tenant=self.tenant, now=self.now, doomed=frozenset(doomed)
        )


@dataclass(kw_only=True)
class Screened:
    """What the rules say of a chunk."""

    refused: dict[int, Problem] = field(default_factory=dict)
    """By position."""
    versions: dict[str, int] = field(default_factory=dict)
    """The version of the schema that validated the others, by type."""
    references: dict[int, tuple[StreamId, ...]] = field(default_factory=dict)
    """What attributes name, by position, for every operation of a type whose attributes may name anything."""
    uncontained: set[int] = field(default_factory=set)
    """Of what is refused, those with nothing wrong but that the entity that they lie in is refused too."""

    def refuse(self, positions: Iterable[int], problem: Problem) -> None:
        """Refuse operations, but for those that are refused already."""
        for n in positions:
            self.refused.setdefault(n, problem)


def screen(chunk: Chunk) -> Screened:
    """Return which operations the API would refuse, and what the others are validated by and refer to."""
    found = Screened()
    for n, errors in bad_keys(chunk.operations, written(chunk.operations)).items():
        found.refuse([n], _bad_key(errors))
    if chunk.kind is StreamKind.ENTITY:
        _Entities(chunk=chunk, found=found).screen()
    else:
        _screen_relationships(chunk, found)
    return found


def _bad_key(errors: list[ProblemError]) -> Problem:
    return Problem(kind=ProblemKind.INVALID_REQUEST, detail=errors[0].message, errors=tuple(errors))


# Entities -----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Entities:
    """A chunk of operations on entities."""

    chunk: Chunk
    found: Screened

    def __post_init__(self) -> None:
        self._view = self.chunk.view()
        self._errors: dict[int, list[ProblemError]] = {}
        self._schema: dict[int, ActiveSchema] = {}
        self._wanted: dict[int, list[tuple[str, list[StreamId]]]] = {}
        self._names_some = self.chunk.store.has_references(self.chunk.tenant)
        self._containers = containers_among(self.chunk.operations)

    def screen(self) -> None:
        """Judge attributes, then what they refer to, then what is deleted."""
        operations = self.chunk.operations
        writes = written(operations)
        names = types_at(operations, writes)
        self._view.get_many([schema_stream(self.chunk.tenant, name) for name in names])
        for name in names:
            self._judge(name, of_type(operations, writes, name))
        gone = deleted(operations).to_pylist()
        is_kept = bool(gone) and self._may_keep()
        doomed = self.chunk.streams(gone) if gone and (is_kept or self._wanted) else {}
        if self._wanted or self._containers:
            self._follow(doomed)
        for n, errors in self._errors.items():
            schema = self._schema[n]
            problem = broken(self.chunk.stream(n), schema.version, errors)
            self.found.refuse([n], problem)
        if is_kept:
            self._keep(doomed)

    def _may_keep(self) -> bool:
        """Say whether anything could keep an entity from being deleted: most registries need not be asked further."""
        return self._names_some or bool(self._view.relationship_types())

    def _judge(self, name: str, rows: list[int]) -> None:
        schema = active_schema(self._view, self.chunk.validators, name, self.chunk.policy)
        if isinstance(schema, Problem):
            self.found.refuse(rows, schema)
        if schema is None or isinstance(schema, Problem):
            return
        operations = self.chunk.operations
        self.found.versions[name] = schema.version
        for n, violations in judge(operations, rows, schema.validator).items():
            self._errors[n] = [as_error(each) for each in violations]
            self._schema[n] = schema
        if schema.validator.refers:
            for n, value in zip(rows, values_at(operations, rows), strict=True):
                self._schema[n] = schema
                self._wanted[n] = [
                    (path, candidates(self.chunk.stream(n), type_name, key))
                    for path, type_name, key in schema.validator.references(value)
                ]
        elif self._names_some:
            self.found.references.update(dict.fromkeys(rows, ()))

    def _follow(self, doomed: dict[StreamId, int]) -> None:
        """Find what attributes refer to: there already, or created by an operation that is not refused itself."""
        asked = [each for wants in self._wanted.values() for _, some in wants for each in some]
        held = zip(asked, self._view.get_many(asked), strict=True)
        there = {stream for stream, row in held if row is not None and stream not in doomed}
        violations = dict(self._errors)
        coming = self.chunk.streams(created(self.chunk.operations).to_pylist())
        while True:
            present = there | {s for s, n in coming.items() if not self._is_bad(n)}
            missing = {n: self._missing(n, present) for n in self._wanted if not self._is_bad(n)}
            newly = {n: errors for n, errors in missing.items() if errors}
            self._errors.update(newly)
            if not (self._refuse_uncontained() or newly):
                break
        for n in self._wanted:
            own = self.chunk.stream(n)
            if errors := [*violations.get(n, ()), *self._missing(n, present)]:
                self._errors[n] = errors
            self.found.references[n] = self._streams(n, present, own)

    def _refuse_uncontained(self) -> bool:
        """Refuse what lies in an entity that is refused; say whether there was any."""
        found = [
            n
            for n, containers in self._containers.items()
            if not self._is_bad(n) and any(map(self._is_bad, containers))
        ]
        for n in found:
            self.found.refuse([n], _uncontained(self.chunk.stream(n)))
        self.found.uncontained |= set(found)
        return bool(found)

    def _is_bad(self, n: int) -> bool:
        return n in self.found.refused or n in self._errors

    def _missing(self, n: int, present: set[StreamId]) -> list[ProblemError]:
        own = self.chunk.stream(n)
        return [
            no_such_entity(path, some)
            for path, some in self._wanted[n]
            if not any(each in present or each == own for each in some)
        ]

    def _streams(self, n: int, present: set[StreamId], own: StreamId) -> tuple[StreamId, ...]:
        found = [
            next((each for each in some if each in present or each == own), own)
            for _, some in self._wanted[n]
        ]
        return tuple(dict.fromkeys(each for each in found if each != own))

    def _keep(self, doomed: dict[StreamId, int]) -> None:
        """Refuse to delete what something declared goes on referring to, what is not deleted after all included."""
        declared = [held.stream.key for held in self._view.relationship_types()]
        referring = self.chunk.store.referring(list(doomed), declared)
        here = self.chunk.streams(written(self.chunk.operations).to_pylist())
        going = {stream for stream, n in doomed.items() if not self._is_bad(n)}
        while True:
            kept = {
                stream: staying
                for stream, referrers in referring.items()
                if (staying := self._staying(stream, referrers, going, here))
            }
            if going.isdisjoint(kept):
                break
            going -= kept.keys()
        for stream, staying in kept.items():
            mend = "Delete those first, or have them refer to something else"
            problem = is_referred_to(stream, staying, MOST_REFERRERS, mend)
            self.found.refuse([doomed[stream]], problem)

    def _staying(
        self,
        stream: StreamId,
        referrers: Sequence[StreamId],
        going: set[StreamId],
        here: dict[StreamId, int],
    ) -> list[StreamId]:
        """Return who goes on referring to an entity, where ``going`` are those that are deleted."""
        ignoring = ends_ignored(self._view, stream.type_name)
        return [
            each
            for each in referrers
            if each not in going
            and _means(each, stream, ignoring)
            and self._still(each, stream, here)
        ]

    def _still(self, referrer: StreamId, stream: StreamId, here: dict[StreamId, int]) -> bool:
        n = here.get(referrer)
        return n is None or self._is_bad(n) or stream in self.found.references.get(n, ())


def _uncontained(stream: StreamId) -> Problem:
    container = container_of(stream.key)
    return Problem(
        kind=ProblemKind.REFERENCE_MISSING,
        detail=f"{named(stream)} lies in {container!r}, whose own operation was refused",
    )


def _means(referrer: StreamId, entity: StreamId, ignoring: frozenset[tuple[str, End]]) -> bool:
    if referrer.kind is not StreamKind.RELATIONSHIP:
        return True
    ends = ((End.FROM, referrer.key), (End.TO, referrer.to_key))
    return any(key == entity.key and (referrer.type_name, end) not in ignoring for end, key in ends)


# Relationships --------------------------------------------------------------------------------------------------


def _screen_relationships(chunk: Chunk, found: Screened) -> None:
    operations = chunk.operations
    writes = written(operations)
    view = chunk.view(doomed=chunk.streams(deleted(operations).to_pylist()))
    for name in types_at(operations, writes):
        rows = [n for n in of_type(operations, writes, name) if n not in found.refused]
        held = view.get(relationship_type_stream(chunk.tenant, name))
        if held is None:
            if not chunk.policy.accept_undeclared_types:
                found.refuse(rows, is_undeclared(name))
            continue
        found.versions[name] = held.version
        streams = [chunk.stream(n) for n in rows]
        _read_ahead(chunk, view, RelationshipType.from_state(held.state), streams)
        for n, stream, value in zip(rows, streams, values_at(operations, rows), strict=True):
            judged = judge_relationship(view, chunk.validators, chunk.policy, stream, value)
            if isinstance(judged, Problem):
                found.refuse([n], judged)
            else:
                view.decided([_as_decided(stream, value)])


def _read_ahead(
    chunk: Chunk, view: RegistryView, declared: RelationshipType, streams: list[StreamId]
) -> None:
    """Read at once what judging relationships one by one will ask for."""
    if not streams:
        return
    keys = {
        End.FROM: sorted({each.key for each in streams}),
        End.TO: sorted({str(each.to_key) for each in streams}),
    }
    if not declared.may_dangle:
        for end, types in ((End.FROM, declared.from_types), (End.TO, declared.to_types)):
            wanted = [(name, key) for name in types for key in keys[end]]
            view.get_many([each for ask in wanted for each in candidates(streams[0], *ask)])
            if not types:
                chunk.store.know_keys(chunk.tenant, sources_seen_from(chunk.source), keys[end])
    for end, sole in ((End.FROM, declared.sole_from), (End.TO, declared.sole_to)):
        if sole:
            known = keys[end]
            chunk.store.know_edges(chunk.tenant, chunk.source, declared.name, end, known)


def _as_decided(stream: StreamId, value: Any) -> Append:
    event = NewEvent(
        stream=stream,
        action=EventAction.UPDATE,
        state=value,
        operation_id=_NO_ID,
        actor="batch",
    )
    return Append(event=event, expected=None)


def as_message(problem: Problem) -> str:
    """Return a refusal as one text, with every error: what a dead letter says of it."""
    if not problem.errors:
        return problem.detail
    return f"{problem.title}: {summary(problem.errors)}"
