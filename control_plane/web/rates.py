"""How much each caller and each address has asked for lately."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from penstock.access.limits import Bucket, RateLimit, take
from penstock.ports.clock import Clock

MOST_REMEMBERED = 10_000


@dataclass(kw_only=True)
class Rates:
    """The buckets of those who asked last; who has not asked for long has a full one anyway."""

    limit: RateLimit
    clock: Clock
    _buckets: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_s(self, who: str) -> float:
        """Take one request of ``who``; returns 0, or the seconds until there is one to take."""
        with self._lock:
            before = self._buckets.pop(who, None)
            after, wait_s = take(before, self.limit, now_s=self.clock.monotonic_s())
            self._buckets[who] = after
            if len(self._buckets) > MOST_REMEMBERED:
                self._buckets.popitem(last=False)
        return wait_s
