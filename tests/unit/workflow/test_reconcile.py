"""What tasks and runs say of each other: every difference that a crash can leave, and no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.identity.ids import SourceId, TenantId
from penstock.workflow.reconcile import (
    GRACE,
    Finding,
    RunFate,
    TaskRun,
    differences,
)
from penstock.workflow.records import Task
from penstock.workflow.status import Step, TaskStatus, WorkflowKind

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - GRACE - timedelta(seconds=1)
TASK = Task(
    task_id="t" * 32,
    turn_id="u" * 32,
    workflow_id="w" * 32,
    tenant_id=TenantId("default"),
    source_id=SourceId("crm"),
    step=Step.COLLECT,
    position=0,
    kind=WorkflowKind.ON_DEMAND,
    capability="collect",
    priority=0,
    importance=0,
    status=TaskStatus.RUNNING,
    attempt=2,
    worker_id="dagster",
    fencing_token=2,
    due_at=LONG_AGO,
    created_at=LONG_AGO,
    assigned_at=LONG_AGO,
)
RUN = TaskRun(
    run_id="run2", task_id=TASK.task_id, attempt=2, fate=RunFate.GOING, changed_at=LONG_AGO
)


def _found(task: Task | None, *runs: TaskRun) -> list[Finding]:
    tasks = [] if task is None else [task]
    return [each.finding for each in differences(tasks, runs, now=NOW)]


@pytest.mark.parametrize(
    ("task", "run", "found"),
    [
        ({}, {}, []),
        ({"status": TaskStatus.ASSIGNED}, {}, []),
        ({}, {"fate": RunFate.FAILED}, [Finding.RUN_FAILED]),
        ({}, {"fate": RunFate.FAILED, "changed_at": NOW}, [Finding.RUN_FAILED]),
        ({}, {"fate": RunFate.SUCCEEDED}, [Finding.REPORT_LOST]),
        ({}, {"fate": RunFate.SUCCEEDED, "changed_at": NOW}, []),
        ({"status": TaskStatus.STOPPING}, {}, [Finding.RUN_UNWANTED]),
        ({"status": TaskStatus.STOPPING}, {"fate": RunFate.FAILED}, [Finding.RUN_FAILED]),
        ({"status": TaskStatus.CANCELLED}, {}, [Finding.RUN_UNWANTED]),
        ({"status": TaskStatus.CANCELLED}, {"fate": RunFate.FAILED}, []),
        ({"status": TaskStatus.COMPLETED, "ended_at": NOW}, {}, []),
        ({"status": TaskStatus.COMPLETED, "ended_at": LONG_AGO}, {}, [Finding.RUN_UNWANTED]),
        ({"status": TaskStatus.COMPLETED}, {"fate": RunFate.SUCCEEDED}, []),
        ({"status": TaskStatus.READY, "attempt": 2}, {}, [Finding.RUN_UNWANTED]),
    ],
)
def test_one_task_and_its_run(
    task: dict[str, Any], run: dict[str, Any], found: list[Finding]
) -> None:
    """Each way in which the two can stand to each other, right after it came about and a while later."""
    assert _found(replace(TASK, **task), replace(RUN, **run)) == found


def test_a_claim_without_a_run_is_given_time() -> None:
    """The sensor may be about to launch it; after the grace it has died in between."""
    assert _found(replace(TASK, assigned_at=NOW)) == []
    assert _found(TASK) == [Finding.RUN_MISSING]


def test_a_run_of_an_earlier_attempt_is_not_wanted() -> None:
    """Its lease expired and the task went to another: the run that is left over is ended, the new one goes on."""
    old = replace(RUN, run_id="run1", attempt=1)
    assert _found(TASK, old, RUN) == [Finding.RUN_UNWANTED]
    assert _found(TASK, replace(old, fate=RunFate.FAILED), RUN) == []


def test_a_run_of_no_task_is_not_wanted() -> None:
    """Nobody waits for what it does."""
    assert _found(None, RUN) == [Finding.RUN_UNWANTED]


def test_each_difference_says_how_both_stand() -> None:
    """In words that a person can act on."""
    (found,) = differences([TASK], [replace(RUN, fate=RunFate.FAILED)], now=NOW)
    assert found.says == "collect of crm is running, attempt 2; run run2 has failed"
