"""What may be asked of entities and relationships, as values.

Each command is about one stream. ``expected`` is the version that the caller has seen (what ``If-Match`` says), and
None for whatever there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.identity.ids import TenantId
from penstock.registry.events import StreamId
from penstock.registry.workflow import ReviewStep


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What the audit log is to say of a command, beside who, when and on what."""

    act: str
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """On whose word a command is carried out."""

    tenant_id: TenantId
    actor: str
    """Who: what history and the audit log say."""
    noted: Noted | None = None
    """Where given, the command's events and an entry of the audit log are there together or not at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Create:
    """Make an entity or a relationship that is not there."""

    stream: StreamId
    attributes: Mapping[str, Any]
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replace:
    """Set all attributes."""

    stream: StreamId
    attributes: Mapping[str, Any]
    expected: bytes | None = None
    or_create: bool = False
    """Make it if it is not there; otherwise that is a refusal."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergePatch:
    """Change attributes by a merge patch (RFC 7396): null removes."""

    stream: StreamId
    patch: Mapping[str, Any]
    expected: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonPatch:
    """Change attributes by a list of operations (RFC 6902), all or none."""

    stream: StreamId
    operations: Sequence[Any]
    expected: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delete:
    """Remove it; its history stays."""

    stream: StreamId
    expected: bytes | None = None
    cascade: bool = False
    """Remove the relationships that begin or end at an entity too. Entities that name it in their attributes are never
    removed with it."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Restore:
    """Bring back what was deleted, as it was last."""

    stream: StreamId
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RollBack:
    """Give it the attributes that it had at an earlier version; one that is gone comes back."""

    stream: StreamId
    version: int
    expected: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deprecate:
    """Say of an entity that it should not be used any more."""

    stream: StreamId
    expected: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reinstate:
    """Take a deprecation back."""

    stream: StreamId
    expected: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeStep:
    """Put an entity forward, vouch for it, or turn it down."""

    stream: StreamId
    step: ReviewStep
    expected: bytes | None = None
    reason: str = ""
    """The comment."""


Command = (
    Create
    | Replace
    | MergePatch
    | JsonPatch
    | Delete
    | Restore
    | RollBack
    | Deprecate
    | Reinstate
    | TakeStep
)
OfEntities = Deprecate | Reinstate | TakeStep
"""Commands that are about entities only."""
