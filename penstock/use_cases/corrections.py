"""Corrections: delta batches that people ask for, to take back or to mend what another batch did at one target.

A correction lies in the object store like any batch and goes the way of any batch: queue, plan, guards, execution,
snapshot, ledger. It takes its place right behind what the target has, before whatever waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from penstock.batch.manifest import (
    Correction,
    Files,
    Manifest,
    Mode,
    RelationshipType,
    batch_prefix,
)
from penstock.batch.rows import Kind
from penstock.errors import ChangedMeanwhile, LaneBusy, NothingToDo
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.document import PlanDocument
from penstock.ports.control import BatchRecord
from penstock.publish.state import IN_HAND, SETTLED, PublishState
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.batch_writer import BatchWriter, KindRows, find_manifest
from penstock.use_cases.nothing_written import NothingWritten
from penstock.use_cases.plan_batch import plan_batch
from penstock.use_cases.platform import Platform

STEP = timedelta(microseconds=1)
"""How far behind the newest batch a correction takes its place."""
_PRODUCER = "penstock-correction"


def land_correction(
    platform: Platform,
    *,
    source: SourceId,
    corrects: Correction,
    rows: Iterable[KindRows],
    view: SnapshotView,
    relationship_types: Iterable[RelationshipType] = (),
) -> Manifest:
    """Land a correction and put it in the queue of its one target; returns its manifest.

    ``rows`` are tables of ``SCHEMAS``, canonical, each entity or relationship once; a tombstone deletes. They were
    worked out against ``view``. Raises ``LaneBusy`` while a batch of the lane is in hand, or if one was published since
    ``view`` was opened; ``NothingToDo`` if there is no row, ``ChangedMeanwhile`` if the very same is on its way. Of
    several who ask for the same at once, one has it: they all want one place, and the object store gives it to one.
    """
    manifest = _write(platform, source, corrects, rows, view, relationship_types)
    _admit(platform, manifest)
    return manifest


def plan_correction(
    platform: Platform,
    *,
    source: SourceId,
    corrects: Correction,
    rows: Iterable[KindRows],
    view: SnapshotView,
    relationship_types: Iterable[RelationshipType] = (),
) -> PlanDocument:
    """Say what a correction would do, against the current snapshot; nothing is landed and nothing stored."""
    dry = replace(platform, objects=NothingWritten(platform.objects))
    manifest = _write(dry, source, corrects, rows, view, relationship_types)
    return plan_batch(dry, manifest, corrects.target_id, store=False).document


def _write(
    platform: Platform,
    source: SourceId,
    corrects: Correction,
    rows: Iterable[KindRows],
    view: SnapshotView,
    relationship_types: Iterable[RelationshipType],
) -> Manifest:
    check_free(platform, source, corrects.target_id)
    at = _place(platform, source, corrects, view)
    tenant = platform.control.get_batch(ids.batch_id(*ids.split_batch_id(corrects.batch_id)))

    def manifest_of(files: dict[Kind, Files]) -> Manifest:
        if not any(kind_files.rows for kind_files in files.values()):
            raise NothingToDo(f"a correction of batch {corrects.batch_id!r} would have no row")
        return Manifest(
            source_id=source,
            tenant_id=tenant.manifest.tenant_id,
            source_timestamp=at,
            processing_timestamp=platform.clock.now(),
            mode=Mode.DELTA,
            producer=_PRODUCER,
            entities=files[Kind.ENTITY],
            relationships=files[Kind.RELATIONSHIP],
            relationship_types=tuple(relationship_types),
            corrects=corrects,
        )

    manifest, committed = BatchWriter(platform, ids.batch_id(source, at)).write(rows, manifest_of)
    if not committed:
        raise LaneBusy(
            f"another correction of {source} for target {corrects.target_id} was landed at the same moment: look at "
            f"batch {manifest.batch_id!r}, and ask again"
        )
    return manifest


def check_free(platform: Platform, source: SourceId, target: TargetId) -> None:
    """Raise ``LaneBusy`` while a batch of a lane is in hand: what it does is not known yet."""
    busy = platform.control.list_states(
        source=source, target=target, statuses=sorted(IN_HAND), limit=1
    )
    if busy:
        raise LaneBusy(
            f"batch {busy[0].batch_id!r} is {busy[0].status} for target {target!r}: wait until it has ended, or "
            f"pause source {source} and wait, and ask again"
        )
    begun = platform.control.begun_executions(source, target)
    if begun:
        raise LaneBusy(
            f"batch {begun[0].batch_id!r} is half executed at target {target!r}: wait until it has ended, or cancel "
            "it, and ask again"
        )


def _place(
    platform: Platform, source: SourceId, corrects: Correction, view: SnapshotView
) -> datetime:
    """Return the first free source timestamp behind what the target has; those before it hold nothing of the same."""
    target = corrects.target_id
    head = platform.control.snapshot_head(source, target)
    if head is None:
        raise NothingToDo(
            f"target {target!r} has nothing of source {source!r} that could be corrected"
        )
    if head.version != view.version:
        raise LaneBusy(
            f"batch {head.batch_id!r} was published to target {target!r} while this was worked out: ask again"
        )
    at = head.source_timestamp + STEP
    while True:
        batch = ids.batch_id(source, at)
        known = bool(platform.control.known_batches([batch]))
        landed = None if known else find_manifest(platform, batch)
        if not known and landed is None:
            return at
        before = _under_way(platform, batch, target) if known else landed
        if before is not None and before.corrects is not None:
            _refuse_same(corrects, before.corrects, batch)
        at += STEP


def _under_way(platform: Platform, batch: BatchId, target: TargetId) -> Manifest | None:
    """Return the manifest of a known batch that has not ended yet."""
    states = platform.control.list_states(batch=batch, target=target)
    if all(state.status in SETTLED for state in states):
        return None
    return platform.control.get_batch(batch).manifest


def _refuse_same(wanted: Correction, before: Correction, batch: BatchId) -> None:
    """Raise ``ChangedMeanwhile`` if a correction that is on its way is one of the same."""
    same = (before.kind, before.batch_id, before.target_id)
    if wanted.kind == "rollback" and same == (wanted.kind, wanted.batch_id, wanted.target_id):
        raise ChangedMeanwhile(
            f"batch {wanted.batch_id!r} is being rolled back at target {wanted.target_id!r} already: "
            f"{before.requested_by} asked for it, and correction {batch!r} is on its way"
        )
    if letters := set(wanted.dead_letter_ids) & set(before.dead_letter_ids):
        raise ChangedMeanwhile(
            f"dead letter {min(letters)} is on its way again already: {before.requested_by} asked for it, and it is in "
            f"correction {batch!r}"
        )


def _admit(platform: Platform, manifest: Manifest) -> None:
    assert manifest.corrects is not None
    path = platform.objects.url(batch_prefix(manifest.batch_id))
    now = platform.clock.now()
    state = PublishState(
        batch_id=manifest.batch_id,
        source_id=manifest.source_id,
        target_id=manifest.corrects.target_id,
        tenant_id=manifest.tenant_id,
        s3_path=path,
        source_timestamp=manifest.source_timestamp,
        processing_timestamp=manifest.processing_timestamp,
        enqueued_at=now,
        trace_parent=manifest.trace_parent,
    )
    record = BatchRecord(manifest=manifest, s3_path=path, admitted_at=now)
    platform.control.admit(record, [state])
