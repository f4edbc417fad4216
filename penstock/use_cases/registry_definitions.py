"""Append a change of a schema or a relationship type: decide, append, and decide anew if others were faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from penstock.errors import IllegalMove, InvalidIdentifier, NotCanonical, NothingToDo, PenstockError
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import digest
from penstock.ports.registry import (
    ABSENT,
    Append,
    Appended,
    Held,
    Requirement,
    Search,
    Unchanged,
    Unmet,
    VersionConflict,
)
from penstock.registry.commands import Caller
from penstock.registry.events import EventAction, NewEvent, StreamId, StreamKind
from penstock.registry.identifiers import (
    MAX_ACTOR_CHARACTERS,
    MAX_IDEMPOTENCY_KEY_CHARACTERS,
    address,
    schema_stream,
    text_errors,
)
from penstock.registry.problems import Problem, ProblemError, ProblemKind
from penstock.registry.schema_references import BadReference, Referent
from penstock.registry.schemas import (
    IllegalSchemaMove,
    Incompatible,
    Schema,
    StillInUse,
    UnknownVersion,
)
from penstock.use_cases.registry_audit import done_entry, subject_of
from penstock.use_cases.registry_commands import COMMAND, MAX_REASON
from penstock.use_cases.registry_decisions import left_by
from penstock.use_cases.registry_platform import Done, RegistryPlatform
from penstock.use_cases.registry_refusals import is_contended, not_at_version, version_is_missing
from penstock.use_cases.registry_view import RegistryView

_PAGE = 500
_TAG_KEY, _TAG_CHANGE = b"J", b"G"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request to change a definition."""

    stream: StreamId
    caller: Caller
    what: str
    """What is asked for, with :attr:`given`: the same under one idempotency key only."""
    given: Mapping[str, Any] = field(default_factory=dict)
    expected: bytes | None = None
    wants_version: bool = False
    """Whether what is there may be changed only under the version that its caller has seen."""
    reason: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a definition becomes."""

    action: EventAction
    state: Mapping[str, Any] | None
    status: str = "active"
    version: int | None = None
    """The version of a schema that is active after it."""
    requires: tuple[Requirement, ...] = ()


@dataclass(kw_only=True)
class Definitions:
    """The declared schemas, as one decision sees them; what was read has to be the same when it is appended."""

    view: RegistryView
    read: dict[StreamId, bytes] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        """The moment of the decision."""
        return self.view.now

    def resolve(self, schema_id: str, version: int | None) -> Referent | None:
        """Return a version of another schema, or its active one."""
        stream = schema_stream(self.view.tenant, schema_id)
        held = self.view.get(stream)
        self.read[stream] = ABSENT if held is None else held.version_tag
        return None if held is None else Schema.from_state(held.state).referent(version)

    def active(self) -> Iterator[Referent]:
        """Yield the active version of every schema that has one."""
        search = Search(tenant_id=self.view.tenant, kind=StreamKind.SCHEMA, limit=_PAGE)
        while True:
            page = self.view.store.search(search)
            for held in page.items:
                if (found := Schema.from_state(held.state).referent(None)) is not None:
                    yield found
            if page.next is None:
                return
            search = replace(search, after=page.next)

    def unchanged(self, but: StreamId) -> tuple[Requirement, ...]:
        """Return that what was resolved stays as it was read."""
        return tuple(
            Unchanged(stream=stream, version_tag=tag)
            for stream, tag in self.read.items()
            if stream != but
        )


Decide = Callable[[Held | None, Definitions], Change | Problem | None]
"""Return what a definition becomes: None for no change. May raise what the rules of schemas raise."""


def change(platform: RegistryPlatform, asked: Asked, decide: Decide) -> Done | Problem:
    """Change a definition, or say everything that is in the way."""
    if (problem := _bad_request(asked)) is not None:
        return problem
    try:
        operation_id, receipt = _operation(platform, asked)
    except NotCanonical as error:
        return Problem(kind=ProblemKind.INVALID_REQUEST, detail=str(error))
    for _ in range(platform.attempts):
        if (repeated := _repetition(platform, asked, operation_id, receipt)) is not None:
            return repeated
        answer = _attempt(platform, asked, decide, operation_id, receipt)
        if answer is not None:
            return answer
    return is_contended(asked.stream, platform.attempts)


def _attempt(
    platform: RegistryPlatform,
    asked: Asked,
    decide: Decide,
    operation_id: bytes,
    receipt: Mapping[str, Any],
) -> Done | Problem | None:
    now = platform.clock.now()
    view = RegistryView(store=platform.store, tenant=asked.caller.tenant_id, now=now)
    held = view.get(asked.stream)
    if (problem := _not_as_expected(asked, held)) is not None:
        return problem
    definitions = Definitions(view=view)
    try:
        found = decide(held, definitions)
    except NothingToDo:
        found = None
    except PenstockError as error:
        return as_problem(error)
    if found is None:
        return Done(stream=asked.stream, held=held, operation_id=None)
    if isinstance(found, Problem):
        return found
    append = _append(asked, held, found, operation_id, receipt)
    requires = [*found.requires, *definitions.unchanged(but=asked.stream)]
    made = append.event.action is EventAction.CREATE
    entry = done_entry(asked.caller, subject_of(asked.stream), made=made, now=now)
    match platform.store.append([append], requires=requires, now=now, entry=entry):
        case Appended(repeated=False, held=[left]):
            return Done(stream=asked.stream, held=left, operation_id=operation_id)
        case Appended() | VersionConflict() | Unmet():
            return None


def _append(
    asked: Asked,
    held: Held | None,
    found: Change,
    operation_id: bytes,
    receipt: Mapping[str, Any],
) -> Append:
    event = NewEvent(
        stream=asked.stream,
        action=found.action,
        state=found.state,
        data={**({"reason": asked.reason} if asked.reason else {}), **receipt},
        operation_id=operation_id,
        schema_version=found.version,
        actor=asked.caller.actor,
    )
    expected = ABSENT if held is None else held.version_tag
    return Append(event=event, expected=expected, status=found.status)


def _not_as_expected(asked: Asked, held: Held | None) -> Problem | None:
    if asked.expected is None:
        return version_is_missing(held) if held and asked.wants_version else None
    found = ABSENT if held is None else held.version_tag
    return None if found == asked.expected else not_at_version(asked.stream, held)


def _bad_request(asked: Asked) -> Problem | None:
    errors = text_errors(asked.caller.actor, "actor", MAX_ACTOR_CHARACTERS)
    if asked.idempotency_key is not None:
        most = MAX_IDEMPOTENCY_KEY_CHARACTERS
        errors += text_errors(asked.idempotency_key, "idempotency_key", most)
    if len(asked.reason) > MAX_REASON:
        message = f"the reason has more than {MAX_REASON:,} characters"
        errors.append(ProblemError(path="/reason", rule="maxLength", message=message))
    if not errors:
        return None
    return Problem(kind=ProblemKind.INVALID_REQUEST, detail=errors[0].message, errors=tuple(errors))


# Idempotency --------------------------------------------------------------------------------------------------


def _operation(platform: RegistryPlatform, asked: Asked) -> tuple[bytes, dict[str, Any]]:
    if asked.idempotency_key is None:
        return platform.new_id(), {}
    tenant, key = asked.caller.tenant_id.encode(), asked.idempotency_key.encode()
    expected = asked.expected.hex() if asked.expected is not None else None
    said: dict[str, Any] = {"is": asked.what, **address(asked.stream), "given": dict(asked.given)}
    said |= {"expected": expected, "reason": asked.reason}
    return digest(_TAG_KEY, tenant, key), {COMMAND: digest(_TAG_CHANGE, canonical_text(said)).hex()}


def _repetition(
    platform: RegistryPlatform, asked: Asked, operation_id: bytes, receipt: Mapping[str, Any]
) -> Done | Problem | None:
    if not receipt:
        return None
    (event,) = platform.store.operations(asked.caller.tenant_id, [operation_id])
    if event is None:
        return None
    if event.data.get(COMMAND) != receipt[COMMAND]:
        return Problem(
            kind=ProblemKind.KEY_REUSED,
            detail=f"this idempotency key was used for another command than to {asked.what} {asked.stream.key!r}: use "
            "a new key for a new command",
            more={"first_used_for": address(event.stream)},
        )
    return Done(stream=event.stream, held=left_by(event), operation_id=operation_id, repeated=True)


# Refusals -----------------------------------------------------------------------------------------------------


def as_problem(error: PenstockError) -> Problem:
    """Return what the rules of schemas raise as a refusal."""
    detail = str(error)
    match error:
        case Incompatible(found=found):
            errors = [
                ProblemError(
                    path=each.path,
                    rule=each.rule,
                    message=f"{each.message} (against version {each.against_version}, {each.direction})",
                    remedy=each.remedy,
                )
                for each in found
            ]
            kind = ProblemKind.INCOMPATIBLE_SCHEMA
            return Problem(kind=kind, detail=detail, errors=tuple(errors))
        case StillInUse(users=users):
            more = {"users": list(users)}
            return Problem(kind=ProblemKind.REFERENCED, detail=detail, more=more)
        case IllegalSchemaMove(legal=legal):
            more = {"legal": [str(each) for each in legal]}
            return Problem(kind=ProblemKind.ILLEGAL_STEP, detail=detail, more=more)
        case IllegalMove():
            return Problem(kind=ProblemKind.ILLEGAL_STEP, detail=detail)
        case UnknownVersion():
            return Problem(kind=ProblemKind.NOT_FOUND, detail=detail)
        case BadReference():
            error_ = ProblemError(path="", rule="$ref", message=detail)
            return Problem(kind=ProblemKind.INVALID_SCHEMA, detail=detail, errors=(error_,))
        case InvalidIdentifier():
            error_ = ProblemError(path="/title", rule="title", message=detail)
            return Problem(kind=ProblemKind.INVALID_SCHEMA, detail=detail, errors=(error_,))
        case _:
            return Problem(kind=ProblemKind.INVALID_SCHEMA, detail=detail)
