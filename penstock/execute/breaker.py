"""Counting a target's calls for its circuit breaker, at no cost while all goes well."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.identity.ids import TargetId
from penstock.ports.breakers import Breakers
from penstock.ports.clock import Clock
from penstock.publish.breaker import BreakerPolicy, BreakerState, BreakerStatus


class CallCounter:
    """Counts nothing: for those who have no breaker."""

    def succeeded(self) -> None:
        """Note that the target answered."""

    def failed(self, error: str) -> bool:
        """Note that it did not; say whether it should be left alone now."""
        del error
        return False


@dataclass(kw_only=True)
class TargetCalls(CallCounter):
    """Counts for the breaker of one target, on behalf of one claim.

    Successes are kept back until a failure makes them matter, so that a target that works costs no write. The first
    success after a breaker was open is recorded at once: it closes it.
    """

    breakers: Breakers
    target_id: TargetId
    policy: BreakerPolicy
    clock: Clock
    state: BreakerState
    successes: int = 0

    @classmethod
    def begin(
        cls, breakers: Breakers, target: TargetId, policy: BreakerPolicy, clock: Clock
    ) -> TargetCalls:
        """Begin with the breaker as it is."""
        state = breakers.get_breaker(target, now=clock.now())
        return cls(breakers=breakers, target_id=target, policy=policy, clock=clock, state=state)

    def succeeded(self) -> None:
        """Note that the target answered, whatever it said."""
        self.successes += 1
        if self.state.status is not BreakerStatus.CLOSED:
            self._record(failures=0, error=None)

    def failed(self, error: str) -> bool:
        """Note that it did not answer; say whether its breaker is open now."""
        self._record(failures=1, error=error)
        return self.state.status_at(self.clock.now()) is BreakerStatus.OPEN

    def _record(self, *, failures: int, error: str | None) -> None:
        self.state = self.breakers.record_calls(
            self.target_id,
            successes=self.successes,
            failures=failures,
            now=self.clock.now(),
            policy=self.policy,
            error=error,
        )
        self.successes = 0
