"""How regularly a source lands batches, and whether it has gone silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from penstock.identity.ids import SourceId

MOST_GAPS = 50
"""Newest gaps between landings that a source's rhythm is known by."""
ENOUGH_GAPS = 8
SHORTEST_SILENCE = 1.5
"""Cadences without a batch that a source is given in any case."""
LONGEST_SILENCE = 3.0
"""Cadences without a batch that are silence in any case."""
_QUANTILE = 0.99


@dataclass(frozen=True, kw_only=True, slots=True)
class Rhythm:
    """What is known of a source's landings at one moment."""

    source_id: SourceId
    cadence_s: int
    last_landed_at: datetime
    silent_at: datetime
    """From when on it counts as silent."""
    next_expected_at: datetime
    """When the next batch lands, at the median."""
    missed_probability: float
    """That the next batch lands after ``silent_at``, given that it has not landed yet."""

    def is_silent(self, now: datetime) -> bool:
        """Say whether it should have landed long ago."""
        return now > self.silent_at


def rhythm_of(
    source: SourceId, cadence_s: int, gaps_s: Sequence[float], *, last: datetime, now: datetime
) -> Rhythm:
    """Return the rhythm of a source from the gaps between its last landings, in seconds.

    It counts as silent after as long as 99 of 100 of its gaps took, but not before 1.5 cadences and not after 3. The
    probability is of gaps at least as long as the present one:
    ``(longer than the limit + 1/2) / (longer than now + 1)``.
    """
    gaps = np.array(gaps_s[-MOST_GAPS:], dtype=np.float64)
    known = len(gaps) >= ENOUGH_GAPS
    usual_s = float(np.median(gaps)) if known else float(cadence_s)
    longest_s = float(np.quantile(gaps, _QUANTILE)) if known else 2.0 * cadence_s
    limit_s = min(LONGEST_SILENCE * cadence_s, max(SHORTEST_SILENCE * cadence_s, 1.1 * longest_s))
    elapsed_s = (now - last).total_seconds()
    longer = int((gaps > elapsed_s).sum())
    missed = (float((gaps > max(limit_s, elapsed_s)).sum()) + 0.5) / (longer + 1.0)
    return Rhythm(
        source_id=source,
        cadence_s=cadence_s,
        last_landed_at=last,
        silent_at=last + timedelta(seconds=limit_s),
        next_expected_at=max(now, last + timedelta(seconds=usual_s)),
        missed_probability=1.0 if elapsed_s > limit_s else missed,
    )
