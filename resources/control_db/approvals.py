"""Decisions about held operations, in the control database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select, update

from penstock.batch.manifest import Mode
from penstock.errors import IllegalMove
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.audit_log import AuditEntry
from penstock.publish.state import Intent, PublishState, PublishStatus, requeued
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database
from resources.control_db.leases import read_state, write_state
from resources.control_db.rows import storable_text
from resources.control_db.tables import approval, publish_state
from resources.control_db.telling import tell_decided, tell_requeued_batch

_COLUMNS = [approval.c[field.name] for field in fields(Approval)]


class SqlApprovals(Database):
    """:class:`penstock.ports.approvals.Approvals` in SQL."""

    def decide_hold(
        self, decided: Approval, *, now: datetime, act: AuditEntry | None = None
    ) -> Approval:
        """Record a decision in one transaction with what follows from it.

        An approval puts the batch back in the queue with the intent to release.
        """
        with self._writing() as connection:
            state = read_state(connection, decided.batch_id, decided.target_id, lock=True)
            _check_holds(connection, state, decided)
            _check_undecided(connection, decided, now)
            connection.execute(approval.insert(), _row_of(decided))
            if decided.decision is Decision.APPROVE:
                after = requeued(state, now=now, intent=Intent.RELEASE)
                write_state(connection, state, after)
            tell_decided(connection, state, decided, now)
            if decided.decision is Decision.APPROVE:
                tell_requeued_batch(connection, after, decided.approver, now)
            if act is not None:
                add_act(connection, act)
        return decided

    def active_approval(
        self, batch: BatchId, target: TargetId, plan_digest: str, *, now: datetime
    ) -> Approval | None:
        """Return the approval that releases a plan's held operations now; one that has expired is marked so."""
        with self._writing() as connection:
            return _active(connection, batch, target, plan_digest, now)

    def settle_approval(
        self, approval_id: str, status: ApprovalStatus, *, now: datetime, why: str | None = None
    ) -> None:
        """Mark an active approval as used, void or expired; one that is settled stays as it is."""
        with self._writing() as connection:
            _settle(connection, approval_id, status, now, why)

    def list_approvals(
        self,
        *,
        batch: BatchId | None = None,
        source: SourceId | None = None,
        limit: int = 1000,
    ) -> list[Approval]:
        """Return decisions, newest first."""
        table = approval.c
        query = select(*_COLUMNS).order_by(table.decided_at.desc(), table.approval_id).limit(limit)
        if batch is not None:
            query = query.where(table.batch_id == batch)
        if source is not None:
            query = query.where(table.source_id == source)
        with self._reading() as connection:
            return [_approval_of(dict(row)) for row in connection.execute(query).mappings()]


def use_approvals(
    connection: Connection, state: PublishState, plan_digest: str, now: datetime
) -> None:
    """Mark the approval of a plan as used, in the transaction that records what it released."""
    table = approval.c
    mine = and_(
        table.batch_id == state.batch_id,
        table.target_id == state.target_id,
        table.plan_digest == plan_digest,
        table.status == str(ApprovalStatus.ACTIVE),
    )
    used = {"status": str(ApprovalStatus.USED), "settled_at": now}
    connection.execute(update(approval).where(mine).values(**used))


def void_approvals(connection: Connection, state: PublishState, now: datetime, *, why: str) -> None:
    """Mark what is active of a batch as void, in the transaction that makes it so."""
    table = approval.c
    mine = and_(
        table.batch_id == state.batch_id,
        table.target_id == state.target_id,
        table.status == str(ApprovalStatus.ACTIVE),
    )
    void = {"status": str(ApprovalStatus.VOID), "settled_at": now, "settled_why": why}
    connection.execute(update(approval).where(mine).values(**void))


def _check_holds(connection: Connection, state: PublishState, decided: Approval) -> None:
    where = f"batch {state.batch_id!r} for target {state.target_id!r}"
    if state.status is not PublishStatus.COMPLETE:
        raise IllegalMove(
            f"{where} is {state.status}: only what a COMPLETE batch holds can be decided on"
        )
    planned = state.base_plan_digest or state.plan_digest
    if planned != decided.plan_digest:
        raise IllegalMove(
            f"{where} has plan {planned} and not {decided.plan_digest}: it was planned again. Look at "
            "`penstock holds show` and decide on that plan"
        )
    if not state.held:
        raise IllegalMove(f"{where} holds nothing: there is nothing to decide on")
    newer = _newer_full(connection, state)
    if newer is not None:
        raise IllegalMove(
            f"{where} was followed by full batch {newer!r}, which planned again what this one held: decide "
            "on that one"
        )


def _newer_full(connection: Connection, state: PublishState) -> BatchId | None:
    """Return a full batch of the lane that is COMPLETE and newer, if there is one."""
    table = publish_state.c
    query = select(table.batch_id).where(
        table.source_id == state.source_id,
        table.target_id == state.target_id,
        table.source_timestamp > state.source_timestamp,
        table.mode == str(Mode.FULL),
        table.status == str(PublishStatus.COMPLETE),
    )
    found: BatchId | None = connection.execute(query.limit(1)).scalar()
    return found


def _check_undecided(connection: Connection, decided: Approval, now: datetime) -> None:
    active = _active(connection, decided.batch_id, decided.target_id, decided.plan_digest, now)
    if active is not None:
        raise IllegalMove(
            f"plan {decided.plan_digest} was approved by {active.approver} already: wait until it is released"
        )
    table = approval.c
    rejected = select(table.approver).where(
        table.batch_id == decided.batch_id,
        table.target_id == decided.target_id,
        table.plan_digest == decided.plan_digest,
        table.status == str(ApprovalStatus.REJECTED),
    )
    by = connection.execute(rejected.limit(1)).scalar()
    if by is not None:
        raise IllegalMove(
            f"plan {decided.plan_digest} was rejected by {by}: republish the batch to plan it again, and decide on that"
        )


def _active(
    connection: Connection, batch: BatchId, target: TargetId, plan_digest: str, now: datetime
) -> Approval | None:
    table = approval.c
    query = select(*_COLUMNS).where(
        table.batch_id == batch,
        table.target_id == target,
        table.plan_digest == plan_digest,
        table.status == str(ApprovalStatus.ACTIVE),
    )
    for row in connection.execute(query).mappings().all():
        found = _approval_of(dict(row))
        if found.expires_at is None or now < found.expires_at:
            return found
        why = f"it was not used before {found.expires_at.isoformat()}"
        _settle(connection, found.approval_id, ApprovalStatus.EXPIRED, now, why)
    return None


def _settle(
    connection: Connection, approval_id: str, status: ApprovalStatus, now: datetime, why: str | None
) -> None:
    active = and_(
        approval.c.approval_id == approval_id, approval.c.status == str(ApprovalStatus.ACTIVE)
    )
    settled = {"status": str(status), "settled_at": now, "settled_why": storable_text(why)}
    connection.execute(update(approval).where(active).values(**settled))


def _approval_of(row: Mapping[str, Any]) -> Approval:
    words = {"decision": Decision(row["decision"]), "status": ApprovalStatus(row["status"])}
    return Approval(**{**row, **words})


def _row_of(decided: Approval) -> dict[str, Any]:
    words = {"decision": str(decided.decision), "status": str(decided.status)}
    texts = {name: storable_text(getattr(decided, name)) for name in ("approver", "reason")}
    return {**asdict(decided), **words, **texts}
