"""Verification: a target's word that operations took effect, held against what it holds.

Of each chunk a sample is read back, or all of it where what the target said does not add up. The sample is of the
lowest operation ids, which are digests: as good as chance, and the same each time.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.execute.read_back import Held, held_by_target
from penstock.identity.ids import SourceId
from penstock.ports.target import Target

LOST_WRITE = "lost_write"
ALL = -1
"""As a sample: look at everything."""


def lost_operations(
    target: Target,
    source: SourceId,
    sent: pa.Table,
    not_applied: Collection[bytes],
    *,
    sample: int,
) -> pa.Table:
    """Return those of a sample of ``sent`` that the target said it applied and does not hold.

    ``not_applied`` are the operation ids that it said otherwise of. ``sample`` is how many to look at, or :data:`ALL`.
    """
    if sample == 0 or not len(sent):
        return sent.slice(0, 0)
    if not_applied:
        ids = pa.array(list(not_applied), sent.schema.field("operation_id").type)
        sent = sent.filter(pc.invert(pc.is_in(sent["operation_id"], value_set=ids)))
    if 0 < sample < len(sent):
        order = pc.sort_indices(pc.cast(sent["operation_id"], pa.binary()))
        sent = sent.take(order.slice(0, sample))
    held = held_by_target(target, source, sent)
    return sent.filter(pa.array(np.asarray(held != Held.AFTER)))
