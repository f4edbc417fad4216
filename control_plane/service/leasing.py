"""What one server at a time does: the lease that a server has on it, taken for many looks and given back at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from penstock.ports.clock import Clock
from resources.control_db.loop_leases import SqlLoopLeases
from resources.event_wiring import owner_name

LEASE_S = 30.0


@dataclass(kw_only=True)
class HeldLease:
    """A server's lease on one thing. One thread uses it."""

    name: str
    leases: SqlLoopLeases
    clock: Clock
    owner: str = field(default_factory=owner_name)
    _sure_until: datetime | None = None

    @property
    def is_sure(self) -> bool:
        """Whether this server has the lease for long enough that it need not ask."""
        return self._sure_until is not None and self.clock.now() < self._sure_until

    def take(self) -> bool:
        """Have the lease, asking for it only where it is about to end; False if another server has it."""
        if self.is_sure:
            return True
        now = self.clock.now()
        if not self.leases.take(self.name, self.owner, now=now, lease_s=LEASE_S):
            return False
        # What is begun in the first half may take the other.
        self._sure_until = now + timedelta(seconds=LEASE_S / 2)
        return True

    def give_back(self) -> None:
        """Leave it to other servers, if this one ever had it."""
        if self._sure_until is not None:
            self._sure_until = None
            self.leases.give_back(self.name, self.owner)
