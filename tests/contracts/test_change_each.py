"""Many reports on one workflow in one transaction leave what each by itself would have left, on both databases."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import LeaseLost, NotFound, PenstockError
from penstock.events.envelope import OutboxCursor
from penstock.identity.ids import SourceId
from penstock.ports.work import Outcome
from penstock.ports.workflows import Asked
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.workflow_tasks import completing, failing
from penstock.workflow.change import Change
from penstock.workflow.records import Task, Trouble
from penstock.workflow.tasks import Report
from penstock.workflow.workers import WorkerPolicy
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.store import SqlControlStore
from resources.control_db.work import SqlWork
from tests.contracts.workflow_values import claim, coordination, create
from tests.fixtures.clock import FixedClock

SOURCES = ("a", "b", "c", "d")
STEPS = {"sources": SOURCES, "steps": ["collect", "transform"]}
TROUBLE = Trouble(code="no_route", message="it does not answer")
START = OutboxCursor(transaction=0, position=0)


@pytest.fixture
def co(control_store: SqlControlStore, tmp_path: Path, clock: FixedClock) -> Coordination:
    return coordination(control_store, tmp_path, clock, sources=SOURCES)


class World:
    """One workflow, with reports that are made up by chance."""

    def __init__(self, co: Coordination, seed: int, worker: str) -> None:
        self.co, self.worker = co, worker
        self.chance = random.Random(seed)
        self.id = create(co, **STEPS).workflow_id
        self.old: list[tuple[str, str, Report]] = []

    def tasks(self) -> list[Task]:
        return self.co.workflows.list_tasks(self.id)

    def page(self) -> list[Asked]:
        """Claim what is ready, and report of some of that, of what was reported before, and of claims that are lost."""
        for task in self.tasks():
            if task.status == "ready" and task.due_at <= self.co.now():
                name = f"{task.source_id} {task.step}"
                self.old.append((task.source_id, name, claim(self.co, self.id, name)))
        chosen = [self.chance.choice(self.old) for _ in range(7)] if self.old else []
        return [self.asked(source, report) for source, _, report in chosen]

    def asked(self, source: str, report: Report) -> Asked:
        match self.chance.choice(["done", "done", "failed", "failed for good", "stale"]):
            case "done":
                decide, error = completing(self.co, report, result={"rows": 3}), None
            case "stale":
                stale = Report(task_id=report.task_id, fencing_token=report.fencing_token + 7)
                decide, error = completing(self.co, stale), None
            case kind:
                passes = kind == "failed"
                decide, error = failing(self.co, report, TROUBLE, passes=passes), "no_route"
        outcome = Outcome(
            worker_id=self.worker,
            source=SourceId(f"{self.worker} {source}"),
            error=error,
            at=self.co.now(),
            policy=WorkerPolicy(),
        )
        return Asked(decide, SourceId(source), outcome)

    def one_by_one(self, page: Sequence[Asked]) -> list[Change | PenstockError | None]:
        answers: list[Change | PenstockError | None] = []
        for each in page:
            try:
                answers.append(
                    self.co.workflows.change(
                        self.id, each.decide, source=each.source, outcome=each.outcome
                    )
                )
            except PenstockError as error:
                answers.append(error)
        return answers

    def stands(self) -> list[tuple[Any, ...]]:
        """How it stands, without what names it."""
        workflow = self.co.workflows.get_workflow(self.id)
        turn = self.co.workflows.get_turn(self.id, workflow.turns)
        tasks = [
            (t.source_id, t.step, t.status, t.attempt, t.due_at, t.result, t.trouble, t.ended_at)
            for t in self.tasks()
        ]
        return [(workflow.status, workflow.trouble, turn.status, turn.trouble), *tasks]


def told(store: SqlControlStore, workflow_id: str) -> list[tuple[Any, ...]]:
    """What is told of a workflow, in its order, without what names it."""
    events = SqlEventLog.from_engine(store.engine).read(START, limit=1000)
    named = ("task_id", "workflow_id", "turn_id")
    return [
        (event.type, {k: v for k, v in event.data.items() if k not in named})
        for event in events
        if event.subject == workflow_id
    ]


def counts(store: SqlControlStore, worker: str) -> list[tuple[Any, ...]]:
    """What the breakers of a worker, and of sources of its name, have counted."""
    breakers = SqlWork.from_engine(store.engine).list_work_breakers()
    mine = [each for each in breakers if each.scope_id.startswith(worker)]
    return [
        (b.scope_id.removeprefix(worker), b.status, b.calls, b.failures, b.doubted_until)
        for b in mine
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_page_of_reports_is_worth_what_each_is_alone(
    co: Coordination, control_store: SqlControlStore, clock: FixedClock, seed: int
) -> None:
    """The same answers, tasks, turns, events in their order, and counts of breakers, whatever is reported."""
    together, alone = World(co, seed, "w1"), World(co, seed, "w2")
    for _ in range(6):
        answers = co.workflows.change_each(together.id, together.page())
        expected = alone.one_by_one(alone.page())
        assert [kind(each) for each in answers] == [kind(each) for each in expected]
        assert together.stands() == alone.stands()
        clock.sleep(70)
    assert told(control_store, together.id) == told(control_store, alone.id)
    assert counts(control_store, "w1") == counts(control_store, "w2") != []


def kind(answer: Change | PenstockError | None) -> str:
    return type(answer).__name__


def test_one_that_is_refused_takes_no_other_with_it(co: Coordination) -> None:
    """It is told why, and the others are done; of a workflow that is not there, all are refused."""
    made = create(co, **STEPS).workflow_id
    good = claim(co, made, "a collect")
    bad = Report(task_id=claim(co, made, "b collect").task_id, fencing_token=99)
    asked = [
        Asked(completing(co, bad), SourceId("b")),
        Asked(completing(co, good), SourceId("a")),
        Asked(completing(co, good), SourceId("a")),
    ]
    refused, done, again = co.workflows.change_each(made, asked)
    assert isinstance(refused, LeaseLost)
    assert isinstance(done, Change)
    assert again is None
    assert [t.status for t in co.workflows.list_tasks(made)][:2] == ["completed", "ready"]
    assert all(isinstance(e, NotFound) for e in co.workflows.change_each("0" * 32, asked))
    assert co.workflows.change_each(made, []) == []
