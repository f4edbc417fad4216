"""What is done to schemas: each command takes a schema and returns the one that it becomes, or raises.

Nothing here reads or writes: ``resolve`` answers what other schemas are, and the caller appends what is returned.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from penstock.errors import NothingToDo, Unsigned
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import TAG_SCHEMA, digest
from penstock.registry.compatibility import Compatibility, Incompatibility, check
from penstock.registry.events import EventAction
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_references import (
    BadReference,
    Referent,
    Resolve,
    nothing,
    overlaid,
    pinned,
    users_of,
)
from penstock.registry.schemas import (
    BadTitle,
    Incompatible,
    Schema,
    SchemaMove,
    SchemaStatus,
    SchemaVersion,
    StillInUse,
    TitleChanged,
    next_status,
)

MAX_ID: Final = 127
MAX_TITLE: Final = 255
MAX_REASON: Final = 2_000
ACTIONS: Final[Mapping[SchemaMove, EventAction]] = {
    SchemaMove.EDIT: EventAction.EDIT,
    SchemaMove.ACCEPT: EventAction.VALIDATE,
    SchemaMove.REFUSE: EventAction.VALIDATE,
    SchemaMove.REVISE: EventAction.EDIT,
    SchemaMove.ACTIVATE: EventAction.ACTIVATE,
    SchemaMove.POINT: EventAction.ACTIVATE,
    SchemaMove.DEACTIVATE: EventAction.DEACTIVATE,
    SchemaMove.REACTIVATE: EventAction.ACTIVATE,
    SchemaMove.CONFIGURE: EventAction.CONFIGURE,
    SchemaMove.MARK_FOR_DELETION: EventAction.MARK_FOR_DELETION,
    SchemaMove.RESTORE: EventAction.RESTORE,
}
"""The event that each move is recorded as."""
_GAP = re.compile(r"[^a-z0-9]+")


def schema_id_of(title: str) -> str:
    """Return the id that a title gives: ``a-z``, ``0-9`` and ``_``, beginning with a letter, at most 127 characters.

    The title is normalised (NFKC), case and accents are folded, and what is neither letter nor digit becomes ``_``.
    Raises :class:`BadTitle`, which names what is wrong, rather than drop a letter and run into another title's id.
    """
    if len(title) > MAX_TITLE:
        raise BadTitle(f"the title has {len(title)} characters: use at most {MAX_TITLE}")
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", title).casefold())
    plain = "".join(each for each in folded if not unicodedata.combining(each))
    foreign = sorted({each for each in plain if not each.isascii() and each.isalnum()})
    if foreign:
        raise BadTitle(
            f"the title {title!r} has {', '.join(foreign[:5])}, for which an id has no letter: use a-z and 0-9"
        )
    found = _GAP.sub("_", plain).strip("_")
    if not found:
        raise BadTitle(
            f"the title {title!r} has no letter or digit: give one that says what the schema describes"
        )
    if not found[0].isalpha():
        raise BadTitle(f"the title {title!r} begins with a digit: begin with a letter")
    if len(found) > MAX_ID:
        raise BadTitle(
            f"the title gives an id of {len(found)} characters: shorten it to at most {MAX_ID}"
        )
    return found


def define(
    document: Mapping[str, Any],
    *,
    title: str | None = None,
    compatibility: Compatibility = Compatibility.BACKWARD,
    by: str,
    now: datetime,
) -> Schema:
    """Return a new schema in DRAFT. The title is the document's, unless it has none and one is given."""
    _signed(by)
    own = document.get("title")
    if title is None and not isinstance(own, str):
        raise BadTitle('the schema has no title: say "title" in the document; its id is made of it')
    named = str(own) if title is None else title
    if isinstance(own, str) and own != named:
        raise BadTitle(
            f"the document's title is {own!r}, and {named!r} is asked for: say one of them"
        )
    return Schema(
        schema_id=schema_id_of(named),
        title=named,
        status=SchemaStatus.DRAFT,
        document=dict(document),
        compatibility=compatibility,
        created_at=now,
        created_by=by,
        changed_at=now,
        changed_by=by,
    )


def edit(schema: Schema, document: Mapping[str, Any], *, by: str, now: datetime) -> Schema:
    """Replace the draft. Legal in DRAFT and DEACTIVATED; from elsewhere :func:`revise` leads there."""
    status = next_status(schema.status, SchemaMove.EDIT)
    own = document.get("title", schema.title)
    if own != schema.title:
        raise TitleChanged(
            f"schema {schema.schema_id} is titled {schema.title!r} for ever, and the document says {own!r}: "
            "keep the title, or define another schema"
        )
    return _changed(schema, status, by, now, document=dict(document), problems=())


def revise(schema: Schema, *, by: str, now: datetime) -> Schema:
    """Go back to DRAFT with the draft as it is; an active version goes on validating entities."""
    return _changed(schema, next_status(schema.status, SchemaMove.REVISE), by, now, problems=())


def validate(schema: Schema, *, resolve: Resolve = nothing, by: str, now: datetime) -> Schema:
    """Return the schema VALID, or INVALID with every problem of its draft."""
    next_status(schema.status, SchemaMove.ACCEPT)
    found = problems_of(schema.document, resolve)
    move = SchemaMove.REFUSE if found else SchemaMove.ACCEPT
    return _changed(schema, next_status(schema.status, move), by, now, problems=tuple(found))


def activate(
    schema: Schema, *, resolve: Resolve = nothing, reason: str, by: str, now: datetime
) -> Schema:
    """Make the VALID draft the next version, and that the active one.

    Raises :class:`BadReference` where it refers to what is missing or not active, and :class:`Incompatible` where it
    breaks what the compatibility mode promises. A draft that is equal to the version it would replace makes no new one.
    """
    return activate_together([schema], resolve=resolve, reason=reason, by=by, now=now)[0]


def activate_together(
    schemas: Sequence[Schema], *, resolve: Resolve = nothing, reason: str, by: str, now: datetime
) -> list[Schema]:
    """Activate schemas that refer to each other, in one step; see :func:`activate`."""
    _signed(by)
    for schema in schemas:
        next_status(schema.status, SchemaMove.ACTIVATE)
    coming = [
        Referent(schema_id=each.schema_id, version=len(each.versions) + 1, document=each.document)
        for each in schemas
    ]
    around = overlaid(resolve, coming)
    pins = [_pins(each, around) for each in coming]
    around = overlaid(
        resolve, [replace(each, pins=p) for each, p in zip(coming, pins, strict=True)]
    )
    return [
        _with_version(each, p, around, reason, by, now)
        for each, p in zip(schemas, pins, strict=True)
    ]


def point(
    schema: Schema, version: int, *, resolve: Resolve = nothing, by: str, now: datetime
) -> Schema:
    """Make another version the active one: an earlier one if data of the present one stay valid under it.

    Raises :class:`Incompatible` where the compatibility mode's promise does not hold from the present to the other.
    """
    status = next_status(schema.status, SchemaMove.POINT)
    if schema.active_version == schema.version(version).number:
        raise NothingToDo(
            f"version {version} of schema {schema.schema_id} is the active one already"
        )
    _check_pointing(schema, version, resolve)
    return _serving(schema, status, version, by, now)


def deactivate(
    schema: Schema, *, others: Iterable[Referent] = (), by: str, now: datetime
) -> Schema:
    """Take the active version away: entities of this type take no writes until one is active again.

    ``others`` are the active versions of all schemas; :class:`StillInUse` names those that refer to this one.
    """
    status = next_status(schema.status, SchemaMove.DEACTIVATE)
    _refuse_users(schema, others, "deactivated")
    return _changed(schema, status, by, now, active_version=None)


def reactivate(
    schema: Schema,
    version: int | None = None,
    *,
    resolve: Resolve = nothing,
    by: str,
    now: datetime,
) -> Schema:
    """Make a version active again, the last active one unless another is named, and give up the draft."""
    status = next_status(schema.status, SchemaMove.REACTIVATE)
    number = version if version is not None else schema.last_active_version
    wanted = schema.version(number if number is not None else 1)
    if wanted.number != schema.last_active_version:
        _check_pointing(schema, wanted.number, resolve)
    return _serving(schema, status, wanted.number, by, now)


def configure(schema: Schema, compatibility: Compatibility, *, by: str, now: datetime) -> Schema:
    """Change what versions to come promise."""
    status = next_status(schema.status, SchemaMove.CONFIGURE)
    if schema.compatibility is compatibility:
        raise NothingToDo(
            f"the compatibility of schema {schema.schema_id} is {compatibility} already"
        )
    return _changed(schema, status, by, now, compatibility=compatibility)


def mark_for_deletion(
    schema: Schema, *, others: Iterable[Referent] = (), entities: int = 0, by: str, now: datetime
) -> Schema:
    """Mark a schema that validates nothing for deletion.

    ``others`` as in :func:`deactivate`; ``entities`` is how many there are of its type. :class:`StillInUse` says what
    is in the way.
    """
    status = next_status(schema.status, SchemaMove.MARK_FOR_DELETION)
    if schema.active_version is not None:
        raise StillInUse(
            f"version {schema.active_version} of schema {schema.schema_id} is active while its draft is revised: "
            "reactivate it, which gives up the draft, and deactivate it first"
        )
    _refuse_users(schema, others, "marked for deletion")
    if entities:
        raise StillInUse(
            f"schema {schema.schema_id} has {entities} entities: delete them before it is marked for deletion",
            users=(f"{entities} entities",),
        )
    return _changed(schema, status, by, now)


def restore(schema: Schema, *, by: str, now: datetime) -> Schema:
    """Take the mark for deletion away: the schema is in DRAFT again, its versions as they were."""
    return _changed(schema, next_status(schema.status, SchemaMove.RESTORE), by, now, problems=())


def _pins(coming: Referent, around: Resolve) -> dict[str, int]:
    pins, wrong = pinned(coming.document, around, itself=(coming.schema_id, coming.version))
    if wrong:
        raise BadReference(f"schema {coming.schema_id} cannot be activated: {'; '.join(wrong)}")
    return pins


def _with_version(
    schema: Schema, pins: Mapping[str, int], around: Resolve, reason: str, by: str, now: datetime
) -> Schema:
    status = next_status(schema.status, SchemaMove.ACTIVATE)
    written = digest(TAG_SCHEMA, canonical_text(schema.document))
    last = schema.last_active_version
    if last is not None:
        same = schema.version(last)
        if same.digest == written and same.pins == pins:
            return _serving(schema, status, last, by, now)
    version = SchemaVersion(
        number=len(schema.versions) + 1,
        document=schema.document,
        digest=written,
        pins=dict(pins),
        created_at=now,
        created_by=by,
        reason=reason[:MAX_REASON],
    )
    grown = replace(schema, versions=(*schema.versions, version))
    new = grown.referent(version.number)
    assert new is not None
    _refuse_incompatible(schema, new, _earlier(schema), around)
    return _serving(grown, status, version.number, by, now)


def _earlier(schema: Schema, but: int | None = None) -> list[Referent]:
    """Return the versions, but one, with the last active one last."""
    numbers = [each.number for each in schema.versions if each.number != but]
    numbers.sort(key=lambda number: (number == schema.last_active_version, number))
    return [found for number in numbers if (found := schema.referent(number)) is not None]


def _check_pointing(schema: Schema, version: int, resolve: Resolve) -> None:
    wanted = schema.referent(version)
    assert wanted is not None
    _refuse_incompatible(schema, wanted, _earlier(schema, but=version), resolve)


def _refuse_incompatible(
    schema: Schema, new: Referent, earlier: Sequence[Referent], resolve: Resolve
) -> None:
    found = check(schema.compatibility, new, earlier, resolve)
    if found:
        raise Incompatible(_broken(schema, new, found), found=found)


def _broken(schema: Schema, new: Referent, found: Sequence[Incompatibility]) -> str:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return (
        f"version {new.version} of schema {schema.schema_id} is not {schema.compatibility} compatible with version "
        f"{first.against_version}: at {first.path or 'the whole'}, {first.rule}: {first.message}{more}; {first.remedy}"
    )


def _refuse_users(schema: Schema, others: Iterable[Referent], what: str) -> None:
    users = users_of(schema.schema_id, others)
    if users:
        raise StillInUse(
            f"schema {schema.schema_id} cannot be {what}: {', '.join(users[:10])} "
            f"refer{'s' if len(users) == 1 else ''} to it; change or deactivate that first",
            users=users,
        )


def _serving(schema: Schema, status: SchemaStatus, version: int, by: str, now: datetime) -> Schema:
    return _changed(
        schema,
        status,
        by,
        now,
        document=schema.version(version).document,
        problems=(),
        active_version=version,
        last_active_version=version,
    )


def _changed(schema: Schema, status: SchemaStatus, by: str, now: datetime, **fields: Any) -> Schema:
    _signed(by)
    return replace(schema, status=status, changed_at=now, changed_by=by, **fields)


def _signed(by: str) -> None:
    if not by.strip():
        raise Unsigned("a change of a schema has no actor: say who makes it")
