"""What the operators' dashboard asks the control database beside what use cases read anyway."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, or_, select, text

from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.dashboard import Moving
from penstock.ports.dead_letters import DeadLetter, LetterFilter, LetterGroup
from penstock.publish.state import IN_HAND, PublishState, PublishStatus
from resources.control_db.breaker_tables import target_breaker
from resources.control_db.dead_letters import (
    LETTER_COLUMNS,
    chosen_letters,
    grouped_letters,
    read_letters,
)
from resources.control_db.rows import STATE_COLUMNS, state_of, storable_text
from resources.control_db.tables import (
    HELD,
    IN_QUEUE,
    approval,
    audit_entry,
    batch,
    dead_letter,
    execution_chunk,
    lane,
    pause,
    plan_execution,
    publish_state,
    source,
)
from resources.control_db.trends import SqlTrends
from resources.control_db.workflow_tables import worker, workflow, workflow_task

_S = publish_state.c


class SqlDashboard(SqlTrends):
    """:class:`penstock.ports.dashboard.DashboardViews` in SQL."""

    def counts(self, tenant: TenantId | None) -> Mapping[PublishStatus, int]:
        """Return how many publish states there are of each status that is not COMPLETE."""
        query = select(_S.status, func.count()).where(_S.status != "COMPLETE", *_of(tenant))
        with self._reading() as connection:
            rows = connection.execute(query.group_by(_S.status))
            found = {row[0]: int(row[1]) for row in rows}
        open_ones = [status for status in PublishStatus if status is not PublishStatus.COMPLETE]
        return {status: found.get(str(status), 0) for status in open_ones}

    def live_holds(self, tenant: TenantId | None, *, limit: int) -> list[PublishState]:
        """Return states with something held that nobody has rejected and no newer full batch has planned again."""
        newer = publish_state.alias()
        planned_again = exists().where(
            newer.c.source_id == _S.source_id,
            newer.c.target_id == _S.target_id,
            newer.c.source_timestamp > _S.source_timestamp,
            newer.c.status == "COMPLETE",
            newer.c.mode == "full",
        )
        rejected = exists().where(
            approval.c.batch_id == _S.batch_id,
            approval.c.target_id == _S.target_id,
            approval.c.plan_digest == func.coalesce(_S.base_plan_digest, _S.plan_digest),
            approval.c.status == "rejected",
        )
        query = select(*STATE_COLUMNS).where(
            text(f"publish_state.{HELD}"),
            _S.status == "COMPLETE",
            *_of(tenant),
            ~planned_again,
            ~rejected,
        )
        query = query.order_by(_S.source_timestamp.desc(), _S.batch_id, _S.target_id)
        with self._reading() as connection:
            return [state_of(row) for row in connection.execute(query.limit(limit))]

    def moving(
        self, tenant: TenantId | None, *, now: datetime, limit: int, batch: BatchId | None = None
    ) -> list[Moving]:
        """Return what is in hand, longest first."""
        query = _moving(now).where(_S.status.in_(sorted(IN_HAND)), *_of(tenant))
        if batch is not None:
            query = query.where(_S.batch_id == storable_text(batch))
        query = query.order_by(_S.publish_start_timestamp, _S.batch_id, _S.target_id)
        with self._reading() as connection:
            return [
                Moving(
                    state=state_of(row),
                    worker_id=row.worker_id,
                    done=int(row.done or 0),
                    planned=None if row.planned is None else int(row.planned),
                )
                for row in connection.execute(query.limit(limit))
            ]

    def states_page(
        self,
        tenant: TenantId | None,
        *,
        source: SourceId | None = None,
        statuses: Sequence[PublishStatus] = (),
        after: tuple[datetime, BatchId, TargetId] | None = None,
        limit: int,
    ) -> list[PublishState]:
        """Return publish states, newest source timestamp first, behind a place in that order."""
        query = select(*STATE_COLUMNS).where(*_of(tenant))
        if source is not None:
            query = query.where(_S.source_id == storable_text(source))
        if statuses:
            query = query.where(_S.status.in_([str(status) for status in statuses]))
        if after is not None:
            query = query.where(_behind(*after))
        query = query.order_by(_S.source_timestamp.desc(), _S.batch_id, _S.target_id)
        with self._reading() as connection:
            return [state_of(row) for row in connection.execute(query.limit(limit))]

    # Dead letters -------------------------------------------------------------------------------------------

    def letter_groups(
        self, tenant: TenantId | None, chosen: LetterFilter, *, limit: int
    ) -> list[LetterGroup]:
        """Return dead letters by what they have in common, newest first."""
        query = chosen_letters(grouped_letters(*_letters_of(tenant)), chosen).limit(limit)
        with self._reading() as connection:
            return [LetterGroup(**row) for row in connection.execute(query).mappings()]

    def letters_page(
        self,
        tenant: TenantId | None,
        chosen: LetterFilter,
        *,
        after: DeadLetter | None = None,
        limit: int,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first, behind one of them."""
        query = chosen_letters(select(*LETTER_COLUMNS).where(*_letters_of(tenant)), chosen)
        with self._reading() as connection:
            return read_letters(connection, query, after=after, limit=limit)

    def owns_letter(self, tenant: TenantId, letter: DeadLetter) -> bool:
        """Say whether a dead letter is of a tenant's batch or source."""
        mine = dead_letter.c.dead_letter_id == letter.dead_letter_id
        query = select(dead_letter.c.dead_letter_id).where(mine, *_letters_of(tenant))
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    # What has changed ---------------------------------------------------------------------------------------

    def pulse(self, tenant: TenantId | None) -> Mapping[str, str]:
        """Return a few cheap marks, by topic, each of which is another one when something of its topic has changed."""
        with self._reading() as connection:
            return {
                topic: _mark([row for query in queries for row in connection.execute(query)])
                for topic, queries in _marks(tenant).items()
            }


def _of(tenant: TenantId | None) -> list[ColumnElement[bool]]:
    return [] if tenant is None else [_S.tenant_id == storable_text(tenant)]


def _behind(moment: datetime, batch_id: BatchId, target: TargetId) -> ColumnElement[bool]:
    same = _S.source_timestamp == moment
    further = or_(
        _S.batch_id > storable_text(batch_id),
        and_(_S.batch_id == storable_text(batch_id), _S.target_id > storable_text(target)),
    )
    return or_(_S.source_timestamp < moment, and_(same, further))


def _moving(now: datetime) -> Select[Any]:
    chunk, plan = execution_chunk.c, plan_execution.c
    done = (
        select(func.sum(chunk.operations))
        .where(
            chunk.batch_id == _S.batch_id,
            chunk.target_id == _S.target_id,
            chunk.plan_digest == _S.plan_digest,
            chunk.finished_at.is_not(None),
        )
        .scalar_subquery()
    )
    planned = (
        select(plan.operations)
        .where(
            plan.batch_id == _S.batch_id,
            plan.target_id == _S.target_id,
            plan.plan_digest == _S.plan_digest,
        )
        .scalar_subquery()
    )
    held = and_(
        lane.c.source_id == _S.source_id,
        lane.c.target_id == _S.target_id,
        lane.c.batch_id == _S.batch_id,
        lane.c.lease_expires_at > now,
    )
    return select(
        *STATE_COLUMNS, lane.c.worker_id, done.label("done"), planned.label("planned")
    ).select_from(publish_state.outerjoin(lane, held))


def _letters_of(tenant: TenantId | None) -> list[ColumnElement[bool]]:
    """Return the condition of a tenant's letters: of its batches, and of what claims to be of its sources."""
    if tenant is None:
        return []
    name, table = storable_text(tenant), dead_letter.c
    batches = exists().where(batch.c.batch_id == table.batch_id, batch.c.tenant_id == name)
    sources = exists().where(source.c.source_id == table.source_id, source.c.tenant_id == name)
    return [or_(batches, and_(table.batch_id.is_(None), sources))]


def _marks(tenant: TenantId | None) -> dict[str, list[Select[Any]]]:
    name = storable_text(tenant)
    queue = (
        select(
            _S.status,
            func.count(),
            func.max(_S.enqueued_at),
            func.max(_S.publish_start_timestamp),
            func.max(_S.retry_due_at),
            func.sum(_S.priority_boost),
        )
        .where(text(IN_QUEUE), *_of(tenant))
        .group_by(_S.status)
        .order_by(_S.status)
    )
    chunk = execution_chunk.c
    same = and_(chunk.batch_id == _S.batch_id, chunk.target_id == _S.target_id)
    progress = (
        select(func.count(chunk.finished_at))
        .join(publish_state, same)
        .where(_S.status == "EXECUTING", chunk.plan_digest == _S.plan_digest, *_of(tenant))
    )
    ended = select(func.max(_S.publish_end_timestamp)).where(*_of(tenant))
    letters = select(func.max(dead_letter.c.recorded_at), func.max(dead_letter.c.updated_at)).where(
        *_letters_of(tenant)
    )
    # What one tenant's people do is nothing that another has to be told of, not even that it was done.
    acts = select(func.max(audit_entry.c.entry_id)).where(*([] if name is None else [false()]))
    breakers = target_breaker.c
    targets = select(breakers.target_id, breakers.status, breakers.open_until, breakers.failures)
    pauses = select(pause.c.scope, pause.c.scope_id, pause.c.paused_at)
    if name is not None:
        sources = select(source.c.source_id).where(source.c.tenant_id == name)
        pauses = pauses.where(or_(pause.c.scope == "target", pause.c.scope_id.in_(sources)))
    flows, tasks = workflow.c, workflow_task.c
    mine = [] if name is None else [flows.tenant_id == name]
    theirs = [] if name is None else [tasks.tenant_id == name]
    working = [] if name is None else [worker.c.tenant_id.in_([name, "*"])]
    return {
        "queue": [queue, ended],
        "progress": [progress],
        "letters": [letters],
        "acts": [acts],
        "targets": [
            targets.order_by(breakers.target_id),
            pauses.order_by(pause.c.scope, pause.c.scope_id),
        ],
        "workflows": [
            select(func.count(), func.max(flows.updated_at)).where(*mine),
            select(tasks.status, func.count(), func.max(tasks.started_at), func.max(tasks.ended_at))
            .where(tasks.ended_at.is_(None), *theirs)
            .group_by(tasks.status)
            .order_by(tasks.status),
        ],
        "workers": [
            select(worker.c.worker_id, worker.c.status)
            .where(worker.c.status != "gone", *working)
            .order_by(worker.c.worker_id)
        ],
    }


def _mark(rows: Sequence[Any]) -> str:
    return hashlib.blake2b(repr([tuple(row) for row in rows]).encode(), digest_size=8).hexdigest()
