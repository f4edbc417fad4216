"""Retention: batches, plans, snapshots and what is recorded of them age out by policy.

What a current snapshot, an undecided hold, an open dead letter, a half-executed plan or a waiting lane needs is kept,
however old. A batch goes in one transaction with its objects, its manifest first, so that no half of it is ever seen; a
run that was cut short is made up for by the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from penstock.batch.extract_record import extract_prefix
from penstock.batch.manifest import batch_prefix, manifest_key
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.control import SnapshotHead
from penstock.ports.object_store import ObjectInfo
from penstock.publish.retention import KeptBatch, Needed, RetentionPolicy, judged
from penstock.snapshot.manifest import SnapshotManifest, read_snapshot_manifest, snapshot_prefix
from penstock.use_cases.acts import By
from penstock.use_cases.platform import Platform

_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Retained:
    """What went, or would go, and why the rest stayed."""

    dry_run: bool
    batches: tuple[BatchId, ...]
    objects: int
    """Deleted with those batches, and from old snapshots."""
    size_bytes: int
    kept: dict[str, int]
    """Batches that stay, by reason."""


def retain(platform: Platform, *, by: By, dry_run: bool = False, limit: int = 1000) -> Retained:
    """Let go what the platform's policy lets go, at most ``limit`` batches, oldest first; it goes into the audit log.

    With ``dry_run`` nothing is deleted, and the answer says what would be.
    """
    work = _Retaining(platform, platform.retention_policy, dry_run)
    gone = work.batches(limit)
    work.snapshots()
    done = Retained(
        dry_run=dry_run,
        batches=tuple(gone),
        objects=work.objects,
        size_bytes=work.size_bytes,
        kept=dict(sorted(work.kept.items())),
    )
    if work.objects and not dry_run:
        details = {"batches": list(gone), "objects": done.objects, "size_bytes": done.size_bytes}
        platform.control.record_act(
            by.entry("retention.retain", "batches", now=platform.clock.now(), details=details)
        )
    return done


class _Retaining:
    def __init__(self, platform: Platform, policy: RetentionPolicy, dry_run: bool) -> None:
        self.platform, self.policy, self.dry_run = platform, policy, dry_run
        self.now = platform.clock.now()
        self.objects = self.size_bytes = 0
        self.kept: Counter[str] = Counter()
        self.heads = platform.control.snapshot_heads()
        self.manifests = {
            (head.source_id, head.target_id): read_snapshot_manifest(
                platform.objects.get(head.path), where=head.path
            )
            for head in self.heads
        }

    def batches(self, limit: int) -> list[BatchId]:
        """Let batches go, and return them."""
        versions = {(head.source_id, head.target_id): head.version for head in self.heads}
        gone: list[BatchId] = []
        for batch in sorted(self._going(), key=lambda b: (b.admitted_at, b.batch_id))[:limit]:
            infos = list(self._objects_of(batch))
            if self.dry_run or self.platform.control.forget_batch(
                batch.batch_id, versions, partial(self._delete, infos)
            ):
                gone.append(batch.batch_id)
                self._count(infos)
            else:
                self.kept["it has changed meanwhile"] += 1
        return gone

    def _going(self) -> Iterator[KeptBatch]:
        # The needs are read after the batches: what comes to need one in between is found before it is forgotten.
        batches = list(self.platform.control.kept_batches())
        for batch, why in judged(self.policy, batches, self._needed(), now=self.now):
            if why is None:
                yield batch
            else:
                self.kept[why] += 1

    def _needed(self) -> Needed:
        control = self.platform.control
        by = dict.fromkeys(control.batches_half_executed(), "a plan of it is half executed")
        by |= dict.fromkeys(control.batches_in_letters(), "a dead letter needs it")
        for manifest in self.manifests.values():
            by |= dict.fromkeys((*manifest.files, manifest.batch_id), "a current snapshot needs it")
        return Needed(by=by)

    def _objects_of(self, batch: KeptBatch) -> Iterator[ObjectInfo]:
        source, timestamp = ids.split_batch_id(batch.batch_id)
        prefixes = [batch_prefix(batch.batch_id), extract_prefix(batch.batch_id)]
        prefixes += [
            f"plans/{state.target_id}/{source}/{ids.timestamp_text(timestamp)}/"
            for state in batch.states
        ]
        found = [info for prefix in prefixes for info in self.platform.objects.list(prefix)]
        # The manifest first: without it nothing of the batch is seen.
        first = manifest_key(batch.batch_id)
        yield from sorted(found, key=lambda info: info.key != first)

    def snapshots(self) -> None:
        """Let go what is old below the folders of snapshots and no current one needs."""
        before = self.now - timedelta(days=max(self.policy.keep_days, 1))
        for head in self.heads:
            needed = self._files_of(head)
            prefix = snapshot_prefix(head.source_id, head.target_id)
            old = [
                info
                for info in self.platform.objects.list(prefix)
                if info.key not in needed and info.last_modified < before
            ]
            if not self.dry_run:
                self._delete(old)
            self._count(old)

    def _files_of(self, head: SnapshotHead) -> set[str]:
        lane: tuple[SourceId, TargetId] = (head.source_id, head.target_id)
        return {head.path, *_snapshot_files(self.manifests[lane])}

    def _delete(self, infos: list[ObjectInfo]) -> None:
        keys = [info.key for info in infos]
        first, rest = keys[:1], keys[1:]
        self.platform.objects.delete(first)
        for start in range(0, len(rest), _AT_ONCE):
            self.platform.objects.delete(rest[start : start + _AT_ONCE])

    def _count(self, infos: Iterable[ObjectInfo]) -> None:
        for info in infos:
            self.objects += 1
            self.size_bytes += info.size_bytes


def _snapshot_files(manifest: SnapshotManifest) -> Iterator[str]:
    for state in (manifest.entities, manifest.relationships):
        if state.base is not None and state.base.file is not None:
            yield state.base.file.key
        yield from (delta.key for delta in state.deltas)
