"""Workflows behave as a small model of them says, whatever people, workers and time do."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from penstock.errors import IllegalMove, LeaseLost, NothingToDo
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.workflow_tasks import complete_task, fail_task, start_task
from penstock.use_cases.workflow_triggers import trigger_event_driven
from penstock.use_cases.workflows import (
    cancel_workflow,
    pause_workflow,
    rerun_workflow,
    resume_workflow,
    retry_workflow,
)
from penstock.workflow.records import Trouble
from penstock.workflow.tasks import Report
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW
from tests.contracts.workflow_values import ACME, BY, claim, coordination, create
from tests.fixtures.clock import FixedClock
from tests.property.depth import examples

LEASE_S, DELAY_S, TRIES = 100, 60, 1
STEPS = ("collect", "transform")
SOURCES = ("a", "b")
OPEN = ("pending", "ready", "assigned", "running", "stopping")
HELD = ("assigned", "running", "stopping")


@dataclass
class ModelTask:
    """One task as the model knows it."""

    status: str
    token: int = 0
    failures: int = 0
    due_s: float = 0
    expires_s: float = 0


@dataclass
class Model:
    """One workflow in memory, written for plainness: a status, and two tasks for each source."""

    repeats: bool
    status: str = "waiting"
    turn: str | None = None
    tasks: dict[str, list[ModelTask]] = field(default_factory=dict)
    queued: int = 0
    dropped: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    drops: bool = False

    def all(self) -> list[ModelTask]:
        return [task for mine in self.tasks.values() for task in mine]

    def begin(self) -> None:
        self.status, self.turn = "running", "running"
        self.tasks = {s: [ModelTask("ready"), ModelTask("pending")] for s in SOURCES}

    def fire(self) -> None:
        if self.status == "waiting" and not self.queued:
            self.begin()
        elif self.status in ("running", "paused", "waiting") and not self.drops:
            self.queued += 1
        elif self.status in ("running", "paused", "waiting"):
            self.dropped += 1

    def settle(self) -> None:
        if self.turn != "running" or any(task.status in OPEN for task in self.all()):
            return
        if self.status == "cancelling":
            self.turn = "compensating"
        elif self.status == "running":
            well = all(task.status == "completed" for task in self.all())
            self.turn = "completed" if well else "failed"
            self.ended[self.turn] += 1
            self.status = "waiting" if self.repeats else self.turn

    def look(self, now_s: float) -> None:
        for mine in self.tasks.values():
            for task in mine:
                if task.status in HELD and task.expires_s <= now_s:
                    self.fail(mine, task, now_s, passes=True)
        if self.turn == "compensating":
            self.turn, self.status = "cancelled", "cancelled"
            self.ended["cancelled"] += 1
        if self.status == "waiting" and self.queued:
            self.queued -= 1
            self.begin()

    def fail(self, mine: list[ModelTask], task: ModelTask, now_s: float, *, passes: bool) -> None:
        if task.status == "stopping":
            task.status = "cancelled"
        elif passes and task.failures < TRIES:
            task.status, task.failures, task.due_s = "ready", task.failures + 1, now_s + DELAY_S
        else:
            task.status, task.failures = "failed", task.failures + 1
            for later in mine[mine.index(task) + 1 :]:
                later.status = "skipped"
        self.settle()

    def complete(self, mine: list[ModelTask], task: ModelTask, now_s: float) -> None:
        task.status = "completed"
        for later in mine[mine.index(task) + 1 :]:
            if later.status == "pending":
                later.status, later.due_s = "ready", now_s
        self.settle()

    def cancel(self) -> None:
        begun = any(task.token for task in self.all())
        for task in self.all():
            if self.turn in ("running", "compensating"):
                task.status = {"pending": "cancelled", "ready": "cancelled"}.get(
                    task.status, "stopping" if task.status in HELD else task.status
                )
        self.queued = 0
        if self.turn in ("running", "compensating") and begun:
            self.status = "cancelling"
            self.settle()
            return
        if self.turn in ("running", "compensating"):
            self.turn = "cancelled"
        self.status = "cancelled"
        self.ended["cancelled"] += 1


class WorkflowMachine(RuleBasedStateMachine):
    """One workflow; people, two workers and an impatient clock."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "control.db")
        self.store = SqlControlStore(f"sqlite:///{self.folder / 'control.db'}")
        self.clock = FixedClock(NOW)
        self.co = coordination(self.store, self.folder, self.clock)
        self.model: Model | None = None
        self.id = ""
        self.reports: list[tuple[str, int, Report]] = []
        self.events = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @property
    def now_s(self) -> float:
        return (self.clock.moment - NOW).total_seconds()

    @precondition(lambda self: self.model is None)
    @rule(repeats=st.booleans(), drops=st.booleans())
    def make(self, repeats: bool, drops: bool) -> None:
        """Ask for a workflow."""
        repeating: dict[str, Any] = {
            "kind": "event_driven",
            "event": {"type": "archive_discovered"},
            "trigger_policy": "drop" if drops else "queue",
        }
        made = create(
            self.co,
            steps=STEPS,
            retry={"tries": TRIES, "delay_s": DELAY_S},
            **(repeating if repeats else {}),
        )
        self.id, self.model = made.workflow_id, Model(repeats=repeats, drops=drops)
        if not repeats:
            self.model.begin()

    @precondition(lambda self: self.model is not None)
    @rule()
    def fire(self) -> None:
        """An event comes in that it waits for, if it waits for any."""
        assert self.model is not None
        self.events += 1
        fired = trigger_event_driven(
            self.co,
            event_id=str(self.events),
            event_type="archive_discovered",
            subject="a",
            tenant=ACME,
            source="a",
        )
        waits = self.model.repeats and self.model.status not in ("cancelling", "cancelled")
        assert fired == ([self.id] if waits else [])
        if waits:
            self.model.fire()

    @precondition(lambda self: self.model is not None)
    @rule(
        source=st.sampled_from(SOURCES),
        step=st.sampled_from([0, 1]),
        worker=st.sampled_from(["w1", "w2"]),
    )
    def claim(self, source: str, step: int, worker: str) -> None:
        """Give a task to a worker, if it is ready and its workflow runs."""
        model = self.model
        assert model is not None
        if not model.tasks:
            return
        task = model.tasks[source][step]
        legal = task.status == "ready" and model.status == "running"
        try:
            report = claim(
                self.co, self.id, f"{source} {STEPS[step]}", worker=worker, lease_s=LEASE_S
            )
        except IllegalMove:
            assert not legal
            return
        assert legal
        task.status, task.token, task.expires_s = "assigned", task.token + 1, self.now_s + LEASE_S
        self.reports.append((source, step, report))

    def _mine(self, number: int) -> tuple[list[ModelTask], ModelTask, Report, bool]:
        assert self.model is not None
        source, step, report = self.reports[number % len(self.reports)]
        current = self.co.workflows.list_tasks(self.id)
        of_turn = any(task.task_id == report.task_id for task in current)
        task = self.model.tasks[source][step]
        return self.model.tasks[source], task, report, of_turn

    @precondition(lambda self: self.reports)
    @rule(
        number=st.integers(0, 20),
        what=st.sampled_from(["start", "complete", "complete", "fail", "fail for good"]),
    )
    def report(self, number: int, what: str) -> None:
        """Whoever has, or had, a task says what became of it."""
        assert self.model is not None
        mine, task, report, of_turn = self._mine(number)
        if not of_turn:
            self.reports.remove(self.reports[number % len(self.reports)])
            return
        last = task.token == report.fencing_token
        holds = last and task.status in HELD
        again = last and task.status == {"complete": "completed", "start": ""}.get(what, "failed")
        try:
            match what:
                case "start":
                    start_task(self.co, report)
                case "complete":
                    complete_task(self.co, report)
                case _:
                    fail_task(
                        self.co, report, Trouble(code="x", message="x"), passes=what == "fail"
                    )
        except LeaseLost:
            assert not holds
            assert not again
            return
        assert holds or again
        if again:
            return
        match what:
            case "start":
                task.status = "running" if task.status == "assigned" else task.status
            case "complete":
                self.model.complete(mine, task, self.now_s)
            case _:
                self.model.fail(mine, task, self.now_s, passes=what == "fail")

    @precondition(lambda self: self.model is not None)
    @rule(act=st.sampled_from(["pause", "resume", "resume", "cancel"]))
    def act(self, act: str) -> None:
        """Somebody pauses, resumes or cancels it, whether that is legal or not."""
        model = self.model
        assert model is not None
        legal = {
            "pause": ("waiting", "running"),
            "resume": ("paused",),
            "cancel": ("waiting", "running", "paused"),
        }[act]
        use_case = {"pause": pause_workflow, "resume": resume_workflow, "cancel": cancel_workflow}
        if model.status not in legal:
            with pytest.raises(IllegalMove):
                use_case[act](self.co, self.id, by=BY)
            return
        use_case[act](self.co, self.id, by=BY)
        if act == "pause":
            model.status = "paused"
        elif act == "cancel":
            model.cancel()
        else:
            model.status = "running" if model.turn == "running" else "waiting"
            model.settle()

    @precondition(lambda self: self.model is not None)
    @rule()
    def retry(self) -> None:
        """Somebody asks for what failed to be done again."""
        model = self.model
        assert model is not None
        undone = [task for task in model.all() if task.status in ("failed", "skipped", "cancelled")]
        if model.status not in ("waiting", "running", "failed") or not undone:
            with pytest.raises((IllegalMove, NothingToDo)):
                retry_workflow(self.co, self.id, by=BY)
            return
        retry_workflow(self.co, self.id, by=BY)
        model.status = model.turn = "running"
        for collect, transform in model.tasks.values():
            if collect in undone:
                collect.status, collect.failures = "ready", 0
                transform.status, transform.failures = "pending", 0
            elif transform in undone:
                transform.status, transform.failures = "ready", 0

    @precondition(lambda self: self.model is not None and self.model.tasks)
    @rule(source=st.sampled_from(SOURCES), step=st.sampled_from([0, 1]))
    def rerun(self, source: str, step: int) -> None:
        """Somebody asks for a task, and what follows it, to be done again."""
        model = self.model
        assert model is not None
        mine = model.tasks[source]
        task_id = self.co.workflows.list_tasks(self.id)[2 * SOURCES.index(source) + step].task_id
        legal = (
            model.status in ("waiting", "running", "completed", "failed")
            and not any(task.status in OPEN for task in mine[step:])
            and all(task.status == "completed" for task in mine[:step])
        )
        if not legal:
            with pytest.raises(IllegalMove):
                rerun_workflow(self.co, self.id, task_id, by=BY)
            return
        rerun_workflow(self.co, self.id, task_id, by=BY)
        model.status = model.turn = "running"
        for number, task in enumerate(mine[step:]):
            task.status = "pending" if number else "ready"
            task.failures = 0

    @precondition(lambda self: self.model is not None)
    @rule(pass_s=st.sampled_from([0, 1, 50, 120]))
    def look(self, pass_s: int) -> None:
        """Time passes, and the coordinator looks until there is nothing more to do."""
        assert self.model is not None
        self.clock.sleep(pass_s)
        for _ in range(3):
            assert progress_workflows(self.co).troubles == []
            self.model.look(self.now_s)

    @invariant()
    def agree(self) -> None:
        """Statuses, counts and what was told of the ends are as the model says."""
        model = self.model
        if model is None:
            return
        found = self.co.workflows.get_workflow(self.id)
        case = self.co.workflows.get_case(self.id)
        assert str(found.status) == model.status
        assert (len(found.queued_triggers), found.dropped_triggers) == (model.queued, model.dropped)
        assert (str(case.turn.status) if case.turn else None) == model.turn
        assert [str(t.status) for t in case.tasks] == [task.status for task in model.all()]
        assert [t.fencing_token for t in case.tasks] == [task.token for task in model.all()]
        query = select(outbox_event.c.type, func.count()).group_by(outbox_event.c.type)
        with self.store.engine.connect().execution_options(penstock_reading=True) as connection:
            told = {row[0]: row[1] for row in connection.execute(query)}
        for name in ("completed", "failed", "cancelled"):
            assert told.get(f"workflow_{name}", 0) == model.ended[name]


def test_workflows_behave_as_the_model_says(migrated_sqlite: Path) -> None:
    """Pause, resume, cancel, fail, retry, claim and complete in any order, with workers that are late."""

    class Machine(WorkflowMachine):
        template = migrated_sqlite

    chosen = settings(
        max_examples=examples(30),
        stateful_step_count=40,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=chosen)
