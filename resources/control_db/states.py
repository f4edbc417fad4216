"""Publish states, ledgers and snapshots in the control database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from penstock.batch.manifest import Mode
from penstock.batch.rows import Kind
from penstock.errors import LeaseLost, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.ledger import LedgerRow
from penstock.ports.attempts import PublishAttempt
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import (
    BegunExecution,
    Claim,
    PlanExecution,
    Settlement,
    SnapshotHead,
)
from penstock.publish.state import (
    FOLLOW_UPS,
    IN_HAND,
    SETTLED,
    Intent,
    Move,
    PublishState,
    PublishStatus,
    moved,
    requeued,
)
from resources.control_db.approvals import use_approvals, void_approvals
from resources.control_db.attempts import record_attempt
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, upsert
from resources.control_db.executions import (
    begin_execution,
    exception_counts,
    record_execution,
    settle,
)
from resources.control_db.leases import (
    check_claims,
    end_lease,
    end_start,
    hold,
    note_answered,
    note_start,
    read_state,
    state_is,
    write_state,
)
from resources.control_db.letter_records import (
    record_batch_letter,
    requeue_letters_of,
    resolve_corrected,
    supersede_others,
)
from resources.control_db.rows import STATE_COLUMNS, state_of
from resources.control_db.tables import publish_ledger, publish_state, snapshot
from resources.control_db.telling import tell_moved, tell_requeued_batch


class SqlStates(Database):
    """:class:`penstock.ports.control.PublishStates` in SQL."""

    def get_state(self, batch: BatchId, target: TargetId) -> PublishState:
        """Return one publish state, or raise ``NotFound``."""
        with self._reading() as connection:
            return read_state(connection, batch, target)

    def list_states(
        self,
        *,
        batch: BatchId | None = None,
        source: SourceId | None = None,
        sources: Collection[SourceId] | None = None,
        target: TargetId | None = None,
        statuses: Sequence[PublishStatus] = (),
        held_only: bool = False,
        limit: int = 1000,
    ) -> list[PublishState]:
        """Return publish states, newest source timestamp first."""
        table = publish_state.c
        newest_first = (table.source_timestamp.desc(), table.batch_id.desc(), table.target_id)
        query = select(*STATE_COLUMNS).order_by(*newest_first).limit(limit)
        for column, value in (
            (table.batch_id, batch),
            (table.source_id, source),
            (table.target_id, target),
        ):
            if value is not None:
                query = query.where(column == value)
        if sources is not None:
            query = query.where(table.source_id.in_(sorted(sources)))
        if held_only:
            query = query.where(table.held > 0)
        if statuses:
            query = query.where(table.status.in_([str(status) for status in statuses]))
        with self._reading() as connection:
            return [state_of(row) for row in connection.execute(query)]

    def advance(
        self,
        claim: Claim,
        move: Move,
        *,
        now: datetime,
        changes: Mapping[str, Any] | None = None,
        attempt: PublishAttempt | None = None,
        begun: BegunExecution | None = None,
    ) -> Claim:
        """Make one move under a claim, with other fields of the state, and record what led to it or what it begins.

        A move out of hand ends the lease. To SUCCEED, call :meth:`complete`.
        """
        if move is Move.SUCCEED:
            raise PenstockError("a batch succeeds together with its snapshot: call complete()")
        with self._writing() as connection:
            state = _move(connection, claim, move, now, changes)
            if begun is not None:
                begin_execution(connection, begun)
            if attempt is not None:
                record_attempt(connection, state, attempt)
                if move is Move.FAIL:
                    record_batch_letter(connection, state, attempt)
            withdrawn = move is Move.WITHDRAW
            tell_moved(connection, state, claim.fencing_token, now, withdrawn=withdrawn)
        return replace(claim, state=state)

    def requeue(
        self,
        batch: BatchId,
        target: TargetId,
        *,
        now: datetime,
        intent: Intent,
        act: AuditEntry | None = None,
        claims: int | None = None,
    ) -> PublishState:
        """Put a batch, and its dead letter, back in the queue on an operator's word (COMPLETE or FAILED to PENDING)."""
        with self._writing() as connection:
            check_claims(connection, ids.split_batch_id(batch)[0], target, claims)
            before = read_state(connection, batch, target, lock=True)
            after = requeued(before, now=now, intent=intent)
            write_state(connection, before, after)
            tell_requeued_batch(connection, after, act.actor if act else None, now)
            if intent not in FOLLOW_UPS:
                requeue_letters_of(connection, after, act, now)
            if act is not None:
                add_act(connection, act)
        return after

    def complete(
        self,
        claim: Claim,
        *,
        now: datetime,
        changes: Mapping[str, Any],
        head: SnapshotHead | None,
        ledger: Sequence[LedgerRow] | None,
        execution: PlanExecution | None = None,
        settlement: Settlement | None = None,
    ) -> PublishState:
        """In one transaction: SUCCEED, advance the snapshot, store the ledger and the execution, end the lease."""
        with self._writing() as connection:
            hold(connection, claim)
            if settlement is not None:
                settle(connection, claim.state, settlement, now)
                use_approvals(connection, claim.state, settlement.plan_digest, now)
            counts = exception_counts(connection, claim.state)
            note_answered(connection, claim, now)
            state = _move(connection, claim, Move.SUCCEED, now, {**counts, **changes})
            if head is not None:
                _advance_snapshot(connection, state, head)
            if ledger is not None:
                _store_ledger(connection, state, ledger)
            if execution is not None:
                record_execution(connection, execution)
            _settle_letters(connection, state, now)
            tell_moved(connection, state, claim.fencing_token, now)
        return state

    def withdraw(
        self,
        claim: Claim,
        *,
        now: datetime,
        changes: Mapping[str, Any],
        attempt: PublishAttempt,
        settlement: Settlement | None = None,
        ledger: Sequence[LedgerRow] | None = None,
    ) -> Claim:
        """In one transaction: WITHDRAW, record why, settle, store the ledger, and end the lease."""
        with self._writing() as connection:
            hold(connection, claim)
            counts: Mapping[str, Any] = {}
            if settlement is not None:
                settle(connection, claim.state, settlement, now)
                void_approvals(connection, claim.state, now, why=attempt.message)
                counts = exception_counts(connection, claim.state)
            state = _move(connection, claim, Move.WITHDRAW, now, {**counts, **changes})
            if ledger is not None:
                _store_ledger(connection, state, ledger)
            record_attempt(connection, state, attempt)
            tell_moved(connection, state, claim.fencing_token, now, withdrawn=True)
        return replace(claim, state=state)

    def end_execution(
        self, claim: Claim, execution: PlanExecution, head: SnapshotHead | None
    ) -> None:
        """Record how far a plan came that was given up, in one transaction with the snapshot that says so."""
        with self._writing() as connection:
            hold(connection, claim)
            if head is not None:
                _advance_snapshot(connection, execution, head)
            record_execution(connection, execution)

    def get_ledger(self, batch: BatchId, target: TargetId) -> list[LedgerRow]:
        """Return the conservation ledger of a COMPLETE batch, by kind and type."""
        table = publish_ledger
        mine = (table.c.batch_id == batch) & (table.c.target_id == target)
        columns = [table.c[name] for name in LedgerRow.model_fields]
        query = select(*columns).where(mine).order_by(table.c.kind, table.c.type_name)
        with self._reading() as connection:
            read_state(connection, batch, target)
            rows = connection.execute(query).mappings().all()
        return [LedgerRow.model_validate({**row, "kind": Kind(row["kind"])}) for row in rows]

    def recent_ledgers(
        self, source: SourceId, target: TargetId, *, other_than: BatchId, limit: int
    ) -> list[list[LedgerRow]]:
        """Return the ledgers of a lane's newest COMPLETE batches but one, newest source timestamp first."""
        states = publish_state.c
        newest = (
            select(states.batch_id)
            .where(
                states.source_id == source,
                states.target_id == target,
                states.batch_id != other_than,
                states.status == str(PublishStatus.COMPLETE),
            )
            .order_by(states.source_timestamp.desc())
            .limit(limit)
        )
        table = publish_ledger.c
        columns = [table[name] for name in LedgerRow.model_fields]
        with self._reading() as connection:
            batches = connection.execute(newest).scalars().all()
            mine = (table.target_id == target) & table.batch_id.in_(batches)
            query = (
                select(table.batch_id, *columns).where(mine).order_by(table.kind, table.type_name)
            )
            ledgers: dict[str, list[LedgerRow]] = {batch: [] for batch in batches}
            for row in connection.execute(query).mappings():
                values = {name: row[name] for name in LedgerRow.model_fields}
                ledgers[row["batch_id"]].append(LedgerRow.model_validate(values))
        return list(ledgers.values())

    def snapshot_head(self, source: SourceId, target: TargetId) -> SnapshotHead | None:
        """Return the current snapshot, or None before the first publish."""
        with self._reading() as connection:
            return _head(connection, source, target)


def _move(
    connection: Connection,
    claim: Claim,
    move: Move,
    now: datetime,
    changes: Mapping[str, Any] | None,
) -> PublishState:
    hold(connection, claim)
    before = read_state(connection, claim.state.batch_id, claim.state.target_id, lock=True)
    after = moved(before, move, now=now, changes=changes)
    write_state(connection, before, after)
    if move is Move.START:
        note_start(connection, after, now)
    if after.status not in IN_HAND:
        end_lease(connection, after)
    if after.status in SETTLED:
        end_start(connection, after)
    return after


def _settle_letters(connection: Connection, state: PublishState, now: datetime) -> None:
    """Settle the dead letters that a publish has made up for."""
    resolve_corrected(connection, state, now)
    query = select(publish_state.c.mode).where(state_is(state.batch_id, state.target_id))
    if state.intent not in FOLLOW_UPS and connection.execute(query).scalar() == Mode.FULL:
        supersede_others(connection, state, now)


def _head(connection: Connection, source: SourceId, target: TargetId) -> SnapshotHead | None:
    mine = (snapshot.c.source_id == source) & (snapshot.c.target_id == target)
    row = connection.execute(select(snapshot).where(mine)).mappings().one_or_none()
    return None if row is None else SnapshotHead(**row)


def _advance_snapshot(
    connection: Connection, state: PublishState | PlanExecution, head: SnapshotHead
) -> None:
    of = (head.batch_id, head.source_id, head.target_id)
    if of != (state.batch_id, state.source_id, state.target_id):
        raise PenstockError(
            f"the snapshot given for batch {state.batch_id!r} and target {state.target_id!r} is of "
            f"batch {head.batch_id!r} and lane {head.source_id} -> {head.target_id}"
        )
    old = _head(connection, state.source_id, state.target_id)
    version = old.version if old else 0
    if head.version != version + 1:
        raise LeaseLost(
            f"snapshot version {head.version} of lane {state.source_id} -> {state.target_id} does not "
            f"follow version {version}, which is current: another worker has advanced it"
        )
    if old and head.source_timestamp < old.source_timestamp:
        raise PenstockError(
            f"the snapshot of lane {state.source_id} -> {state.target_id} cannot go back from source "
            f"timestamp {old.source_timestamp} to {head.source_timestamp}: a republish keeps it"
        )
    upsert(connection, snapshot, [asdict(head)])


def _store_ledger(connection: Connection, state: PublishState, ledger: Sequence[LedgerRow]) -> None:
    table = publish_ledger
    mine = (table.c.batch_id == state.batch_id) & (table.c.target_id == state.target_id)
    connection.execute(delete(table).where(mine))
    key = {"batch_id": state.batch_id, "target_id": state.target_id}
    rows = [{**row.model_dump(), "kind": str(row.kind), **key} for row in ledger]
    if rows:
        connection.execute(table.insert(), rows)
