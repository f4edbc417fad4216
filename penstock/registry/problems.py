"""Every refusal of the registry as a value: the members of a problem document (RFC 9457), and each error in it.

A use case returns a :class:`Problem`; whoever serves it over HTTP only writes down :meth:`Problem.members`. A problem
lists all that is wrong at once, and nothing was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

TYPE_PREFIX = "urn:penstock:problem:"


class ProblemKind(Enum):
    """What kinds of problem there are: a code, the HTTP status that says the same, and a title."""

    INVALID_REQUEST = ("invalid_request", 400, "The request is not well-formed")
    FORBIDDEN = ("forbidden", 403, "This is not for you to do")
    NOT_FOUND = ("not_found", 404, "There is no such thing")
    ALREADY_EXISTS = ("already_exists", 409, "It is there already")
    REFERENCED = ("referenced", 409, "Others refer to it")
    ILLEGAL_STEP = ("illegal_step", 409, "Its state does not allow this")
    INCOMPATIBLE_SCHEMA = ("incompatible_schema", 409, "The schema is not compatible")
    VERSION_MISMATCH = ("version_mismatch", 412, "It is not at the version that was expected")
    TOO_MANY = ("too_many", 413, "More at once than is allowed")
    SCHEMA_VIOLATION = ("schema_violation", 422, "The attributes break the schema")
    REFERENCE_MISSING = ("reference_missing", 422, "What is referred to is not there")
    RELATIONSHIP_VIOLATION = (
        "relationship_violation",
        422,
        "The relationship breaks the rules of its type",
    )
    NO_SCHEMA = ("no_schema", 422, "The type has no active schema")
    INVALID_SCHEMA = ("invalid_schema", 422, "The schema is not valid")
    PATCH_FAILED = ("patch_failed", 422, "The patch cannot be applied")
    KEY_REUSED = ("key_reused", 422, "The idempotency key was used for another command")
    NOT_DONE = ("not_done", 424, "Another part of the batch was refused")
    VERSION_REQUIRED = ("version_required", 428, "Say which version is meant")
    CONTENDED = ("contended", 503, "Others change it too often at the moment")

    @property
    def code(self) -> str:
        """Its stable name, the last part of ``type``."""
        return str(self.value[0])

    @property
    def status(self) -> int:
        """The HTTP status that says the same."""
        return int(self.value[1])

    @property
    def title(self) -> str:
        """What all problems of the kind have in common."""
        return str(self.value[2])


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemError:
    """One thing that is wrong."""

    path: str
    """A JSON pointer into what was sent, ``""`` for all of it."""
    rule: str
    """What it breaks: a JSON Schema keyword, or a rule of the registry's own."""
    message: str
    value_type: str | None = None
    """The JSON type of what was found there."""
    remedy: str | None = None

    def members(self) -> dict[str, Any]:
        """Return it as JSON has it, without what is not known."""
        known = {
            "path": self.path,
            "rule": self.rule,
            "message": self.message,
            "value_type": self.value_type,
            "remedy": self.remedy,
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A refusal: what was asked for was not done, and nothing of it was."""

    kind: ProblemKind
    detail: str
    """What is wrong with this one, where, and what to do."""
    errors: tuple[ProblemError, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further members: ``references``, ``legal`` steps, ``version_tag``, by name, as JSON has them."""

    @property
    def type(self) -> str:
        """The URI that names the kind."""
        return TYPE_PREFIX + self.kind.code

    @property
    def title(self) -> str:
        """What all problems of the kind have in common."""
        return self.kind.title

    @property
    def status(self) -> int:
        """The HTTP status that says the same."""
        return self.kind.status

    @property
    def code(self) -> str:
        """The stable name of the kind."""
        return self.kind.code

    def members(self) -> dict[str, Any]:
        """Return the problem document, without ``instance``, which only a server knows."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": [error.members() for error in self.errors],
            **self.more,
        }


def summary(errors: Sequence[ProblemError], *, most: int = 20) -> str:
    """Return errors as one text: where a refusal has only a message, as an operation's failure has."""
    shown = [f"{error.path or '/'} ({error.rule}): {error.message}" for error in errors[:most]]
    if len(errors) > most:
        shown.append(f"and {len(errors) - most:,} more")
    return "; ".join(shown)


def json_type(value: object) -> str:
    """Return the JSON type of a value, with ``integer`` told from ``number``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, Sequence):
        return "array"
    return "number"
