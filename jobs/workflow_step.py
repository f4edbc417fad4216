"""The workflow step job: one run for one attempt of one task of a workflow, launched by the sensor workflow_tasks.

The run renews its lease while it works, and reports with the fencing token of its claim: what was taken back from it
meanwhile it leaves alone. Its tags name workflow, task, attempt and source.
"""

import threading
from types import TracebackType

import dagster as dg
from pydantic import Field

from jobs.collect import chosen, log_extracted, log_landed
from penstock.batch.rows import Kind
from penstock.batch.source import SourceDefinition
from penstock.errors import BadBatch, LeaseLost, NotFound, UndeclaredSource
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.work import Workshop, outcome_of, renew
from penstock.workflow.records import Task
from penstock.workflow.status import Step
from penstock.workflow.tasks import Report
from platform_assets.partitions import add_partitions
from resources.dagster_resources import PlatformResource

WORKFLOW_STEP_JOB = "workflow_step"
DAGSTER_WORKER = "dagster"
"""The worker that Dagster is."""
_PERMANENT = (BadBatch, NotFound, UndeclaredSource)
"""What another attempt would meet again."""


class StepConfig(dg.Config):
    """Which task, and under which claim."""

    task_id: str = Field(description="Of the workflow's task.")
    fencing_token: int = Field(description="Of its claim.")


class HeldTask:
    """Renews a task's lease from a thread of its own for as long as the block runs, and notices when it is to stop."""

    def __init__(self, workshop: Workshop, config: StepConfig) -> None:
        self._workshop, self._config = workshop, config
        self._lost: LeaseLost | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="task-lease", daemon=True)

    def __enter__(self) -> "HeldTask":
        self._renew()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raise ``LeaseLost`` if the task is not this run's any more, or is to stop."""
        if self._lost is None:
            self._renew()
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        # Real time: a lease is about whether this process still makes progress.
        while not self._ended.wait(self._workshop.policy.lease_s / 3):
            try:
                self._renew()
            except Exception:  # noqa: BLE001, S112  the next beat tries again; the lease outlives two misses
                continue
            if self._lost is not None:
                return

    def _renew(self) -> None:
        task_id, token = self._config.task_id, self._config.fencing_token
        try:
            renewed = renew(
                self._workshop,
                task_id,
                worker_id=DAGSTER_WORKER,
                fencing_token=token,
                tenant=None,
            )
        except LeaseLost as lost:
            self._lost = lost
            return
        if renewed.stop:
            self._lost = LeaseLost(
                f"task {task_id!r} is to stop: its workflow was cancelled, or its deadline has passed"
            )


@dg.op(description="Do one step of a workflow for one source, and report it.")
def do_step(context: dg.OpExecutionContext, config: StepConfig, platform: PlatformResource) -> None:
    """Extract the task's source, or land its batch, at the task's moment."""
    from penstock.use_cases.workflow_tasks import complete_task, fail_task, start_task
    from penstock.workflow.records import Trouble
    from resources.wiring import open_coordination, open_workshop

    opened = platform.open()
    co, workshop = open_coordination(opened), open_workshop(opened)
    report = Report(
        task_id=config.task_id, fencing_token=config.fencing_token, run_id=context.run_id
    )
    task = start_task(co, report)
    try:
        with HeldTask(workshop, config) as held:
            batch, result = _done(context, co, task, held)
    except Exception as error:
        trouble = Trouble(code=getattr(error, "code", type(error).__name__), message=str(error))
        # That somebody else has the task says nothing of its source.
        outcome = None
        if not isinstance(error, LeaseLost):
            outcome = outcome_of(workshop, DAGSTER_WORKER, task.source_id, error=str(error))
        fail_task(co, report, trouble, passes=not isinstance(error, _PERMANENT), outcome=outcome)
        raise
    outcome = outcome_of(workshop, DAGSTER_WORKER, task.source_id, error=None)
    complete_task(co, report, batch_id=batch, result=result, outcome=outcome)


def _done(
    context: dg.OpExecutionContext, co: Coordination, task: Task, held: HeldTask
) -> tuple[BatchId | None, dict[str, int]]:
    """Do the step; returns the batch that it landed, if it did, and what was done in numbers."""
    held.check()
    (definition,) = chosen([task.source_id])
    assert task.moment is not None, "every task to collect has its moment"
    add_partitions(context.instance, [ids.batch_id(task.source_id, task.moment)])
    match task.step:
        case Step.COLLECT:
            return _extract(context, co, task, definition)
        case Step.TRANSFORM:
            return _land(context, co, task, definition, held)
        case Step.PUBLISH:
            raise NotFound("no worker publishes: the task follows its batch through the queue")


def _extract(
    context: dg.OpExecutionContext, co: Coordination, task: Task, definition: SourceDefinition
) -> tuple[None, dict[str, int]]:
    from penstock.use_cases.extract_source import extract_source

    assert task.moment is not None
    of = {"run_id": context.run_id, "trace_parent": task.trace_parent}
    extracted = extract_source(co.platform, definition, task.moment, **of)
    log_extracted(context, definition, extracted)
    rows, ms = sum(extracted.rows.values()), extracted.duration_ms
    return None, {"rows": rows, "duration_ms": ms}


def _land(
    context: dg.OpExecutionContext,
    co: Coordination,
    task: Task,
    definition: SourceDefinition,
    held: HeldTask,
) -> tuple[BatchId, dict[str, int]]:
    from penstock.use_cases.land_batch import land_batch

    assert task.moment is not None
    held.check()
    of = {"run_id": context.run_id, "trace_parent": task.trace_parent}
    landed = land_batch(co.platform, definition, task.moment, **of)
    log_landed(context, definition, landed)
    rows = sum(landed.manifest.files(kind).rows for kind in Kind)
    return landed.manifest.batch_id, {"rows": rows, "duration_ms": landed.duration_ms}


@dg.job(
    name=WORKFLOW_STEP_JOB,
    description="Do one task of a workflow; launched by the sensor workflow_tasks.",
    executor_def=dg.in_process_executor,
)
def workflow_step() -> None:
    """Do one step."""
    do_step()
