"""Follow-ups: work on a batch that is COMPLETE already, through the same queue, lease and executor.

A planner makes the plan; the executor does not know one from another. What differs is told here: whether the snapshot
moves, whose ledger it is, what it makes up for, and what is to be marked as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

import pyarrow as pa

from penstock.batch.manifest import Manifest
from penstock.errors import PlanChanged
from penstock.plan.ledger import LedgerRow
from penstock.ports.approvals import Approval, ApprovalStatus
from penstock.ports.control import Settlement
from penstock.ports.drift import DriftStatus
from penstock.publish.state import Intent, PublishState
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.release import plan_release
from penstock.use_cases.repair import plan_repair
from penstock.use_cases.stored_plans import open_plan, plan_chunks

_PAGE = 1000


class FollowUpVoid(Exception):
    """There is nothing to do any more: the batch is left as it stood."""

    def __init__(
        self,
        why: str,
        state: PublishState,
        *,
        base: StoredPlan | None = None,
        settle: Callable[[Platform], None] = lambda _platform: None,
        settlement: Settlement | None = None,
        ledger: Sequence[LedgerRow] | None = None,
    ) -> None:
        super().__init__(why)
        self.settle = settle
        """Marks what asked for it as settled."""
        self.settlement, self.ledger = settlement, ledger
        """What is decided about all the same, and the batch's account of it."""
        self.as_it_stood: Mapping[str, Any] = {}
        if base is not None:
            self.as_it_stood = {
                "plan_digest": state.base_plan_digest,
                "execution_plan_path": base.path,
            }


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """A planned follow-up."""

    plan: StoredPlan
    moves_snapshot: bool
    """Whether what it applies changes what the target is known to hold."""
    keeps_ledger: bool
    """Whether its ledger is that of the batch, carried on."""
    settlement: Callable[[], Settlement | None] = field(default=lambda: None)
    """What it makes up for; the approval behind that is used up with it."""


def plan_follow_up(platform: Platform, state: PublishState, manifest: Manifest) -> FollowUp:
    """Plan what a batch's state asks for; raises :class:`FollowUpVoid`."""
    match state.intent:
        case Intent.RELEASE:
            return _release(platform, state)
        case Intent.REPAIR:
            return _repair(platform, state, manifest)
        case Intent.PUBLISH | Intent.REPUBLISH:
            raise AssertionError(f"{state.intent} is no follow-up")
        case _:
            assert_never(state.intent)


def begun_plan(platform: Platform, state: PublishState) -> StoredPlan | None:
    """Return the plan of a follow-up that was begun and has not ended: it goes on, whatever became of its reasons.

    Half of it may have taken effect, so that it can be neither withdrawn nor planned anew. Raises ``PlanChanged``.
    """
    for begun in platform.control.begun_executions(state.source_id, state.target_id):
        ours = (begun.batch_id, begun.intent) == (state.batch_id, state.intent)
        if ours and begun.plan_digest == state.plan_digest:
            return open_plan(platform.objects, begun.plan_path, expected_digest=begun.plan_digest)
    return None


def _repair(platform: Platform, state: PublishState, manifest: Manifest) -> FollowUp:
    plan, base, found = plan_repair(platform, state, manifest)
    if not plan.document.operations:

        def gone(platform: Platform) -> None:
            platform.control.settle_drift(list(found), DriftStatus.GONE, now=platform.clock.now())

        why = "all that was found is as it should be by now"
        raise FollowUpVoid(why, state, base=base, settle=gone)

    def settlement() -> Settlement:
        digest = plan.document.digest
        exceptions = platform.control.plan_exceptions(state.batch_id, state.target_id, digest)
        failed = {exception.operation_id for exception in exceptions}
        return Settlement(
            plan_digest=base.document.digest,
            operation_ids=(),
            settled_by=digest,
            drift_ids=tuple(drift for drift, operation in found.items() if operation not in failed),
        )

    return FollowUp(plan=plan, moves_snapshot=False, keeps_ledger=False, settlement=settlement)


def _release(platform: Platform, state: PublishState) -> FollowUp:
    begun = begun_plan(platform, state)
    if begun is not None:
        return _releasing(platform, begun)
    approval = _approval(platform, state)
    try:
        release = plan_release(platform, state)
    except PlanChanged as changed:
        raise FollowUpVoid(str(changed), state, settle=_voids(approval, str(changed))) from changed
    plan = release.plan
    if not plan.document.operations:
        raise FollowUpVoid(
            "nothing that was held is as it was when the plan was made: newer batches have decided about it",
            state,
            base=release.base,
            settlement=_settlement(platform, plan),
            ledger=plan.document.ledger,
        )
    return _releasing(platform, plan)


def _releasing(platform: Platform, plan: StoredPlan) -> FollowUp:
    return FollowUp(
        plan=plan,
        moves_snapshot=True,
        keeps_ledger=True,
        settlement=lambda: _settlement(platform, plan),
    )


def _settlement(platform: Platform, plan: StoredPlan) -> Settlement:
    """Return what a release makes up for; what it leaves out is superseded."""
    origin = plan.document.derived_from
    assert origin is not None
    return Settlement(
        plan_digest=origin.plan_digest,
        operation_ids=_OperationIds.of(platform, plan),
        settled_by=plan.document.digest,
        supersedes_rest=True,
    )


def _approval(platform: Platform, state: PublishState) -> Approval:
    digest = state.base_plan_digest or state.plan_digest
    assert digest is not None
    approval = platform.control.active_approval(
        state.batch_id, state.target_id, digest, now=platform.clock.now()
    )
    if approval is None:
        raise FollowUpVoid(f"no approval of plan {digest} is in force", state)
    return approval


def _voids(approval: Approval, why: str) -> Callable[[Platform], None]:
    def settle(platform: Platform) -> None:
        platform.control.settle_approval(
            approval.approval_id, ApprovalStatus.VOID, now=platform.clock.now(), why=why
        )

    return settle


@dataclass(frozen=True)
class _OperationIds:
    """A plan's operation ids, read already: they are written in a transaction, in which nobody waits for a store."""

    columns: Sequence[pa.ChunkedArray]

    @classmethod
    def of(cls, platform: Platform, plan: StoredPlan) -> _OperationIds:
        chunks = plan_chunks(platform.objects, plan, columns=["operation_id"])
        return cls([chunk["operation_id"] for chunk in chunks])

    def __iter__(self) -> Iterator[Sequence[str]]:
        """Yield pages of hexadecimal ids."""
        for column in self.columns:
            for start in range(0, len(column), _PAGE):
                yield [value.hex() for value in column.slice(start, _PAGE).to_pylist()]
