"""Events of publishing: batches, plans and holds, dead letters, breakers and pauses."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime

from penstock.events.facts import Count, Digest, EventData, Message, Name, Slug


class BatchLanded(EventData):
    """A batch was admitted, and waits to be published."""

    TYPE: ClassVar[str] = "batch_landed"
    SUBJECT: ClassVar[str] = "batch_id"
    batch_id: Name
    source_id: Slug
    source_timestamp: AwareDatetime
    mode: Literal["full", "delta"]
    targets: tuple[Slug, ...]
    """Where it is to be published."""
    entities: Count
    relationships: Count
    corrects: Name | None = None
    """Of a correction: the batch that it puts right."""


class _OfPublish(EventData):
    """One batch and one target."""

    SUBJECT: ClassVar[str] = "batch_id"
    batch_id: Name
    source_id: Slug
    target_id: Slug
    intent: Literal["publish", "republish", "release", "repair"]
    """What publishing it was to do this time."""


class BatchPublished(_OfPublish):
    """A batch is complete in a target: what could be applied is applied."""

    TYPE: ClassVar[str] = "batch_published"
    source_timestamp: AwareDatetime
    plan_digest: Digest | None
    entities_created: Count
    entities_updated: Count
    entities_deleted: Count
    relationships_created: Count
    relationships_updated: Count
    relationships_deleted: Count
    held: Count
    """Operations that a guard keeps back."""
    blocked: Count
    rejected: Count
    """Operations that are dead letters."""
    execution_time_ms: Count
    latency_s: float | None = None
    """Seconds from its manifest until now, of an ordinary publish; None for what somebody asked for later."""


class BatchPostponed(_OfPublish):
    """Publishing a batch failed for now, and is tried again later."""

    TYPE: ClassVar[str] = "batch_postponed"
    error_code: Name
    message: Message
    """Without what is quoted in it."""
    retry_count: Count
    retry_at: AwareDatetime


class BatchFailed(_OfPublish):
    """Publishing a batch was given up, cancelled, or overtaken by a newer batch."""

    TYPE: ClassVar[str] = "batch_failed"
    error_code: Name
    message: Message
    """Without what is quoted in it."""
    retry_count: Count


class BatchWithdrawn(_OfPublish):
    """A release or a repair has become void: the batch stands as it stood."""

    TYPE: ClassVar[str] = "batch_withdrawn"


class BatchRequeued(_OfPublish):
    """A batch that was complete or had failed is back in the queue, because somebody asked for it."""

    TYPE: ClassVar[str] = "batch_requeued"
    requeued_by: str | None = None
    """Who, where a person did it."""


class PlanHeld(EventData):
    """Guards hold operations of a plan back until somebody decides about them."""

    TYPE: ClassVar[str] = "plan_held"
    SUBJECT: ClassVar[str] = "batch_id"
    batch_id: Name
    source_id: Slug
    target_id: Slug
    plan_digest: Digest
    held: Count
    guards: dict[str, int]
    """How many operations each guard holds."""


class HoldDecided(EventData):
    """Somebody approved or rejected what guards held of a plan."""

    TYPE: ClassVar[str] = "hold_decided"
    SUBJECT: ClassVar[str] = "batch_id"
    batch_id: Name
    source_id: Slug
    target_id: Slug
    plan_digest: Digest
    decision: Literal["approve", "reject"]
    decided_by: Name
    expires_at: AwareDatetime | None = None


class _OfLetters(EventData):
    """Dead letters of one batch, target and cause."""

    SUBJECT: ClassVar[str] = "fingerprint"
    fingerprint: Name
    """What failures of one cause have in common."""
    letters: Count
    """How many: one event tells of all of them, or of up to 500 that are settled at once by people."""
    code: Name
    type_name: str | None
    source_id: str | None
    """As the batch claims to be of; of an object that cannot be read it may be no source at all."""
    batch_id: str | None
    target_id: str | None


class DeadLetterCreated(_OfLetters):
    """Operations of a batch, or the batch itself, cannot be published as they are."""

    TYPE: ClassVar[str] = "dead_letter_created"
    message: Message
    """Without what is quoted in it."""


class DeadLetterRequeued(_OfLetters):
    """Dead letters are on their way again: with their batch, or in a correction. What comes of it is told later."""

    TYPE: ClassVar[str] = "dead_letter_requeued"
    mended: bool
    """Whether somebody changed what is tried."""
    carried_by: str | None
    """The batch that they go with: their own, or a correction; None for what has never been admitted."""
    requeued_by: str | None = None
    """Who did it, where a person did."""


class DeadLetterSettled(_OfLetters):
    """Dead letters were resolved, discarded, or superseded by a newer batch."""

    TYPE: ClassVar[str] = "dead_letter_settled"
    outcome: Literal["resolved", "discarded", "superseded"]
    settled_by: str | None = None
    """Who did it, where a person did."""


class LeaseLost(EventData):
    """A worker let its lease on a batch run out, and another has taken the batch over."""

    TYPE: ClassVar[str] = "lease_lost"
    SUBJECT: ClassVar[str] = "batch_id"
    batch_id: Name
    source_id: Slug
    target_id: Slug
    lost_by: Name
    """The worker that died, or stood still for too long."""
    taken_by: Name


class BreakerOpened(EventData):
    """A target does not answer: nothing is sent to it until its breaker lets a probe through."""

    TYPE: ClassVar[str] = "breaker_opened"
    SUBJECT: ClassVar[str] = "target_id"
    target_id: Slug
    open_until: AwareDatetime
    times_opened: Count
    """In a row, without a success in between."""
    calls: Count
    failures: Count


class BreakerClosed(EventData):
    """A target answers again, or an operator said so."""

    TYPE: ClassVar[str] = "breaker_closed"
    SUBJECT: ClassVar[str] = "target_id"
    target_id: Slug
    closed_by: str | None = None
    """Who, where a person did it."""


class _OfPause(EventData):
    by: Name
    reason: Message | None = None


class SourcePaused(_OfPause):
    """Nothing of a source is claimed until somebody resumes it."""

    TYPE: ClassVar[str] = "source_paused"
    SUBJECT: ClassVar[str] = "source_id"
    source_id: Slug


class SourceResumed(_OfPause):
    """A source goes on."""

    TYPE: ClassVar[str] = "source_resumed"
    SUBJECT: ClassVar[str] = "source_id"
    source_id: Slug


class TargetPaused(_OfPause):
    """Nothing is published to a target until somebody resumes it."""

    TYPE: ClassVar[str] = "target_paused"
    SUBJECT: ClassVar[str] = "target_id"
    target_id: Slug


class TargetResumed(_OfPause):
    """A target goes on."""

    TYPE: ClassVar[str] = "target_resumed"
    SUBJECT: ClassVar[str] = "target_id"
    target_id: Slug
