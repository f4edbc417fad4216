"""Publishing: claim a batch, plan it, execute the plan, advance the snapshot, and say what came of it.

Whatever goes wrong ends in a recorded state. A batch that breaks its contract fails at once and becomes a dead
letter; a target or a store that is away sends the batch back to the queue with a due time; a lost lease stops this
worker without another write, because somebody else has the batch.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.batch.manifest import Manifest
from penstock.batch.rows import Kind
from penstock.errors import LeaseLost, PenstockError
from penstock.execute.chunks import Applier, TargetDown
from penstock.execute.run import Execution, ExecutionResult
from penstock.identity.ids import BatchId, TargetId
from penstock.plan.guards import GuardPolicy
from penstock.plan.ledger import LedgerRow
from penstock.plan.operations import Action
from penstock.ports.control import Claim, OperationException, SnapshotHead
from penstock.ports.target import ApplyContext
from penstock.publish.retry import Attempt, GiveUp, RetryPolicy, Tier, Transient, decide
from penstock.publish.state import FailureDetails, Intent, Move, PublishMetrics, PublishState
from penstock.use_cases.advance_snapshot import COLUMNS, applied_rows, next_snapshot
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.lease import HeldLease
from penstock.use_cases.plan_batch import StoredPlan, plan_batch
from penstock.use_cases.platform import Platform, Progress, no_progress
from penstock.use_cases.reports import GuardVerdict, PublishReport
from penstock.use_cases.stored_plans import open_plan, plan_chunks

_ALL = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """What one publish may be told in place of the platform's own policies."""

    guard_policy: GuardPolicy | None = None
    retry_policy: RetryPolicy | None = None
    jitter: Callable[[], float] = random.random


def publish_next(
    platform: Platform,
    worker_id: str,
    *,
    only: Sequence[tuple[BatchId, TargetId]] | None = None,
    progress: Progress | None = None,
    run_id: str | None = None,
    options: PublishOptions | None = None,
) -> PublishReport | None:
    """Publish the batch that is next in the queue; None if nothing is due, or the lease was lost on the way.

    ``run_id`` is recorded as the workflow run. The report's status is COMPLETE, FAILED or RETRYING.
    """
    claim = platform.control.claim(
        worker_id,
        now=platform.clock.now(),
        lease_s=platform.lease_s,
        policy=platform.queue_policy,
        only=only,
    )
    if claim is None:
        return None
    with HeldLease(platform, claim) as lease:
        work = _Publishing(
            platform, lease, progress or no_progress, run_id, options or PublishOptions()
        )
        try:
            return work.run()
        except LeaseLost:
            return None


class _Publishing:
    def __init__(
        self,
        platform: Platform,
        lease: HeldLease,
        progress: Progress,
        run_id: str | None,
        options: PublishOptions,
    ) -> None:
        self.platform, self.lease, self.progress = platform, lease, progress
        self.run_id, self.jitter = run_id, options.jitter
        self.guard_policy = options.guard_policy or platform.guard_policy
        self.retry_policy = options.retry_policy or platform.retry_policy
        self.step = "plan"
        self.plan: StoredPlan | None = None
        self.plan_ms = self.execute_ms = 0
        state = lease.claim().state
        self.batch_id, self.target_id = state.batch_id, state.target_id

    def run(self) -> PublishReport:
        try:
            manifest = self.platform.control.get_batch(self.batch_id).manifest
            self._plan(manifest)
            result = self._execute()
            return self._complete(manifest, result)
        except LeaseLost:
            raise
        except TargetDown as down:
            asked_s = down.outcome.retry_after_s
            return self._put_off("target_unavailable", down, asked_s)
        except PenstockError as error:
            return self._fail(error.code, error)
        except Exception as error:  # noqa: BLE001  whatever it is, it is recorded and tried again
            return self._put_off("unexpected_error", error, None)

    # Plan ---------------------------------------------------------------------------------------------------

    def _plan(self, manifest: Manifest) -> None:
        start = self.platform.clock.monotonic_s()
        if self.target_id not in self.platform.targets:
            raise PenstockError(
                f"target {self.target_id!r} is not configured: add it to PENSTOCK_SQL_TARGETS, or take it out "
                f"of the targets of source {manifest.source_id!r}"
            )
        self.plan = plan_batch(
            self.platform,
            manifest,
            self.target_id,
            guard_policy=self.guard_policy,
            progress=self.progress,
        )
        self.plan_ms = _ms(start, self.platform.clock.monotonic_s())
        digest = self.plan.document.digest
        self._move(
            Move.PLANNED,
            execution_plan_path=self.plan.path,
            plan_digest=digest,
            workflow_run_id=self.run_id,
        )

    # Execute ------------------------------------------------------------------------------------------------

    def _execute(self) -> ExecutionResult:
        self.step = "execute"
        assert self.plan is not None
        start = self.platform.clock.monotonic_s()
        self._move(Move.START)
        target = self.platform.targets[self.target_id]
        target.prepare()
        claim = self.lease.claim()
        total = self.plan.document.operations
        execution = Execution(
            applier=Applier(
                target=target,
                clock=self.platform.clock,
                retry_policy=self.retry_policy,
                jitter=self.jitter,
            ),
            control=self.platform.control,
            clock=self.platform.clock,
            context=self._context(claim),
            renew=self.lease.claim,
            on_chunk=lambda done: self.progress("execute", done, total),
        )
        digest = self.plan.document.digest
        result = execution.run(
            plan_chunks(self.platform.objects, self.plan),
            self.platform.control.chunks(digest, self.batch_id, self.target_id),
            self._exceptions(),
        )
        self.execute_ms = _ms(start, self.platform.clock.monotonic_s())
        return result

    def _context(self, claim: Claim) -> ApplyContext:
        assert self.plan is not None
        return ApplyContext(
            batch_id=self.batch_id,
            source_id=claim.state.source_id,
            target_id=self.target_id,
            tenant_id=claim.state.tenant_id,
            plan_digest=self.plan.document.digest,
            fencing_token=claim.fencing_token,
            now=self.platform.clock.now(),
        )

    def _exceptions(self) -> list[OperationException]:
        return self.platform.control.list_exceptions(self.batch_id, self.target_id, limit=_ALL)

    # Complete -----------------------------------------------------------------------------------------------

    def _complete(self, manifest: Manifest, result: ExecutionResult) -> PublishReport:
        assert self.plan is not None
        exceptions = self._exceptions()
        ledger = settled_ledger(self.plan.document.ledger, exceptions)
        head = self._next_snapshot(manifest, exceptions)
        state = self.platform.control.complete(
            self.lease.claim(),
            now=self.platform.clock.now(),
            changes={
                "metrics": metrics_of(ledger, self.execute_ms),
                "exceptions": len(exceptions),
                "state_snapshot_path": head.path,
                "failure_details": None,
            },
            head=head,
            ledger=ledger,
        )
        return self._report(state, ledger, result)

    def _next_snapshot(
        self, manifest: Manifest, exceptions: Sequence[OperationException]
    ) -> SnapshotHead:
        assert self.plan is not None
        view = KnownRows.open(self.platform, manifest.source_id, self.target_id).view
        chunks = plan_chunks(self.platform.objects, self.plan, columns=COLUMNS)
        applied = applied_rows(chunks, [e.operation_id for e in exceptions])
        return next_snapshot(self.platform, view, manifest, self.target_id, applied)

    def _report(
        self, state: PublishState, ledger: Sequence[LedgerRow], result: ExecutionResult | None
    ) -> PublishReport:
        document = self.plan.document if self.plan else None
        return PublishReport(
            state=state,
            ledger=tuple(ledger),
            guards=tuple(_guard_verdicts(self.plan)),
            operations=document.operations if document else 0,
            applied=result.applied if result else 0,
            already_applied=result.already_applied if result else 0,
            plan_ms=self.plan_ms,
            execute_ms=self.execute_ms,
        )

    # Trouble ------------------------------------------------------------------------------------------------

    def _put_off(self, code: str, error: Exception, asked_s: float | None) -> PublishReport:
        """Send the batch back to the queue with a due time, or fail it when its retries are exhausted."""
        state, now = self.lease.claim().state, self.platform.clock.now()
        earlier = state.failure_details.retry_count if state.failure_details else 0
        delayed_only = self.retry_policy.model_copy(update={"immediate_tries": 0})
        decision = decide(
            delayed_only,
            _history(earlier, now),
            Transient(message=str(error), retry_after_s=asked_s),
            now=now,
            jitter=self.jitter(),
        )
        if isinstance(decision, GiveUp):
            return self._fail(code, error)
        details = self._details(code, error, earlier + 1)
        self._move(Move.POSTPONE, failure_details=details, retry_due_at=decision.at)
        return self._report(self._state(), (), None)

    def _fail(self, code: str, error: Exception) -> PublishReport:
        state = self.lease.claim().state
        earlier = state.failure_details.retry_count if state.failure_details else 0
        details = self._details(code, error, earlier)
        self._move(Move.FAIL, failure_details=details)
        self.platform.control.record_dead_letter(
            subject=self.batch_id,
            where=self.step,
            source_id=state.source_id,
            code=code,
            message=str(error),
            now=self.platform.clock.now(),
            details={"target_id": self.target_id, "retry_count": earlier},
        )
        return self._report(self._state(), (), None)

    def _details(self, code: str, error: Exception, retry_count: int) -> FailureDetails:
        return FailureDetails(
            error_code=code,
            error_message=str(error)[:4000],
            failed_operation=self.step,
            stack_trace="".join(traceback.format_exception(error))[-8000:],
            retry_count=retry_count,
        )

    def _move(self, move: Move, **changes: Any) -> None:
        claim = self.platform.control.advance(
            self.lease.claim(), move, now=self.platform.clock.now(), changes=changes
        )
        self.lease.moved(claim)

    def _state(self) -> PublishState:
        return self.platform.control.get_state(self.batch_id, self.target_id)


def _history(retries: int, now: datetime) -> list[Attempt]:
    first = [Attempt(tier=Tier.FIRST, failed_at=now)]
    return first + [Attempt(tier=Tier.DELAYED, failed_at=now)] * retries


def _ms(start_s: float, stop_s: float) -> int:
    return round(1000 * (stop_s - start_s))


def _guard_verdicts(plan: StoredPlan | None) -> list[GuardVerdict]:
    if plan is None:
        return []
    return [
        GuardVerdict(
            guard=verdict.guard,
            passed=verdict.passed,
            message=verdict.message,
            held_operations=sum(
                row.held
                for row in plan.document.ledger
                if (row.kind, row.type_name) in verdict.held_deletes
            ),
        )
        for verdict in plan.document.guards
    ]


_COLUMN_OF_ACTION = {
    Action.CREATE: "created",
    Action.UPDATE: "updated",
    Action.DELETE: "deleted",
}


def settled_ledger(
    planned: Sequence[LedgerRow], exceptions: Sequence[OperationException]
) -> tuple[LedgerRow, ...]:
    """Move what did not take effect from the plan's columns to the column of what became of it.

    What planning itself refused or held stands in its column already.
    """
    moved: dict[tuple[str, str], Counter[str]] = {}
    for exception in exceptions:
        if exception.code in {"refused_by_plan", "held_by_guard"}:
            continue
        counter = moved.setdefault((exception.kind, exception.type_name), Counter())
        counter[_COLUMN_OF_ACTION[Action(exception.action)]] -= 1
        counter["blocked" if exception.outcome == "blocked" else "dead_lettered"] += 1
    return tuple(_with(row, moved.get((row.kind, row.type_name), {})) for row in planned)


def _with(row: LedgerRow, moved: Mapping[str, int]) -> LedgerRow:
    return row.model_copy(update={name: getattr(row, name) + n for name, n in moved.items()})


def metrics_of(ledger: Sequence[LedgerRow], execution_time_ms: int) -> PublishMetrics:
    """Sum a ledger up over types."""
    sums: Counter[str] = Counter()
    for row in ledger:
        kind = "entities" if row.kind is Kind.ENTITY else "relationships"
        for column in ("created", "updated", "deleted"):
            sums[f"{kind}_{column}"] += getattr(row, column)
    return PublishMetrics(**sums, execution_time_ms=execution_time_ms)


def recorded_report(platform: Platform, state: PublishState) -> PublishReport:
    """Return the report of a publish as the control database and the stored plan remember it."""
    plan = None
    if state.execution_plan_path is not None:
        plan = open_plan(
            platform.objects, state.execution_plan_path, expected_digest=state.plan_digest
        )
    metrics = state.metrics.model_dump(exclude={"execution_time_ms"})
    return PublishReport(
        state=state,
        ledger=tuple(platform.control.get_ledger(state.batch_id, state.target_id)),
        guards=tuple(_guard_verdicts(plan)),
        operations=plan.document.operations if plan else 0,
        applied=sum(metrics.values()),
        already_applied=0,
        plan_ms=0,
        execute_ms=state.metrics.execution_time_ms,
    )


def republish(platform: Platform, batch: BatchId, target: TargetId) -> PublishState:
    """Put a batch back in the queue on an operator's word, even if newer ones have been published.

    Publishing it takes the target back, or forward, to that batch, as an ordinary guarded plan. Raises ``NotFound``
    for a batch that was never admitted for this target, ``IllegalMove`` for one that is on its way already.
    """
    return platform.control.requeue(
        batch, target, now=platform.clock.now(), intent=Intent.REPUBLISH
    )
