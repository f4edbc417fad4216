"""Workflows in the control database: made, changed under a lock, and looked through for what is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from penstock.errors import PenstockError
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.work import Outcome
from penstock.publish.state import PublishState
from penstock.workflow.change import Case, Change
from penstock.workflow.records import Task, Turn, Workflow
from penstock.workflow.status import TaskStatus, WorkflowKind, WorkflowStatus

Decide = Callable[[Case], Change | None]
"""What a case becomes; None for nothing. It may raise, and then nothing is changed."""


class Asked(NamedTuple):
    """A change of what concerns one source of a workflow."""

    decide: Decide
    source: SourceId
    outcome: Outcome | None = None
    """Counted if anything is changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowFilter:
    """Which workflows are listed; what is None or empty lets all through."""

    tenant_id: TenantId | None = None
    statuses: Sequence[WorkflowStatus] = ()
    kinds: Sequence[WorkflowKind] = ()
    source_id: SourceId | None = None
    """Those that have, or had, a task of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a page of a listing ended; the next begins after it, whatever was made meanwhile."""

    at: datetime
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """A task to publish, with how its batch stands at each target."""

    task: Task
    states: tuple[PublishState, ...]
    """Empty until the batch is admitted."""


class Workflows(Protocol):
    """What was asked for, and how far it is."""

    def create(self, change: Change, *, act: AuditEntry) -> Workflow:
        """Store a new workflow, its first turn, events and act; or return the one that has its idempotency key.

        One that waits for what Penstock tells hears what is told from then on. Of several that ask with the same key at
        once, one makes it and all get the same.
        """
        ...

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
        """Change a workflow under a lock, with its events and ``act``, in one transaction; or raise ``NotFound``.

        With ``source`` the case holds the tasks of that source alone, and counts of the others'. ``triggers`` are asked
        about: the case says which of them have begun a turn. ``outcome`` is counted if anything is changed.
        """
        ...

    def change_each(
        self, workflow_id: str, asked: Sequence[Asked]
    ) -> list[Change | PenstockError | None]:
        """Change a workflow by one after another, in one transaction; return what ``change`` would, or its error.

        One that is refused takes no other with it.
        """
        ...

    def change_task(
        self,
        task_id: str,
        decide: Decide,
        *,
        act: AuditEntry | None = None,
        outcome: Outcome | None = None,
    ) -> Change | None:
        """Change the workflow that a task is of, with the tasks of its source in the case; or raise ``NotFound``."""
        ...

    def get_workflow(self, workflow_id: str) -> Workflow:
        """Return one workflow, or raise ``NotFound``."""
        ...

    def with_key(self, tenant: TenantId, idempotency_key: str) -> Workflow | None:
        """Return the workflow that was made with an idempotency key."""
        ...

    def list_workflows(
        self, wanted: WorkflowFilter, *, limit: int = 100, after: Place | None = None
    ) -> list[Workflow]:
        """Return workflows, newest first."""
        ...

    def get_case(self, workflow_id: str) -> Case:
        """Return a workflow with its last turn and all tasks of that, or raise ``NotFound``."""
        ...

    def get_task(self, task_id: str) -> Task:
        """Return one task, or raise ``NotFound``."""
        ...

    def list_turns(self, workflow_id: str, *, limit: int = 100) -> list[Turn]:
        """Return a workflow's turns, newest first."""
        ...

    def get_turn(self, workflow_id: str, number: int) -> Turn:
        """Return one turn of a workflow, or raise ``NotFound``."""
        ...

    def list_tasks(
        self,
        workflow_id: str,
        *,
        turn_id: str | None = None,
        statuses: Sequence[TaskStatus] = (),
        limit: int = 1000,
        after: tuple[str, int] | None = None,
    ) -> list[Task]:
        """Return tasks of a turn, by source and position; ``after`` is such a pair. Without a turn, of the last one."""
        ...

    def count_tasks(self, workflow_ids: Sequence[str]) -> dict[str, dict[TaskStatus, int]]:
        """Return how many tasks of each workflow's last turn stand where."""
        ...

    def scheduled_due(self, now: datetime, *, limit: int) -> list[Workflow]:
        """Return workflows whose schedule is due, the longest overdue first."""
        ...

    def waiting_for_event(self, *event_types: str) -> list[Workflow]:
        """Return the event-driven workflows that have not ended and wait for one of some types of events."""
        ...

    def behind_batch(self, batch: BatchId) -> list[Workflow]:
        """Return the event-driven workflows that have, or had, a task that a batch is of, ended or not.

        It is of those that say so, and of those that collect its source at its very moment.
        """
        ...

    def with_queued_triggers(self, *, limit: int) -> list[Workflow]:
        """Return workflows that are WAITING though something has fired meanwhile."""
        ...

    def expired_tasks(self, now: datetime, *, limit: int) -> list[Task]:
        """Return tasks in hand whose lease has expired, the longest first."""
        ...

    def overdue(self, now: datetime, *, limit: int) -> list[str]:
        """Return the ids of RUNNING workflows whose turn's deadline has passed and that still go on."""
        ...

    def followed(self, *, limit: int) -> list[Followed]:
        """Return the publish tasks of which something is to be done, with the states of their batches.

        Those that are ready, in workflows that are RUNNING, and whose batch is admitted (or never will be); those in
        hand whose batch is on its way to no target any more; and those that are to stop. The longest waiting first.
        """
        ...

    def compensating(self, *, limit: int) -> list[str]:
        """Return the ids of workflows, RUNNING or CANCELLING, whose turn is being undone."""
        ...

    def tasks_of(self, worker_id: str) -> list[Task]:
        """Return the tasks that a worker has in hand, by id."""
        ...

    def get_tasks(self, task_ids: Sequence[str]) -> list[Task]:
        """Return those of these tasks that are there, by id."""
        ...
