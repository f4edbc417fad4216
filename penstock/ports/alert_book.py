"""The book of alerts: what stands, what has passed, and what people were told of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from penstock.events.alerts import Alert


class AlertBook(Protocol):
    """What is kept of alerts."""

    def list_alerts(self, *, passed_since: datetime, limit: int = 1000) -> list[Alert]:
        """Return alerts that stand, or passed since a moment or without anybody being told, newest first."""
        ...

    def write_alerts(self, alerts: Sequence[Alert]) -> None:
        """Write alerts as they are now."""
        ...

    def mark_told(self, alert_ids: Sequence[str], *, now: datetime, passed: bool = False) -> None:
        """Note that people were told of alerts: that they stand, or that they have passed."""
        ...
