"""What people see of workflows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.errors import NotFound
from penstock.identity.ids import TenantId
from penstock.ports.workflows import Place, WorkflowFilter, Workflows
from penstock.workflow.records import Task, Turn, Workflow
from penstock.workflow.status import WORKFLOW_TRANSITIONS, TaskStatus, WorkflowMove

ASKED_FOR = (
    WorkflowMove.PAUSE,
    WorkflowMove.RESUME,
    WorkflowMove.CANCEL,
    WorkflowMove.RETRY,
    WorkflowMove.RERUN,
)
"""Moves that people make."""


@dataclass(frozen=True, kw_only=True)
class WorkflowOverview:
    """One workflow, with how its last turn stands."""

    workflow: Workflow
    tasks: dict[TaskStatus, int]
    """How many of the last turn's tasks stand where."""
    can: tuple[WorkflowMove, ...]
    """What may be asked of it now."""


@dataclass(frozen=True, kw_only=True)
class WorkflowDetails:
    """One workflow, with its last turns and the tasks of the last one."""

    overview: WorkflowOverview
    turns: tuple[Turn, ...]
    """Newest first."""
    tasks: tuple[Task, ...]


def own_workflow(workflows: Workflows, workflow_id: str, tenant: TenantId | None) -> Workflow:
    """Return a workflow that a caller may see; another tenant's is ``NotFound`` like one that is not there."""
    found = workflows.get_workflow(workflow_id)
    if tenant is not None and found.tenant_id != tenant:
        raise NotFound(
            f"workflow {workflow_id!r} is not there: `penstock workflows list` lists what is"
        )
    return found


def workflow_overviews(
    workflows: Workflows, wanted: WorkflowFilter, *, limit: int, after: Place | None = None
) -> list[WorkflowOverview]:
    """Return workflows, newest first."""
    return _overviews(workflows, workflows.list_workflows(wanted, limit=limit, after=after))


def workflow_overview(workflows: Workflows, workflow: Workflow) -> WorkflowOverview:
    """Return one workflow, with how its last turn stands."""
    return _overviews(workflows, [workflow])[0]


def workflow_details(workflows: Workflows, workflow: Workflow) -> WorkflowDetails:
    """Return one workflow with its last turns, and all tasks of the last one."""
    return WorkflowDetails(
        overview=workflow_overview(workflows, workflow),
        turns=tuple(workflows.list_turns(workflow.workflow_id, limit=20)),
        tasks=tuple(workflows.list_tasks(workflow.workflow_id, limit=10_000)),
    )


def _overviews(workflows: Workflows, found: Sequence[Workflow]) -> list[WorkflowOverview]:
    counts = workflows.count_tasks([workflow.workflow_id for workflow in found])
    return [
        WorkflowOverview(
            workflow=workflow,
            tasks=counts[workflow.workflow_id],
            can=tuple(m for m in ASKED_FOR if m in WORKFLOW_TRANSITIONS[workflow.status]),
        )
        for workflow in found
    ]
