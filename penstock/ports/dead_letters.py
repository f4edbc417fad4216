"""Dead letters as kept: batches and single operations that exhausted what can be done without a person."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.audit_log import AuditEntry
from penstock.publish.dead_letters import LetterEvent, LetterStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A batch, what should have been one, or one operation, that cannot be published as it is."""

    dead_letter_id: str
    """32 hex digits."""
    subject: str
    """A batch id, an operation id, or the object key of what could not be read."""
    where: str
    """Object key or step."""
    source_id: str | None
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    recorded_at: datetime
    status: LetterStatus = LetterStatus.OPEN
    fingerprint: str = "unknown"
    """What failures of one cause have in common."""
    batch_id: str | None = None
    target_id: str | None = None
    plan_digest: str | None = None
    operation_id: str | None = None
    """Of a single operation; None of a batch."""
    kind: str | None = None
    type_name: str | None = None
    key: str | None = None
    to_key: str | None = None
    action: str | None = None
    data: str | None = None
    """The attributes as planned, canonical; None for deletes, and where they are only at ``data_path``."""
    data_path: str | None = None
    """Object key of the plan, or of the manifest, that holds the original."""
    correction_batch_id: str | None = None
    """The batch that it was requeued in."""
    updated_at: datetime | None = None
    alerted_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterHistory:
    """One thing that happened to a dead letter."""

    at: datetime
    event: LetterEvent
    actor: str | None = None
    code: str | None = None
    message: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; what is None does not restrict."""

    source: SourceId | None = None
    sources: Collection[SourceId] | None = None
    target: TargetId | None = None
    batch: BatchId | None = None
    status: LetterStatus | None = None
    fingerprint: str | None = None
    type_name: str | None = None
    code: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterGroup:
    """Dead letters of one cause."""

    fingerprint: str
    code: str
    message: str
    """Of the newest."""
    type_name: str | None
    source_id: str | None
    target_id: str | None
    letters: int
    first_at: datetime
    last_at: datetime


class DeadLetters(Protocol):
    """What could not be published, with everything needed to see why."""

    def record_dead_letter(
        self,
        *,
        subject: str,
        where: str,
        source_id: str | None,
        code: str,
        message: str,
        now: datetime,
        details: Mapping[str, Any] | None = None,
        batch_id: str | None = None,
        target_id: str | None = None,
        data_path: str | None = None,
    ) -> DeadLetter:
        """Record one of a batch; the same subject and code again is the same one, which has failed again."""
        ...

    def get_dead_letter(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter, or raise ``NotFound``."""
        ...

    def letter_history(self, dead_letter_id: str) -> list[LetterHistory]:
        """Return what happened to a dead letter, oldest first."""
        ...

    def list_dead_letters(
        self,
        *,
        source: SourceId | None = None,
        chosen: LetterFilter | None = None,
        after: DeadLetter | None = None,
        limit: int = 1000,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first; ``after`` is the last of the page before."""
        ...

    def letter_groups(
        self, *, chosen: LetterFilter | None = None, limit: int = 1000
    ) -> list[LetterGroup]:
        """Return dead letters by fingerprint, the newest group first."""
        ...

    def requeued_since(self, moment: datetime) -> int:
        """Return how many dead letters were requeued or fixed since a moment."""
        ...

    def unalerted_groups(self, *, silent_since: datetime, limit: int = 100) -> list[LetterGroup]:
        """Return open letters that nobody was alerted of, by fingerprint, but for those alerted of since a moment."""
        ...

    def mark_alerted(self, fingerprint: str, *, until: datetime, now: datetime) -> None:
        """Note that the letters of a fingerprint recorded up to a moment have been alerted of."""
        ...

    def move_letters(
        self,
        dead_letter_ids: Sequence[str],
        event: LetterEvent,
        *,
        now: datetime,
        actor: str | None = None,
        message: str | None = None,
        batch_id: str | None = None,
        act: AuditEntry | None = None,
    ) -> int:
        """Make one move of several dead letters in one transaction, all or none; return how many.

        ``act`` is recorded in the same transaction. Raises ``NotFound``, or ``IllegalMove`` if one of them is no longer
        where the move begins.
        """
        ...
