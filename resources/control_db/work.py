"""Workers in the control database, and the tasks that they are given under leases.

Claims that have to count what is in hand follow one another: on PostgreSQL under an advisory lock, on SQLite because
its writers do anyway. A claim locks the workflow (shared) before the task, like everybody who changes a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, select, text, tuple_, update

from penstock.errors import ChangedMeanwhile, LeaseLost, NotFound, NothingToDo
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.work import Grant, Granted, HeldTask, Renewal
from penstock.workflow.allotment import Standing, allot
from penstock.workflow.priority import WorkflowPolicy
from penstock.workflow.status import TaskMove, TaskStatus, WorkflowStatus, next_task_status
from penstock.workflow.workers import (
    EVERY_TENANT,
    BreakerScope,
    WorkBreaker,
    Worker,
    WorkerMove,
    WorkerPolicy,
    WorkerStatus,
    next_worker_status,
)
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_into, upsert
from resources.control_db.outbox import add_events
from resources.control_db.outcomes import locked_breakers
from resources.control_db.rows import storable_json
from resources.control_db.work_rows import (
    BREAKER_COLUMNS,
    assigned,
    breaker_of,
    grant_of,
    has_ready,
    held_of,
    is_held,
    read_standing,
    row_of_breaker,
    row_of_worker,
    status_changed,
    task,
    turn,
    worker_of,
)
from resources.control_db.workflow_tables import (
    work_breaker,
    worker,
    workflow,
    workflow_task,
    workflow_turn,
)

_FORGOTTEN_AT_ONCE = 500
_CLAIMS = 0x7461736B  # a number of our own, by which claims of tasks exclude each other


class SqlWork(Database):
    """:class:`penstock.ports.work.WorkStore` in SQL."""

    # Workers ------------------------------------------------------------------------------------------------

    def register(self, worker_: Worker, *, act: AuditEntry) -> Worker:
        """Add a worker. Raises ``ChangedMeanwhile`` where its id is taken by one that is not gone."""
        row = row_of_worker(worker_)
        with self._writing() as connection:
            before = _read_worker(connection, worker_.worker_id, lock=True)
            if before is not None and before.status is not WorkerStatus.GONE:
                raise _taken(worker_.worker_id)
            statement = insert_into(connection, worker)
            values = {name: value for name, value in row.items() if name != "worker_id"}
            statement = statement.on_conflict_do_update(
                index_elements=["worker_id"],
                set_=values,
                where=worker.c.status == str(WorkerStatus.GONE),
            ).returning(worker.c.worker_id)
            if connection.execute(statement, row).one_or_none() is None:
                raise _taken(worker_.worker_id)
            add_events(connection, [status_changed(before, worker_, act.at, act.reason)])
            add_act(connection, act)
        return worker_

    def heartbeat(
        self, worker_id: str, *, now: datetime, details: Mapping[str, Any] | None = None
    ) -> Worker:
        """Note that a worker is there; raises ``IllegalMove`` for one that is gone, ``NotFound``."""
        with self._writing() as connection:
            before = _must_read_worker(connection, worker_id)
            next_worker_status(before.status, WorkerMove.HEARTBEAT)
            after = replace(before, heartbeat_at=max(now, before.heartbeat_at))
            if details is not None:
                after = replace(after, details=storable_json(dict(details)))
            _write_worker(connection, after)
        return after

    def move_worker(
        self, worker_id: str, move: WorkerMove, *, now: datetime, act: AuditEntry | None, why: str
    ) -> Worker:
        """Move a worker; what one that is gone had is free to be taken back. Raises ``IllegalMove``, ``NotFound``."""
        with self._writing() as connection:
            before = _must_read_worker(connection, worker_id)
            after = _moved(before, move, now)
            if after != before:
                _write_worker(connection, after)
                add_events(connection, [status_changed(before, after, now, why)])
            if after.status is WorkerStatus.GONE:
                _let_go(connection, [worker_id], now)
            if act is not None:
                add_act(connection, act)
        return after

    def lose_silent(self, *, now: datetime, policy: WorkerPolicy) -> list[Worker]:
        """Give up workers of which nothing was heard for too long, and return them."""
        since = now - timedelta(seconds=policy.silent_s)
        silent = and_(worker.c.status != str(WorkerStatus.GONE), worker.c.heartbeat_at <= since)
        query = select(worker).where(silent).order_by(worker.c.worker_id)
        with self._reading() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []
        with self._writing() as connection:
            rows = connection.execute(query.with_for_update(skip_locked=True)).mappings()
            before = [worker_of(dict(row)) for row in rows]
            after = [_moved(each, WorkerMove.LOSE, now) for each in before]
            for each in after:
                _write_worker(connection, each)
            why = f"nothing was heard of it for {policy.silent_s:g} s"
            pairs = zip(before, after, strict=True)
            add_events(connection, [status_changed(was, is_, now, why) for was, is_ in pairs])
            _let_go(connection, [each.worker_id for each in after], now)
        return after

    def forget_gone(self, *, before: datetime) -> int:
        """Remove workers that were gone before a moment, with their breakers; return how many."""
        gone = and_(worker.c.status == str(WorkerStatus.GONE), worker.c.gone_at < before)
        query = select(worker.c.worker_id).where(gone).limit(_FORGOTTEN_AT_ONCE)
        removed = 0
        while True:
            with self._writing() as connection:
                chosen = query.with_for_update(skip_locked=True)
                ids = list(connection.execute(chosen).scalars())
                connection.execute(delete(worker).where(worker.c.worker_id.in_(ids)))
                connection.execute(
                    delete(work_breaker).where(
                        work_breaker.c.scope == "worker", work_breaker.c.scope_id.in_(ids)
                    )
                )
            removed += len(ids)
            if len(ids) < _FORGOTTEN_AT_ONCE:
                return removed

    def get_worker(self, worker_id: str) -> Worker:
        """Return one worker, or raise ``NotFound``."""
        with self._reading() as connection:
            return _must_read_worker(connection, worker_id, lock=False)

    def get_workers(self, worker_ids: Sequence[str]) -> dict[str, Worker]:
        """Return those of these workers that are there, by id."""
        query = select(worker).where(worker.c.worker_id.in_(worker_ids))
        with self._reading() as connection:
            found = [worker_of(dict(row)) for row in connection.execute(query).mappings()]
        return {each.worker_id: each for each in found}

    def list_workers(
        self,
        *,
        tenant: TenantId | None = None,
        status: WorkerStatus | None = None,
        limit: int = 1000,
    ) -> list[Worker]:
        """Return workers by id: of one tenant, and those that work for every tenant; None for all."""
        query = select(worker).order_by(worker.c.worker_id).limit(limit)
        if tenant is not None:
            query = query.where(worker.c.tenant_id.in_([tenant, EVERY_TENANT]))
        if status is not None:
            query = query.where(worker.c.status == str(status))
        with self._reading() as connection:
            return [worker_of(dict(row)) for row in connection.execute(query).mappings()]

    # Tasks --------------------------------------------------------------------------------------------------

    def claim_tasks(
        self,
        asking: Mapping[str, int],
        *,
        now: datetime,
        policy: WorkerPolicy,
        priorities: WorkflowPolicy,
        lease_s: float | None = None,
        ahead: Mapping[str, int] | None = None,
    ) -> Granted:
        """Give tasks that are ready to those who ask, by worker id, at most so many each; in one transaction."""
        with self._reading() as connection:
            # Most looks find nothing, and need keep no writer waiting for that.
            if not has_ready(connection, asking, now):
                return Granted()
        with self._writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIMS})
            standing = replace(read_standing(connection, asking=asking), ahead=ahead or {})
            wanted = {
                place.task.task_id: place.worker_id
                for place in allot(standing, policy, priorities, now)
                if place.worker_id is not None
            }
            if not wanted:
                return Granted()
            grants = _grant(connection, wanted, now, lease_s or policy.lease_s)
            add_events(connection, [assigned(grant, now) for grant in grants])
        return Granted(grants=grants, look_again=len(grants) < len(wanted))

    def renew_task(
        self, task_id: str, worker_id: str, fencing_token: int, *, now: datetime, lease_s: float
    ) -> Renewal:
        """Extend a lease to ``lease_s`` from now, or raise ``LeaseLost``. The first time, the task is running."""
        until = now + timedelta(seconds=lease_s)
        with self._writing() as connection:
            query = select(workflow_task).where(task.task_id == task_id).with_for_update()
            row = connection.execute(query).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no task {task_id!r}")
            if not _is_holder(dict(row), worker_id, fencing_token):
                raise LeaseLost(
                    f"worker {worker_id!r} (token {fencing_token}) does not have task {task_id!r} any more: stop, and "
                    "write nothing more for it"
                )
            changes: dict[str, Any] = {"lease_expires_at": until}
            if row["status"] == str(TaskStatus.ASSIGNED):
                after = next_task_status(TaskStatus.ASSIGNED, TaskMove.START)
                changes |= {"status": str(after), "started_at": now}
            mine = task.task_id == task_id
            connection.execute(update(workflow_task).where(mine).values(**changes))
        return Renewal(lease_expires_at=until, stop=row["status"] == str(TaskStatus.STOPPING))

    def held_tasks(self, *, worker_id: str | None = None) -> list[HeldTask]:
        """Return what workers have at the moment, or what one has."""
        query = select(workflow_task).where(is_held()).order_by(task.worker_id, task.task_id)
        if worker_id is not None:
            query = query.where(task.worker_id == worker_id)
        with self._reading() as connection:
            return [held_of(dict(row)) for row in connection.execute(query).mappings()]

    def standing(self, *, tenant: TenantId | None = None) -> Standing:
        """Return what an allotment is decided by; of one tenant only its tasks are ready."""
        with self._reading() as connection:
            return read_standing(connection, tenant)

    # Breakers -----------------------------------------------------------------------------------------------

    def list_work_breakers(self) -> list[WorkBreaker]:
        """Return every breaker of workers and sources that has counted anything."""
        query = select(*BREAKER_COLUMNS).order_by(work_breaker.c.scope, work_breaker.c.scope_id)
        with self._reading() as connection:
            return [breaker_of(dict(row)) for row in connection.execute(query).mappings()]

    def reset_work_breaker(
        self, scope: BreakerScope, scope_id: str, *, now: datetime, act: AuditEntry
    ) -> WorkBreaker:
        """Close a breaker on an operator's word; raises ``NothingToDo`` for one that has counted nothing."""
        with self._writing() as connection:
            before = locked_breakers(connection, [(scope, scope_id)])
            if not before:
                raise NothingToDo(f"the breaker of {scope} {scope_id!r} is closed")
            after = before[0].cleared(now)
            upsert(connection, work_breaker, [row_of_breaker(after)])
            add_act(connection, act)
        return after


def _taken(worker_id: str) -> ChangedMeanwhile:
    return ChangedMeanwhile(
        f"there is a worker {worker_id!r} that is not gone: register under another id, or end that one first"
    )


def _read_worker(connection: Connection, worker_id: str, *, lock: bool) -> Worker | None:
    query = select(worker).where(worker.c.worker_id == worker_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else worker_of(dict(row))


def _must_read_worker(connection: Connection, worker_id: str, *, lock: bool = True) -> Worker:
    found = _read_worker(connection, worker_id, lock=lock)
    if found is None:
        raise NotFound(f"there is no worker {worker_id!r}: register it first")
    return found


def _write_worker(connection: Connection, each: Worker) -> None:
    mine = worker.c.worker_id == each.worker_id
    connection.execute(update(worker).where(mine).values(**row_of_worker(each)))


def _moved(before: Worker, move: WorkerMove, now: datetime) -> Worker:
    status = next_worker_status(before.status, move)
    return replace(before, status=status, gone_at=now if status is WorkerStatus.GONE else None)


def _let_go(connection: Connection, workers: Sequence[str], now: datetime) -> None:
    """Have the leases of workers that are gone run out now, so that their tasks are taken back."""
    theirs = and_(is_held(), task.worker_id.in_(workers), task.lease_expires_at > now)
    connection.execute(update(workflow_task).where(theirs).values(lease_expires_at=now))


def _is_holder(row: Mapping[str, Any], worker_id: str, fencing_token: int) -> bool:
    held = row["status"] in {TaskStatus.ASSIGNED, TaskStatus.RUNNING, TaskStatus.STOPPING}
    return held and (row["worker_id"], row["fencing_token"]) == (worker_id, fencing_token)


def _grant(
    connection: Connection, wanted: Mapping[str, str], now: datetime, lease_s: float
) -> list[Grant]:
    """Give tasks to workers, as far as they and their workflows are as they were seen."""
    columns = (task.task_id, task.workflow_id)
    of = select(*columns).where(task.task_id.in_(list(wanted)), task.status == "ready")
    workflows = {row.task_id: row.workflow_id for row in connection.execute(of)}
    running = _lock_running(connection, sorted(set(workflows.values())))
    candidates = sorted(each for each, whose in workflows.items() if whose in running)
    query = (
        select(workflow_task, workflow_turn.c.number)
        .join(workflow_turn, turn.turn_id == task.turn_id)
        .where(task.task_id.in_(candidates), task.status == str(TaskStatus.READY))
        .order_by(task.task_id)
        .with_for_update(of=workflow_task, skip_locked=True)
    )
    rows = [dict(row) for row in connection.execute(query).mappings()]
    before = _reported_before(connection, rows)
    grants = []
    for row in rows:
        changes = {
            "status": str(next_task_status(TaskStatus(row["status"]), TaskMove.CLAIM)),
            "worker_id": wanted[row["task_id"]],
            "attempt": row["attempt"] + 1,
            "fencing_token": row["fencing_token"] + 1,
            "lease_expires_at": now + timedelta(seconds=lease_s),
            "assigned_at": now,
            "started_at": None,
        }
        mine = task.task_id == row["task_id"]
        connection.execute(update(workflow_task).where(mine).values(**changes))
        grants.append(grant_of({**row, **changes}, before.get(_step_before(row), {})))
    return grants


def _lock_running(connection: Connection, workflows: Sequence[str]) -> set[str]:
    """Lock workflows that run so that nobody pauses or cancels them meanwhile; those being changed are left out."""
    query = (
        select(workflow.c.workflow_id)
        .where(workflow.c.workflow_id.in_(workflows))
        .where(workflow.c.status == str(WorkflowStatus.RUNNING))
        .order_by(workflow.c.workflow_id)
        .with_for_update(read=True, skip_locked=True)
    )
    return set(connection.execute(query).scalars())


def _step_before(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["turn_id"], row["source_id"], row["position"] - 1


def _reported_before(
    connection: Connection, rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return what the steps before these reported."""
    keys = [_step_before(row) for row in rows if row["position"] > 0]
    if not keys:
        return {}
    place = tuple_(task.turn_id, task.source_id, task.position)
    query = select(task.turn_id, task.source_id, task.position, task.result).where(place.in_(keys))
    return {(r.turn_id, r.source_id, r.position): r.result for r in connection.execute(query)}
