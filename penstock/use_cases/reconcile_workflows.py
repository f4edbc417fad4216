"""Mending what a crash left between tasks and the runs that did them: the control database decides."""

from __future__ import annotations

from penstock.batch.manifest import manifest_key
from penstock.identity import ids
from penstock.identity.ids import BatchId
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.extract_source import find_extract
from penstock.workflow import tasks
from penstock.workflow.change import Case, Change
from penstock.workflow.reconcile import Difference, Finding
from penstock.workflow.records import Task, Trouble
from penstock.workflow.status import Step, TaskStatus

RUN_FAILED = "run_failed"
RUN_MISSING = "run_missing"
NOTHING_LEFT = "nothing_left"


def mend(co: Coordination, difference: Difference) -> bool:
    """Make the task's side of a difference right; say whether anything was done.

    A task whose run succeeded is completed from what it left: the extract, or the batch. Ending runs is the adapter's.
    """
    match difference.finding:
        case Finding.RUN_FAILED:
            return _fail(co, difference, Trouble(code=RUN_FAILED, message=difference.says))
        case Finding.RUN_MISSING:
            return _fail(co, difference, Trouble(code=RUN_MISSING, message=difference.says))
        case Finding.REPORT_LOST:
            return _complete(co, difference)
        case Finding.RUN_UNWANTED:
            return False


def _complete(co: Coordination, difference: Difference) -> bool:
    task = co.workflows.get_task(difference.task_id)
    batch = _left_behind(co, task)
    if batch is None:
        said = f"{difference.says}, and it left nothing"
        return _fail(co, difference, Trouble(code=NOTHING_LEFT, message=said))
    now = co.now()

    def decide(case: Case) -> Change | None:
        found = _same_attempt(case, difference)
        if found is None:
            return None
        # An extract is no batch yet: what is said to have landed one leaves its transform nothing to do.
        landed = None if found.step is Step.COLLECT else batch
        return tasks.completed(case, found, now=now, batch_id=landed, run_id=difference.run_id)

    return co.workflows.change_task(difference.task_id, decide) is not None


def _left_behind(co: Coordination, task: Task) -> BatchId | None:
    """Return the batch whose extract, or whose manifest, a task has left."""
    if task.moment is None:
        return None
    batch, objects = ids.batch_id(task.source_id, task.moment), co.platform.objects
    match task.step:
        case Step.COLLECT:
            there = find_extract(objects, batch) is not None
        case _:
            there = objects.stat(manifest_key(batch)) is not None
    return batch if there else None


def _fail(co: Coordination, difference: Difference, trouble: Trouble) -> bool:
    now, jitter = co.now(), co.jitter()

    def decide(case: Case) -> Change | None:
        found = _same_attempt(case, difference)
        if found is None:
            return None
        return tasks.failed(
            case, found, trouble, passes=True, now=now, jitter=jitter, run_id=difference.run_id
        )

    return co.workflows.change_task(difference.task_id, decide) is not None


def _same_attempt(case: Case, difference: Difference) -> Task | None:
    """Return the task if it still stands as it did when the difference was found."""
    task = case.task(difference.task_id)
    same = task.is_in_hand and task.attempt == difference.attempt
    wants = task.status is not TaskStatus.STOPPING or difference.finding is not Finding.RUN_UNWANTED
    return task if same and wants else None
