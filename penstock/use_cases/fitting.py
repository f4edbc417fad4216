"""Whether a snapshot is still what some operations were planned against, or what they left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.advance_snapshot import digest_halves


def fits_snapshot(
    view: SnapshotView, operations: pa.Table, *, side: str = "before_digest"
) -> npt.NDArray[np.bool_]:
    """Say of each operation whether the snapshot holds just what it says of one side; absent is null."""
    fits = np.zeros(len(operations), bool)
    names = operations.select(["kind", "type_name"])
    for group in names.group_by(["kind", "type_name"]).aggregate([]).to_pylist():
        same_kind = pc.equal(names["kind"], group["kind"])
        same_type = pc.equal(names["type_name"], group["type_name"])
        at = np.flatnonzero(pc.and_(same_kind, same_type).to_numpy(zero_copy_only=False))
        rows = operations.take(pa.array(at))
        key_hi, key_lo = (
            rows[name].to_numpy().astype(np.uint64, copy=False) for name in ("key_hi", "key_lo")
        )
        now = view.hashes(Kind(group["kind"]), group["type_name"], key_hi, key_lo)
        then = digest_halves(rows[side])
        fits[at] = (now[0] == then[0]) & (now[1] == then[1])
    return fits
