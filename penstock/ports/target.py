"""Targets: what operations are applied to.

A chunk of operations is an Arrow table of ``penstock.plan.operations.OPERATION_SCHEMA``. A target applies it
exactly once per operation id, checks the fence and each operation's precondition in the transaction that
applies it, and answers with an outcome; it raises only for what no retry of the same chunk can mend. The other calls
have no outcome to answer with: where the target cannot be reached they raise :class:`TargetDown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import pyarrow as pa

from penstock.batch.rows import Kind
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId


class Outcome(StrEnum):
    """What a target said of an operation."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    REJECTED = "rejected"
    """Never going to work as it is."""
    UNAVAILABLE = "unavailable"
    """Nothing took effect; the same call may work later."""
    CONFLICT = "conflict"
    """The target holds something else than the plan took it to hold."""
    UNKNOWN = "unknown"
    """No answer came: it has to be read back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplyContext:
    """On whose behalf a chunk is applied, and the fence that a revived worker trips over."""

    batch_id: BatchId
    source_id: SourceId
    target_id: TargetId
    tenant_id: TenantId
    plan_digest: str
    fencing_token: int
    """Grows with every claim of the lane; a target refuses a token below the highest it has seen."""
    now: datetime
    shared_types: frozenset[str] = frozenset()
    """Types that people edit as well. A target whose rows can be edited past their digests holds an operation on one
    against ``before_attributes`` too, in the transaction that applies it: whatever differs is a conflict."""


class Lack(StrEnum):
    """What a refused entity lacks that the plan itself may bring."""

    REFERENCE = "reference"
    """Another entity that its attributes name: a later operation may create it."""
    CONTAINER = "container"
    """The entity that it lies in, whose own operation was refused in the same call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationFailure:
    """One operation that did not take effect, and why."""

    operation_id: bytes
    outcome: Outcome
    """``REJECTED`` or ``CONFLICT``."""
    code: str
    message: str
    lacks: Lack | None = None
    """Where nothing else is wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """The chunk was taken: all operations but ``failures`` have taken effect now or had before."""

    applied: int
    already_applied: int
    failures: tuple[OperationFailure, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """The chunk as a whole was refused and nothing of it took effect; some operation is the culprit."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unavailable:
    """The target said that it cannot take the chunk now. Applying is idempotent, so it may simply be sent again."""

    message: str
    retry_after_s: float | None = None
    """What the target asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unknown:
    """No answer came, and the chunk may or may not have taken effect: it has to be read back."""

    message: str


ApplyOutcome = Applied | Rejected | Unavailable | Unknown


class TargetDown(Exception):
    """The target cannot be reached now; what was asked of it may be asked again later."""

    def __init__(self, outcome: Unavailable, *, cut_short: bool = False) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
        self.cut_short = cut_short
        """Whether its circuit breaker kept tries back that the retry policy still allowed."""


PUBLISHED = "published"
"""Column of the keys that are read back: the attributes that the asker takes the target to hold, or null."""


class Target(Protocol):
    """A system that operations are applied to."""

    @property
    def target_id(self) -> TargetId:
        """The id under which sources name it."""
        ...

    def prepare(self) -> None:
        """Create what the target needs before its first chunk; a second call changes nothing.

        Raises :class:`TargetDown`.
        """
        ...

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Apply one chunk: operations of one wave, in any order, in as few round trips as can be.

        A target that refuses entities for what they lack (:class:`Lack`) gets those once more when all others have
        been applied, of several waves at once, together with what lies in them: it takes those that are complete then.

        Raises :class:`penstock.errors.LeaseLost` when the fencing token is stale.
        """
        ...

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Return what the target holds of some entities or relationships of a source.

        ``keys`` has ``type_name, key`` and, for relationships, ``to_key``. The answer has one row per row of
        ``keys``, in order: those columns, ``digest`` (``fixed_size_binary(16)``, null if absent) and ``attributes``.
        Where ``keys`` has :data:`PUBLISHED`, a target that keeps single values, and could not tell their whole
        otherwise, answers with that text, changed where its values differ. Raises :class:`TargetDown`.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldName:
    """What names an entity or a relationship that a target holds of a source."""

    type_name: str
    key: str
    to_key: str | None = None


HELD_SCHEMA = pa.schema(
    [
        pa.field("type_name", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("to_key", pa.string()),
        pa.field("digest", pa.binary(16)),
        pa.field("attributes", pa.string()),
    ]
)
"""What a target lists. ``attributes`` are null where it keeps no text."""


@runtime_checkable
class ListingTarget(Target, Protocol):
    """A target that can say what it holds without being asked by name."""

    def list_held(
        self, source: SourceId, kind: Kind, *, after: HeldName | None, limit: int
    ) -> pa.Table:
        """Return the next rows that the target holds of a source, in an order of its own that stays.

        ``after`` is the last of the page before. The answer is of :data:`HELD_SCHEMA`; fewer than ``limit`` rows are
        the last. Raises :class:`TargetDown`.
        """
        ...
