"""What a command comes to, given what is there: events to append and what has to hold then, or a refusal.

Nothing is written here, and a decision is about one state of things: who appends it finds out whether that still is so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from penstock.errors import NotCanonical
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import digest
from penstock.ports.registry import ABSENT, Append, Held, Requirement
from penstock.registry.attributes import plain, typed_as
from penstock.registry.commands import (
    Caller,
    Command,
    Create,
    Delete,
    Deprecate,
    JsonPatch,
    MergePatch,
    OfEntities,
    Reinstate,
    Replace,
    Restore,
    RollBack,
    TakeStep,
)
from penstock.registry.events import EventAction, NewEvent, RecordedEvent, StreamId, StreamKind
from penstock.registry.identifiers import named
from penstock.registry.patches import json_patched, merge_patched
from penstock.registry.problems import Problem, ProblemError, ProblemKind, json_type
from penstock.registry.workflow import (
    NoSuchStep,
    Review,
    ReviewStep,
    after_step,
    legal_steps,
    may_decide,
)
from penstock.use_cases.registry_platform import RegistryPolicy
from penstock.use_cases.registry_refusals import (
    is_gone,
    is_missing,
    is_there_already,
    not_at_version,
    version_is_missing,
)
from penstock.use_cases.registry_removal import removal
from penstock.use_cases.registry_rules import Rules
from penstock.use_cases.registry_view import RegistryView

ACTIVE, DEPRECATED = "active", "deprecated"
_TAG_CASCADE = b"D"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a decision is made in."""

    view: RegistryView
    rules: Rules
    policy: RegistryPolicy
    caller: Caller
    operation_id: bytes
    receipt: Mapping[str, Any]
    """What the event says of an idempotency key; empty without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is to be done."""

    stream: StreamId
    appends: tuple[Append, ...] = ()
    """The command's own event first, then what is deleted with it; empty if there is nothing to change."""
    requires: tuple[Requirement, ...] = ()
    held: Held | None = None
    """What is there, where there is nothing to change."""


def decide(setting: Setting, command: Command) -> Decision | Problem:
    """Return what a command comes to."""
    held = setting.view.get(command.stream)
    if (problem := _unfit(setting, command, held)) is not None:
        return problem
    if isinstance(command, Create) or (
        isinstance(command, Replace) and held is None and command.or_create
    ):
        if held is not None:
            return is_there_already(held)
        return _written(setting, command, None, command.attributes, EventAction.CREATE)
    if isinstance(command, Restore | RollBack):
        return _from_history(setting, command, held)
    if held is None:
        last = setting.view.last(command.stream)
        return is_missing(command.stream) if last is None else is_gone(last)
    return _of_what_is_there(setting, command, held)


def _of_what_is_there(
    setting: Setting,
    command: Replace | MergePatch | JsonPatch | Delete | Deprecate | Reinstate | TakeStep,
    held: Held,
) -> Decision | Problem:
    match command:
        case Replace(attributes=attributes):
            return _written(setting, command, held, attributes, EventAction.UPDATE)
        case MergePatch(patch=patch):
            return _patched(setting, command, held, merge_patched(plain(held.state), patch))
        case JsonPatch(operations=operations):
            return _patched(setting, command, held, json_patched(plain(held.state), operations))
        case Delete():
            return _deleted(setting, command, held)
        case Deprecate():
            return _marked(setting, command, held, DEPRECATED, EventAction.DEPRECATE)
        case Reinstate():
            return _marked(setting, command, held, ACTIVE, EventAction.REINSTATE)
        case TakeStep():
            return _reviewed(setting, command, held)
        case _:
            assert_never(command)


def _unfit(setting: Setting, command: Command, held: Held | None) -> Problem | None:
    """Refuse what no state of things would allow: the wrong kind, tenant or version."""
    stream = command.stream
    if stream.tenant_id != setting.caller.tenant_id:
        return is_missing(stream)
    if setting.view.touched(stream):
        return Problem(
            kind=ProblemKind.INVALID_REQUEST,
            detail=f"{named(stream)} is the subject of two commands of this batch: send them in two batches",
        )
    if stream.kind is not StreamKind.ENTITY and isinstance(command, OfEntities):
        return Problem(
            kind=ProblemKind.INVALID_REQUEST,
            detail=f"{named(stream)} is no entity: only entities are deprecated and attested",
        )
    expected = getattr(command, "expected", None)
    if expected is None:
        is_wanted = held is not None and type(command) in setting.policy.version_required
        return version_is_missing(held) if held and is_wanted else None
    found = ABSENT if held is None else held.version_tag
    return None if found == expected else not_at_version(stream, held)


# Attributes -------------------------------------------------------------------------------------------------


def _patched(
    setting: Setting, command: Command, held: Held, patched: dict[str, Any] | Problem
) -> Decision | Problem:
    if isinstance(patched, Problem):
        return patched
    return _written(setting, command, held, patched, EventAction.UPDATE)


def _written(
    setting: Setting,
    command: Command,
    held: Held | None,
    attributes: Mapping[str, Any],
    action: EventAction,
    *,
    status: str = ACTIVE,
    **data: Any,
) -> Decision | Problem:
    """Give a stream attributes, once they have been judged; ``status`` is of what was not there."""
    stream = command.stream
    if (problem := _unstorable(attributes)) is not None:
        return problem
    judged = setting.rules.judge(setting.view, stream, plain(attributes))
    if isinstance(judged, Problem):
        return judged
    state = typed_as(attributes, held.state) if held is not None else attributes
    same = held is not None and canonical_text(dict(state)) == canonical_text(dict(held.state))
    if held is not None and same and not setting.receipt:
        return Decision(stream=stream, held=held)
    review = Review(held.review) if same and held and held.review else None
    append = _append(
        setting,
        command,
        held,
        _After(
            action=action,
            state=state,
            status=held.status if held else status,
            review=review,
            schema_version=judged.schema_version,
            references=judged.references,
        ),
        **data,
    )
    return Decision(stream=stream, appends=(append,), requires=judged.requires)


def _unstorable(attributes: Any) -> Problem | None:
    """Refuse what no canonical text can carry."""
    if not isinstance(attributes, Mapping):
        message = f"attributes are {json_type(attributes)}: send an object"
    else:
        try:
            canonical_text(dict(attributes))
        except NotCanonical as error:
            message = str(error)
        else:
            return None
    kind = json_type(attributes)
    return Problem(
        kind=ProblemKind.INVALID_REQUEST,
        detail=message,
        errors=(ProblemError(path="", rule="value-model", message=message, value_type=kind),),
    )


# What was -------------------------------------------------------------------------------------------------


def _from_history(
    setting: Setting, command: Restore | RollBack, held: Held | None
) -> Decision | Problem:
    last = setting.view.last(command.stream)
    if last is None:
        return is_missing(command.stream)
    if isinstance(command, Restore):
        if held is not None:
            return is_there_already(held)
        before = setting.view.event(command.stream, last.version - 1)
        status = before.status or ACTIVE if before else ACTIVE
        return _brought_back(setting, command, None, before, EventAction.RESTORE, status=status)
    before = setting.view.event(command.stream, command.version)
    if before is None:
        return Problem(
            kind=ProblemKind.NOT_FOUND,
            detail=f"{named(command.stream)} has no version {command.version}: it has 1 to {last.version}",
        )
    action = EventAction.UPDATE if held is not None else EventAction.RESTORE
    return _brought_back(setting, command, held, before, action, rolled_back_to=before.version)


def _brought_back(
    setting: Setting,
    command: Restore | RollBack,
    held: Held | None,
    before: RecordedEvent | None,
    action: EventAction,
    **data: Any,
) -> Decision | Problem:
    if before is None or before.state is None:
        version = before.version if before else 0
        return Problem(
            kind=ProblemKind.ILLEGAL_STEP,
            detail=f"at version {version}, {named(command.stream)} was deleted, so there are no attributes to bring "
            "back: name a version before, or delete it",
        )
    return _written(setting, command, held, before.state, action, **data)


# What it is ---------------------------------------------------------------------------------------------------


def _marked(
    setting: Setting, command: Command, held: Held, status: str, action: EventAction
) -> Decision | Problem:
    if held.status == status and not setting.receipt:
        return Decision(stream=held.stream, held=held)
    review = Review(held.review) if held.review else None
    after = _After(
        action=action,
        state=held.state,
        status=status,
        review=review,
        schema_version=held.schema_version,
    )
    return Decision(stream=held.stream, appends=(_append(setting, command, held, after),))


def _reviewed(setting: Setting, command: TakeStep, held: Held) -> Decision | Problem:
    review = Review(held.review) if held.review else None
    if command.step is ReviewStep.CHANGE:
        return _no_step(held, command.step, legal_steps(review))
    then = after_step(review, command.step)
    if isinstance(then, NoSuchStep):
        return _no_step(held, command.step, then.legal)
    actor = setting.caller.actor
    four_eyes = setting.policy.four_eyes
    if not may_decide(command.step, actor=actor, proposer=held.reviewed_by, four_eyes=four_eyes):
        return Problem(
            kind=ProblemKind.FORBIDDEN,
            detail=f"{actor} put {named(held.stream)} forward: somebody else has to attest it",
        )
    after = _After(
        action=command.step.action,
        state=held.state,
        status=held.status,
        review=then.review,
        schema_version=held.schema_version,
    )
    return Decision(stream=held.stream, appends=(_append(setting, command, held, after),))


def _no_step(held: Held, step: ReviewStep, legal: tuple[ReviewStep, ...]) -> Problem:
    at = held.review or "not put forward"
    can = ", ".join(legal) or "change its attributes"
    return Problem(
        kind=ProblemKind.ILLEGAL_STEP,
        detail=f"{named(held.stream)} is {at}, from where there is no {step}: one can {can}",
        more={"review": held.review, "legal": [str(each) for each in legal]},
    )


# Gone ---------------------------------------------------------------------------------------------------------


def _deleted(setting: Setting, command: Delete, held: Held) -> Decision | Problem:
    removed = removal(setting.view, setting.rules, held, cascade=command.cascade)
    if isinstance(removed, Problem):
        return removed
    gone = _After(action=EventAction.DELETE, state=None, references=())
    own = _append(setting, command, held, gone)
    also = tuple(
        _append(
            setting, command, edge, gone, stream=edge.stream, nth=n, with_stream=named(held.stream)
        )
        for n, edge in enumerate(removed.edges, 1)
    )
    return Decision(stream=held.stream, appends=(own, *also), requires=removed.requires)


# Events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _After:
    """What a stream is after an event."""

    action: EventAction
    state: Mapping[str, Any] | None
    status: str = ACTIVE
    review: Review | None = None
    schema_version: int | None = None
    references: tuple[StreamId, ...] | None = None


def _append(
    setting: Setting,
    command: Command,
    held: Held | None,
    after: _After,
    *,
    stream: StreamId | None = None,
    nth: int = 0,
    **data: Any,
) -> Append:
    said = {"reason": command.reason} if command.reason else {}
    operation_id = setting.operation_id
    if nth:
        operation_id = digest(_TAG_CASCADE, operation_id, nth.to_bytes(4, "big"))
    reviewed = _review_data(setting, held, after.review)
    event = NewEvent(
        stream=stream or command.stream,
        action=after.action,
        state=after.state,
        data={**said, **reviewed, **data, **setting.receipt},
        operation_id=operation_id,
        schema_version=after.schema_version,
        actor=setting.caller.actor,
    )
    return Append(
        event=event,
        expected=ABSENT if held is None else held.version_tag,
        status=after.status,
        review=after.review,
        references=after.references,
    )


def _review_data(setting: Setting, held: Held | None, review: Review | None) -> dict[str, Any]:
    if review is None:
        return {}
    kept = held is not None and held.review == review
    by = held.reviewed_by if held and kept else setting.caller.actor
    at = held.reviewed_at if held and kept else setting.view.now
    return {"reviewed_by": by, "reviewed_at": at and at.isoformat()}


def left_by(event: RecordedEvent) -> Held | None:
    """Return what was there after an event: the row that it left."""
    if event.state is None:
        return None
    at = event.data.get("reviewed_at")
    return Held(
        stream=event.stream,
        state=event.state,
        version_tag=event.operation_id,
        version=event.version,
        status=event.status or ACTIVE,
        review=event.review,
        reviewed_by=event.data.get("reviewed_by"),
        reviewed_at=datetime.fromisoformat(at) if at else None,
        schema_version=event.schema_version,
        updated_at=event.recorded_at,
        updated_by=event.actor,
    )
