"""Room for so many followers of a stream."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Places:
    """Room for so many at once."""

    left: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Take a place, if there is one."""
        with self._lock:
            if self.left < 1:
                return False
            self.left -= 1
            return True

    def give_back(self) -> None:
        """Leave a place to others."""
        with self._lock:
            self.left += 1
