"""Time, injected, so that every test decides what time it is."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, for durations."""
        ...

    def sleep(self, delay_s: float) -> None:
        """Wait."""
        ...
