"""One schema of the registry: its draft, its versions, which of them is active, and what may be done to it when.

::

    DRAFT ─ validate ─> VALID ─ activate ─> ACTIVE ─ deactivate ─> DEACTIVATED ─ reactivate ─> ACTIVE
    DRAFT ─ validate ─> INVALID
    VALID, INVALID, ACTIVE ─ revise ─> DRAFT
    DEACTIVATED ─ edit ─> DRAFT
    DRAFT, VALID, INVALID, DEACTIVATED ─ mark_for_deletion ─> MARKED_FOR_DELETION ─ restore ─> DRAFT
    DRAFT, VALID, INVALID ─ reactivate ─> ACTIVE, if there is a version

The status says how far the *draft* is; the active version says what entities are validated by. They are two things:
``revise`` opens the next draft of an active schema while its version goes on validating, so that nobody has to stop
writing for a change. ``deactivate`` takes the active version away: entities stay readable and take no writes.

- The id follows from the title, and the title never changes.
- A version never changes: document, digest, who, when and why, and to which versions its references were pinned.
- The active version can be moved back to an earlier one, if data of the later one stay valid.
- Drafts and deactivated schemas that validate nothing can be marked for deletion; ``restore`` takes the mark away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from penstock.errors import IllegalMove, InvalidIdentifier, PenstockError
from penstock.registry.compatibility import Compatibility, Incompatibility
from penstock.registry.schema_documents import Problem
from penstock.registry.schema_references import Referent


class SchemaStatus(StrEnum):
    """How far a schema's draft is."""

    DRAFT = "draft"
    """Being written."""
    VALID = "valid"
    """The draft is a schema that the registry takes."""
    INVALID = "invalid"
    """The draft is not; its problems say why."""
    ACTIVE = "active"
    """The draft is the active version."""
    DEACTIVATED = "deactivated"
    """No version is active: entities of this type take no writes."""
    MARKED_FOR_DELETION = "marked_for_deletion"
    """Nobody needs it any more."""


class SchemaMove(StrEnum):
    """What happens to a schema."""

    EDIT = "edit"
    ACCEPT = "accept"
    """``validate`` found nothing wrong."""
    REFUSE = "refuse"
    """``validate`` found problems."""
    REVISE = "revise"
    """Go back to the draft, to edit it; an active version stays active."""
    ACTIVATE = "activate"
    POINT = "point"
    """Make another version the active one."""
    DEACTIVATE = "deactivate"
    REACTIVATE = "reactivate"
    """Make a version active again, and give up the draft."""
    CONFIGURE = "configure"
    MARK_FOR_DELETION = "mark_for_deletion"
    RESTORE = "restore"


_S, _M = SchemaStatus, SchemaMove
_DRAFTED = {
    _M.REACTIVATE: _S.ACTIVE,
    _M.MARK_FOR_DELETION: _S.MARKED_FOR_DELETION,
}
TRANSITIONS: Final[Mapping[SchemaStatus, Mapping[SchemaMove, SchemaStatus]]] = {
    _S.DRAFT: {
        _M.EDIT: _S.DRAFT,
        _M.ACCEPT: _S.VALID,
        _M.REFUSE: _S.INVALID,
        _M.CONFIGURE: _S.DRAFT,
        **_DRAFTED,
    },
    _S.VALID: {
        _M.ACTIVATE: _S.ACTIVE,
        _M.REVISE: _S.DRAFT,
        _M.CONFIGURE: _S.VALID,
        **_DRAFTED,
    },
    _S.INVALID: {_M.REVISE: _S.DRAFT, _M.CONFIGURE: _S.INVALID, **_DRAFTED},
    _S.ACTIVE: {
        _M.REVISE: _S.DRAFT,
        _M.POINT: _S.ACTIVE,
        _M.DEACTIVATE: _S.DEACTIVATED,
        _M.CONFIGURE: _S.ACTIVE,
    },
    _S.DEACTIVATED: {_M.EDIT: _S.DRAFT, _M.CONFIGURE: _S.DEACTIVATED, **_DRAFTED},
    _S.MARKED_FOR_DELETION: {_M.RESTORE: _S.DRAFT},
}
"""Every legal move, by the status that it leaves."""


class IllegalSchemaMove(IllegalMove):
    """What is asked of a schema is not possible in its present status; ``legal`` are the moves that are."""

    code = "illegal_schema_move"

    def __init__(self, message: str, *, legal: Sequence[SchemaMove]) -> None:
        """Say what is not possible, and what is."""
        super().__init__(message)
        self.legal = tuple(legal)


class BadTitle(InvalidIdentifier):
    """A schema has no title that an id can be made of."""

    code = "bad_title"


class TitleChanged(PenstockError):
    """An edit changes the title of a schema, which never changes."""

    code = "title_changed"


class UnknownVersion(PenstockError):
    """A schema has no version of that number."""

    code = "unknown_version"


class StillInUse(PenstockError):
    """A schema cannot be taken away, since something rests on it; ``users`` names what."""

    code = "still_in_use"

    def __init__(self, message: str, *, users: Sequence[str] = ()) -> None:
        """Say what cannot be done, and because of whom."""
        super().__init__(message)
        self.users = tuple(users)


class Incompatible(PenstockError):
    """A version breaks what the schema's compatibility mode promises; ``found`` says where."""

    code = "incompatible"

    def __init__(self, message: str, *, found: Sequence[Incompatibility]) -> None:
        """Say which promise is broken, and where."""
        super().__init__(message)
        self.found = tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaVersion:
    """One version of a schema. It never changes."""

    number: int
    """From 1."""
    document: Mapping[str, Any]
    digest: bytes
    """Of the document as it is written; 16 bytes."""
    pins: Mapping[str, int]
    """What its references without a version mean, by schema id."""
    created_at: datetime
    created_by: str
    reason: str

    def to_state(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "number": self.number,
            "document": dict(self.document),
            "digest": self.digest.hex(),
            "pins": dict(self.pins),
            "created_at": self.created_at.isoformat(),
            "created_by": self.created_by,
            "reason": self.reason,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_state` wrote."""
        return cls(
            number=state["number"],
            document=state["document"],
            digest=bytes.fromhex(state["digest"]),
            pins=state["pins"],
            created_at=datetime.fromisoformat(state["created_at"]),
            created_by=state["created_by"],
            reason=state["reason"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """A schema: its draft, its versions and its rules."""

    schema_id: str
    title: str
    status: SchemaStatus
    document: Mapping[str, Any]
    """The draft; that of the active version while nothing is being revised."""
    problems: tuple[Problem, ...] = ()
    """Why the draft is INVALID."""
    versions: tuple[SchemaVersion, ...] = ()
    active_version: int | None = None
    """What entities are validated by; None where they take no writes."""
    last_active_version: int | None = None
    """The active version, or the one that was active last."""
    compatibility: Compatibility = Compatibility.BACKWARD
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str

    def version(self, number: int) -> SchemaVersion:
        """Return a version, or raise :class:`UnknownVersion`, which names those that there are."""
        if not 1 <= number <= len(self.versions):
            has = f"1 to {len(self.versions)}" if self.versions else "none yet: activate a draft"
            raise UnknownVersion(f"schema {self.schema_id} has no version {number}; it has {has}")
        return self.versions[number - 1]

    @property
    def active(self) -> SchemaVersion | None:
        """The version that entities are validated by."""
        return None if self.active_version is None else self.version(self.active_version)

    def referent(self, number: int | None) -> Referent | None:
        """Return a version, or the active one for None, as what refers to it sees it; None where there is none."""
        number = self.active_version if number is None else number
        if number is None or not 1 <= number <= len(self.versions):
            return None
        version = self.version(number)
        return Referent(
            schema_id=self.schema_id, version=number, document=version.document, pins=version.pins
        )

    def to_state(self) -> dict[str, Any]:
        """Return it as plain JSON, as an event keeps it."""
        return {
            "schema_id": self.schema_id,
            "title": self.title,
            "status": self.status.value,
            "document": dict(self.document),
            "problems": [each.to_state() for each in self.problems],
            "versions": [each.to_state() for each in self.versions],
            "active_version": self.active_version,
            "last_active_version": self.last_active_version,
            "compatibility": self.compatibility.value,
            "created_at": self.created_at.isoformat(),
            "created_by": self.created_by,
            "changed_at": self.changed_at.isoformat(),
            "changed_by": self.changed_by,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_state` wrote."""
        return cls(
            schema_id=state["schema_id"],
            title=state["title"],
            status=SchemaStatus(state["status"]),
            document=state["document"],
            problems=tuple(Problem(**each) for each in state["problems"]),
            versions=tuple(SchemaVersion.from_state(each) for each in state["versions"]),
            active_version=state["active_version"],
            last_active_version=state["last_active_version"],
            compatibility=Compatibility(state["compatibility"]),
            created_at=datetime.fromisoformat(state["created_at"]),
            created_by=state["created_by"],
            changed_at=datetime.fromisoformat(state["changed_at"]),
            changed_by=state["changed_by"],
        )


def next_status(status: SchemaStatus, move: SchemaMove) -> SchemaStatus:
    """Return where ``move`` takes ``status``: the one function that every change of status goes through.

    Raises :class:`IllegalSchemaMove`, which names the moves that are legal.
    """
    legal = TRANSITIONS[status]
    if move not in legal:
        names = ", ".join(legal)
        raise IllegalSchemaMove(
            f"a schema that is {status} cannot {move}; from {status} it can: {names}",
            legal=tuple(legal),
        )
    return legal[move]
