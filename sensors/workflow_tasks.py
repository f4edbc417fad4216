"""The sensor that makes Dagster a worker: it claims tasks of workflows, and launches one run for each attempt.

Like ``s3_batches`` one tick goes on looking for as long as fits between two of the daemon's, so that a task waits for
a look and not for a tick. While a run is queued the sensor renews its lease; a run that works does so itself.
"""

import socket
from contextlib import suppress

import dagster as dg

from jobs.workflow_step import DAGSTER_WORKER, workflow_step
from penstock.errors import IllegalMove, LeaseLost, NotFound
from penstock.ports.work import Grant
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.work import Workshop, beat, claim_tasks, register_worker
from penstock.use_cases.workflow_tasks import extend_lease
from penstock.workflow.reconcile import RunFate
from penstock.workflow.status import Step, TaskStatus
from penstock.workflow.tasks import Report
from penstock.workflow.workers import EVERY_TENANT, WorkerKind
from resources.dagster_resources import TRACE_TAG, PlatformResource
from resources.settings import Settings
from sensors.workflow_runs import (
    ATTEMPT_TAG,
    TASK_TAG,
    find_differences,
    mend_differences,
    runs_of,
)

WATCH_S = 4.0
"""How long one tick looks; with its own costs it has to end before the daemon comes again."""
CAPACITY = 4
"""Tasks that Dagster has at once: two runs that work, as ``dagster.yaml`` says, and two that wait for these."""
LAUNCH_S = 120.0
"""How long a run may take to start before its task is given to another; it is renewed while the run is queued."""
CAPABILITIES = (str(Step.COLLECT), str(Step.TRANSFORM))


@dg.sensor(
    name="workflow_tasks",
    job=workflow_step,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Claims tasks of workflows for Dagster, and launches a run for each.",
)
def workflow_tasks(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    """Look until tasks were claimed or the watch is over; mend what a crash left first."""
    from resources.wiring import open_coordination, open_workshop

    opened = platform.open()
    co, workshop = open_coordination(opened), open_workshop(opened)
    _be_there(workshop)
    _renew_what_has_yet_to_start(co, context.instance)
    found = find_differences(co, context.instance)
    if found:
        mend_differences(co, context.instance, found)
        for each in found:
            context.log.warning(f"{each.finding}: {each.says}")
    look_every_s = Settings.from_env().look_every_s
    clock = opened.clock
    give_up_at = clock.monotonic_s() + WATCH_S
    while True:
        room = CAPACITY - len(co.workflows.tasks_of(DAGSTER_WORKER))
        asking = {DAGSTER_WORKER: room}
        granted = claim_tasks(workshop, asking, lease_s=LAUNCH_S).grants if room > 0 else ()
        if granted:
            return dg.SensorResult(run_requests=[_run_request(grant) for grant in granted])
        if clock.monotonic_s() + look_every_s > give_up_at:
            return dg.SkipReason("no task is ready" if room > 0 else "it has all that it can take")
        clock.sleep(look_every_s)


def _be_there(workshop: Workshop) -> None:
    """Say that Dagster is there; it registers anew where it was given up."""
    try:
        beat(workshop, DAGSTER_WORKER, tenant=None)
    except (NotFound, IllegalMove):
        register_worker(
            workshop,
            DAGSTER_WORKER,
            tenant=EVERY_TENANT,
            capabilities=CAPABILITIES,
            capacity=CAPACITY,
            details={"host": socket.gethostname()},
            by=By(actor="penstock"),
            kind=WorkerKind.DAGSTER,
        )


def _renew_what_has_yet_to_start(co: Coordination, instance: dg.DagsterInstance) -> None:
    """Renew the leases of tasks whose run is on its way: until it works nobody else does."""
    waiting = [
        task for task in co.workflows.tasks_of(DAGSTER_WORKER) if task.status is TaskStatus.ASSIGNED
    ]
    going = {
        (run.task_id, run.attempt)
        for run in runs_of(instance, [task.task_id for task in waiting])
        if run.fate is RunFate.GOING
    }
    for task in waiting:
        if (task.task_id, task.attempt) in going:
            report = Report(task_id=task.task_id, fencing_token=task.fencing_token)
            with suppress(LeaseLost):
                extend_lease(co, report, lease_s=LAUNCH_S)


def _run_request(grant: Grant) -> dg.RunRequest:
    """Ask for the run of one attempt: its key is the attempt's, so that none ever has two."""
    tags = {
        "penstock/workflow": grant.workflow_id,
        TASK_TAG: grant.task_id,
        ATTEMPT_TAG: str(grant.attempt),
        "penstock/source": grant.source_id,
        "penstock/step": str(grant.step),
        "dagster/priority": "5",
    }
    if grant.trace_parent is not None:
        tags[TRACE_TAG] = grant.trace_parent
    config = {"task_id": grant.task_id, "fencing_token": grant.fencing_token}
    return dg.RunRequest(
        run_key=f"{grant.task_id}/{grant.attempt}",
        tags=tags,
        run_config={"ops": {"do_step": {"config": config}}},
    )
