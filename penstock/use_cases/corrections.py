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
from penstock.errors import LaneBusy, NothingToDo
from penstock.identity import ids
from penstock.identity.ids import SourceId, TargetId
from penstock.plan.document import PlanDocument
from penstock.ports.control import BatchRecord
from penstock.publish.state import IN_HAND, PublishState
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
    relationship_types: Iterable[RelationshipType] = (),
) -> Manifest:
    """Land a correction and put it in the queue of its one target; returns its manifest.

    ``rows`` are tables of ``SCHEMAS``, canonical, each entity or relationship once; a tombstone deletes. Raises
    ``LaneBusy`` while a batch of the lane is in hand, ``NothingToDo`` if there is no row.
    """
    manifest = _write(platform, source, corrects, rows, relationship_types)
    _admit(platform, manifest)
    return manifest


def plan_correction(
    platform: Platform,
    *,
    source: SourceId,
    corrects: Correction,
    rows: Iterable[KindRows],
    relationship_types: Iterable[RelationshipType] = (),
) -> PlanDocument:
    """Say what a correction would do, against the current snapshot; nothing is landed and nothing stored."""
    dry = replace(platform, objects=NothingWritten(platform.objects))
    manifest = _write(dry, source, corrects, rows, relationship_types)
    return plan_batch(dry, manifest, corrects.target_id, store=False).document


def _write(
    platform: Platform,
    source: SourceId,
    corrects: Correction,
    rows: Iterable[KindRows],
    relationship_types: Iterable[RelationshipType],
) -> Manifest:
    check_free(platform, source, corrects.target_id)
    at = _place(platform, source, corrects.target_id)
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


def _place(platform: Platform, source: SourceId, target: TargetId) -> datetime:
    """Return the first free source timestamp behind what the target has."""
    head = platform.control.snapshot_head(source, target)
    if head is None:
        raise NothingToDo(
            f"target {target!r} has nothing of source {source!r} that could be corrected"
        )
    at = head.source_timestamp + STEP
    while True:
        batch = ids.batch_id(source, at)
        known = platform.control.known_batches([batch])
        if not known and find_manifest(platform, batch) is None:
            return at
        at += STEP


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
    )
    record = BatchRecord(manifest=manifest, s3_path=path, admitted_at=now)
    platform.control.admit(record, [state])
