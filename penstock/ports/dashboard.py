"""What the operators' dashboard is made from: counts, percentiles and short lists that the database works out.

Every question takes a tenant: None is for those who run the platform and see all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.dead_letters import DeadLetter, LetterFilter, LetterGroup
from penstock.publish.state import PublishState, PublishStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Moving:
    """One batch that a worker has in hand."""

    state: PublishState
    worker_id: str | None
    """None where the lease has ended and nobody has taken the batch up yet."""
    done: int
    """Operations of its plan in chunks that have ended."""
    planned: int | None
    """Operations of its plan; None until it is executed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """What ended within one stretch of time."""

    begins_at: datetime
    published: int
    failed: int
    operations: int
    """Entities and relationships created, updated and deleted."""
    p50_s: float | None
    """From the batch's admission to COMPLETE; None where nothing was published."""
    p90_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRecord:
    """What became of one source's batches over a span of time."""

    source_id: SourceId
    published: int
    failed: int
    retried: int
    """Of the published, those that were tried more than once."""
    operations: int
    exceptions: int
    """Operations that were planned and not applied."""
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """One publish: how much it was, and how long that took."""

    batch_id: BatchId
    target_id: TargetId
    operations: int
    execution_ms: int


class DashboardViews(Protocol):
    """Reads for the dashboard; nothing here writes."""

    def counts(self, tenant: TenantId | None) -> Mapping[PublishStatus, int]:
        """Return how many publish states there are of each status that is not COMPLETE."""
        ...

    def live_holds(self, tenant: TenantId | None, *, limit: int) -> list[PublishState]:
        """Return states with something held that nobody has rejected and no newer full batch has planned again."""
        ...

    def moving(
        self, tenant: TenantId | None, *, now: datetime, limit: int, batch: BatchId | None = None
    ) -> list[Moving]:
        """Return what is in hand, longest first."""
        ...

    def states_page(
        self,
        tenant: TenantId | None,
        *,
        source: SourceId | None = None,
        statuses: Sequence[PublishStatus] = (),
        after: tuple[datetime, BatchId, TargetId] | None = None,
        limit: int,
    ) -> list[PublishState]:
        """Return publish states, newest source timestamp first, behind a place in that order."""
        ...

    def letter_groups(
        self, tenant: TenantId | None, chosen: LetterFilter, *, limit: int
    ) -> list[LetterGroup]:
        """Return dead letters by what they have in common, newest first."""
        ...

    def letters_page(
        self,
        tenant: TenantId | None,
        chosen: LetterFilter,
        *,
        after: DeadLetter | None = None,
        limit: int,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first, behind one of them."""
        ...

    def owns_letter(self, tenant: TenantId, letter: DeadLetter) -> bool:
        """Say whether a dead letter is of a tenant's batch or source."""
        ...

    def stretches(
        self,
        tenant: TenantId | None,
        *,
        source: SourceId | None = None,
        since: datetime,
        until: datetime,
        step_s: int,
    ) -> list[Stretch]:
        """Return what ended, stretch by stretch; stretches in which nothing ended are left out."""
        ...

    def source_records(
        self, tenant: TenantId | None, *, source: SourceId | None = None, since: datetime
    ) -> list[SourceRecord]:
        """Return what became of each source's batches since a moment, by source id."""
        ...

    def weighed(
        self,
        tenant: TenantId | None,
        *,
        source: SourceId | None = None,
        since: datetime,
        limit: int,
    ) -> list[Weighed]:
        """Return the newest publishes since a moment that sent anything."""
        ...

    def pulse(self, tenant: TenantId | None) -> Mapping[str, str]:
        """Return a few cheap marks, by topic, each of which is another one when something of its topic has changed."""
        ...
