"""What the use cases of workflows are given beside the platform. ``resources/wiring.py`` builds one."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from penstock.ports.workflows import Workflows
from penstock.use_cases.platform import Platform

NextDue = Callable[[str, datetime], datetime]
"""When a cron expression is due next, after a moment; raises ``BadSchedule`` for what is none."""


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class Coordination:
    """The platform, and the workflows over it."""

    platform: Platform
    workflows: Workflows
    next_due: NextDue
    new_id: Callable[[], str] = _new_id
    """Draws 32 hex digits."""
    jitter: Callable[[], float] = random.random
    """Draws a number from 0 up to 1."""

    def now(self) -> datetime:
        """Return the present moment."""
        return self.platform.clock.now()
