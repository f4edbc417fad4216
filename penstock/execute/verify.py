"""Verification: a target's word that operations took effect, held against what it holds.

Of each chunk a sample is read back, or all of it where what the target said does not add up. The sample is of the
lowest operation ids, which are digests: as good as chance, and the same each time. A target may take a moment until
what it wrote can be read, so what is missing is looked for again before it counts as lost.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from penstock.execute.chunks import Applier
from penstock.execute.read_back import Held
from penstock.identity.ids import SourceId

LOST_WRITE = "lost_write"
ALL = -1
"""As a sample: look at everything."""


def lost_operations(
    applier: Applier,
    source: SourceId,
    sent: pa.Table,
    not_applied: Collection[bytes],
    *,
    sample: int,
    looks: int,
) -> pa.Table:
    """Return those of a sample of ``sent`` that the target said it applied and does not hold.

    ``not_applied`` are the operation ids that it said otherwise of. ``sample`` is how many to look at, or :data:`ALL`.
    What is missing is looked for so many times in all, after the delays of tier 1. Raises ``TargetDown``.
    """
    suspects = _sampled(_without(sent, not_applied), sample)
    policy, delay_s = applier.retry_policy, applier.retry_policy.immediate_delay_s
    for look in range(looks):
        if look and len(suspects):
            applier.clock.sleep(delay_s)
            delay_s = min(policy.immediate_max_delay_s, delay_s * policy.factor)
        if len(suspects):
            suspects = suspects.filter(pa.array(applier.held(source, suspects) != Held.AFTER))
    return suspects


def _without(sent: pa.Table, ids: Collection[bytes]) -> pa.Table:
    if not ids:
        return sent
    excluded = pa.array(list(ids), pa.binary())
    found = pc.is_in(pc.cast(sent["operation_id"], pa.binary()), value_set=excluded)
    return sent.filter(pc.invert(found))


def _sampled(sent: pa.Table, sample: int) -> pa.Table:
    if not 0 <= sample < len(sent):
        return sent
    return sent.take(pc.bottom_k_unstable(pc.cast(sent["operation_id"], pa.binary()), sample))
