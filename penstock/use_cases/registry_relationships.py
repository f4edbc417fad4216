"""What a relationship type asks of a relationship: ends that are there, as many as it allows, no cycle of containers.

Of a type that is not declared nothing is known but that it joins two entities: they have to be there, of whatever type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.ports.registry import End, Held, Present, Requirement, Sole, Unchanged
from penstock.registry.events import StreamId
from penstock.registry.identifiers import address, named, relationship_type_stream
from penstock.registry.problems import Problem, ProblemError, ProblemKind
from penstock.registry.relationship_types import RelationshipType
from penstock.use_cases.registry_attributes import Judged, as_error, candidates
from penstock.use_cases.registry_platform import RegistryPolicy
from penstock.use_cases.registry_validators import Validators
from penstock.use_cases.registry_view import RegistryView, sources_seen_from

MOST_CONTAINERS = 1_000
"""How many containers an entity may lie within."""


def judge_relationship(
    view: RegistryView,
    validators: Validators,
    policy: RegistryPolicy,
    stream: StreamId,
    attributes: Any,
) -> Judged | Problem:
    """Return what an append has to hold to, or everything that is wrong with a relationship."""
    held = view.get(relationship_type_stream(view.tenant, stream.type_name))
    if held is None:
        return _undeclared(view, policy, stream)
    declared = RelationshipType.from_state(held.state)
    found = _Found()
    found.requires.append(Unchanged(stream=held.stream, version_tag=held.version_tag))
    _judge_ends(view, declared, stream, found)
    _judge_cardinality(view, declared, stream, found)
    if declared.containment:
        _judge_containment(view, stream, found)
    if (validator := validators.of_type(declared)) is not None:
        found.errors += [as_error(each) for each in validator.violations(attributes)]
    return found.judged(stream, version=held.version)


@dataclass(kw_only=True)
class _Found:
    """What is wrong, and what has to hold."""

    def __post_init__(self) -> None:
        self.errors: list[ProblemError] = []
        self.requires: list[Requirement] = []

    def judged(self, stream: StreamId, version: int | None) -> Judged | Problem:
        if not self.errors:
            return Judged(schema_version=version, requires=tuple(self.requires))
        count = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        return Problem(
            kind=ProblemKind.RELATIONSHIP_VIOLATION,
            detail=f"{named(stream)}: {self.errors[0].message}{count}",
            errors=tuple(self.errors),
            more={"subject": address(stream)},
        )


def _undeclared(view: RegistryView, policy: RegistryPolicy, stream: StreamId) -> Judged | Problem:
    if not policy.accept_undeclared_types:
        return is_undeclared(stream.type_name)
    found = _Found()
    for end, key in _ends(stream):
        _look_up(view, stream, end, key, (), found)
    return found.judged(stream, version=None)


def is_undeclared(name: str) -> Problem:
    """Refuse relationships of a type that nobody has declared, where a policy wants that."""
    return Problem(
        kind=ProblemKind.NO_SCHEMA,
        detail=f"relationship type {name} is not declared, and this registry takes none that is not: declare it first",
        more={"relationship_type": name},
    )


# Ends -------------------------------------------------------------------------------------------------------


def _ends(stream: StreamId) -> tuple[tuple[End, str], tuple[End, str]]:
    return (End.FROM, stream.key), (End.TO, str(stream.to_key))


def _judge_ends(
    view: RegistryView, declared: RelationshipType, stream: StreamId, found: _Found
) -> None:
    if declared.may_dangle:
        return
    for end, key in _ends(stream):
        types = declared.from_types if end is End.FROM else declared.to_types
        _look_up(view, stream, end, key, types, found)


def _look_up(
    view: RegistryView,
    stream: StreamId,
    end: End,
    key: str,
    types: tuple[str, ...],
    found: _Found,
) -> None:
    """Find the entity at an end: of one of these types, or of any if there are none."""
    if types:
        some = [each for name in types for each in candidates(stream, name, key)]
        there = [each for each in some if view.is_to_be(each)]
    else:
        there = view.entities_with_key(stream.source_id, key)
    if there:
        found.requires.append(Present(any_of=tuple(there)))
        return
    sources = " or ".join(sources_seen_from(stream.source_id))
    what = " or ".join(types) if types else "entity"
    others = view.entities_with_key(stream.source_id, key) if types else []
    is_other = f"; the one with this key is a {others[0].type_name}" if others else ""
    found.errors.append(
        ProblemError(
            path=f"/{end}_key",
            rule="ends",
            message=f"there is no {what} {key!r} in source {sources}{is_other}",
            value_type="string",
            remedy=None if others else "create it first",
        )
    )


def ends_ignored(view: RegistryView, entity_type: str) -> frozenset[tuple[str, End]]:
    """Return the ends of declared types that an entity of this type is not meant by, or that may lead nowhere."""
    ignored = set()
    for held in view.relationship_types():
        declared = RelationshipType.from_state(held.state)
        for end, types in ((End.FROM, declared.from_types), (End.TO, declared.to_types)):
            if declared.may_dangle or (types and entity_type not in types):
                ignored.add((declared.name, end))
    return frozenset(ignored)


# How many ---------------------------------------------------------------------------------------------------


def _judge_cardinality(
    view: RegistryView, declared: RelationshipType, stream: StreamId, found: _Found
) -> None:
    for end, key in _ends(stream):
        if not (declared.sole_from if end is End.FROM else declared.sole_to):
            continue
        found.requires.append(_sole(stream, end, key, allowed=stream))
        others = view.others_at(stream, end)
        if others:
            found.errors.append(_too_many(declared, end, key, others[0]))


def _too_many(declared: RelationshipType, end: End, key: str, other: Held) -> ProblemError:
    verb = "begins" if end is End.FROM else "ends"
    rule = "containment" if declared.containment and end is End.TO else "cardinality"
    allowed = "one container" if rule == "containment" else str(declared.cardinality)
    return ProblemError(
        path=f"/{end}_key",
        rule=rule,
        message=f"{named(other.stream)} {verb} at {key!r} already, and {declared.name} allows one there ({allowed})",
        value_type="string",
        remedy="delete that one first",
    )


def _sole(stream: StreamId, end: End, key: str, *, allowed: StreamId | None) -> Sole:
    return Sole(
        tenant_id=stream.tenant_id,
        source_id=stream.source_id,
        type_name=stream.type_name,
        end=end,
        key=key,
        allowed=allowed,
    )


def _judge_containment(view: RegistryView, stream: StreamId, found: _Found) -> None:
    """Refuse a container that lies within what it should contain.

    The way up is what an append has to find as it is: each relationship on it unchanged, and nothing above the last.
    """
    child, at = str(stream.to_key), stream.key
    way = [child, at]
    while at != child and len(way) <= MOST_CONTAINERS:
        above = view.edges_at(stream, End.TO, at)
        if not above:
            found.requires.append(_sole(stream, End.TO, at, allowed=None))
            return
        found.requires += [Unchanged(stream=e.stream, version_tag=e.version_tag) for e in above]
        at = above[0].stream.key
        way.append(at)
    shown = " in ".join(repr(each) for each in way[:10])
    found.errors.append(
        ProblemError(
            path="/to_key",
            rule="containment",
            message=f"{child!r} would lie within itself: {shown}"
            if at == child
            else f"{child!r} would lie within more than {MOST_CONTAINERS:,} containers",
            value_type="string",
        )
    )
