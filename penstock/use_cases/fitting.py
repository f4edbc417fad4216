"""Whether a snapshot is still what some operations were planned against, or what they left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.identity.digest import U64
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.advance_snapshot import digest_halves


def fits_snapshot(
    view: SnapshotView, operations: pa.Table, *, side: str = "before_digest"
) -> npt.NDArray[np.bool_]:
    """Say of each operation whether the snapshot holds just what it says of one side; absent is null."""
    now, then = _hashes(view, operations), digest_halves(operations[side])
    fits: npt.NDArray[np.bool_] = (now[0] == then[0]) & (now[1] == then[1])
    return fits


def is_known(view: SnapshotView, operations: pa.Table) -> npt.NDArray[np.bool_]:
    """Say of each operation whether the snapshot holds anything of what it is about."""
    high, low = _hashes(view, operations)
    known: npt.NDArray[np.bool_] = (high | low) != 0
    return known


def _hashes(view: SnapshotView, operations: pa.Table) -> tuple[U64, U64]:
    """Return the digest halves of what the snapshot holds for each operation, (0, 0) where nothing."""
    found = np.zeros(len(operations), np.uint64), np.zeros(len(operations), np.uint64)
    names = operations.select(["kind", "type_name"])
    for group in names.group_by(["kind", "type_name"]).aggregate([]).to_pylist():
        same_kind = pc.equal(names["kind"], group["kind"])
        same_type = pc.equal(names["type_name"], group["type_name"])
        at = np.flatnonzero(pc.and_(same_kind, same_type).to_numpy(zero_copy_only=False))
        rows = operations.take(pa.array(at))
        key_hi, key_lo = (
            rows[name].to_numpy().astype(np.uint64, copy=False) for name in ("key_hi", "key_lo")
        )
        found[0][at], found[1][at] = view.hashes(
            Kind(group["kind"]), group["type_name"], key_hi, key_lo
        )
    return found
