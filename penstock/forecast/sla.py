"""SLAs: what share of a source's batches came in time, and how fast that uses up the share that may be late.

A batch is good for its target if it is COMPLETE within ``sla_s`` of its source timestamp. With an objective of 95 %,
the error budget is 5 % of the batches that fell due. A burn of 1 uses up exactly that; the alerts are the multi-window,
multi-burn-rate ones of "The Site Reliability Workbook" (Beyer et al., 2018, chapter 5), which need both a long and a
short window to burn, so that they come soon and end soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.identity.ids import SourceId, TenantId

HOUR_S = 3600
DAY_S = 24 * HOUR_S
WINDOWS_S = (HOUR_S, 6 * HOUR_S, DAY_S, 3 * DAY_S, 7 * DAY_S, 30 * DAY_S)
"""What is counted, in seconds back from now."""
REPORTED_S = (DAY_S, 7 * DAY_S, 30 * DAY_S)
"""Of these, what reports show attainment over."""
FEWEST_LATE = 2
"""Batches that have to be late in the long window for an alert: one alone is an incident of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BurnRule:
    """An alert on how fast the budget burns."""

    long_s: int
    short_s: int
    burn: float
    severity: str


BURN_RULES = (
    BurnRule(long_s=6 * HOUR_S, short_s=HOUR_S, burn=6.0, severity="critical"),
    BurnRule(long_s=3 * DAY_S, short_s=6 * HOUR_S, burn=2.0, severity="warning"),
)
"""Fastest first. With batches by the hour rather than requests by the second, shorter windows hold too few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Batches that fell due in a window, and how many of them were late or are still to come."""

    due: int = 0
    late: int = 0

    @property
    def attainment(self) -> float | None:
        """The share that came in time; None where nothing fell due."""
        return None if not self.due else 1.0 - self.late / self.due

    def burn(self, objective: float) -> float:
        """Return how many times as fast as allowed the budget is used up."""
        return 0.0 if not self.due else (self.late / self.due) / (1.0 - objective)

    def budget_left(self, objective: float) -> float:
        """Return the share of the error budget that is left: below 0 where more was late than may be."""
        return 1.0 - self.burn(objective)


@dataclass(frozen=True, kw_only=True, slots=True)
class BurnAlert:
    """A burn rule that holds."""

    rule: BurnRule
    long_burn: float
    short_burn: float

    def words(self) -> str:
        """Say what burns, in words and numbers."""
        return (
            f"the error budget burns {self.long_burn:.1f} times as fast as allowed over {_span(self.rule.long_s)} "
            f"and {self.short_burn:.1f} times over {_span(self.rule.short_s)} (limit {self.rule.burn:g})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SlaReport:
    """How one source keeps its SLA."""

    source_id: SourceId
    tenant_id: TenantId
    sla_s: int
    objective: float
    """Share of batches that should come in time."""
    tallies: Mapping[int, Tally]
    """By window, in seconds."""
    alert: BurnAlert | None


def sla_report(
    source: SourceId,
    tenant: TenantId,
    sla_s: int,
    tallies: Mapping[int, Tally],
    *,
    objective: float,
) -> SlaReport:
    """Judge one source's tallies."""
    return SlaReport(
        source_id=source,
        tenant_id=tenant,
        sla_s=sla_s,
        objective=objective,
        tallies=tallies,
        alert=_alert(tallies, objective),
    )


def _alert(tallies: Mapping[int, Tally], objective: float) -> BurnAlert | None:
    for rule in BURN_RULES:
        long, short = tallies.get(rule.long_s, Tally()), tallies.get(rule.short_s, Tally())
        burns = (long.burn(objective), short.burn(objective))
        if min(burns) >= rule.burn and long.late >= FEWEST_LATE:
            return BurnAlert(rule=rule, long_burn=burns[0], short_burn=burns[1])
    return None


def _span(seconds: int) -> str:
    return f"{seconds // DAY_S} d" if seconds > DAY_S else f"{seconds // HOUR_S} h"
