"""Alarms of breaches to come, along a replayed history: how many are true, how many breaches they miss, how early.

The platform's rule is held against simpler ones on the same looks. An alarm is true if its batch was not in its target
when it was due. A breach is a batch that was on its way when it was due: one that had failed by then has an alarm of
its own. It was alarmed ahead if that was at least :data:`AHEAD_S` before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from benchmarks.harness import Result, at_least, at_most, result
from penstock.forecast.breach import is_foretold
from penstock.forecast.eta import Eta
from penstock.forecast.policy import ForecastPolicy
from penstock.identity.ids import BatchId

AHEAD_S = 60.0
OURS = "forecasts"
TWICE = "at least 80 % for a minute"
P90 = "p90 after it is due"
CLOCK = "four fifths of the time are over"
RULES = (OURS, TWICE, P90, CLOCK)
_POLICY = ForecastPolicy()


@dataclass(kw_only=True)
class Alarms:
    """When each rule first alarmed for each batch, and what became of the batches."""

    raised: dict[str, dict[BatchId, datetime]] = field(
        default_factory=lambda: {rule: {} for rule in RULES}
    )
    ended: dict[BatchId, tuple[datetime, datetime, bool]] = field(default_factory=dict)
    """When it was due, when it ended, and whether it came."""
    taken_back: set[BatchId] = field(default_factory=set)
    source_weeks: float = 0.0
    _likely_since: dict[BatchId, datetime] = field(default_factory=dict)

    def look(self, eta: Eta) -> None:
        """Let every rule look at a forecast."""
        if eta.due_at is None or eta.breach_probability is None or eta.due_at <= eta.made_at:
            return
        batch, now = eta.batch_id, eta.made_at
        was_open = batch in self.raised[OURS] and batch not in self.taken_back
        foretold = is_foretold(eta, _POLICY, was_open=was_open)
        if was_open and not foretold:
            self.taken_back.add(batch)
        likely = eta.breach_probability >= 0.8
        since = self._likely_since.setdefault(batch, now) if likely else now
        if not likely:
            self._likely_since.pop(batch, None)
        span = eta.due_at - eta.source_timestamp
        found = {
            OURS: foretold,
            TWICE: likely and now - since >= timedelta(seconds=60),
            P90: eta.p90_at is not None and eta.p90_at > eta.due_at,
            CLOCK: now >= eta.due_at - 0.2 * span,
        }
        for rule, is_found in found.items():
            if is_found:
                self.raised[rule].setdefault(batch, now)

    def end(self, batch: BatchId, due_at: datetime, *, ended_at: datetime, came: bool) -> None:
        """Note what became of a batch."""
        self.ended[batch] = (due_at, ended_at, came)
        self._likely_since.pop(batch, None)

    def breaches(self) -> set[BatchId]:
        """Return what was on its way when it was due."""
        return {batch for batch, (due_at, ended_at, _) in self.ended.items() if ended_at > due_at}


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """How one rule did along one history."""

    alarms: int
    false: int
    ahead: float
    """Percent of the breaches."""
    leads: list[float]
    """Minutes, of breaches."""

    @property
    def false_share(self) -> float:
        return 100 * self.false / max(1, self.alarms)


def _judged(seen: Alarms, rule: str) -> _Judged:
    breaches = seen.breaches()
    raised = {b: at for b, at in seen.raised[rule].items() if b in seen.ended}
    false = sum(b not in breaches and seen.ended[b][2] for b in raised)
    leads = [(seen.ended[b][0] - at).total_seconds() for b, at in raised.items() if b in breaches]
    ahead = 100 * sum(lead >= AHEAD_S for lead in leads) / max(1, len(breaches))
    return _Judged(
        alarms=len(raised), false=false, ahead=ahead, leads=[lead / 60 for lead in leads]
    )


def alarms(seen: Sequence[Alarms], load: str) -> Iterator[Result]:
    """Yield how true, how complete and how early alarms of breaches were, beside those of simpler rules."""
    ours = [_judged(each, OURS) for each in seen]
    false, ahead = [each.false_share for each in ours], [each.ahead for each in ours]
    leads = sorted(lead for each in ours for lead in each.leads) or [0.0]
    count = sum(each.alarms for each in ours)
    said = f"{_spread(false)}, {count:,} alarms"
    name = f"breach alarms that were false, {load}"
    yield result(name, median(false), "%", peer=said, goal=at_most(10, "%"))
    said = f"{_spread(ahead)}, {sum(len(each.breaches()) for each in seen):,} breaches"
    name = f"breaches alarmed at least a minute ahead, {load}"
    yield result(name, median(ahead), "%", peer=said, goal=at_least(90, "%"))
    early = f"9 in 10 have {leads[len(leads) // 10]:.1f} min or more"
    yield result(f"lead of a true alarm, median, {load}", median(leads), "min", peer=early)
    weeks = sum(each.source_weeks for each in seen)
    rate = sum(each.false for each in ours) / weeks
    yield result(f"false breach alarms per source and week, {load}", rate, "")
    wrong = sum(len(each.taken_back & each.breaches()) for each in seen)
    back = sum(len(each.taken_back) for each in seen)
    said = f"{wrong} of {back} came late all the same"
    yield result(f"alarms taken back, {load}", 100 * back / max(1, count), "%", peer=said)
    for rule in RULES[1:]:
        theirs = [_judged(each, rule) for each in seen]
        lead = median([lead for each in theirs for lead in each.leads] or [0.0])
        share = median(each.false_share for each in theirs)
        said = (
            f"{share:.1f} % of theirs are false, {median(each.ahead for each in theirs):.1f} % ahead, "
            f"lead {lead:.1f} min"
        )
        ratio = sum(each.false for each in ours) / max(1, sum(each.false for each in theirs))
        yield result(f'false breach alarms against "{rule}", {load}', ratio, "x", peer=said)


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f} over {len(values)} histories"
