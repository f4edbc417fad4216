"""Values that the tests of workflows are made of, and a coordination over a real control database."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.workflows import create_workflow
from penstock.workflow.records import Task, Workflow
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.tasks import Report, claimed
from resources.control_db.store import SqlControlStore
from resources.control_db.workflows import SqlWorkflows
from resources.cron import next_due
from resources.object_store.local import LocalObjectStore
from tests.fixtures.clock import FixedClock
from tests.fixtures.landing import landing_platform

ACME = TenantId("acme")
BY = By(actor="olga", reason="a test")


def source(name: str, *, tenant: TenantId = ACME, targets: Sequence[str] = ()) -> SourceSpec:
    """A source as declared."""
    return SourceSpec(
        source_id=SourceId(name),
        tenant_id=tenant,
        targets=tuple(TargetId(target) for target in targets),
    )


def spec(**values: Any) -> WorkflowSpec:
    """A workflow as asked for: on demand, over the sources ``a`` and ``b``, with one more try for each task."""
    asked = {"name": "nightly", "sources": ["a", "b"], "retry": {"tries": 1, "delay_s": 60}}
    return WorkflowSpec.model_validate(asked | values)


def coordination(
    store: SqlControlStore, folder: Path, clock: FixedClock, *, sources: Sequence[str] = ("a", "b")
) -> Coordination:
    """A coordination with these sources of one tenant declared, ids that count up, and no jitter."""
    store.sync_sources([*(source(name) for name in sources), source("x", tenant=TenantId("other"))])
    platform = landing_platform(LocalObjectStore(folder / "objects"), folder, control=store)
    numbers = itertools.count(1)
    return Coordination(
        platform=replace(platform, clock=clock),
        workflows=SqlWorkflows.from_engine(store.engine),
        next_due=next_due,
        new_id=lambda: f"{next(numbers):032x}",
        jitter=lambda: 0.0,
    )


def create(co: Coordination, **values: Any) -> Workflow:
    """Make a workflow and return it."""
    return create_workflow(co, spec(**values), tenant=ACME, by=BY).workflow


def tasks_of(co: Coordination, workflow_id: str) -> list[str]:
    """The tasks of a workflow's last turn, as ``source step status``."""
    return [f"{t.source_id} {t.step} {t.status}" for t in co.workflows.list_tasks(workflow_id)]


def task(co: Coordination, workflow_id: str, name: str) -> Task:
    """One task of a workflow's last turn, by ``source step``."""
    return next(
        t for t in co.workflows.list_tasks(workflow_id) if f"{t.source_id} {t.step}" == name
    )


def claim(
    co: Coordination, workflow_id: str, name: str, *, worker: str = "w1", lease_s: float = 30
) -> Report:
    """Give a task to a worker; what it reports with."""
    wanted, now = task(co, workflow_id, name), co.now()
    co.workflows.change_task(
        wanted.task_id,
        lambda case: claimed(case, wanted.task_id, worker_id=worker, now=now, lease_s=lease_s),
    )
    token = co.workflows.get_task(wanted.task_id).fencing_token
    return Report(task_id=wanted.task_id, fencing_token=token)
