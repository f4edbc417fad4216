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
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.ownership import Ownership
from penstock.execute.breaker import CallCounter
from penstock.execute.merging import (
    MergedConflicts,
    MergedOperation,
    merge_owned,
    merged_conflicts,
    settled,
)
from penstock.execute.read_back import Held, held_by_target
from penstock.identity.ids import SourceId
from penstock.ports.clock import Clock
from penstock.ports.target import (
    Applied,
    ApplyContext,
    OperationFailure,
    Outcome,
    Rejected,
    Target,
    TargetDown,
    Unavailable,
    Unknown,
)
from penstock.publish.retry import Attempt, GiveUp, RetryPolicy, Tier, Transient, decide

LOOKS_AT_EDITS = 3
"""How often what people change under a chunk's feet is merged again before it counts as a conflict."""


@dataclass(kw_only=True)
class ChunkResult:
    """What became of a chunk."""

    applied: int = 0
    already_applied: int = 0
    failures: list[OperationFailure] = field(default_factory=list)
    merged: dict[bytes, MergedOperation] = field(default_factory=dict)
    """What took effect as a merge with what people own, by operation id, and what that ended as."""
    unsure: bool = False
    """What the target said does not add up to what it was sent."""


@dataclass(frozen=True, kw_only=True)
class Applier:
    """Applies chunks to one target on behalf of one claim, and counts its calls for the target's breaker."""

    target: Target
    clock: Clock
    retry_policy: RetryPolicy
    jitter: Callable[[], float]
    """Uniform in [0, 1); injected, so that tests are deterministic."""
    calls: CallCounter = field(default_factory=CallCounter)
    ownership: Ownership = field(default_factory=dict)
    """Fields that people or others own in the target; conflicts over these are merged."""

    def prepare(self) -> None:
        """Make the target ready for its first chunk; raises :class:`TargetDown`, at once where its breaker is open."""
        if why := self.calls.shut():
            raise TargetDown(Unavailable(message=why), cut_short=True)
        try:
            self.target.prepare()
        except TargetDown as down:
            self.calls.failed(down.outcome.message)
            raise

    def apply(self, operations: pa.Table, context: ApplyContext) -> ChunkResult:
        """Apply a chunk; raises :class:`TargetDown` or ``LeaseLost``."""
        result = ChunkResult()
        if not self.ownership:
            self._apply(operations, context, result)
            return result
        context = replace(context, shared_types=frozenset(self.ownership))
        left, merged = merge_owned(self.target, operations, context, self.ownership)
        self._send_merged(merged, context, result)
        self._apply(left, context, result)
        # People may go on editing: what they change between a look and the write is looked at once more.
        for _ in range(LOOKS_AT_EDITS):
            if not self._merge(operations, context, result):
                break
        return result

    def _merge(self, operations: pa.Table, context: ApplyContext, result: ChunkResult) -> bool:
        """Merge conflicts with what people own, and send the merges in their place; say whether there were any."""
        if not any(failure.outcome is Outcome.CONFLICT for failure in result.failures):
            return False
        merged = merged_conflicts(self.target, operations, context, result.failures, self.ownership)
        self._send_merged(merged, context, result)
        return bool(merged.originals)

    def _send_merged(
        self, merged: MergedConflicts, context: ApplyContext, result: ChunkResult
    ) -> None:
        again = ChunkResult()
        self._apply(merged.operations, context, again)
        failed = {failure.operation_id: failure for failure in again.failures}
        result.failures = settled(result.failures, merged, failed)
        result.applied += again.applied
        result.already_applied += again.already_applied + len(merged.already)
        result.unsure |= again.unsure
        result.merged |= merged.merges

    def held(self, source: SourceId, operations: pa.Table) -> npt.NDArray[np.int8]:
        """Return, per operation, what the target holds now as ``Held`` says; raises :class:`TargetDown`."""
        try:
            return held_by_target(self.target, source, operations)
        except TargetDown as down:
            self.calls.failed(down.outcome.message)
            raise

    def _apply(self, operations: pa.Table, context: ApplyContext, result: ChunkResult) -> None:
        if not len(operations):
            return
        rest, outcome = _Sending(self, context, result).send(operations)
        match outcome:
            case Applied():
                result.applied += outcome.applied
                result.already_applied += outcome.already_applied
                result.failures += outcome.failures
                result.unsure |= not _adds_up(outcome, rest)
            case Rejected() if len(rest) == 1:
                result.failures.append(_culprit(rest, outcome))
            case Rejected():
                half = len(rest) // 2
                self._apply(rest.slice(0, half), context, result)
                self._apply(rest.slice(half), context, result)
            case _:
                assert_never(outcome)


class _Sending:
    """One call of a target, again and again while it is away or silent and tier 1 allows."""

    def __init__(self, applier: Applier, context: ApplyContext, result: ChunkResult) -> None:
        self.applier, self.context, self.result = applier, context, result
        self.history: list[Attempt] = []
        self.tier = Tier.FIRST

    def send(self, operations: pa.Table) -> tuple[pa.Table, Applied | Rejected]:
        """Return the answer, and the operations that it is about: what a look has settled is in the result."""
        applier = self.applier
        while True:
            now = applier.clock.now()
            outcome = applier.target.apply(operations, replace(self.context, now=now))
            match outcome:
                case Applied() | Rejected():
                    applier.calls.succeeded()
                    return operations, outcome
                case Unavailable():
                    self._wait(outcome, stop=applier.calls.failed(outcome.message))
                case Unknown():
                    operations = self._after_silence(operations, outcome)
                    if not len(operations):
                        return operations, Applied(applied=0, already_applied=0)
                case _:
                    assert_never(outcome)

    def _after_silence(self, operations: pa.Table, silence: Unknown) -> pa.Table:
        """Return what the silent call did not do, when it may be sent again."""
        away = Unavailable(message=f"no answer came: {silence.message}")
        stop = self.applier.calls.failed(away.message)
        looked = False
        while not looked:
            try:
                operations, looked = self._looked_up(operations), True
            except TargetDown as down:
                away, stop = down.outcome, stop or self.applier.calls.shut() is not None
            if len(operations):
                self._wait(away, stop=stop)
        return operations

    def _looked_up(self, operations: pa.Table) -> pa.Table:
        """Settle what a silent call did, and return the operations that it did not do."""
        held = self.applier.held(self.context.source_id, operations)
        self.result.already_applied += int((held == Held.AFTER).sum())
        for row in np.flatnonzero(held == Held.OTHER).tolist():
            self.result.failures.append(_conflict(operations.slice(row, 1)))
        return operations.filter(pa.array(held == Held.BEFORE))

    def _wait(self, away: Unavailable, *, stop: bool) -> None:
        """Wait for the next try; raises :class:`TargetDown` where there is none, or ``stop`` says to leave it alone.

        Only tier 1 is waited for here, and only by one lane of a target at a time; later tiers give the lane back to
        the queue.
        """
        applier = self.applier
        now = applier.clock.now()
        self.history.append(Attempt(tier=self.tier, failed_at=now))
        decision = decide(
            applier.retry_policy,
            self.history,
            Transient(message=away.message, retry_after_s=away.retry_after_s),
            now=now,
            jitter=applier.jitter(),
        )
        if isinstance(decision, GiveUp) or decision.tier is not Tier.IMMEDIATE:
            raise TargetDown(away)
        if stop:
            raise TargetDown(away, cut_short=not applier.calls.probing)
        if applier.calls.others_failed():
            raise TargetDown(away)
        self.tier = decision.tier
        applier.clock.sleep(max(0.0, (decision.at - now).total_seconds()))


def _adds_up(outcome: Applied, sent: pa.Table) -> bool:
    """Say whether an answer speaks of each operation that was sent, once, and of no other."""
    failed = {failure.operation_id for failure in outcome.failures}
    counts = (outcome.applied, outcome.already_applied, len(outcome.failures))
    if min(counts) < 0 or sum(counts) != len(sent) or len(failed) != len(outcome.failures):
        return False
    if not failed:
        return True
    ids = pa.array(list(failed), pa.binary())
    known = pc.is_in(pc.cast(sent["operation_id"], pa.binary()), value_set=ids)
    return bool(pc.sum(known).as_py() == len(failed))


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


__all__ = ["Applier", "ChunkResult", "TargetDown"]
