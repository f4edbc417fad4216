"""Publishing: claim a batch, plan it, execute the plan, advance the snapshot, and say what came of it.

Whatever goes wrong ends in a recorded state. A batch that breaks its contract fails at once and becomes a dead
letter; a target or a store that is away sends the batch back to the queue with a due time; a follow-up that has become
void leaves the batch as it stood; a lost lease stops this worker without another write, because somebody else has
the batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Manifest
from penstock.batch.ownership import Ownership
from penstock.errors import LeaseLost, PenstockError
from penstock.execute.breaker import TargetCalls
from penstock.execute.chunks import Applier, TargetDown
from penstock.execute.run import Execution, ExecutionResult
from penstock.execute.traced import TracedTarget
from penstock.identity.ids import BatchId, TargetId
from penstock.plan.ledger import LedgerRow
from penstock.ports.attempts import PublishAttempt
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import (
    BegunExecution,
    Claim,
    OperationException,
    PlanExecution,
    SnapshotHead,
)
from penstock.ports.target import ApplyContext
from penstock.ports.tracing import trace_parent_of
from penstock.publish.breaker import BREAKER_OPEN
from penstock.publish.retry import RetryPolicy, Tier
from penstock.publish.state import Intent, Move, PublishState
from penstock.use_cases.advance_snapshot import (
    COLUMNS,
    applied_rows,
    next_snapshot,
    not_applied,
)
from penstock.use_cases.follow_up import FollowUp, FollowUpVoid, plan_follow_up
from penstock.use_cases.interrupted import end_interrupted
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.lease import HeldLease
from penstock.use_cases.merges import MergeOverview, merges_of, store_merges
from penstock.use_cases.plan_batch import StoredPlan, ownership_of, plan_batch
from penstock.use_cases.platform import Platform, Progress, no_progress
from penstock.use_cases.publish_reports import guard_verdicts, metrics_of, settled_ledger
from penstock.use_cases.put_off import Trouble, decided_after
from penstock.use_cases.reports import PublishReport
from penstock.use_cases.stored_plans import plan_chunks


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
            return _traced(platform, claim, work.run)
        except LeaseLost:
            return None


def _traced(platform: Platform, claim: Claim, run: Callable[[], PublishReport]) -> PublishReport:
    """Publish within the trace that the batch came with, or else the one that follows from its id."""
    state = claim.state
    with platform.tracer.span(
        "penstock.publish",
        parent=state.trace_parent or trace_parent_of(state.batch_id),
        batch=state.batch_id,
        source=state.source_id,
        target=state.target_id,
        tenant=state.tenant_id,
        intent=str(state.intent),
        worker=claim.worker_id,
    ) as span:
        report = run()
        span.note(status=str(report.state.status), operations=report.operations)
        return report


class _Publishing:
    def __init__(
        self,
        platform: Platform,
        lease: HeldLease,
        progress: Progress,
        run_id: str | None,
        options: PublishOptions,
    ) -> None:
        retry_policy = options.retry_policy or platform.retry_policy
        self.platform = replace(platform, retry_policy=retry_policy)
        self.lease, self.progress = lease, progress
        self.run_id, self.jitter = run_id, options.jitter
        self.guard_policy = options.guard_policy
        self.step = "plan"
        self.plan: StoredPlan | None = None
        self.follow_up: FollowUp | None = None
        self.ownership: Ownership = {}
        self.plan_ms = self.execute_ms = 0
        self.started_at = platform.clock.now()
        state = lease.claim().state
        self.batch_id, self.target_id = state.batch_id, state.target_id

    def run(self) -> PublishReport:
        try:
            manifest = self.platform.control.get_batch(self.batch_id).manifest
            tracer = self.platform.tracer
            with tracer.span("penstock.plan") as span:
                self._plan(manifest)
                assert self.plan is not None
                document = self.plan.document
                span.note(operations=document.operations, plan=document.digest)
            with tracer.span("penstock.execute"):
                result = self._execute()
            with tracer.span("penstock.complete"):
                return self._complete(manifest, result)
        except LeaseLost:
            raise
        except FollowUpVoid as void:
            return self._withdraw(void)
        except TargetDown as down:
            code = BREAKER_OPEN if down.cut_short else "target_unavailable"
            return self._trouble(code, down, asked_s=down.outcome.retry_after_s)
        except PenstockError as error:
            return self._trouble(error.code, error, permanent=True)
        except Exception as error:  # noqa: BLE001  whatever it is, it is recorded and tried again
            return self._trouble("unexpected_error", error)

    # Plan ---------------------------------------------------------------------------------------------------

    def _plan(self, manifest: Manifest) -> None:
        start = self.platform.clock.monotonic_s()
        if self.target_id not in self.platform.targets:
            raise PenstockError(
                f"target {self.target_id!r} is not configured: add it to PENSTOCK_SQL_TARGETS or "
                f"PENSTOCK_HTTP_TARGETS, or take it out of the targets of source {manifest.source_id!r}"
            )
        self.plan = self._planned(manifest)
        if end_interrupted(self.platform, self.lease.claim(), but=self.plan.document.digest):
            self.plan = self._planned(manifest)  # the snapshot is another one now
        self.plan_ms = _ms(start, self.platform.clock.monotonic_s())
        digest = self.plan.document.digest
        self._move(
            Move.PLANNED,
            execution_plan_path=self.plan.path,
            plan_digest=digest,
            workflow_run_id=self.run_id,
        )

    def _planned(self, manifest: Manifest) -> StoredPlan:
        state = self.lease.claim().state
        if state.intent in {Intent.PUBLISH, Intent.REPUBLISH}:
            return plan_batch(
                self.platform,
                manifest,
                self.target_id,
                guard_policy=self.guard_policy,
                progress=self.progress,
            )
        self.follow_up = plan_follow_up(self.platform, state, manifest)
        return self.follow_up.plan

    # Execute ------------------------------------------------------------------------------------------------

    def _execute(self) -> ExecutionResult:
        self.step = "execute"
        assert self.plan is not None
        self.ownership = ownership_of(self.platform, self.lease.claim().state.source_id)
        start = self.platform.clock.monotonic_s()
        self._start(self.plan)
        control, clock, total = (
            self.platform.control,
            self.platform.clock,
            self.plan.document.operations,
        )
        applier = Applier(
            target=TracedTarget(self.platform.targets[self.target_id], self.platform.tracer),
            clock=clock,
            retry_policy=self.platform.retry_policy,
            jitter=self.jitter,
            calls=TargetCalls(
                control,
                self.target_id,
                self.platform.breaker_policy,
                clock,
                on_answer=lambda: control.note_answer(self.lease.claim(), now=clock.now()),
            ),
            ownership=self.ownership,
        )
        applier.prepare()
        execution = Execution(
            applier=applier,
            control=control,
            clock=clock,
            context=self._context(self.lease.claim()),
            renew=self.lease.claim,
            on_chunk=lambda done: self.progress("execute", done, total),
            verify_sample=self.platform.verify_sample,
            on_merged=partial(store_merges, self.platform, self.plan),
        )
        digest = self.plan.document.digest
        result = execution.run(
            plan_chunks(self.platform.objects, self.plan),
            control.chunks(digest, self.batch_id, self.target_id),
            self._exceptions(digest),
        )
        self.execute_ms = _ms(start, clock.monotonic_s())
        return result

    def _start(self, plan: StoredPlan) -> None:
        claim, document, now = self.lease.claim(), plan.document, self.platform.clock.now()
        begun = BegunExecution(
            plan_digest=document.digest,
            batch_id=self.batch_id,
            target_id=self.target_id,
            source_id=claim.state.source_id,
            intent=claim.state.intent,
            plan_path=plan.path,
            snapshot_before=document.snapshot_version,
            operations=document.operations,
            started_at=now,
        )
        self.lease.moved(self.platform.control.advance(claim, Move.START, now=now, begun=begun))

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

    # Complete -----------------------------------------------------------------------------------------------

    def _complete(self, manifest: Manifest, result: ExecutionResult) -> PublishReport:
        assert self.plan is not None
        digest = self.plan.document.digest
        ledger = settled_ledger(self.plan.document.ledger, self._exceptions(digest))
        follow_up, head = self.follow_up, None
        changes: dict[str, Any] = {}
        if follow_up is None or follow_up.moves_snapshot:
            head = self._next_snapshot(manifest, digest)
            changes["state_snapshot_path"] = head.path
        if follow_up is None or follow_up.keeps_ledger:
            changes["metrics"] = metrics_of(ledger, self._execution_ms())
        state = self.platform.control.complete(
            self.lease.claim(),
            now=self.platform.clock.now(),
            changes={**changes, "failure_details": None},
            head=head,
            ledger=ledger if follow_up is None or follow_up.keeps_ledger else None,
            execution=self._execution(result, head),
            settlement=follow_up.settlement() if follow_up else None,
        )
        return self._report(state, ledger, result)

    def _execution_ms(self) -> int:
        """Return the milliseconds of executing, those of the batch's own plan included where this one follows it."""
        earlier = self.lease.claim().state.metrics.execution_time_ms if self.follow_up else 0
        return self.execute_ms + earlier

    def _exceptions(self, digest: str) -> Iterator[OperationException]:
        return self.platform.control.plan_exceptions(self.batch_id, self.target_id, digest)

    def _next_snapshot(self, manifest: Manifest, digest: str) -> SnapshotHead:
        assert self.plan is not None
        view = KnownRows.open(self.platform, manifest.source_id, self.target_id).view
        chunks = plan_chunks(self.platform.objects, self.plan, columns=COLUMNS)
        excluded = not_applied(e.operation_id for e in self._exceptions(digest))
        applied = applied_rows(chunks, excluded)
        return next_snapshot(self.platform, view, manifest, self.target_id, applied)

    def _execution(self, result: ExecutionResult, head: SnapshotHead | None) -> PlanExecution:
        assert self.plan is not None
        state, document = self.lease.claim().state, self.plan.document
        return PlanExecution(
            plan_digest=document.digest,
            batch_id=self.batch_id,
            target_id=self.target_id,
            source_id=state.source_id,
            intent=state.intent,
            plan_path=self.plan.path,
            snapshot_before=document.snapshot_version,
            snapshot_after=head.version if head else document.snapshot_version,
            operations=result.operations,
            applied=result.applied,
            already_applied=result.already_applied,
            exceptions=result.exceptions,
            started_at=self.started_at,
            finished_at=self.platform.clock.now(),
        )

    def _report(
        self, state: PublishState, ledger: Sequence[LedgerRow], result: ExecutionResult | None
    ) -> PublishReport:
        document = self.plan.document if self.plan else None
        merges = MergeOverview()
        if result is not None and self.plan is not None and self.ownership:
            merges = merges_of(self.platform, self.plan, limit=0)
        return PublishReport(
            state=state,
            ledger=tuple(ledger),
            guards=tuple(guard_verdicts(self.plan)),
            operations=document.operations if document else 0,
            applied=result.applied if result else 0,
            already_applied=result.already_applied if result else 0,
            merged=merges.operations,
            conflicts=merges.conflicts,
            plan_ms=self.plan_ms,
            execute_ms=self.execute_ms,
        )

    # Trouble ------------------------------------------------------------------------------------------------

    def _trouble(
        self, code: str, error: Exception, *, asked_s: float | None = None, permanent: bool = False
    ) -> PublishReport:
        """Send the batch back to the queue with a due time, or fail it when nothing is left to try."""
        trouble = Trouble(
            step=self.step, code=code, error=error, asked_s=asked_s, permanent=permanent
        )
        claim = self.lease.claim()
        decided = decided_after(
            self.platform, claim, trouble, started_at=self.started_at, jitter=self.jitter()
        )
        self.lease.moved(
            self.platform.control.advance(
                claim,
                decided.move,
                now=decided.attempt.failed_at,
                changes=decided.changes,
                attempt=decided.attempt,
            )
        )
        return self._report(self._state(), (), None)

    def _withdraw(self, void: FollowUpVoid) -> PublishReport:
        """Leave the batch as it stood, and keep why among its attempts."""
        void.settle(self.platform)
        claim, now = self.lease.claim(), self.platform.clock.now()
        attempt = PublishAttempt(
            tier=Tier.FIRST,
            worker_id=claim.worker_id,
            enqueued_at=claim.state.enqueued_at,
            started_at=self.started_at,
            failed_at=now,
            step=self.step,
            code="withdrawn",
            message=str(void),
        )
        self.lease.moved(
            self.platform.control.withdraw(
                claim,
                now=now,
                changes=void.as_it_stood,
                attempt=attempt,
                settlement=void.settlement,
                ledger=void.ledger,
            )
        )
        self.plan = None
        return self._report(self._state(), (), None)

    def _move(self, move: Move, **changes: Any) -> None:
        claim = self.platform.control.advance(
            self.lease.claim(), move, now=self.platform.clock.now(), changes=changes
        )
        self.lease.moved(claim)

    def _state(self) -> PublishState:
        return self.platform.control.get_state(self.batch_id, self.target_id)


def _ms(start_s: float, stop_s: float) -> int:
    return round(1000 * (stop_s - start_s))


def republish(
    platform: Platform, batch: BatchId, target: TargetId, *, act: AuditEntry | None = None
) -> PublishState:
    """Put a batch back in the queue on an operator's word, even if newer ones have been published.

    Publishing it takes the target back, or forward, to that batch, as an ordinary guarded plan; ``act`` goes into the
    audit log with it. Raises ``NotFound``
    for a batch that was never admitted for this target, ``IllegalMove`` for one that is on its way already.
    """
    return platform.control.requeue(
        batch, target, now=platform.clock.now(), intent=Intent.REPUBLISH, act=act
    )
