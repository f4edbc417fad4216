"""What a publish came to: verdicts, ledger and metrics, from the plan and from what was not applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from penstock.batch.rows import Kind
from penstock.plan.ledger import LedgerRow
from penstock.plan.operations import Action
from penstock.ports.control import OperationException
from penstock.publish.state import PublishMetrics, PublishState
from penstock.use_cases.merges import MergeOverview, merges_of
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.reports import GuardVerdict, PublishReport
from penstock.use_cases.stored_plans import open_plan


def guard_verdicts(plan: StoredPlan | None) -> list[GuardVerdict]:
    """Return what the guards said of a plan, with how much each holds."""
    if plan is None:
        return []
    document = plan.document
    return [
        GuardVerdict(
            guard=verdict.guard,
            passed=verdict.passed,
            message=verdict.message,
            held_operations=sum(h.operations for h in document.holds if h.guard == verdict.guard),
            canary=verdict.canary,
            holds=tuple(hold for hold in document.holds if hold.guard == verdict.guard),
        )
        for verdict in document.guards
    ]


PLANNED_CODES = frozenset({"refused_by_plan", "held_by_guard", "blocked_by_plan"})
"""Codes of what planning itself kept back."""
_COLUMN_OF_OUTCOME = {"blocked": "blocked", "lost": "lost"}
_COLUMN_OF_ACTION = {
    Action.CREATE: "created",
    Action.UPDATE: "updated",
    Action.DELETE: "deleted",
}


def settled_ledger(
    planned: Sequence[LedgerRow], exceptions: Iterable[OperationException]
) -> tuple[LedgerRow, ...]:
    """Move what did not take effect from the plan's columns to the column of what became of it.

    What planning itself refused, held or blocked stands in its column already.
    """
    moved: dict[tuple[str, str], Counter[str]] = {}
    for exception in exceptions:
        if exception.code in PLANNED_CODES:
            continue
        counter = moved.setdefault((exception.kind, exception.type_name), Counter())
        counter[_COLUMN_OF_ACTION[Action(exception.action)]] -= 1
        counter[_COLUMN_OF_OUTCOME.get(exception.outcome, "dead_lettered")] += 1
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
    merges = merges_of(platform, plan, limit=0) if plan else MergeOverview()
    metrics = state.metrics.model_dump(exclude={"execution_time_ms"})
    return PublishReport(
        state=state,
        ledger=tuple(platform.control.get_ledger(state.batch_id, state.target_id)),
        guards=tuple(guard_verdicts(plan)),
        operations=plan.document.operations if plan else 0,
        applied=sum(metrics.values()),
        already_applied=0,
        plan_ms=0,
        execute_ms=state.metrics.execution_time_ms,
        merged=merges.operations,
        conflicts=merges.conflicts,
    )
