"""Applying a chunk: retries while the target is away, bisection while it refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.execute.blocking import Blocking
from penstock.execute.chunks import Applier, TargetDown
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.ports.target import ApplyContext, Outcome, Unavailable
from penstock.publish.retry import RetryPolicy
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import TARGET, ModelTarget
from tests.unit.plan.test_plan_parts import creates

CONTEXT = ApplyContext(
    batch_id=BatchId("crm@2026-01-01T00-00-00.000000Z"),
    source_id=SourceId("crm"),
    target_id=TARGET,
    tenant_id=TenantId("default"),
    plan_digest="0" * 32,
    fencing_token=1,
    now=datetime(2026, 1, 1, tzinfo=UTC),
)


def applier(target: ModelTarget, clock: FixedClock) -> Applier:
    policy = RetryPolicy(immediate_tries=3, jitter_share=0)
    return Applier(target=target, clock=clock, retry_policy=policy, jitter=lambda: 0.0)


@pytest.mark.parametrize("poison", [1, 2, 5])
def test_culprits_are_found_in_logarithmic_calls(poison: int, clock: FixedClock) -> None:
    """k culprits among n cost themselves alone, in at most 2 k (log2 n + 1) calls."""
    keys = [f"crm/{n}" for n in range(1024)]
    target = ModelTarget(poison=set(keys[:: 1024 // poison][:poison]))
    result = applier(target, clock).apply(creates(keys), CONTEXT)
    assert result.applied == 1024 - poison
    assert {f.outcome for f in result.failures} == {Outcome.REJECTED}
    assert len(result.failures) == poison
    assert target.calls <= 2 * poison * 11


def test_a_target_that_asks_for_more_than_tier_one_is_not_waited_for(clock: FixedClock) -> None:
    """A Retry-After beyond what tier 1 waits ends the execution at once, with what the target said."""
    target = ModelTarget(away=[Unavailable(message="busy", retry_after_s=3600)])
    start = clock.now()
    with pytest.raises(TargetDown, match="busy"):
        applier(target, clock).apply(creates(["crm/a"]), CONTEXT)
    assert clock.now() == start


def test_tries_are_bounded(clock: FixedClock) -> None:
    """After the policy's immediate tries the target counts as down."""
    target = ModelTarget(away=[Unavailable(message="down")] * 10)
    with pytest.raises(TargetDown):
        applier(target, clock).apply(creates(["crm/a"]), CONTEXT)
    assert target.calls == 4


def test_nothing_is_blocked_by_nothing() -> None:
    """Without a failure no operation has a blocker."""
    assert Blocking().blockers(creates(["crm/a", "crm/b"])) == [None, None]
