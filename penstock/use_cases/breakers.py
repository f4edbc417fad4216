"""Circuit breakers for people: how each target's stands, and closing one by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from penstock.errors import NotFound, NothingToDo
from penstock.identity.ids import TargetId
from penstock.publish.breaker import BreakerState, BreakerStatus
from penstock.use_cases.acts import By
from penstock.use_cases.platform import Platform


@dataclass(frozen=True, kw_only=True)
class BreakerOverview:
    """One target's breaker as it is now."""

    target_id: TargetId
    status: BreakerStatus
    calls: int
    """In the present window, as far as failures made them matter."""
    failures: int
    open_until: datetime | None
    """Set while it is open."""
    times_opened: int
    """In a row, without a success in between."""
    last_error: str | None


@dataclass(frozen=True, kw_only=True)
class BreakerReset:
    """A breaker that was closed by hand."""

    breaker: BreakerOverview
    woken: int
    """Batches that waited for it and are due now."""


def breaker_overviews(platform: Platform) -> list[BreakerOverview]:
    """Return the breaker of every target that is configured or was ever called in vain, by target id."""
    now = platform.clock.now()
    kept = {state.target_id: state for state in platform.control.list_breakers()}
    new = {target: BreakerState.closed(target, now) for target in platform.targets}
    return [_overview(state, now) for _, state in sorted({**new, **kept}.items())]


def reset_breaker(platform: Platform, target: TargetId, *, by: By) -> BreakerReset:
    """Close a target's breaker; what was put off because of it is due at once. It goes into the audit log.

    Raises ``NotFound`` for a target that nobody knows, ``NothingToDo`` where the breaker is closed.
    """
    now = platform.clock.now()
    known = {each.target_id: each for each in breaker_overviews(platform)}
    if target not in known:
        raise NotFound(f"there is no target {target!r}: there is {', '.join(sorted(known))}")
    before = known[target]
    if before.status is BreakerStatus.CLOSED:
        raise NothingToDo(f"the breaker of target {target!r} is closed: calls are let through")
    details = {"was": before.status, "last_error": before.last_error}
    act = by.entry("breaker.reset", target, now=now, details=details)
    closed, woken = platform.control.reset_breaker(target, now=now, act=act)
    return BreakerReset(breaker=_overview(closed, now), woken=woken)


def _overview(state: BreakerState, now: datetime) -> BreakerOverview:
    status = state.status_at(now)
    return BreakerOverview(
        target_id=state.target_id,
        status=status,
        calls=state.calls,
        failures=state.failures,
        open_until=state.open_until if status is BreakerStatus.OPEN else None,
        times_opened=state.times_opened,
        last_error=state.last_error,
    )
