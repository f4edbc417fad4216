"""The store of workflows, and what people and workers do through it, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from penstock.errors import IllegalMove, KeyReused, LeaseLost, NotFound, NothingToDo
from penstock.events.catalogue import checked
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.workflows import Place, WorkflowFilter
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.workflow_tasks import complete_task, fail_task, start_task
from penstock.use_cases.workflow_triggers import trigger_event_driven
from penstock.use_cases.workflows import (
    cancel_workflow,
    create_workflow,
    pause_workflow,
    rerun_workflow,
    resume_workflow,
    retry_workflow,
)
from penstock.workflow.records import Trouble, Workflow
from penstock.workflow.status import TaskStatus, WorkflowKind, WorkflowStatus
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.store import SqlControlStore
from resources.cron import BadSchedule
from tests.contracts.workflow_values import (
    ACME,
    BY,
    claim,
    coordination,
    create,
    source,
    spec,
    task,
    tasks_of,
)
from tests.fixtures.clock import FixedClock

TROUBLE = Trouble(code="down", message="the source is down")
COLLECT = {"steps": ["collect"]}


@pytest.fixture
def co(control_store: SqlControlStore, tmp_path: Path, clock: FixedClock) -> Coordination:
    """A coordination over a fresh control database."""
    return coordination(control_store, tmp_path, clock)


def _told(store: SqlControlStore) -> list[tuple[str, dict[str, Any]]]:
    """What was told, each as the catalogue says."""
    with store.engine.connect().execution_options(penstock_reading=True) as connection:
        rows = connection.execute(select(outbox_event).order_by(outbox_event.c.position)).all()
    for row in rows:
        checked(row.type, row.data)
    return [(row.type, row.data) for row in rows]


def _acts(store: SqlControlStore, workflow_id: str) -> list[tuple[str, str]]:
    return [(entry.act, entry.actor) for entry in store.list_acts(subject=workflow_id)]


def _fire(co: Coordination, event_id: str, subject: str = "a") -> list[str]:
    return trigger_event_driven(
        co,
        event_id=event_id,
        event_type="archive_discovered",
        subject=subject,
        tenant=ACME,
        source=subject,
    )


def _event_driven(co: Coordination, **values: Any) -> Workflow:
    event = {"type": "archive_discovered", "only_its_source": True}
    return create(co, kind="event_driven", event=event, **values)


def _finish(co: Coordination, workflow_id: str, *names: str) -> None:
    for name in names:
        complete_task(co, claim(co, workflow_id, name))


def test_what_is_made_is_what_was_asked_for(
    co: Coordination, control_store: SqlControlStore
) -> None:
    """A workflow on demand begins at once: each source's first task is ready, and it is told and signed."""
    made = create(co, priority=3, deadline_s=3600, compensation={"publish": "rollback"})
    assert co.workflows.get_workflow(made.workflow_id) == made
    assert (made.status, made.turns, made.created_by) == (WorkflowStatus.RUNNING, 1, "olga")
    assert tasks_of(co, made.workflow_id) == [
        "a collect ready",
        "a transform pending",
        "a publish pending",
        "b collect ready",
        "b transform pending",
        "b publish pending",
    ]
    case = co.workflows.get_case(made.workflow_id)
    assert case.turn is not None
    assert case.turn.deadline_at == co.now() + timedelta(hours=1)
    assert [type_ for type_, _ in _told(control_store)] == ["workflow_created", "workflow_started"]
    assert _acts(control_store, made.workflow_id) == [("workflow.create", "olga")]


def test_the_same_key_asks_for_the_same_workflow(
    co: Coordination, control_store: SqlControlStore
) -> None:
    """Asked again, nothing is made; with another body, it is refused; other tenants have their own keys."""
    first = create_workflow(co, spec(), tenant=ACME, by=BY, idempotency_key="k")
    again = create_workflow(co, spec(), tenant=ACME, by=BY, idempotency_key="k")
    assert (first.is_new, again.is_new) == (True, False)
    assert again.workflow == first.workflow
    with pytest.raises(KeyReused, match="use another key"):
        create_workflow(co, spec(priority=1), tenant=ACME, by=BY, idempotency_key="k")
    other = TenantId("other")
    elsewhere = create_workflow(co, spec(sources=["x"]), tenant=other, by=BY, idempotency_key="k")
    assert elsewhere.is_new
    assert len(co.workflows.list_workflows(WorkflowFilter())) == 2
    assert len(_acts(control_store, first.workflow.workflow_id)) == 1


def test_of_many_who_ask_at_once_with_one_key_one_makes_it(co: Coordination) -> None:
    """All of them get the same workflow."""
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(
                lambda _: create_workflow(co, spec(), tenant=ACME, by=BY, idempotency_key="k"),
                range(4),
            )
        )
    assert sum(each.is_new for each in made) == 1
    assert len({each.workflow.workflow_id for each in made}) == 1


def test_another_tenants_source_is_not_there(co: Coordination) -> None:
    """The error is the same as for one that nobody declared, and nothing is made."""
    for name in ("x", "nobody"):
        with pytest.raises(NotFound, match=f"no source {name} is declared in tenant acme"):
            create(co, sources=["a", name])
    with pytest.raises(NotFound, match="nothing that is declared in tenant acme is selected"):
        create(co, sources=[], selector={"source_prefix": "x"})
    assert co.workflows.list_workflows(WorkflowFilter()) == []


def test_a_source_goes_step_by_step(co: Coordination, control_store: SqlControlStore) -> None:
    """Each step is ready when the one before is done, sources do not wait for each other, and the last ends it."""
    made = create(co, steps=["collect", "transform"]).workflow_id
    report = claim(co, made, "a collect")
    assert start_task(co, report).status is TaskStatus.RUNNING
    complete_task(co, report, result={"rows": 3})
    assert tasks_of(co, made) == [
        "a collect completed",
        "a transform ready",
        "b collect ready",
        "b transform pending",
    ]
    _finish(co, made, "a transform", "b collect", "b transform")
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED
    told = _told(control_store)
    assert [type_ for type_, _ in told][2:] == ["task_completed"] * 4 + ["workflow_completed"]
    assert told[-1][1]["tasks"] == 4
    assert told[2][1]["worker_id"] == "w1"


def test_saying_it_twice_changes_nothing(co: Coordination, control_store: SqlControlStore) -> None:
    """A worker whose answer was lost on the way says it again."""
    made = create(co, sources=["a"], **COLLECT).workflow_id
    report = claim(co, made, "a collect")
    first = complete_task(co, report, result={"rows": 3})
    told = _told(control_store)
    assert complete_task(co, report, result={"rows": 3}) == first
    assert _told(control_store) == told


def test_only_the_last_claim_counts(co: Coordination, clock: FixedClock) -> None:
    """A worker that was given up gets ``LeaseLost`` for whatever it says, and what its successor says stands."""
    made = create(co, sources=["a"], **COLLECT).workflow_id
    old = claim(co, made, "a collect")
    clock.sleep(31)
    assert progress_workflows(co).expired == 1
    taken_back = task(co, made, "a collect")
    assert (taken_back.status, taken_back.worker_id) == (TaskStatus.READY, None)
    assert taken_back.trouble is not None
    assert taken_back.trouble.code == "lease_expired"
    with pytest.raises(LeaseLost, match="stop, and write nothing more"):
        complete_task(co, old)
    new = claim(co, made, "a collect", worker="w2")
    for late in (complete_task, start_task):
        with pytest.raises(LeaseLost):
            late(co, old)
    with pytest.raises(LeaseLost):
        fail_task(co, old, TROUBLE, passes=False)
    assert complete_task(co, new).attempt == 2


def test_a_failure_that_passes_is_tried_again_later(
    co: Coordination, control_store: SqlControlStore, clock: FixedClock
) -> None:
    """It is due again after the delay; when its tries are used up, it has failed, and so has what follows it."""
    made = create(co, sources=["a"]).workflow_id
    failed = fail_task(co, claim(co, made, "a collect"), TROUBLE, passes=True)
    assert (failed.status, failed.due_at) == (TaskStatus.READY, co.now() + timedelta(seconds=60))
    failed = fail_task(co, claim(co, made, "a collect"), TROUBLE, passes=True)
    assert failed.status is TaskStatus.FAILED
    assert tasks_of(co, made) == ["a collect failed", "a transform skipped", "a publish skipped"]
    after = co.workflows.get_workflow(made)
    assert after.status is WorkflowStatus.FAILED
    assert after.trouble is not None
    assert after.trouble.message == "1 of 3 tasks failed, as collect of a: the source is down"
    told = [(t, d.get("retry_at") is not None) for t, d in _told(control_store)][2:]
    assert told == [("task_failed", True), ("task_failed", False), ("workflow_failed", False)]


def test_one_source_that_fails_keeps_no_other_back(co: Coordination) -> None:
    """The turn fails only when the others have ended, and what they did stands."""
    made = create(co, **COLLECT).workflow_id
    fail_task(co, claim(co, made, "a collect"), TROUBLE, passes=False)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.RUNNING
    _finish(co, made, "b collect")
    assert co.workflows.get_workflow(made).status is WorkflowStatus.FAILED
    assert tasks_of(co, made) == ["a collect failed", "b collect completed"]


def test_a_retry_does_again_what_failed_and_nothing_else(
    co: Coordination, control_store: SqlControlStore
) -> None:
    """Failed and skipped tasks go again, with all their tries; a workflow without any is refused."""
    made = create(co, steps=["collect", "transform"]).workflow_id
    with pytest.raises(NothingToDo):
        retry_workflow(co, made, by=BY)
    fail_task(co, claim(co, made, "a collect"), TROUBLE, passes=False)
    _finish(co, made, "b collect", "b transform")
    assert retry_workflow(co, made, by=BY).status is WorkflowStatus.RUNNING
    again = task(co, made, "a collect")
    assert (again.failures, again.attempt, again.trouble) == (0, 1, None)
    assert tasks_of(co, made) == [
        "a collect ready",
        "a transform pending",
        "b collect completed",
        "b transform completed",
    ]
    _finish(co, made, "a collect", "a transform")
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED
    assert [act for act, _ in _acts(control_store, made)] == ["workflow.retry", "workflow.create"]


def test_a_rerun_does_a_task_and_what_follows_it_again(co: Coordination, clock: FixedClock) -> None:
    """From collect on the source is extracted as of now; from a later step what was extracted is used again."""
    made = create(co, steps=["collect", "transform"]).workflow_id
    _finish(co, made, "a collect", "a transform", "b collect")
    with pytest.raises(IllegalMove, match="done again once it has ended"):
        rerun_workflow(co, made, task(co, made, "b transform").task_id, by=BY)
    _finish(co, made, "b transform")
    begun = co.now()
    clock.sleep(60)
    rerun_workflow(co, made, task(co, made, "a transform").task_id, by=BY)
    assert tasks_of(co, made)[:2] == ["a collect completed", "a transform ready"]
    assert task(co, made, "a transform").moment == begun
    _finish(co, made, "a transform")
    rerun_workflow(co, made, task(co, made, "a collect").task_id, by=BY)
    assert tasks_of(co, made)[:2] == ["a collect ready", "a transform pending"]
    assert {task(co, made, f"a {step}").moment for step in ("collect", "transform")} == {co.now()}


def test_a_pause_stops_claims_and_lets_what_runs_end(
    co: Coordination, control_store: SqlControlStore
) -> None:
    """What was given out may be completed; nothing more is given out until it is resumed, and only then does it end."""
    made = create(co, **COLLECT).workflow_id
    report = claim(co, made, "a collect")
    assert pause_workflow(co, made, by=BY).status is WorkflowStatus.PAUSED
    with pytest.raises(IllegalMove, match="which is paused"):
        claim(co, made, "b collect")
    complete_task(co, report)
    with pytest.raises(IllegalMove, match="from paused it can: resume, cancel"):
        pause_workflow(co, made, by=BY)
    resume_workflow(co, made, by=BY)
    other = claim(co, made, "b collect")
    pause_workflow(co, made, by=BY)
    complete_task(co, other)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.PAUSED
    assert resume_workflow(co, made, by=BY).status is WorkflowStatus.COMPLETED
    told = [type_ for type_, _ in _told(control_store)]
    assert told.count("workflow_paused") == told.count("workflow_resumed") == 2


@pytest.mark.parametrize(("policy", "turns"), [("queue", 2), ("drop", 1)])
def test_what_fires_during_a_pause_waits_or_is_dropped(
    co: Coordination, policy: str, turns: int
) -> None:
    """By the workflow's policy, and the same while a turn is under way."""
    made = _event_driven(co, trigger_policy=policy, **COLLECT).workflow_id
    assert _fire(co, "1") == [made]
    assert tasks_of(co, made) == ["a collect ready"]
    pause_workflow(co, made, by=BY)
    _fire(co, "2", "b")
    paused = co.workflows.get_workflow(made)
    assert (len(paused.queued_triggers), paused.dropped_triggers) == (turns - 1, 2 - turns)
    resume_workflow(co, made, by=BY)
    _finish(co, made, "a collect")
    progress_workflows(co)
    assert co.workflows.get_workflow(made).turns == turns
    assert tasks_of(co, made) == (["b collect ready"] if turns == 2 else ["a collect completed"])


def test_an_event_begins_one_turn_however_often_it_comes(co: Coordination) -> None:
    """While it waits, while its turn is under way, and after it."""
    made = _event_driven(co, **COLLECT).workflow_id
    for event_id in ("1", "1", "2", "2"):
        _fire(co, event_id)
    assert len(co.workflows.get_workflow(made).queued_triggers) == 1
    _finish(co, made, "a collect")
    progress_workflows(co)
    _finish(co, made, "a collect")
    for event_id in ("1", "2"):
        _fire(co, event_id)
    after = co.workflows.get_workflow(made)
    assert (after.turns, after.status, after.queued_triggers) == (2, WorkflowStatus.WAITING, ())
    assert _fire(co, "3", "nothing") == [made]
    last = co.workflows.list_turns(made)[0]
    assert last.trouble is not None
    assert last.trouble.code == "no_sources"


def test_a_schedule_begins_a_turn_when_it_is_due(co: Coordination, clock: FixedClock) -> None:
    """Once, and once alone for all that was missed meanwhile; a turn that is under way is not overtaken."""
    with pytest.raises(BadSchedule, match="write five fields"):
        create(co, kind="scheduled", cron="sometimes")
    made = create(co, kind="scheduled", cron="*/10 * * * *", sources=["a"], **COLLECT).workflow_id
    assert progress_workflows(co).scheduled == 0
    clock.sleep(35 * 60)
    assert progress_workflows(co).scheduled == 1
    assert co.workflows.get_workflow(made).turns == 1
    clock.sleep(35 * 60)
    progress_workflows(co)
    _finish(co, made, "a collect")
    progress_workflows(co)
    after = co.workflows.get_workflow(made)
    assert (after.turns, after.queued_triggers) == (2, ())
    assert after.next_due_at is not None
    assert after.next_due_at > co.now()


def test_a_deadline_ends_a_turn(co: Coordination, clock: FixedClock) -> None:
    """Nothing more of it is begun, what is in hand is to let go, and it has failed."""
    made = create(co, deadline_s=60, **COLLECT).workflow_id
    report = claim(co, made, "a collect", lease_s=600)
    clock.sleep(61)
    assert progress_workflows(co).overdue == 1
    assert progress_workflows(co).overdue == 0
    assert tasks_of(co, made) == ["a collect stopping", "b collect cancelled"]
    fail_task(co, report, TROUBLE, passes=True)
    after = co.workflows.get_workflow(made)
    assert (after.status, after.trouble and after.trouble.code) == (
        WorkflowStatus.FAILED,
        "deadline_passed",
    )


def test_a_cancel_of_what_was_never_begun_is_done_at_once(
    co: Coordination, control_store: SqlControlStore
) -> None:
    """It is cancelled, says by whom, and nothing can be done with it any more."""
    made = create(co).workflow_id
    assert cancel_workflow(co, made, by=BY).status is WorkflowStatus.CANCELLED
    assert {t.status for t in co.workflows.list_tasks(made)} == {TaskStatus.CANCELLED}
    type_, data = _told(control_store)[-1]
    assert (type_, data["by"], data["reason"]) == ("workflow_cancelled", "olga", "a test")
    for act in (cancel_workflow, pause_workflow, resume_workflow, retry_workflow):
        with pytest.raises(IllegalMove, match="it can: do nothing more"):
            act(co, made, by=BY)


def test_a_cancel_waits_for_what_is_in_hand(co: Coordination, clock: FixedClock) -> None:
    """Its worker is to let go; if it is not heard of, its lease says when it has."""
    made = create(co, **COLLECT).workflow_id
    claim(co, made, "a collect")
    other = claim(co, made, "b collect")
    assert cancel_workflow(co, made, by=BY).status is WorkflowStatus.CANCELLING
    assert tasks_of(co, made) == ["a collect stopping", "b collect stopping"]
    complete_task(co, other)
    clock.sleep(31)
    progress_workflows(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.CANCELLED
    assert tasks_of(co, made) == ["a collect cancelled", "b collect completed"]


def test_a_listing_is_of_one_tenant_and_stays_in_place(co: Coordination, clock: FixedClock) -> None:
    """Newest first, by tenant, status, kind and source; a page goes on where the last ended."""
    made = []
    for number in range(4):
        clock.sleep(number % 2)  # two of each moment
        made.append(create(co, sources=["a" if number else "b"]).workflow_id)
    create_workflow(co, spec(sources=["x"]), tenant=TenantId("other"), by=BY)
    cancel_workflow(co, made[1], by=BY)
    mine = WorkflowFilter(tenant_id=ACME)
    first = co.workflows.list_workflows(mine, limit=3)
    create(co)
    last = Place(at=first[-1].created_at, id=first[-1].workflow_id)
    rest = co.workflows.list_workflows(mine, after=last)
    assert [w.workflow_id for w in [*first, *rest]] == made[::-1]
    cancelled = WorkflowFilter(tenant_id=ACME, statuses=[WorkflowStatus.CANCELLED])
    assert [w.workflow_id for w in co.workflows.list_workflows(cancelled)] == [made[1]]
    of_b = WorkflowFilter(source_id=SourceId("b"), kinds=[WorkflowKind.ON_DEMAND])
    assert {w.workflow_id for w in co.workflows.list_workflows(of_b)} > {made[0]}
    counts = co.workflows.count_tasks(made[:2])
    assert counts[made[0]] == {TaskStatus.READY: 1, TaskStatus.PENDING: 2}
    assert counts[made[1]] == {TaskStatus.CANCELLED: 3}


def test_tasks_are_listed_page_by_page(co: Coordination) -> None:
    """By source and position, of the last turn; some statuses alone if asked for."""
    made = create(co).workflow_id
    first = co.workflows.list_tasks(made, limit=4)
    rest = co.workflows.list_tasks(made, after=(first[-1].source_id, first[-1].position))
    assert [*first, *rest] == co.workflows.list_tasks(made)
    ready = co.workflows.list_tasks(made, statuses=[TaskStatus.READY])
    assert [(t.source_id, t.position) for t in ready] == [("a", 0), ("b", 0)]


def test_what_is_not_there_is_said_to_be_so(co: Coordination) -> None:
    """Ids that name nothing are errors that say where to look."""
    asked: list[Callable[[], object]] = [
        lambda: co.workflows.get_workflow("0" * 32),
        lambda: co.workflows.get_case("0" * 32),
        lambda: co.workflows.get_task("0" * 32),
        lambda: pause_workflow(co, "0" * 32, by=BY),
        lambda: rerun_workflow(co, create(co).workflow_id, "0" * 32, by=BY),
    ]
    for ask in asked:
        with pytest.raises(NotFound, match="penstock workflows"):
            ask()


def test_acts_at_once_are_one_after_another(co: Coordination) -> None:
    """Of several who pause a workflow at the same moment one does, and the others are told what is legal."""
    made = create(co).workflow_id

    def pause(_: int) -> bool:
        try:
            pause_workflow(co, made, by=BY)
        except IllegalMove:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(pause, range(4))) == 1


def test_many_workers_end_a_turn_once(co: Coordination, control_store: SqlControlStore) -> None:
    """However many complete the last tasks at the same moment, the turn ends, and is told to have, once."""
    names = [f"s{number}" for number in range(6)]
    control_store.sync_sources(
        [*co.platform.control.list_sources(), *(source(name) for name in names)]
    )
    made = create(co, sources=names, **COLLECT).workflow_id
    reports = [claim(co, made, f"{name} collect") for name in names]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda report: complete_task(co, report), reports))
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED
    assert [type_ for type_, _ in _told(control_store)].count("workflow_completed") == 1
