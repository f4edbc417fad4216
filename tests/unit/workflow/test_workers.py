"""Workers are active, drain, and are gone for good; their breakers are those of targets."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.errors import IllegalMove
from penstock.publish.breaker import BreakerStatus, after_calls
from penstock.workflow.workers import (
    WORKER_TRANSITIONS,
    BreakerScope,
    WorkBreaker,
    WorkerMove,
    WorkerPolicy,
    WorkerStatus,
    next_worker_status,
)
from tests.contracts.control_values import NOW
from tests.unit.workflow.work_values import worker


@pytest.mark.parametrize("status", list(WorkerStatus))
@pytest.mark.parametrize("move", list(WorkerMove))
def test_every_move_leads_somewhere_or_is_refused_with_the_legal_ones(
    status: WorkerStatus, move: WorkerMove
) -> None:
    """The function is total."""
    legal = WORKER_TRANSITIONS[status]
    if move in legal:
        assert next_worker_status(status, move) is legal[move]
        return
    with pytest.raises(IllegalMove) as refused:
        next_worker_status(status, move)
    assert all(each in str(refused.value) for each in legal)


def test_gone_is_for_good() -> None:
    """Who comes back registers anew."""
    with pytest.raises(IllegalMove, match="register anew"):
        next_worker_status(WorkerStatus.GONE, WorkerMove.HEARTBEAT)


def test_a_worker_is_silent_once_its_time_is_up() -> None:
    """Not a moment sooner, and not once it is gone."""
    policy = WorkerPolicy(silent_s=60)
    assert not worker().is_silent(policy, NOW + timedelta(seconds=59))
    assert worker().is_silent(policy, NOW + timedelta(seconds=60))
    gone = worker(status=WorkerStatus.GONE)
    assert not gone.is_silent(policy, NOW + timedelta(seconds=60))


def test_a_breaker_of_work_opens_and_closes_as_a_targets_does() -> None:
    """It stays whose it is; a probe that succeeds clears it."""
    policy = WorkerPolicy().breaker
    state = WorkBreaker.closed(BreakerScope.SOURCE, "crm", NOW)
    for _ in range(3):
        state = after_calls(state, policy, successes=0, failures=1, now=NOW, error="no route")
    assert (state.scope_id, state.status) == ("crm", BreakerStatus.OPEN)
    later = NOW + timedelta(seconds=policy.open_s)
    cleared = after_calls(state, policy, successes=1, failures=0, now=later)
    assert cleared == WorkBreaker.closed(BreakerScope.SOURCE, "crm", later)
