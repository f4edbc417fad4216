"""Workflows in the control database: each change is decided by a pure function, under a lock on the workflow's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from penstock.errors import PenstockError
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.work import Outcome
from penstock.ports.workflows import Asked, Decide
from penstock.workflow.change import Case, Change
from penstock.workflow.records import Workflow
from resources.control_db.audit_log import add_act
from resources.control_db.engine import insert_into
from resources.control_db.outbox import add_events
from resources.control_db.outbox_log import readable_end
from resources.control_db.outcomes import count_outcomes
from resources.control_db.workflow_cases import read_case, write_change, write_new
from resources.control_db.workflow_lists import SqlWorkflowLists
from resources.control_db.workflow_pages import changed_by_each
from resources.control_db.workflow_rows import (
    workflow_columns,
    workflow_of,
)
from resources.control_db.workflow_tables import workflow


class SqlWorkflows(SqlWorkflowLists):
    """:class:`penstock.ports.workflows.Workflows` in SQL. Threads may share one; a forked process may not."""

    def create(self, change: Change, *, act: AuditEntry) -> Workflow:
        """Store a new workflow, its first turn, events and act; or return the one that has its idempotency key."""
        with self._writing() as connection:
            new = _listening(connection, change.workflow)
            statement = insert_into(connection, workflow).on_conflict_do_nothing()
            answer = connection.execute(
                statement.returning(workflow.c.workflow_id), workflow_columns(new)
            )
            if answer.one_or_none() is not None:
                write_new(connection, change)
                add_events(connection, change.events)
                add_act(connection, act)
                return new
        there = self.with_key(new.tenant_id, new.idempotency_key or "")
        assert there is not None, "a workflow is in the way that has another key"
        return there

    def with_key(self, tenant: TenantId, idempotency_key: str) -> Workflow | None:
        """Return the workflow that was made with an idempotency key."""
        query = select(workflow).where(
            workflow.c.tenant_id == tenant, workflow.c.idempotency_key == idempotency_key
        )
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else workflow_of(row)

    def change(
        self,
        workflow_id: str,
        decide: Decide,
        *,
        source: SourceId | None = None,
        triggers: Sequence[str] = (),
        act: AuditEntry | None = None,
        outcome: Outcome | None = None,
    ) -> Change | None:
        """Change a workflow under a lock, with events, ``act`` and ``outcome``, in one transaction; or ``NotFound``."""
        with self._writing() as connection:
            case = read_case(connection, workflow_id, source, triggers, lock=True)
            change = decide(case)
            if change is not None:
                write_change(connection, case, change)
                add_events(connection, change.events)
                if act is not None:
                    add_act(connection, act)
                if outcome is not None:
                    count_outcomes(connection, [outcome])
        return change

    def change_each(
        self, workflow_id: str, asked: Sequence[Asked]
    ) -> list[Change | PenstockError | None]:
        """Change a workflow by one after another, in one transaction; return what ``change`` would, or its error."""
        answers: list[Change | PenstockError | None] = []
        while len(answers) < len(asked):
            with self._writing() as connection:
                answers += changed_by_each(connection, workflow_id, asked[len(answers) :])
        return answers

    def change_task(
        self,
        task_id: str,
        decide: Decide,
        *,
        act: AuditEntry | None = None,
        outcome: Outcome | None = None,
    ) -> Change | None:
        """Change the workflow that a task is of, with the tasks of its source in the case; or raise ``NotFound``."""
        task = self.get_task(task_id)
        return self.change(
            task.workflow_id, decide, source=task.source_id, act=act, outcome=outcome
        )

    def get_case(self, workflow_id: str) -> Case:
        """Return a workflow with its last turn and all tasks of that, or raise ``NotFound``."""
        with self._reading() as connection:
            return read_case(connection, workflow_id, None, ())


def _listening(connection: Connection, new: Workflow) -> Workflow:
    """Return a new workflow as it is stored: one that waits for what is told hears what comes after this."""
    if new.spec.event is None or not new.spec.event.is_told:
        return new
    return replace(new, heard_to=readable_end(connection))
