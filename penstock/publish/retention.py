"""Retention: which batches may go, decided by one pure function. What anything live needs is kept, however old."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from penstock.batch.manifest import Mode
from penstock.identity.ids import BatchId, SourceId
from penstock.publish.queue import CANCELLED
from penstock.publish.state import SETTLED, PublishState, PublishStatus


class RetentionPolicy(BaseModel):
    """How long batches are kept, with their plans and all that is recorded of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    keep_days: float = Field(default=90.0, ge=0)
    """Since they were admitted; since they were written, for files of snapshots."""
    keep_batches: int = Field(default=10, ge=1)
    """So many of each source's newest batches are kept, however old."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptBatch:
    """A batch as retention looks at it."""

    batch_id: BatchId
    source_id: SourceId
    source_timestamp: datetime
    mode: Mode
    admitted_at: datetime
    states: tuple[PublishState, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """What live things need, by batch, with the words that say what it is."""

    by: Mapping[BatchId, str]


def judged(
    policy: RetentionPolicy, batches: Iterable[KeptBatch], needed: Needed, *, now: datetime
) -> Iterator[tuple[KeptBatch, str | None]]:
    """Yield each batch with why it is kept; None for one that may go.

    ``batches`` are all batches of some sources, in any order.
    """
    by_source: dict[SourceId, list[KeptBatch]] = {}
    for batch in batches:
        by_source.setdefault(batch.source_id, []).append(batch)
    for source in sorted(by_source):
        newest_first = sorted(by_source[source], key=lambda b: b.source_timestamp, reverse=True)
        for place, batch in enumerate(newest_first):
            yield batch, _kept_for(policy, batch, place, newest_first, needed, now)


def _kept_for(
    policy: RetentionPolicy,
    batch: KeptBatch,
    place: int,
    newest_first: list[KeptBatch],
    needed: Needed,
    now: datetime,
) -> str | None:
    if place < policy.keep_batches:
        return "it is among the newest of its source"
    if now - batch.admitted_at < timedelta(days=policy.keep_days):
        return "it is not old enough"
    if any(state.status not in SETTLED for state in batch.states):
        return "it is on its way to a target"
    if batch.batch_id in needed.by:
        return needed.by[batch.batch_id]
    newer = newest_first[:place]
    if any(state.held and not _followed(state, newer) for state in batch.states):
        return "guards hold operations of it that someone has to decide on"
    if any(_blocks(state, batch, newer) for state in batch.states):
        return "newer delta batches wait for it"
    return None


def _blocks(state: PublishState, batch: KeptBatch, newer: list[KeptBatch]) -> bool:
    cancelled = state.failure_details and state.failure_details.error_code == CANCELLED
    failed = state.status is PublishStatus.FAILED and batch.mode is Mode.DELTA
    return failed and not cancelled and not _followed(state, newer)


def _followed(state: PublishState, newer: list[KeptBatch]) -> bool:
    """Whether a newer full batch has been published to the same target, which decided anew about everything."""
    return any(
        each.target_id == state.target_id and each.status is PublishStatus.COMPLETE
        for batch in newer
        if batch.mode is Mode.FULL
        for each in batch.states
    )
