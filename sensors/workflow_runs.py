"""Holding the tasks that Dagster has against its runs, and mending what a crash left.

``python -m sensors.workflow_runs [--mend] [--json]`` does it once, over the instance at ``DAGSTER_HOME``.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC

import dagster as dg

from jobs.workflow_step import DAGSTER_WORKER, WORKFLOW_STEP_JOB
from penstock.use_cases.coordination import Coordination
from penstock.workflow.reconcile import (
    GRACE,
    Difference,
    Finding,
    RunFate,
    TaskRun,
    differences,
)

TASK_TAG, ATTEMPT_TAG = "penstock/task", "penstock/attempt"
GOING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_TASKS_AT_ONCE = 200


def find_differences(co: Coordination, instance: dg.DagsterInstance) -> list[Difference]:
    """Return where tasks and runs do not tell the same story; empty where they do."""
    going = [_run_of(record) for record in _records(instance, statuses=GOING)]
    held = co.workflows.tasks_of(DAGSTER_WORKER)
    known = {task.task_id for task in held}
    others = co.workflows.get_tasks(sorted({run.task_id for run in going} - known))
    runs = {run.run_id: run for run in [*going, *runs_of(instance, sorted(known))]}
    return differences([*held, *others], list(runs.values()), now=co.now(), grace=GRACE)


def runs_of(instance: dg.DagsterInstance, task_ids: Sequence[str]) -> list[TaskRun]:
    """Return the runs that were launched for some tasks."""
    found: list[TaskRun] = []
    for start in range(0, len(task_ids), _TASKS_AT_ONCE):
        some = list(task_ids[start : start + _TASKS_AT_ONCE])
        found += [_run_of(record) for record in _records(instance, tags={TASK_TAG: some})]
    return found


def _records(
    instance: dg.DagsterInstance,
    *,
    statuses: list[dg.DagsterRunStatus] | None = None,
    tags: dict[str, str | list[str]] | None = None,
) -> Sequence[dg.RunRecord]:
    filters = dg.RunsFilter(job_name=WORKFLOW_STEP_JOB, statuses=statuses, tags=tags)
    return [r for r in instance.get_run_records(filters) if TASK_TAG in r.dagster_run.tags]


def _run_of(record: dg.RunRecord) -> TaskRun:
    run = record.dagster_run
    fate = RunFate.FAILED
    if run.status is dg.DagsterRunStatus.SUCCESS:
        fate = RunFate.SUCCEEDED
    elif run.status in GOING:
        fate = RunFate.GOING
    return TaskRun(
        run_id=run.run_id,
        task_id=run.tags[TASK_TAG],
        attempt=int(run.tags.get(ATTEMPT_TAG, "0")),
        fate=fate,
        changed_at=record.update_timestamp.astimezone(UTC),
    )


def mend_differences(
    co: Coordination, instance: dg.DagsterInstance, found: Sequence[Difference]
) -> int:
    """Make what differs right, and return how much was: the control database decides."""
    from penstock.use_cases.reconcile_workflows import mend

    done = 0
    for each in found:
        if each.finding is Finding.RUN_UNWANTED and each.run_id is not None:
            done += end_run(instance, each.run_id, each.says)
        else:
            done += mend(co, each)
    return done


def end_run(instance: dg.DagsterInstance, run_id: str, why: str) -> bool:
    """End a run; one whose process is gone, or that nobody can reach, is marked as cancelled."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return False
    with suppress(Exception):  # whoever launched it may be gone: then it is marked below
        if instance.run_coordinator.cancel_run(run_id):
            return True
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, message=f"ended by the reconciler: {why}")
    return True


def main(options: Sequence[str]) -> int:
    """Show what differs, and mend it if asked; returns 0 where both sides tell the same story (now)."""
    from resources.settings import Settings
    from resources.wiring import open_coordination, open_platform

    settings = Settings.from_env()
    os.environ.setdefault("DAGSTER_HOME", str(settings.dagster_folder))
    co = open_coordination(open_platform(settings))
    with dg.DagsterInstance.get() as instance:
        found = find_differences(co, instance)
        mended = mend_differences(co, instance, found) if "--mend" in options else 0
    listed = [asdict(each) for each in found]
    if "--json" in options:
        document = {"differences": listed, "mended": mended}
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    else:
        for each in found:
            sys.stdout.write(f"{each.finding}: {each.says}\n")
        sys.stdout.write(
            f"{len(found)} differences between tasks and runs, {mended} mended\n"
            if found
            else "tasks and runs tell the same story\n"
        )
    return 0 if len(found) == mended else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
