"""What the looks of a drift audit share: how much is due, and what a finding is known by."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TargetId

FIRST_LOOK_S = 900.0
"""What is taken to have passed before the first look at a type."""
MOST_ROWS = 10_000
"""Read back at once, and held in memory."""
PACE = 0.9
"""Share of the period that a turn takes: the rest is for the wait until the next look."""


def due_rows(rows: int, looked_at: datetime | None, period_s: float, now: datetime) -> int:
    """Return how many rows have to be looked at now, for none to be left for longer than the period.

    A row is seen by the first look at which a whole turn has passed. With looks ``d`` apart, that is up to ``d`` after
    the turn, so a turn takes ``period - d``; the constant share of it is for looks that are not evenly apart.
    """
    passed_s = (now - looked_at).total_seconds() if looked_at else FIRST_LOOK_S
    turn_s = min(PACE * period_s, period_s - passed_s)
    if turn_s <= passed_s:
        return rows
    return min(rows, max(1, math.ceil(rows * max(0.0, passed_s) / turn_s)))


def drift_id_of(source: SourceId, target: TargetId, kind: Kind, name: Mapping[str, Any]) -> str:
    """Return the id of whatever is found about one entity or relationship of a lane, 32 hex digits."""
    parts = (source, target, str(kind), name["type_name"], name["key"], name["to_key"] or "")
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
