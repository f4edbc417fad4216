"""Progress of plans in the control database, by the chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    false,
    func,
    not_,
    or_,
    select,
    update,
)

from penstock.errors import NotFound, PenstockError
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.guards import NEVER_RELEASED
from penstock.ports.control import (
    SUPERSEDED,
    BegunExecution,
    ChunkRecord,
    Claim,
    OperationException,
    PlanExecution,
    Settlement,
)
from penstock.publish.state import Intent, PublishState
from resources.control_db.drift import repair_drift
from resources.control_db.engine import Database, insert_new, upsert
from resources.control_db.leases import hold, note_answered, note_call, read_state
from resources.control_db.letter_records import record_operation_letters
from resources.control_db.rows import storable_text
from resources.control_db.tables import execution_chunk, operation_exception, plan_execution

_CHUNK = [execution_chunk.c[field.name] for field in fields(ChunkRecord)]
_PAGE = 5000
"""Exceptions stored at once, so that a million of them cost no more memory than these."""
_EXCEPTION = [operation_exception.c[field.name] for field in fields(OperationException)]
_FIELDS = tuple(field.name for field in fields(OperationException))
_EXECUTION = [plan_execution.c[field.name] for field in fields(PlanExecution)]
_BEGUN = [plan_execution.c[field.name] for field in fields(BegunExecution)]


class SqlExecutions(Database):
    """:class:`penstock.ports.control.Executions` in SQL."""

    def chunks(self, plan_digest: str, batch: BatchId, target: TargetId) -> dict[int, ChunkRecord]:
        """Return what is recorded of a plan's chunks, by number."""
        key = {"batch_id": batch, "target_id": target, "plan_digest": plan_digest}
        query = select(*_CHUNK).where(_matches(key)).order_by(execution_chunk.c.chunk)
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
        return {row["chunk"]: ChunkRecord(**row) for row in rows}

    def start_chunk(self, claim: Claim, chunk: int, operations: int, *, now: datetime) -> None:
        """Record the intent to apply a chunk, before it is sent; again is no error."""
        key = {**_key_of(claim), "chunk": chunk}
        nothing_yet = {"applied": 0, "already_applied": 0, "failed": 0, "finished_at": None}
        row = {**key, **nothing_yet, "operations": operations, "started_at": now}
        with self._writing() as connection:
            hold(connection, claim)
            insert_new(connection, execution_chunk, [row])
            note_call(connection, claim, now)

    def finish_chunk(
        self,
        claim: Claim,
        chunk: int,
        *,
        applied: int,
        already_applied: int,
        exceptions: Sequence[OperationException],
        data: Mapping[str, str] | None = None,
        now: datetime,
    ) -> None:
        """Record what became of a chunk, dead letters included; a chunk that is finished stays as it is."""
        key = {**_key_of(claim), "chunk": chunk}
        counts = {
            "applied": applied,
            "already_applied": already_applied,
            "failed": len(exceptions),
        }
        with self._writing() as connection:
            hold(connection, claim)
            if _finished_at(connection, claim, key):
                return
            note_answered(connection, claim, now)
            table = execution_chunk
            values = {**counts, "finished_at": now}
            connection.execute(update(table).where(_matches(key)).values(**values))
            _record(connection, claim, exceptions, now)
            record_operation_letters(connection, claim.state, exceptions, data or {}, now)

    def note_answer(self, claim: Claim, *, now: datetime) -> None:
        """Note that the target answers, in the middle of a chunk that takes it many calls."""
        with self._writing() as connection:
            hold(connection, claim)
            note_answered(connection, claim, now, called_again=True)

    def record_exceptions(
        self, claim: Claim, exceptions: Iterable[OperationException], *, now: datetime
    ) -> None:
        """Record operations of the plan that are never sent (refused, held); again is no error."""
        with self._writing() as connection:
            hold(connection, claim)
            _record(connection, claim, exceptions, now)

    def list_exceptions(
        self, batch: BatchId, target: TargetId, *, limit: int = 1000
    ) -> list[OperationException]:
        """Return what was planned and not applied by the present plan, by operation id.

        A follow-up's plan stands beside that of the batch; what has been made up for is left out.
        """
        table = operation_exception.c
        with self._reading() as connection:
            state = read_state(connection, batch, target)
            query = select(*_EXCEPTION).where(open_exceptions(state))
            rows = connection.execute(query.order_by(table.operation_id).limit(limit)).mappings()
            return [OperationException(**row) for row in rows]

    def plan_exceptions(
        self, batch: BatchId, target: TargetId, plan_digest: str
    ) -> Iterator[OperationException]:
        """Yield what one plan did not apply, settled or not, by operation id, in bounded memory."""
        table = operation_exception.c
        mine = and_(
            table.batch_id == batch, table.target_id == target, table.plan_digest == plan_digest
        )
        after = ""
        while True:
            query = select(*_EXCEPTION).where(mine, table.operation_id > after)
            with self._reading() as connection:
                rows = connection.execute(query.order_by(table.operation_id).limit(_PAGE))
                page = [OperationException(**row) for row in rows.mappings()]
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].operation_id

    def list_executions(self, batch: BatchId, target: TargetId) -> list[PlanExecution]:
        """Return the plans of a batch that were executed to their end, or given up half-way, oldest first."""
        table = plan_execution.c
        mine = and_(
            table.batch_id == batch, table.target_id == target, table.finished_at.is_not(None)
        )
        query = select(*_EXECUTION).where(mine)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.snapshot_after, table.finished_at))
            return [
                PlanExecution(**{**row, "intent": Intent(row["intent"])}) for row in rows.mappings()
            ]

    def begun_executions(self, source: SourceId, target: TargetId) -> list[BegunExecution]:
        """Return the plans of a lane whose execution was begun and has not ended, oldest first."""
        table = plan_execution.c
        mine = and_(
            table.source_id == source, table.target_id == target, table.finished_at.is_(None)
        )
        query = select(*_BEGUN).where(mine).order_by(table.started_at, table.plan_digest)
        with self._reading() as connection:
            return [
                BegunExecution(**{**row, "intent": Intent(row["intent"])})
                for row in connection.execute(query).mappings()
            ]


def open_exceptions(state: PublishState) -> ColumnElement[bool]:
    """The condition of what a batch's plan, and its follow-up's, did not apply and nothing has made up for."""
    table = operation_exception.c
    digests = [d for d in (state.plan_digest, state.base_plan_digest) if d is not None]
    return and_(
        table.batch_id == state.batch_id,
        table.target_id == state.target_id,
        table.plan_digest.in_(digests),
        table.settled_by.is_(None),
    )


def settle(
    connection: Connection, state: PublishState, settlement: Settlement, now: datetime
) -> None:
    """Mark exceptions as made up for, or as superseded."""
    table = operation_exception
    for page in settlement.operation_ids:
        mine = and_(
            table.c.batch_id == state.batch_id,
            table.c.target_id == state.target_id,
            table.c.plan_digest == settlement.plan_digest,
            table.c.operation_id.in_(list(page)),
            table.c.settled_by.is_(None),
        )
        connection.execute(update(table).where(mine).values(settled_by=settlement.settled_by))
    if settlement.supersedes_rest:
        _supersede_rest(connection, state, settlement.plan_digest)
    repair_drift(connection, settlement, now)


def _supersede_rest(connection: Connection, state: PublishState, plan_digest: str) -> None:
    """Settle what is left of what an approval of a plan releases: what is held, and what that alone blocks."""
    table, culprit = operation_exception, operation_exception.alias("culprit")
    mine = and_(
        table.c.batch_id == state.batch_id,
        table.c.target_id == state.target_id,
        table.c.plan_digest == plan_digest,
        table.c.settled_by.is_(None),
    )
    released = select(culprit.c.operation_id).where(
        culprit.c.batch_id == state.batch_id,
        culprit.c.target_id == state.target_id,
        culprit.c.plan_digest == plan_digest,
        _releasable(culprit),
    )
    rest = or_(_releasable(table), table.c.blocked_by.in_(released))
    connection.execute(update(table).where(mine, rest).values(settled_by=SUPERSEDED))


def _releasable(exceptions: FromClause) -> ColumnElement[bool]:
    never = exceptions.c.guard.in_(sorted(NEVER_RELEASED))
    return and_(exceptions.c.outcome == "held", not_(func.coalesce(never, false())))


def exception_counts(connection: Connection, state: PublishState) -> dict[str, int]:
    """Count what a batch's plan did not apply: ``exceptions``, and of these ``held``, ``blocked``, ``rejected``."""
    outcome = operation_exception.c.outcome
    query = select(outcome, func.count()).where(open_exceptions(state)).group_by(outcome)
    counts = {"exceptions": 0, "held": 0, "blocked": 0, "rejected": 0}
    for name, n in connection.execute(query):
        counts["exceptions"] += n
        counts[name if name in {"held", "blocked"} else "rejected"] += n
    return counts


def begin_execution(connection: Connection, begun: BegunExecution) -> None:
    """Record that a plan is about to be executed; again is no error."""
    nothing_yet = {"applied": 0, "already_applied": 0, "exceptions": 0}
    row = {**asdict(begun), "intent": str(begun.intent), **nothing_yet}
    insert_new(connection, plan_execution, [row])


def record_execution(connection: Connection, execution: PlanExecution) -> None:
    """Record that the execution of a plan has ended."""
    row = {**asdict(execution), "intent": str(execution.intent)}
    upsert(connection, plan_execution, [row])


def _key_of(claim: Claim) -> dict[str, Any]:
    state = claim.state
    if state.plan_digest is None:
        raise PenstockError(
            f"batch {state.batch_id!r} has no plan for target {state.target_id!r} yet: advance it "
            "with Move.PLANNED and its plan_digest, and go on with the claim that returns"
        )
    return {
        "batch_id": state.batch_id,
        "target_id": state.target_id,
        "plan_digest": state.plan_digest,
    }


def _matches(key: dict[str, Any]) -> ColumnElement[bool]:
    return and_(*(execution_chunk.c[name] == value for name, value in key.items()))


def _finished_at(connection: Connection, claim: Claim, key: dict[str, Any]) -> datetime | None:
    query = select(execution_chunk.c.finished_at).where(_matches(key))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            f"chunk {key['chunk']} of batch {claim.state.batch_id!r} was never started: record the "
            "intent with start_chunk() before it is sent"
        )
    finished_at: datetime | None = row.finished_at
    return finished_at


def _record(
    connection: Connection, claim: Claim, exceptions: Iterable[OperationException], now: datetime
) -> None:
    key = {**_key_of(claim), "recorded_at": now}
    remaining = iter(exceptions)
    while page := list(islice(remaining, _PAGE)):
        insert_new(connection, operation_exception, [{**_row_of(e), **key} for e in page])


def _row_of(exception: OperationException) -> dict[str, Any]:
    # What was refused may have been refused for its text.
    texts = {name: storable_text(getattr(exception, name)) for name in ("key", "to_key", "message")}
    return {**{name: getattr(exception, name) for name in _FIELDS}, **texts}
