"""The machine's own time."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """What :class:`penstock.ports.clock.Clock` asks for, from the operating system."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, for durations."""
        return time.monotonic()

    def sleep(self, delay_s: float) -> None:
        """Wait; nothing or less than nothing is no wait."""
        time.sleep(max(0.0, delay_s))
