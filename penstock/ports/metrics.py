"""What is measured, as kept and as it stands: what ``/metrics`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from penstock.events.envelope import OutboxCursor
from penstock.events.measures import Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One gauge with its labels, at one moment."""

    name: str
    labels: Mapping[str, str]
    value: float


class Metrics(Protocol):
    """Tallies folded from events, each event once, and gauges read when asked for."""

    def tallied_to(self) -> OutboxCursor:
        """Return up to where the outbox has been folded."""
        ...

    def add_tallies(
        self, tallies: Sequence[Tally], *, since: OutboxCursor, to: OutboxCursor
    ) -> bool:
        """Add tallies and move the cursor in one transaction; False, and nothing done, unless it is still ``since``."""
        ...

    def tallies(self) -> list[Tally]:
        """Return every tally."""
        ...

    def standing(self, *, now: datetime) -> list[Sample]:
        """Return every gauge that the control database knows."""
        ...
