"""Holds: what guards keep back of a batch, and the decisions that people make about it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from penstock.batch.manifest import Mode
from penstock.errors import IllegalMove, NothingToDo, PenstockError
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.guards import Hold
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.release import approved_plan
from penstock.use_cases.stored_plans import plan_chunks

DIGEST_DIGITS = 32
SHORTEST_PREFIX = 8
DEFAULT_EXPIRY_S = 24 * 3600.0
LONGEST_EXPIRY_S = 30 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class HeldBatch:
    """A batch that a guard holds something of."""

    state: PublishState
    plan_digest: str
    """What an approval binds to."""
    holds: tuple[Hold, ...]
    superseded_by: BatchId | None
    """A newer full batch that planned it again; None while somebody can decide about it."""
    decisions: tuple[Approval, ...]
    """On this plan, newest first."""


def list_holds(
    platform: Platform,
    *,
    source: SourceId | None = None,
    sources: Collection[SourceId] | None = None,
    live_only: bool = True,
    limit: int = 100,
) -> list[HeldBatch]:
    """Return batches with something held, newest source timestamp first; by default those that wait for a decision."""
    found = []
    states = platform.control.list_states(
        source=source,
        sources=sources,
        statuses=[PublishStatus.COMPLETE],
        held_only=True,
        limit=limit,
    )
    for state in states:
        held = _held_batch(platform, state)
        if not live_only or (held.superseded_by is None and not _is_rejected(held)):
            found.append(held)
    return found


def show_hold(platform: Platform, state: PublishState) -> HeldBatch:
    """Return what is held of a batch; raises ``NothingToDo`` if nothing is, ``PlanChanged`` if its plan was edited."""
    if not state.held:
        raise NothingToDo(
            f"no guard holds anything of batch {state.batch_id!r} for target {state.target_id!r}"
        )
    return _held_batch(platform, state)


def approve_hold(
    platform: Platform,
    batch: BatchId,
    target: TargetId,
    plan_digest: str,
    *,
    by: By,
    expires_in_s: float = DEFAULT_EXPIRY_S,
) -> Approval:
    """Approve what guards hold of a batch's plan, and put the batch in the queue to execute just that.

    The approval counts for this plan alone and for ``expires_in_s`` seconds. Raises ``Unsigned`` without a name or a
    reason, ``IllegalMove`` where there is nothing to approve any more, ``PlanChanged`` if the plan was edited.
    """
    if not 0 < expires_in_s <= LONGEST_EXPIRY_S:
        raise PenstockError(
            f"an approval cannot count for {expires_in_s:g} s: give more than 0 and at most {LONGEST_EXPIRY_S:g}"
        )
    return _decide(platform, batch, target, plan_digest, Decision.APPROVE, by, expires_in_s)


def reject_hold(
    platform: Platform, batch: BatchId, target: TargetId, plan_digest: str, *, by: By
) -> Approval:
    """Decide that what guards hold of a batch's plan is not wanted; a later full batch plans it again."""
    return _decide(platform, batch, target, plan_digest, Decision.REJECT, by, None)


def _decide(
    platform: Platform,
    batch: BatchId,
    target: TargetId,
    plan_digest: str,
    decision: Decision,
    by: By,
    expires_in_s: float | None,
) -> Approval:
    reason = by.why(f"{decision} a hold")
    state = platform.control.get_state(batch, target)
    digest = _whole_digest(state, plan_digest)
    if state.held:
        _check_plan(platform, state)
    now = platform.clock.now()
    active = decision is Decision.APPROVE
    decided = Approval(
        approval_id=uuid4().hex,
        batch_id=batch,
        target_id=target,
        source_id=state.source_id,
        plan_digest=digest,
        decision=decision,
        approver=by.actor,
        reason=reason,
        decided_at=now,
        expires_at=None if expires_in_s is None else now + timedelta(seconds=expires_in_s),
        status=ApprovalStatus.ACTIVE if active else ApprovalStatus.REJECTED,
        settled_at=None if active else now,
    )
    act = by.entry(
        f"hold.{decision}",
        batch,
        now=now,
        source=state.source_id,
        details={"target_id": target, "plan_digest": digest, "held": state.held},
    )
    return platform.control.decide_hold(decided, now=now, act=act)


def _whole_digest(state: PublishState, given: str) -> str:
    """Return the digest that ``given`` begins; what is of another plan is refused when it is decided."""
    planned = state.base_plan_digest or state.plan_digest or ""
    if len(given) >= SHORTEST_PREFIX and planned.startswith(given):
        return planned
    if len(given) != DIGEST_DIGITS:
        raise IllegalMove(
            f"{given!r} does not begin the digest of the plan of batch {state.batch_id!r}: give at least "
            f"{SHORTEST_PREFIX} digits of it, as `penstock holds show` writes it"
        )
    return given


def _check_plan(platform: Platform, state: PublishState) -> None:
    """Read the whole plan, so that one that was edited is noticed now and not when it is executed."""
    for _ in plan_chunks(platform.objects, approved_plan(platform, state), columns=["verdict"]):
        pass


def _held_batch(platform: Platform, state: PublishState) -> HeldBatch:
    plan: StoredPlan = approved_plan(platform, state)
    digest = plan.document.digest
    decisions = platform.control.list_approvals(batch=state.batch_id)
    mine = [d for d in decisions if (d.target_id, d.plan_digest) == (state.target_id, digest)]
    return HeldBatch(
        state=state,
        plan_digest=digest,
        holds=plan.document.holds,
        superseded_by=_newer_full(platform, state),
        decisions=tuple(mine),
    )


def _newer_full(platform: Platform, state: PublishState) -> BatchId | None:
    newer = platform.control.list_states(
        source=state.source_id, target=state.target_id, statuses=[PublishStatus.COMPLETE]
    )
    for other in newer:
        if other.source_timestamp <= state.source_timestamp:
            return None
        if platform.control.get_batch(other.batch_id).manifest.mode is Mode.FULL:
            return other.batch_id
    return None


def _is_rejected(held: HeldBatch) -> bool:
    return any(decision.status is ApprovalStatus.REJECTED for decision in held.decisions)
