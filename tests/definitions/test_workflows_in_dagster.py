"""Dagster as a worker of workflows: it claims tasks, does them in runs, and what a crash left is mended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from jobs.workflow_step import DAGSTER_WORKER, WORKFLOW_STEP_JOB, workflow_step
from penstock.batch.source import SourceDefinition
from penstock.errors import LeaseLost
from penstock.identity.ids import TenantId
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.workflow_triggers import trigger_event_driven
from penstock.use_cases.workflows import cancel_workflow, create_workflow
from penstock.workflow import reconcile
from penstock.workflow.reconcile import Finding
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.status import TaskStatus, WorkflowStatus
from resources.dagster_resources import PlatformResource
from resources.wiring import open_coordination
from sensors.workflow_runs import find_differences, main, mend_differences
from sensors.workflow_tasks import workflow_tasks
from tests.definitions.publishing import publish_now, resources, tick

BY = By(actor="olga", reason="a test")


@pytest.fixture(autouse=True)
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensor looks once a tick, and what differs is mended at once."""
    monkeypatch.setattr("sensors.workflow_tasks.WATCH_S", 0.0)
    monkeypatch.setattr("sensors.workflow_runs.GRACE", timedelta(0))


@pytest.fixture
def co(declared: tuple[SourceDefinition, ...]) -> Coordination:
    """The coordination over the platform that jobs and sensors open too."""
    platform = PlatformResource().open()
    platform.control.sync_sources([definition.spec for definition in declared])
    return open_coordination(platform)


def _create(co: Coordination, **values: Any) -> str:
    spec = WorkflowSpec.model_validate({"name": "now", "sources": ["crm"]} | values)
    made = create_workflow(co, spec, tenant=TenantId("default"), by=BY)
    return made.workflow.workflow_id


def _asked(instance: dg.DagsterInstance) -> Sequence[dg.RunRequest]:
    with dg.build_sensor_context(instance=instance, resources=resources()) as context:
        answer = workflow_tasks(context)
    if isinstance(answer, dg.SkipReason):
        return []
    assert isinstance(answer, dg.SensorResult)
    return answer.run_requests or []


def _run(
    instance: dg.DagsterInstance, asked: dg.RunRequest, *, raises: bool = True
) -> dg.ExecuteInProcessResult:
    return workflow_step.execute_in_process(
        instance=instance,
        resources=resources(),
        run_config=asked.run_config,
        tags=dict(asked.tags),
        raise_on_error=raises,
    )


def _launched(
    instance: dg.DagsterInstance, asked: dg.RunRequest, status: dg.DagsterRunStatus
) -> str:
    """Record a run as it stands after a crash, of which no process is left."""
    run = dg.DagsterRun(WORKFLOW_STEP_JOB, str(uuid4()), status=status, tags=dict(asked.tags))
    instance.add_run(run)
    return run.run_id


def _statuses(co: Coordination, workflow_id: str) -> list[TaskStatus]:
    return [task.status for task in co.workflows.list_tasks(workflow_id)]


def test_a_workflow_goes_from_its_source_to_its_targets(
    co: Coordination, instance: dg.DagsterInstance
) -> None:
    """Dagster collects and transforms, the queue publishes, and each step's run carries the workflow's tags."""
    made = _create(co)
    for step in ("collect", "transform"):
        (asked,) = _asked(instance)
        (task,) = co.workflows.tasks_of(DAGSTER_WORKER)
        assert asked.run_key == f"{task.task_id}/1"
        assert asked.tags["penstock/workflow"] == made
        assert (asked.tags["penstock/source"], asked.tags["penstock/step"]) == ("crm", step)
        events = _run(instance, asked).all_events
        assert sum(event.is_step_materialization for event in events) == 1
    tick(instance)
    publish_now(instance)
    progress_workflows(co)
    progress_workflows(co)
    assert _statuses(co, made) == [TaskStatus.COMPLETED] * 3
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED
    collect, transform, publish = co.workflows.list_tasks(made)
    assert collect.result["rows"] == transform.result["rows"] == 2
    assert publish.result["targets"]["registry"]["entities_created"] == 2
    assert find_differences(co, instance) == []


def test_the_run_of_a_task_is_tagged_with_its_trace(
    co: Coordination, instance: dg.DagsterInstance
) -> None:
    """As its event came with it; a task of no trace has no tag."""
    traced = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    _create(co, kind="event_driven", event={"type": "archive_discovered"})
    fields = {"event_id": "1", "event_type": "archive_discovered", "subject": "crm"}
    trigger_event_driven(
        co, **fields, tenant=TenantId("default"), source="crm", trace_parent=traced
    )
    _create(co)
    tags = [asked.tags.get("penstock/trace_parent") for asked in _asked(instance)]
    assert sorted(tags, key=str) == [traced, None]


def test_a_step_that_fails_is_reported_and_tried_again(
    co: Coordination, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may pass is due again later, in a run of its own; what will not has failed."""

    def down(*_: object, **__: object) -> None:
        raise ConnectionError("the source is down")

    monkeypatch.setattr("penstock.use_cases.extract_source.extract_source", down)
    made = _create(co, retry={"tries": 1, "delay_s": 0.001})
    for attempt in (1, 2):
        (asked,) = _asked(instance)
        assert asked.tags["penstock/attempt"] == str(attempt)
        assert not _run(instance, asked, raises=False).success
    task = co.workflows.list_tasks(made)[0]
    assert task.trouble is not None
    assert (task.status, task.trouble.message) == (TaskStatus.FAILED, "the source is down")
    assert co.workflows.get_workflow(made).status is WorkflowStatus.FAILED


def test_a_run_whose_claim_was_taken_back_does_nothing(
    co: Coordination, instance: dg.DagsterInstance
) -> None:
    """Its token is not the last one: it neither extracts nor reports."""
    made = _create(co)
    (asked,) = _asked(instance)
    stale = dict(asked.run_config["ops"]["do_step"]["config"]) | {"fencing_token": 0}
    late = SimpleNamespace(tags=asked.tags, run_config={"ops": {"do_step": {"config": stale}}})
    with pytest.raises(LeaseLost):
        _run(instance, late)  # type: ignore[arg-type]
    assert _statuses(co, made)[0] is TaskStatus.ASSIGNED
    assert list(co.platform.objects.list("extracts/")) == []


def test_a_run_that_died_is_mended(co: Coordination, instance: dg.DagsterInstance) -> None:
    """A run that failed without a word, and a claim whose run was never launched, are tried again."""
    made = _create(co, retry={"tries": 5, "delay_s": 0.001})
    (asked,) = _asked(instance)
    _launched(instance, asked, dg.DagsterRunStatus.FAILURE)
    (again,) = _asked(instance)
    assert again.run_key == f"{asked.tags['penstock/task']}/2"
    (third,) = _asked(instance)  # the second was claimed, and no run of it is there
    assert third.tags["penstock/attempt"] == "3"
    _run(instance, third)
    assert _statuses(co, made)[:2] == [TaskStatus.COMPLETED, TaskStatus.READY]
    assert find_differences(co, instance) == []


def test_a_report_that_was_lost_is_made_up_for(
    co: Coordination, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that succeeded, and whose report is not there, is completed from what it left; nothing is done twice."""
    made = _create(co)
    monkeypatch.setattr("penstock.use_cases.workflow_tasks.complete_task", lambda *_, **__: None)
    for _ in range(2):
        (asked,) = _asked(instance)
        assert _run(instance, asked).success
        (found,) = find_differences(co, instance)
        assert found.finding is Finding.REPORT_LOST
        assert mend_differences(co, instance, [found]) == 1
        assert find_differences(co, instance) == []
    transform = co.workflows.list_tasks(made)[1]
    assert transform.status is TaskStatus.COMPLETED
    assert transform.batch_id is not None
    assert transform.run_id is not None


def test_a_run_that_left_nothing_is_tried_again(
    co: Coordination, instance: dg.DagsterInstance
) -> None:
    """It says that it succeeded, and there is no extract."""
    made = _create(co)
    (asked,) = _asked(instance)
    _launched(instance, asked, dg.DagsterRunStatus.SUCCESS)
    mend_differences(co, instance, find_differences(co, instance))
    task = co.workflows.list_tasks(made)[0]
    assert task.trouble is not None
    assert (task.status, task.trouble.code) == (TaskStatus.READY, "nothing_left")


def test_what_is_cancelled_does_not_go_on(co: Coordination, instance: dg.DagsterInstance) -> None:
    """The run of a task that is to stop is ended, and then the workflow is cancelled."""
    made = _create(co)
    (asked,) = _asked(instance)
    run_id = _launched(instance, asked, dg.DagsterRunStatus.STARTED)
    assert find_differences(co, instance) == []
    assert cancel_workflow(co, made, by=BY).status is WorkflowStatus.CANCELLING
    (found,) = find_differences(co, instance)
    assert found.finding is Finding.RUN_UNWANTED
    mend_differences(co, instance, [found])
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.CANCELED
    mend_differences(co, instance, find_differences(co, instance))
    progress_workflows(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.CANCELLED
    assert find_differences(co, instance) == []


def test_the_lease_of_a_run_on_its_way_is_kept(
    co: Coordination, instance: dg.DagsterInstance
) -> None:
    """However long it is queued, its task is given to nobody else."""
    _create(co)
    (asked,) = _asked(instance)
    (before,) = co.workflows.tasks_of(DAGSTER_WORKER)
    _launched(instance, asked, dg.DagsterRunStatus.NOT_STARTED)
    _asked(instance)
    (after,) = co.workflows.tasks_of(DAGSTER_WORKER)
    assert before.lease_expires_at is not None
    assert after.lease_expires_at is not None
    assert after.lease_expires_at > before.lease_expires_at


def test_the_comparison_is_a_program_of_its_own(
    co: Coordination,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """It says where the two differ, mends it if asked, and its exit status says whether anything is left."""
    monkeypatch.setattr("dagster.DagsterInstance.get", lambda: _Kept(instance))
    assert main([]) == 0
    assert capsys.readouterr().out == "tasks and runs tell the same story\n"
    _create(co)
    _asked(instance)
    assert main([]) == 1
    assert "run_missing: collect of crm is assigned, attempt 1; there is no run" in (
        capsys.readouterr().out
    )
    assert main(["--mend", "--json"]) == 0
    assert '"mended": 1' in capsys.readouterr().out
    assert main([]) == 0
    assert timedelta(0) < reconcile.GRACE


class _Kept:
    """An instance that outlives the block in which it is used."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance

    def __enter__(self) -> dg.DagsterInstance:
        return self.instance

    def __exit__(self, *_: object) -> None:
        pass
