"""Alerts: how people hear of what waits for them."""

from __future__ import annotations

from typing import Protocol


class Alerts(Protocol):
    """Something that reaches people."""

    def send(self, title: str, body: str) -> bool:
        """Send one message; False if it reached nobody. Never raises."""
        ...
