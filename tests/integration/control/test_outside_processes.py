"""Collectors in processes of their own: they pull over HTTP, write to S3 themselves, and may be killed at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.service.looping import Loop
from control_plane.service.loops import work as work_loops
from control_plane.service.opening import open_services
from control_plane.service.services import Services
from penstock.publish.state import PublishStatus
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.publish import publish_next
from penstock.workflow.workers import WorkerStatus
from resources.settings import Settings
from tests.fixtures.control_server import UNLIMITED, ControlServer, running_control
from tests.fixtures.outside import begin, collector, declare, eventually, tasks_of

PENSTOCK = Path(sys.executable).with_name("penstock")
QUICK = {"lease_s": 3.0, "silent_s": 4.0}
"""Seconds: a worker that was killed is given up soon."""
RETRY = {"tries": 3, "delay_s": 0.2, "jitter_share": 0}
WAITS_ONCE = """
if task["attempt"] == 1:
    open(os.environ["MARK"], "w").close()
    import time

    time.sleep(600)
"""
"""Between the files of a batch and its manifest: where a kill hurts most."""


@pytest.fixture
def served(
    new_control_url: Callable[[str], str], tmp_path: Path, s3_endpoint_url: str, s3_bucket: str
) -> Iterator[ControlServer]:
    """A server over S3 that gives out work and takes back what is lost."""
    settings = Settings.model_validate(
        {
            "home": tmp_path / "home",
            "database_url": new_control_url("sqlite"),
            "objects_url": f"s3://{s3_bucket}",
            "s3_endpoint_url": s3_endpoint_url,
            "worker_policy": QUICK,
        }
    )
    services = replace(open_services(settings), limits=UNLIMITED)
    declare(services, "shop", targets=["registry"])
    going_on = Loop(
        name="workflows", run_once=lambda s: progress_workflows(s.coordination).did_something
    )
    with running_control(services, loops=(*work_loops.loops, going_on)) as running:
        yield running


@contextmanager
def worker(
    served: ControlServer, script: Path, bucket: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``penstock worker run`` with a collector, in a process group of its own, as the page says."""
    process = subprocess.Popen(
        [PENSTOCK, "worker", "run", "--capability", "collect:shop", "--", sys.executable, script],
        env={
            **os.environ,
            "PENSTOCK_CONTROL_URL": served.url,
            "PENSTOCK_WORKER_TOKEN": served.token("worker", tenant="acme"),
            "PENSTOCK_S3_ENDPOINT_URL": served.services.settings.s3_endpoint_url or "",
            "BUCKET": bucket,
            **environment,
        },
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def published(services: Services, workflow_id: str) -> bool:
    """Let batches be found and published as Dagster would, and say whether a workflow has ended."""
    discover_batches(services.platform, "")
    publish_next(services.platform, "publisher")
    return services.coordination.workflows.get_workflow(workflow_id).ended_at is not None


def test_a_collector_outside_brings_a_batch_to_its_target(
    served: ControlServer, tmp_path: Path, s3_bucket: str
) -> None:
    """The page's own: it pulls the task, lands the batch and reports; the workflow publishes it; SIGTERM drains it."""
    services, script = served.services, tmp_path / "collect.py"
    script.write_text(collector(), encoding="utf-8")
    workflow_id = begin(services, "shop", retry=RETRY)
    with worker(served, script, s3_bucket) as process:
        eventually(lambda: published(services, workflow_id), "the workflow ends")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    found = tasks_of(services, workflow_id)
    assert {name: each.trouble for name, each in found.items() if each.trouble} == {}
    assert services.coordination.workflows.get_workflow(workflow_id).status == "completed"
    assert found["shop collect"].result == {"rows": 2}
    batch_id = found["shop publish"].batch_id
    assert batch_id is not None
    (state,) = services.platform.control.list_states(batch=batch_id)
    assert state.status is PublishStatus.COMPLETE
    assert state.metrics.entities_created == 2
    (gone,) = services.workshop.work.list_workers()
    assert gone.status is WorkerStatus.GONE


def test_another_takes_over_what_a_killed_collector_had(
    served: ControlServer, tmp_path: Path, s3_bucket: str
) -> None:
    """Killed between its files and its manifest; after the lease the next one lands the batch, once."""
    services, script, mark = served.services, tmp_path / "collect.py", tmp_path / "mark"
    first, last = collector().split("try:\n", 1)
    script.write_text(f"{first}{WAITS_ONCE}try:\n{last}", encoding="utf-8")
    workflow_id = begin(services, "shop", retry=RETRY)
    with worker(served, script, s3_bucket, MARK=str(mark)) as killed:
        eventually(mark.exists, "the first one has written its files")
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    with worker(served, script, s3_bucket, MARK=str(mark)):
        eventually(lambda: published(services, workflow_id), "the workflow ends")
    found = tasks_of(services, workflow_id)
    assert services.coordination.workflows.get_workflow(workflow_id).status == "completed"
    assert (found["shop collect"].attempt, found["shop collect"].failures) == (2, 1)

    def noticed() -> bool:
        return WorkerStatus.GONE in [w.status for w in services.workshop.work.list_workers()]

    eventually(noticed, "the killed one is missed")
    assert len(services.platform.control.list_batches()) == 1
