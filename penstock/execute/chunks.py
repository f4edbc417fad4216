"""Applying one chunk: tier 1 retries while the target is away, bisection while it refuses.

A refused chunk is halved until the culprits stand alone, so k poison operations among n cost O(k log n) calls and
nothing but themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import pyarrow as pa

from penstock.ports.clock import Clock
from penstock.ports.target import (
    Applied,
    ApplyContext,
    ApplyOutcome,
    OperationFailure,
    Outcome,
    Rejected,
    Target,
    Unavailable,
)
from penstock.publish.retry import Attempt, GiveUp, RetryPolicy, Tier, Transient, decide


class TargetDown(Exception):
    """The target stayed unavailable through tier 1."""

    def __init__(self, outcome: Unavailable) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(kw_only=True)
class ChunkResult:
    """What became of a chunk."""

    applied: int = 0
    already_applied: int = 0
    failures: list[OperationFailure] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Applier:
    """Applies chunks to one target on behalf of one claim."""

    target: Target
    clock: Clock
    retry_policy: RetryPolicy
    jitter: Callable[[], float]
    """Uniform in [0, 1); injected, so that tests are deterministic."""

    def apply(self, operations: pa.Table, context: ApplyContext) -> ChunkResult:
        """Apply a chunk; raises :class:`TargetDown` or ``LeaseLost``."""
        result = ChunkResult()
        self._apply(operations, context, result)
        return result

    def _apply(self, operations: pa.Table, context: ApplyContext, result: ChunkResult) -> None:
        if not len(operations):
            return
        outcome = self._send(operations, context)
        match outcome:
            case Applied():
                result.applied += outcome.applied
                result.already_applied += outcome.already_applied
                result.failures += outcome.failures
            case Rejected() if len(operations) == 1:
                result.failures.append(_culprit(operations, outcome))
            case Rejected():
                half = len(operations) // 2
                self._apply(operations.slice(0, half), context, result)
                self._apply(operations.slice(half), context, result)
            case Unavailable():
                raise TargetDown(outcome)
            case _:
                assert_never(outcome)

    def _send(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Call the target, again and again while it is unavailable and tier 1 allows."""
        history: list[Attempt] = []
        tier = Tier.FIRST
        while True:
            outcome = self.target.apply(operations, context)
            if not isinstance(outcome, Unavailable):
                return outcome
            now = self.clock.now()
            history.append(Attempt(tier=tier, failed_at=now))
            failure = Transient(message=outcome.message, retry_after_s=outcome.retry_after_s)
            decision = decide(self.retry_policy, history, failure, now=now, jitter=self.jitter())
            # Only tier 1 is waited for here; later tiers give the lane back to the queue.
            if isinstance(decision, GiveUp) or decision.tier is not Tier.IMMEDIATE:
                return outcome
            tier = decision.tier
            self.clock.sleep(max(0.0, (decision.at - now).total_seconds()))


def _culprit(operation: pa.Table, outcome: Rejected) -> OperationFailure:
    return OperationFailure(
        operation_id=operation.column("operation_id")[0].as_py(),
        outcome=Outcome.REJECTED,
        code=outcome.code,
        message=outcome.message,
    )
