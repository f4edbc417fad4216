"""What tasks and the runs that do them say of each other, and what mends it where they differ: the database decides.

A crash may come between any two steps: between a claim and its run, between a run's end and its report, between a
cancel and the run that is to stop. Each leaves one of these differences, and no other. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from penstock.workflow.records import Task
from penstock.workflow.status import IN_HAND, TaskStatus

GRACE = timedelta(seconds=30)
"""How long both sides have to tell the same story by themselves before it counts as a difference."""


class RunFate(StrEnum):
    """How a run stands, as far as it matters here."""

    GOING = "going"
    """It is queued, starting or running."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It failed, or somebody ended it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRun:
    """A run that was launched for one attempt of one task, as its tags say."""

    run_id: str
    task_id: str
    attempt: int
    fate: RunFate
    changed_at: datetime
    """When it last changed."""


class Finding(StrEnum):
    """What a difference is."""

    RUN_FAILED = "run_failed"
    """The run has ended badly, and its task is still in hand: the task fails, and is tried again."""
    REPORT_LOST = "report_lost"
    """The run has succeeded, and its task is still in hand: it is completed from what the run left."""
    RUN_MISSING = "run_missing"
    """A task was claimed, and there is no run of it: the task fails, and is tried again."""
    RUN_UNWANTED = "run_unwanted"
    """A run goes on whose task is not (any more) its own, or is to stop: the run is ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that the two sides do not agree on."""

    finding: Finding
    task_id: str
    attempt: int
    run_id: str | None
    says: str
    """In words: how the task stands, and how the run does."""


def differences(
    tasks: Iterable[Task], runs: Sequence[TaskRun], *, now: datetime, grace: timedelta = GRACE
) -> list[Difference]:
    """Return where tasks and runs do not tell the same story, by task id; empty where they do.

    ``tasks`` are those that Dagster has in hand, and whatever tasks the runs that go on are of. What changed within
    ``grace`` may still be on its way, and is passed over.
    """
    by_id = {task.task_id: task for task in tasks}
    latest = _latest(runs)
    since = now - grace
    found = [
        *(_of_task(task, latest, since) for task in by_id.values() if _with_a_run(task)),
        *(_of_run(run, by_id.get(run.task_id), since) for run in runs if run.fate is RunFate.GOING),
    ]
    return sorted((each for each in found if each), key=lambda each: (each.task_id, each.attempt))


def _with_a_run(task: Task) -> bool:
    return task.status in IN_HAND and task.worker_id is not None


def _latest(runs: Sequence[TaskRun]) -> Mapping[tuple[str, int], TaskRun]:
    """Return the run of each attempt; there is one at most, as the run key is made of both."""
    return {(run.task_id, run.attempt): run for run in runs}


def _of_task(
    task: Task, runs: Mapping[tuple[str, int], TaskRun], since: datetime
) -> Difference | None:
    run = runs.get((task.task_id, task.attempt))
    if run is None:
        claimed_at = task.assigned_at or task.created_at
        return _found(Finding.RUN_MISSING, task, None) if claimed_at <= since else None
    if run.fate is RunFate.GOING:
        return None
    if run.fate is RunFate.FAILED:
        return _found(Finding.RUN_FAILED, task, run)
    return _found(Finding.REPORT_LOST, task, run) if run.changed_at <= since else None


def _of_run(run: TaskRun, task: Task | None, since: datetime) -> Difference | None:
    if task is None:
        return _unwanted(run, "there is no such task")
    if task.attempt != run.attempt:
        return _unwanted(run, f"task {task.task_id} is at attempt {task.attempt}")
    if task.status is TaskStatus.STOPPING:
        return _unwanted(run, f"task {task.task_id} is to stop")
    if task.status in IN_HAND:
        return None
    # A run that has reported takes a moment to end.
    ended_at = task.ended_at or task.ready_at or task.created_at
    if task.status is TaskStatus.COMPLETED and ended_at > since:
        return None
    return _unwanted(run, f"task {task.task_id} is {task.status}")


def _found(finding: Finding, task: Task, run: TaskRun | None) -> Difference:
    fate = f"run {run.run_id} has {run.fate}" if run else "there is no run of it"
    return Difference(
        finding=finding,
        task_id=task.task_id,
        attempt=task.attempt,
        run_id=run.run_id if run else None,
        says=f"{task.step} of {task.source_id} is {task.status}, attempt {task.attempt}; {fate}",
    )


def _unwanted(run: TaskRun, why: str) -> Difference:
    return Difference(
        finding=Finding.RUN_UNWANTED,
        task_id=run.task_id,
        attempt=run.attempt,
        run_id=run.run_id,
        says=f"run {run.run_id} goes on for attempt {run.attempt}; {why}",
    )
