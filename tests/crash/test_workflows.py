"""Runs and servers that are killed in the middle of a workflow: afterwards both sides tell the same story."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import select

from jobs.workflow_step import workflow_step
from penstock.errors import LeaseLost, NotFound
from penstock.identity.ids import TenantId
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.workflow_tasks import complete_task
from penstock.use_cases.workflow_triggers import trigger_event_driven
from penstock.use_cases.workflows import create_workflow
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.status import TaskStatus, WorkflowStatus
from penstock.workflow.tasks import Report, claimed
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.store import SqlControlStore
from resources.dagster_resources import PlatformResource
from sensors.workflow_runs import find_differences
from sensors.workflow_tasks import workflow_tasks
from tests.crash.workflow_processes import STOP_AT, open_home, people

PATIENCE_S = 120.0
BY = By(actor="olga", reason="a test")
DEFAULT = TenantId("default")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home with a Dagster instance on disk, and leases that are over soon."""
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    for name in ("PENSTOCK_DATABASE_URL", "PENSTOCK_OBJECTS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("PENSTOCK_WORKER_POLICY", json.dumps({"lease_s": 3}))
    return tmp_path


@pytest.fixture
def processes() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts a process of the product; whatever is left of them ends with the test."""
    with ExitStack() as left:

        def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.workflow_processes", *arguments],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **environ},
            )
            left.enter_context(started)
            left.callback(started.kill)
            return started

        yield start


@pytest.fixture
def co(home: Path) -> Iterator[Coordination]:
    """The platform of that home, as this process opens it."""
    opened = open_home()
    yield opened
    assert isinstance(opened.platform.control, SqlControlStore)
    opened.platform.control.close()


def _create(co: Coordination, **values: Any) -> str:
    spec = WorkflowSpec.model_validate({"name": "now", "sources": ["crm"]} | values)
    return create_workflow(co, spec, tenant=DEFAULT, by=BY).workflow.workflow_id


def _asked(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Let Dagster's sensor look once; the one run that it asks for."""
    resources = {"platform": PlatformResource()}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        answer = workflow_tasks(context)
    assert isinstance(answer, dg.SensorResult)
    (request,) = answer.run_requests or []
    return {"run_config": request.run_config, "tags": dict(request.tags)}


def _until(what: str, is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_at, f"waited in vain until {what}"
        time.sleep(0.05)


def _told(co: Coordination, workflow_ids: list[str]) -> Counter[str]:
    store = co.platform.control
    assert isinstance(store, SqlControlStore)
    query = select(outbox_event.c.type).where(outbox_event.c.subject.in_(workflow_ids))
    with store.engine.connect().execution_options(penstock_reading=True) as connection:
        return Counter(connection.execute(query).scalars())


def test_a_run_that_is_killed_is_told_of_by_both_sides_alike(
    home: Path,
    co: Coordination,
    processes: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lease runs out, the task goes to another run, what Dagster still says of the dead one is put right."""
    monkeypatch.setattr("sensors.workflow_runs.GRACE", timedelta(0))
    monkeypatch.setattr("sensors.workflow_tasks.WATCH_S", 0.0)
    monkeypatch.setattr("jobs.collect.declared_sources", lambda: (people(),))
    made = _create(co, steps=["collect"], retry={"tries": 3, "delay_s": 0.01})
    reached = home / "reached"
    with dg.DagsterInstance.get() as instance:
        asked = json.dumps(_asked(instance))
        run = processes("step", asked, **{STOP_AT: str(reached)})
        _until("the run extracts", reached.exists)
        run.send_signal(signal.SIGKILL)
        run.wait(PATIENCE_S)
        _until("its lease is over", lambda: bool(progress_workflows(co).expired))
        (task,) = co.workflows.list_tasks(made)
        assert (task.status, task.attempt) == (TaskStatus.READY, 1)
        (found,) = find_differences(co, instance)
        assert "goes on for attempt 1" in found.says
        second = _asked(instance)
        workflow_step.execute_in_process(
            instance=instance,
            resources={"platform": PlatformResource()},
            run_config=second["run_config"],
            tags=second["tags"],
        )
        assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED
        assert find_differences(co, instance) == []
        fates = {
            record.dagster_run.tags["penstock/attempt"]: record.dagster_run.status
            for record in instance.get_run_records()
        }
    assert fates == {"1": dg.DagsterRunStatus.CANCELED, "2": dg.DagsterRunStatus.SUCCESS}
    assert _told(co, [made]) == Counter(
        workflow_created=1,
        workflow_started=1,
        task_assigned=2,
        task_failed=1,
        task_completed=1,
        workflow_completed=1,
    )


def test_servers_that_are_killed_lose_nothing_and_do_nothing_twice(
    co: Coordination, processes: Callable[..., subprocess.Popen[str]]
) -> None:
    """Two in a row die at some moment of some look; every turn that was triggered has begun and ended once."""
    event = {"type": "archive_discovered"}
    made = [
        _create(co, kind="event_driven", event=event, steps=["collect"], retry={"tries": 9})
        for _ in range(8)
    ]
    for number in range(2):
        server = processes("serve")
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        trigger_event_driven(
            co,
            event_id=str(number),
            event_type="archive_discovered",
            subject="x",
            tenant=DEFAULT,
            source="x",
        )
        give_up_at = time.monotonic() + 0.3 + 0.2 * number
        while time.monotonic() < give_up_at:
            _work(co, made)
        server.send_signal(signal.SIGKILL)
        server.wait(PATIENCE_S)
    last = processes("serve")

    def ended() -> bool:
        _work(co, made)
        return all(
            (workflow.turns, workflow.status) == (2, WorkflowStatus.WAITING)
            for workflow in map(co.workflows.get_workflow, made)
        )

    _until("every turn has ended", ended)
    last.send_signal(signal.SIGKILL)
    told = _told(co, made)
    assert told["workflow_started"] == told["workflow_completed"] == 2 * len(made)


def _work(co: Coordination, workflow_ids: list[str]) -> None:
    """Be a worker: take what is ready, and complete it."""
    for workflow_id in workflow_ids:
        for task in co.workflows.list_tasks(workflow_id, statuses=[TaskStatus.READY]):
            now, task_id = co.now(), task.task_id
            try:
                change = co.workflows.change_task(
                    task_id,
                    lambda case, task_id=task_id, now=now: claimed(  # type: ignore[misc]
                        case, task_id, worker_id="w", now=now, lease_s=30
                    ),
                )
                assert change is not None
                token = change.tasks[0].fencing_token
                complete_task(co, Report(task_id=task_id, fencing_token=token))
            except (LeaseLost, NotFound):
                continue
