"""Who was let in a moment ago: a caller that asks many times a second is looked up once a second."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from penstock.access.tokens import Principal
from penstock.ports.clock import Clock

MOST_REMEMBERED = 10_000
REMEMBERED_S = 1.0
"""Seconds for which a token that was revoked elsewhere may still be let in."""


@dataclass(kw_only=True)
class Remembered:
    """Callers by what they showed, of which only a digest is kept; who was refused is not remembered."""

    clock: Clock
    for_s: float = REMEMBERED_S
    _callers: OrderedDict[bytes, tuple[float, Principal]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, text: str) -> Principal | None:
        """Return whom a token's text spoke for a moment ago, or None: then it is to be looked up."""
        with self._lock:
            until_s, principal = self._callers.get(_digest(text), (0.0, None))
        return principal if self.clock.monotonic_s() < until_s else None

    def add(self, text: str, principal: Principal) -> None:
        """Remember whom a token's text speaks for, from now on for a moment."""
        key, until_s = _digest(text), self.clock.monotonic_s() + self.for_s
        with self._lock:
            self._callers[key] = (until_s, principal)
            self._callers.move_to_end(key)
            if len(self._callers) > MOST_REMEMBERED:
                self._callers.popitem(last=False)

    def forget(self) -> None:
        """Have everybody looked up again: a token was revoked here."""
        with self._lock:
            self._callers.clear()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
