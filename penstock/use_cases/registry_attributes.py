"""What schemas say of attributes: whether they are accepted, what they refer to, and what an append has to hold to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock.ports.registry import Held, Present, Requirement, Unchanged
from penstock.registry.events import StreamId, StreamKind
from penstock.registry.identifiers import address, named, schema_stream
from penstock.registry.problems import Problem, ProblemError, ProblemKind
from penstock.registry.schema_validation import Validator
from penstock.registry.schemas import Schema
from penstock.registry.violations import Violation
from penstock.use_cases.registry_platform import RegistryPolicy
from penstock.use_cases.registry_validators import Validators
from penstock.use_cases.registry_view import RegistryView, sources_seen_from

X_REFERENCES = "x-references"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Attributes that are accepted."""

    schema_version: int | None = None
    references: tuple[StreamId, ...] = ()
    requires: tuple[Requirement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ActiveSchema:
    """What validates the entities of a type now."""

    held: Held
    version: int
    validator: Validator

    @property
    def unchanged(self) -> Unchanged:
        """What an append under it requires."""
        return Unchanged(stream=self.held.stream, version_tag=self.held.version_tag)


def active_schema(
    view: RegistryView, validators: Validators, type_name: str, policy: RegistryPolicy
) -> ActiveSchema | Problem | None:
    """Return what validates a type: None where nothing does and that is allowed."""
    held = view.get(schema_stream(view.tenant, type_name))
    schema = None if held is None else Schema.from_state(held.state)
    if held is not None and schema is not None and schema.active is not None:
        version = schema.active
        validator = validators.of(view, schema, version)
        return ActiveSchema(held=held, version=version.number, validator=validator)
    if schema is not None and schema.last_active_version is not None:
        return Problem(
            kind=ProblemKind.NO_SCHEMA,
            detail=f"schema {schema.schema_id} is {schema.status} and has no active version, so that entities of "
            f"type {type_name} take no writes: activate one of its versions",
            more={"schema": schema.schema_id, "schema_status": str(schema.status)},
        )
    if policy.accept_undeclared_types:
        return None
    return Problem(
        kind=ProblemKind.NO_SCHEMA,
        detail=f"type {type_name} has no active schema, and this registry takes none without: define a schema whose "
        f"id is {type_name}, and activate it",
        more={"schema": type_name},
    )


def judge_against(
    view: RegistryView, stream: StreamId, attributes: Any, schema: ActiveSchema
) -> Judged | Problem:
    """Return what is to be kept of attributes that a schema takes, or everything that is wrong with them."""
    errors = [as_error(each) for each in schema.validator.violations(attributes)]
    found = references_of(view, stream, attributes, schema.validator)
    if errors or found.errors:
        return broken(stream, schema.version, [*errors, *found.errors])
    return Judged(
        schema_version=schema.version,
        references=found.streams,
        requires=(schema.unchanged, *(Present(any_of=(each,)) for each in found.streams)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundReferences:
    """What attributes name: entities that are there, and an error for each that is not."""

    streams: tuple[StreamId, ...] = ()
    errors: tuple[ProblemError, ...] = ()


def references_of(
    view: RegistryView, stream: StreamId, attributes: Any, validator: Validator
) -> FoundReferences:
    """Look up what attributes name by ``x-references``: in the same source, then in what the API wrote."""
    if not validator.refers:
        return FoundReferences()
    wanted = [
        (path, candidates(stream, type_name, key))
        for path, type_name, key in validator.references(attributes)
    ]
    view.get_many([each for _, some in wanted for each in some])
    streams: dict[StreamId, None] = {}
    errors = []
    for path, some in wanted:
        there = next((each for each in some if each == stream or view.is_to_be(each)), None)
        if there is None:
            errors.append(no_such_entity(path, some))
        elif there != stream:
            streams[there] = None
    return FoundReferences(streams=tuple(streams), errors=tuple(errors))


def candidates(stream: StreamId, type_name: str, key: str) -> list[StreamId]:
    """Return where an entity that a stream refers to may be, by preference."""
    return [
        replace(
            stream,
            source_id=source,
            kind=StreamKind.ENTITY,
            type_name=type_name,
            key=key,
            to_key=None,
        )
        for source in sources_seen_from(stream.source_id)
    ]


def no_such_entity(path: str, some: Sequence[StreamId]) -> ProblemError:
    """Say that a reference leads nowhere."""
    sources = " or ".join(dict.fromkeys(each.source_id for each in some))
    return ProblemError(
        path=path,
        rule=X_REFERENCES,
        message=f"there is no {some[0].type_name} {some[0].key!r} in source {sources}",
        value_type="string",
        remedy=f"create that {some[0].type_name} first, or name one that is there",
    )


def as_error(violation: Violation) -> ProblemError:
    """Return a broken rule of a schema as one error of a problem."""
    return ProblemError(
        path=violation.path,
        rule=violation.rule,
        message=violation.message,
        value_type=violation.value_type,
    )


def broken(stream: StreamId, version: int, errors: Iterable[ProblemError]) -> Problem:
    """Return the refusal of attributes that break a schema or refer to nothing."""
    errors = tuple(errors)
    only_references = all(error.rule == X_REFERENCES for error in errors)
    kind = ProblemKind.REFERENCE_MISSING if only_references else ProblemKind.SCHEMA_VIOLATION
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    first = errors[0]
    return Problem(
        kind=kind,
        detail=f"{named(stream)} has {count} under version {version} of its schema; at {first.path or '/'}: "
        f"{first.message}",
        errors=errors,
        more={"schema_version": version, "subject": address(stream)},
    )
