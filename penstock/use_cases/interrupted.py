"""Plans that were given up half-way: what took effect of them is found out, and goes into the snapshot.

A batch can fail for good, or be cancelled, after some of its operations were applied. The snapshot does not know of
them, so that whatever is planned next would run into conflicts with what the target really holds. Before the lane goes
on, chunks with an outcome are taken at their word, and of a chunk with an intent alone the target is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import ObjectMissing, PlanChanged
from penstock.execute.read_back import Held, held_by_target
from penstock.plan.operations import Verdict
from penstock.ports.control import BegunExecution, ChunkRecord, Claim, PlanExecution, SnapshotHead
from penstock.publish.state import Intent
from penstock.use_cases.advance_snapshot import COLUMNS, applied_rows, next_snapshot, not_applied
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan, plan_chunks

NOTHING_PUBLISHED = datetime(1970, 1, 1, tzinfo=UTC)
"""Source timestamp of a snapshot that no batch was wholly published to: every batch is newer."""


def end_interrupted(platform: Platform, claim: Claim, *, but: str) -> bool:
    """End what was begun in a claim's lane and given up, all but the plan of digest ``but``; say if there was any.

    Raises ``TargetDown`` where the target cannot be asked.
    """
    state = claim.state
    begun = platform.control.begun_executions(state.source_id, state.target_id)
    given_up = [execution for execution in begun if execution.plan_digest != but]
    for execution in given_up:
        _end(platform, claim, execution)
    return bool(given_up)


def _end(platform: Platform, claim: Claim, begun: BegunExecution) -> None:
    chunks = platform.control.chunks(begun.plan_digest, begun.batch_id, begun.target_id)
    head = None
    if begun.intent is not Intent.REPAIR:
        try:
            head = _snapshot_after(platform, begun, chunks)
        except (PlanChanged, ObjectMissing):
            # What took effect cannot be told without the plan: what runs into it will be listed as conflicts.
            head = None
    records = [record for record in chunks.values() if record.finished_at is not None]
    ended = PlanExecution(
        **asdict(begun),
        snapshot_after=head.version if head else begun.snapshot_before,
        applied=sum(record.applied for record in records),
        already_applied=sum(record.already_applied for record in records),
        exceptions=sum(record.failed for record in records),
        finished_at=platform.clock.now(),
    )
    platform.control.end_execution(claim, ended, head)


def _snapshot_after(
    platform: Platform, begun: BegunExecution, chunks: Mapping[int, ChunkRecord]
) -> SnapshotHead | None:
    """Put the snapshot that has what took effect, and return its head; None where nothing did."""
    excluded = not_applied(
        e.operation_id
        for e in platform.control.plan_exceptions(
            begun.batch_id, begun.target_id, begun.plan_digest
        )
    )
    applied = applied_rows(_took_effect(platform, begun, chunks), excluded)
    view = KnownRows.open(platform, begun.source_id, begun.target_id).view
    if not any(applied.values()) or view.version != begun.snapshot_before:
        return None
    manifest = platform.control.get_batch(begun.batch_id).manifest
    before = platform.control.snapshot_head(begun.source_id, begun.target_id)
    after = next_snapshot(platform, view, manifest, begun.target_id, applied)
    # The batch was not published, so nothing that waits in the lane is older than what is there.
    newest = before.source_timestamp if before else NOTHING_PUBLISHED
    return replace(after, source_timestamp=newest)


def _took_effect(
    platform: Platform, begun: BegunExecution, chunks: Mapping[int, ChunkRecord]
) -> Iterator[pa.Table]:
    plan = open_plan(platform.objects, begun.plan_path, expected_digest=begun.plan_digest)
    columns = [*COLUMNS, "key", "to_key"]
    for number, chunk in enumerate(plan_chunks(platform.objects, plan, columns=columns)):
        record = chunks.get(number)
        if record is None:
            return
        sent = chunk.filter(pc.equal(chunk["verdict"], Verdict.PLANNED.value))
        yield sent if record.finished_at is not None else _found(platform, begun, sent)


def _found(platform: Platform, begun: BegunExecution, sent: pa.Table) -> pa.Table:
    """Return what the target holds of a chunk whose outcome nobody recorded."""
    if not len(sent):
        return sent
    target = platform.targets[begun.target_id]
    held = held_by_target(target, begun.source_id, sent)
    return sent.filter(pa.array(np.asarray(held == Held.AFTER)))
