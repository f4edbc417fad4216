"""Reading back: what a target holds of some operations' entities, told apart by digest."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId
from penstock.ports.target import Target

_ABSENT = b""
_NAMES = {
    Kind.ENTITY: ["type_name", "key"],
    Kind.RELATIONSHIP: ["type_name", "key", "to_key"],
}


class Held(IntEnum):
    """What a target holds of one operation's entity."""

    BEFORE = 0
    """What the operation was planned against: it has not taken effect."""
    AFTER = 1
    """What the operation leads to: it has taken effect."""
    OTHER = 2
    """Something else."""


def held_by_target(target: Target, source: SourceId, operations: pa.Table) -> npt.NDArray[np.int8]:
    """Return, per operation, what the target holds now. Where before and after are the same, it is AFTER.

    Raises :class:`penstock.ports.target.TargetDown`.
    """
    held = np.full(len(operations), Held.OTHER, np.int8)
    for kind in pc.unique(operations["kind"]).to_pylist():
        at = np.flatnonzero(pc.equal(operations["kind"], kind).to_numpy(zero_copy_only=False))
        rows = operations.take(pa.array(at))
        found = target.read_back(source, Kind(kind), rows.select(_NAMES[Kind(kind)]))
        now = _filled(found["digest"])
        is_before = _same(now, _filled(rows["before_digest"]))
        is_after = _same(now, _filled(rows["after_digest"]))
        held[at] = np.where(is_after, Held.AFTER, np.where(is_before, Held.BEFORE, Held.OTHER))
    return held


def _filled(digests: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.cast(digests, pa.binary()), _ABSENT)


def _same(left: pa.ChunkedArray, right: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    same = pc.equal(left, right).to_numpy()
    return np.asarray(same, bool)
