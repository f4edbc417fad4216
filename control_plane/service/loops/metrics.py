"""The loop that folds events into what is measured, and what is measured of the loops themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from control_plane.service.looping import Loop, LoopState
from control_plane.service.services import Services
from penstock.ports.metrics import Sample
from penstock.use_cases.metrics import AT_ONCE, fold_events


def run_once(services: Services) -> bool:
    """Fold what the outbox has gained; returns whether there is probably more."""
    from resources.control_db.metrics import SqlMetrics
    from resources.control_db.outbox_log import SqlEventLog

    log = SqlEventLog.from_engine(services.engine)
    folded = fold_events(
        SqlMetrics.from_engine(services.engine),
        lambda since, limit: log.read(since, limit=limit),
    )
    return folded == AT_ONCE


def loop_samples(states: Sequence[LoopState], now: datetime) -> list[Sample]:
    """Return how the loops of this server fare."""
    return [
        sample
        for state in states
        for sample in (
            Sample(name="loop_lag_seconds", labels={"loop": state.name}, value=_lag(state, now)),
            Sample(name="loop_failures", labels={"loop": state.name}, value=state.failures),
        )
    ]


def _lag(state: LoopState, now: datetime) -> float:
    """Seconds since a loop that fails last ended well; of one that does not fail, how late it began."""
    if state.failures_in_a_row and state.last_run_at is not None:
        return max(0.0, (now - state.last_run_at).total_seconds())
    return state.late_s


loop = Loop(name="metrics", run_once=run_once)
