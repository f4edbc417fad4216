"""Counting a target's calls for its circuit breaker, at no cost while all goes well."""

from __future__ import annotations

from collections.abc import Callable

from penstock.identity.ids import TargetId
from penstock.ports.breakers import Breakers
from penstock.ports.clock import Clock
from penstock.publish.breaker import BreakerPolicy, BreakerStatus

TELL_EVERY_S = 1.0
"""How often others are told of answers within one chunk; that it is finished tells them anyway."""


class CallCounter:
    """Counts nothing: for those who have no breaker."""

    probing = False
    """Whether its calls find out if the target is back, so that they count as tries whatever becomes of them."""

    def shut(self) -> str | None:
        """Say why the target must not be called now, or None."""
        return None

    def succeeded(self) -> None:
        """Note that the target answered."""

    def failed(self, error: str) -> bool:
        """Note that it did not; say whether it should be left alone now."""
        del error
        return False

    def others_failed(self) -> bool:
        """Say whether others try the same target in vain, so that one worker less may wait for it."""
        return False


class TargetCalls(CallCounter):
    """Counts for the breaker of one target, on behalf of one claim.

    Successes are kept back until a failure makes them matter, so that a target that works costs no write; those of a
    window that has passed are forgotten, as the breaker itself would. The first success after a breaker was open is
    recorded at once: it closes it.
    """

    def __init__(
        self,
        breakers: Breakers,
        target: TargetId,
        policy: BreakerPolicy,
        clock: Clock,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin with the breaker as it is; ``on_answer`` is told of answers, not more often than each second."""
        self._on_answer, self._told_at = on_answer, clock.now()
        self._breakers, self._target, self._policy, self._clock = breakers, target, policy, clock
        self._state = breakers.get_breaker(target, now=clock.now())
        self._successes, self._since = 0, clock.now()
        self._failures = 0
        self.probing = self._status() is BreakerStatus.HALF_OPEN

    def shut(self) -> str | None:
        """Say until when the breaker keeps everybody away, or None."""
        if self._status() is not BreakerStatus.OPEN or self._state.open_until is None:
            return None
        why = f", after {self._state.last_error}" if self._state.last_error else ""
        return (
            f"the breaker of target {self._target} is open until {self._state.open_until.isoformat()}"
            f"{why}"
        )

    def succeeded(self) -> None:
        """Note that the target answered, whatever it said."""
        now = self._clock.now()
        if (now - self._since).total_seconds() >= self._policy.window_s:
            self._successes, self._since = 0, now
        self._successes += 1
        if (now - self._told_at).total_seconds() >= TELL_EVERY_S:
            self._on_answer()
            self._told_at = now
        if self._state.status is not BreakerStatus.CLOSED or self._state.is_doubted(now):
            self._record(failures=0, error=None)

    def failed(self, error: str) -> bool:
        """Note that it did not answer; say whether its breaker is open now."""
        window = self._state.window_started_at
        self._record(failures=1, error=error)
        self._failures = 1 + (self._failures if self._state.window_started_at == window else 0)
        return self._status() is BreakerStatus.OPEN

    def others_failed(self) -> bool:
        """Say whether calls of other claims have failed too, so that this one need not be the one to find out."""
        return self._state.is_doubted(self._clock.now()) and self._state.failures > self._failures

    def _status(self) -> BreakerStatus:
        return self._state.status_at(self._clock.now())

    def _record(self, *, failures: int, error: str | None) -> None:
        self._state = self._breakers.record_calls(
            self._target,
            successes=self._successes,
            failures=failures,
            now=self._clock.now(),
            policy=self._policy,
            error=error,
        )
        self._successes, self._since = 0, self._clock.now()
