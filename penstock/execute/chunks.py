"""Applying one chunk: tier 1 retries while the target is away, bisection while it refuses, a look where it is silent.

A refused chunk is halved until the culprits stand alone, so k poison operations among n cost O(k log n) calls and
nothing but themselves. After a call without an answer the target is asked what it holds: what took effect is not sent
again, what did not is, and what is neither before nor after is a conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np
import pyarrow as pa

from penstock.execute.breaker import CallCounter
from penstock.execute.read_back import Held, held_by_target
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
    Unknown,
)
from penstock.publish.retry import Attempt, GiveUp, RetryPolicy, Tier, Transient, decide


class TargetDown(Exception):
    """The target stayed unavailable through tier 1, or its breaker opened."""

    def __init__(self, outcome: Unavailable) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(kw_only=True)
class ChunkResult:
    """What became of a chunk."""

    applied: int = 0
    already_applied: int = 0
    failures: list[OperationFailure] = field(default_factory=list)
    unsure: bool = False
    """What the target said does not add up to what it was sent."""


@dataclass(frozen=True, kw_only=True)
class Applier:
    """Applies chunks to one target on behalf of one claim."""

    target: Target
    clock: Clock
    retry_policy: RetryPolicy
    jitter: Callable[[], float]
    """Uniform in [0, 1); injected, so that tests are deterministic."""
    calls: CallCounter = field(default_factory=CallCounter)

    def apply(self, operations: pa.Table, context: ApplyContext) -> ChunkResult:
        """Apply a chunk; raises :class:`TargetDown` or ``LeaseLost``."""
        result = ChunkResult()
        self._apply(operations, context, result)
        return result

    def _apply(self, operations: pa.Table, context: ApplyContext, result: ChunkResult) -> None:
        if not len(operations):
            return
        rest, outcome = self._send(operations, context, result)
        match outcome:
            case Applied():
                result.applied += outcome.applied
                result.already_applied += outcome.already_applied
                result.failures += outcome.failures
                said = outcome.applied + outcome.already_applied + len(outcome.failures)
                result.unsure |= said != len(rest)
            case Rejected() if len(rest) == 1:
                result.failures.append(_culprit(rest, outcome))
            case Rejected():
                half = len(rest) // 2
                self._apply(rest.slice(0, half), context, result)
                self._apply(rest.slice(half), context, result)
            case Unavailable():
                raise TargetDown(outcome)
            case _:
                assert_never(outcome)

    def _send(
        self, operations: pa.Table, context: ApplyContext, result: ChunkResult
    ) -> tuple[pa.Table, Applied | Rejected | Unavailable]:
        """Call the target, again and again while it is away or silent and tier 1 allows.

        Returns the outcome and the operations that it is about; what a look at the target has settled is in ``result``.
        """
        history: list[Attempt] = []
        tier = Tier.FIRST
        while True:
            outcome = self.target.apply(operations, context)
            if isinstance(outcome, Applied | Rejected):
                self.calls.succeeded()
                return operations, outcome
            failure = _away(outcome)
            opened = self.calls.failed(failure.message)
            if isinstance(outcome, Unknown):
                operations = self._looked_up(operations, context, result)
                if not len(operations):
                    return operations, Applied(applied=0, already_applied=0)
            now = self.clock.now()
            history.append(Attempt(tier=tier, failed_at=now))
            transient = Transient(message=failure.message, retry_after_s=failure.retry_after_s)
            decision = decide(self.retry_policy, history, transient, now=now, jitter=self.jitter())
            # Only tier 1 is waited for here; later tiers give the lane back to the queue.
            if opened or isinstance(decision, GiveUp) or decision.tier is not Tier.IMMEDIATE:
                return operations, failure
            tier = decision.tier
            self.clock.sleep(max(0.0, (decision.at - now).total_seconds()))
            context = replace(context, now=self.clock.now())

    def _looked_up(
        self, operations: pa.Table, context: ApplyContext, result: ChunkResult
    ) -> pa.Table:
        """Settle what a silent call did, and return the operations that it did not do."""
        held = held_by_target(self.target, context.source_id, operations)
        result.already_applied += int((held == Held.AFTER).sum())
        for row in np.flatnonzero(held == Held.OTHER).tolist():
            result.failures.append(_conflict(operations.slice(row, 1)))
        return operations.filter(pa.array(held == Held.BEFORE))


def _away(outcome: Unavailable | Unknown) -> Unavailable:
    if isinstance(outcome, Unknown):
        return Unavailable(message=f"no answer came: {outcome.message}")
    return outcome


def _culprit(operation: pa.Table, outcome: Rejected) -> OperationFailure:
    return OperationFailure(
        operation_id=operation.column("operation_id")[0].as_py(),
        outcome=Outcome.REJECTED,
        code=outcome.code,
        message=outcome.message,
    )


def _conflict(operation: pa.Table) -> OperationFailure:
    return OperationFailure(
        operation_id=operation.column("operation_id")[0].as_py(),
        outcome=Outcome.CONFLICT,
        code="precondition_failed",
        message="after a call without an answer the target holds neither what it held before nor what it was sent",
    )


__all__ = ["Applier", "ApplyOutcome", "ChunkResult", "TargetDown"]
