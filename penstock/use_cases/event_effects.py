"""What events that came in bring about: turns of workflows, ends of tasks, statuses of workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from penstock.errors import NotFound
from penstock.events.facts import EventData
from penstock.events.incoming import ArchiveDiscovered, CollectionCompleted, CollectionFailed
from penstock.events.workflows import WorkerStatusChanged
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.ports.events import Arrival
from penstock.use_cases.acts import LONGEST_ACTOR, By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.handle_events import Handler
from penstock.use_cases.work import Workshop, beat, drain, leave
from penstock.use_cases.workflow_queries import own_workflow
from penstock.use_cases.workflow_tasks import complete_task, fail_task
from penstock.use_cases.workflow_triggers import TriggerView, trigger_event_driven
from penstock.workflow.records import Task, Trouble, Workflow
from penstock.workflow.status import Step
from penstock.workflow.tasks import Report


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a page of events acts on, all of which came in before this was made."""

    coordination: Coordination
    workshop: Workshop

    @cached_property
    def _view(self) -> TriggerView:
        return TriggerView(self.coordination)

    def handlers(self) -> Mapping[str, Handler]:
        """Return what acts on each type."""
        return {
            ArchiveDiscovered.TYPE: self.discovered,
            CollectionCompleted.TYPE: self.collected,
            CollectionFailed.TYPE: self.not_collected,
            WorkerStatusChanged.TYPE: self.worker_changed,
        }

    def discovered(self, arrival: Arrival, data: EventData, *, key: str) -> None:
        """Begin a turn of every workflow that waits for it; an event of no workflow's has no effect."""
        assert isinstance(data, ArchiveDiscovered)
        self._trigger(arrival, key, data.source_id, None)

    def collected(self, arrival: Arrival, data: EventData, *, key: str) -> None:
        """Complete a task, and begin what waits for that; that it is complete already is no error."""
        assert isinstance(data, CollectionCompleted)
        task, cause = self._task_of(arrival, data.task_id, data.source_id)
        report = _report(task, data.fencing_token)
        batch: BatchId | None = None
        if data.batch_id is not None:
            ids.split_batch_id(data.batch_id)
            batch = BatchId(data.batch_id)
        result = {} if data.archive is None else {"archive": data.archive}
        complete_task(self.coordination, report, batch_id=batch, result=result)
        self._trigger(arrival, key, task.source_id, cause)

    def not_collected(self, arrival: Arrival, data: EventData, *, key: str) -> None:
        """Fail a task, to be tried again unless that is in vain, and begin what waits for that."""
        assert isinstance(data, CollectionFailed)
        task, cause = self._task_of(arrival, data.task_id, data.source_id)
        report = _report(task, data.fencing_token)
        trouble = Trouble(code=data.error_code, message=data.message)
        fail_task(self.coordination, report, trouble, passes=not data.permanent)
        self._trigger(arrival, key, task.source_id, cause)

    def worker_changed(self, arrival: Arrival, data: EventData, *, key: str) -> None:
        """Move a worker to where it says that it is, and begin what waits for that; one that is there stays."""
        assert isinstance(data, WorkerStatusChanged)
        worker = self.workshop.work.get_worker(data.worker_id)
        by = By(actor=arrival.source[:LONGEST_ACTOR], reason=data.reason)
        if data.status == "active":
            beat(self.workshop, data.worker_id, tenant=arrival.tenant_id)
        elif worker.status != data.status:
            move = drain if data.status == "draining" else leave
            move(self.workshop, data.worker_id, tenant=arrival.tenant_id, by=by)
        self._trigger(arrival, key, None, None)

    def _trigger(
        self, arrival: Arrival, key: str, source: str | None, cause: Workflow | None
    ) -> None:
        trigger_event_driven(
            self.coordination,
            event_id=key,
            event_type=arrival.type,
            subject=arrival.subject,
            tenant=arrival.tenant_id,
            source=source,
            trace_parent=arrival.trace_parent,
            cause=cause,
            view=self._view,
        )

    def _task_of(
        self, arrival: Arrival, task_id: str | None, source_id: str | None
    ) -> tuple[Task, Workflow]:
        task = self._task(arrival, task_id, source_id)
        # Another tenant's task is as if it were not there.
        workflows = self.coordination.workflows
        return task, own_workflow(workflows, task.workflow_id, arrival.tenant_id)

    def _task(self, arrival: Arrival, task_id: str | None, source_id: str | None) -> Task:
        workflows = self.coordination.workflows
        if task_id is not None:
            return workflows.get_task(task_id)
        held = [
            each
            for each in self.workshop.work.held_tasks()
            if each.source_id == source_id
            and each.step == Step.COLLECT
            and each.tenant_id == arrival.tenant_id
        ]
        if len(held) != 1:
            raise NotFound(
                f"{len(held)} tasks to collect source {source_id!r} are in hand: name one by its task_id"
            )
        return workflows.get_task(held[0].task_id)


def _report(task: Task, token: int | None) -> Report:
    return Report(
        task_id=task.task_id, fencing_token=task.fencing_token if token is None else token
    )
