"""Advancing a snapshot: by the operations of a plan that really took effect, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.index import IndexFile
from penstock.batch.manifest import Manifest, Mode
from penstock.batch.rows import Kind
from penstock.identity.digest import DIGEST_BYTES, U64, halves
from penstock.identity.ids import TargetId
from penstock.plan.operations import Verdict
from penstock.ports.control import SnapshotHead
from penstock.snapshot.commit import AppliedRows, advance
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.platform import Platform

COLUMNS = [
    "operation_id",
    "kind",
    "type_name",
    "before_digest",
    "after_digest",
    "key_hi",
    "key_lo",
    "row",
    "verdict",
]
"""What of a plan's operations a snapshot advances by."""


def not_applied(operation_ids: Iterable[str]) -> pa.Array:
    """Return operation ids, in hex, as :func:`applied_rows` takes them: 16 bytes each, however many there are."""
    joined = bytearray()
    for text in operation_ids:
        joined += bytes.fromhex(text)
    buffers = [None, pa.py_buffer(joined)]
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), len(joined) // DIGEST_BYTES, buffers
    )


def applied_rows(chunks: Iterable[pa.Table], excluded: pa.Array) -> dict[Kind, list[AppliedRows]]:
    """Return what took effect, by kind and type; ``excluded`` are the ids of operations that did not."""
    applied: dict[Kind, list[AppliedRows]] = {kind: [] for kind in Kind}
    for chunk in chunks:
        took_effect = pc.equal(chunk["verdict"], Verdict.PLANNED.value)
        if len(excluded):
            failed = pc.is_in(chunk["operation_id"], value_set=excluded)
            took_effect = pc.and_(took_effect, pc.invert(failed))
        for kind, rows in _by_type(chunk.filter(took_effect)):
            applied[kind].append(rows)
    return applied


def _by_type(operations: pa.Table) -> Iterator[tuple[Kind, AppliedRows]]:
    groups = operations.select(["kind", "type_name"]).group_by(["kind", "type_name"]).aggregate([])
    for group in groups.to_pylist():
        same_kind = pc.equal(operations["kind"], group["kind"])
        same_type = pc.equal(operations["type_name"], group["type_name"])
        rows = operations.filter(pc.and_(same_kind, same_type)).combine_chunks()
        before_hi, before_lo = digest_halves(rows["before_digest"])
        hash_hi, hash_lo = digest_halves(rows["after_digest"])
        yield (
            Kind(group["kind"]),
            AppliedRows(
                type_name=group["type_name"],
                key_hi=rows["key_hi"].to_numpy(),
                key_lo=rows["key_lo"].to_numpy(),
                before_hi=before_hi,
                before_lo=before_lo,
                hash_hi=hash_hi,
                hash_lo=hash_lo,
                row=rows["row"].to_numpy(),
            ),
        )


def digest_halves(digests: pa.ChunkedArray) -> tuple[U64, U64]:
    """Split a plan's digests; null, which is no row, is (0, 0)."""
    filled = pc.fill_null(pc.cast(digests, pa.binary()), bytes(DIGEST_BYTES)).combine_chunks()
    joined = b"".join(filled.to_pylist())
    return halves(np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES))


def next_snapshot(
    platform: Platform,
    view: SnapshotView,
    manifest: Manifest,
    target: TargetId,
    applied: dict[Kind, list[AppliedRows]],
) -> SnapshotHead:
    """Put the files of the next snapshot and return the head that makes it current once it is recorded."""
    head = platform.control.snapshot_head(manifest.source_id, target)
    new = advance(
        view,
        source_id=manifest.source_id,
        target_id=target,
        batch_id=manifest.batch_id,
        batch=_indexes(platform, manifest),
        applied=applied,
    )
    for file in new.files:
        with platform.objects.upload(file.key) as sink:
            file.write(sink)
    newest = manifest.source_timestamp
    return SnapshotHead(
        source_id=manifest.source_id,
        target_id=target,
        version=new.manifest.version,
        path=new.path,
        digest=new.manifest.digest,
        batch_id=manifest.batch_id,
        source_timestamp=newest if head is None else max(newest, head.source_timestamp),
    )


def _indexes(platform: Platform, manifest: Manifest) -> dict[Kind, IndexFile]:
    """A delta batch never equals a snapshot, so its indexes are not offered as a base."""
    if manifest.mode is Mode.DELTA:
        return {}
    return {kind: platform.batches.rows(manifest, kind).index for kind in Kind}
