"""Workflows over a platform that really publishes: what is followed, undone, and done again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Manifest, Mode
from penstock.batch.source import SourceSpec
from penstock.errors import NotFound
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.control import BatchRecord
from penstock.publish.state import PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.workflow_tasks import complete_task, fail_task
from penstock.use_cases.workflows import (
    cancel_workflow,
    create_workflow,
    pause_workflow,
    rerun_workflow,
    resume_workflow,
    retry_workflow,
)
from penstock.workflow.records import Trouble
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.status import WorkflowStatus
from resources.control_db.workflows import SqlWorkflows
from resources.cron import next_due
from tests.contracts.workflow_values import claim, task, tasks_of
from tests.fixtures.memory import SOURCE, TARGET, Bench, person

ANYTHING = GuardPolicy(always_allowed_deletes=10**6)
BY = By(actor="olga", reason="a test")
DEFAULT = TenantId("default")
OTHER = SourceId("other")
ROWS = [person("crm/a"), person("crm/b")]
TROUBLE = Trouble(code="down", message="the source is down")
BATCHES = [f"{SOURCE} {step}" for step in ("collect", "transform", "publish")]


@pytest.fixture
def co(bench: Bench) -> Coordination:
    """The workflows over the bench's platform, which has one source that publishes and one that goes nowhere."""
    declared = SourceSpec(source_id=SOURCE, targets=(TARGET,))
    bench.control.sync_sources([declared, SourceSpec(source_id=OTHER)])
    return Coordination(
        platform=bench.platform,
        workflows=SqlWorkflows.from_engine(bench.control.engine),
        next_due=next_due,
        jitter=lambda: 0.0,
    )


def _create(co: Coordination, *sources: str, **values: Any) -> str:
    asked = {"name": "now", "sources": list(sources) or [SOURCE]}
    spec = WorkflowSpec.model_validate(asked | values)
    return create_workflow(co, spec, tenant=DEFAULT, by=BY).workflow.workflow_id


def _land(co: Coordination, bench: Bench, workflow_id: str, rows: Any = ROWS) -> str:
    """Collect and transform the source: its batch is in the queue."""
    complete_task(co, claim(co, workflow_id, f"{SOURCE} collect"))
    report = claim(co, workflow_id, f"{SOURCE} transform")
    moment = task(co, workflow_id, f"{SOURCE} transform").moment
    batch = bench.land(rows, at=moment).batch_id
    complete_task(co, report, batch_id=batch)
    return batch


def _look(co: Coordination) -> None:
    for _ in range(6):
        assert progress_workflows(co).troubles == []


def _statuses(co: Coordination, workflow_id: str) -> list[str]:
    return [text.rpartition(" ")[2] for text in tasks_of(co, workflow_id)]


def test_a_batch_is_followed_to_its_targets(co: Coordination, bench: Bench) -> None:
    """The workflow ends when every target has the batch, and says what each got."""
    made = _create(co)
    _land(co, bench, made)
    _look(co)
    assert _statuses(co, made) == ["completed", "completed", "running"]
    bench.publish()
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED
    result = task(co, made, f"{SOURCE} publish").result
    assert result["targets"][TARGET]["entities_created"] == 2


def test_a_batch_that_goes_nowhere_is_published_at_once(co: Coordination, bench: Bench) -> None:
    """A source without targets has nothing to wait for, once its batch is admitted; before that it is waited for."""
    made = _create(co, OTHER)
    complete_task(co, claim(co, made, "other collect"))
    report = claim(co, made, "other transform")
    moment = task(co, made, "other transform").moment
    assert moment is not None
    manifest = Manifest(
        source_id=OTHER,
        source_timestamp=moment,
        processing_timestamp=moment,
        mode=Mode.FULL,
    )
    complete_task(co, report, batch_id=manifest.batch_id)
    _look(co)
    assert _statuses(co, made)[2] == "ready"
    record = BatchRecord(manifest=manifest, s3_path="x", admitted_at=bench.clock.now())
    assert bench.control.admit(record, [])
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED


def test_a_pause_holds_the_next_step_back(co: Coordination, bench: Bench) -> None:
    """What is in the queue ends there, the workflow looks again when it is resumed."""
    made = _create(co)
    _land(co, bench, made)
    pause_workflow(co, made, by=BY)
    bench.publish()
    _look(co)
    assert _statuses(co, made)[2] == "ready"
    resume_workflow(co, made, by=BY)
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED


def test_a_failure_undoes_what_declares_how(co: Coordination, bench: Bench) -> None:
    """The other source's batch is rolled back at its target; then the workflow has failed."""
    made = _create(co, SOURCE, OTHER, compensation={"publish": "rollback"})
    batch = _land(co, bench, made)
    _look(co)
    bench.publish(guard_policy=ANYTHING)
    _look(co)
    assert len(bench.target.entities) == 2
    fail_task(co, claim(co, made, "other collect"), TROUBLE, passes=False)
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.FAILED
    undone = task(co, made, f"{SOURCE} publish")
    assert undone.status == "compensated"
    assert str(undone.result["rolled_back"][TARGET]).startswith(f"{SOURCE}@")
    bench.publish(guard_policy=ANYTHING)
    assert bench.target.entities == {}
    acts = [entry.act for entry in bench.control.list_acts(subject=batch)]
    assert acts == ["batch.rollback"]


def test_what_was_undone_is_done_again_by_a_retry(co: Coordination, bench: Bench) -> None:
    """The batch goes back into the queue as republished, and the target has it again."""
    made = _create(
        co,
        SOURCE,
        OTHER,
        compensation={"publish": "rollback"},
    )
    _land(co, bench, made)
    _look(co)
    bench.publish(guard_policy=ANYTHING)
    _look(co)
    fail_task(co, claim(co, made, "other collect"), TROUBLE, passes=False)
    _look(co)
    bench.publish(guard_policy=ANYTHING)
    retry_workflow(co, made, by=BY)
    _look(co)
    assert task(co, made, f"{SOURCE} publish").status == "running"
    bench.publish(guard_policy=ANYTHING)
    _look(co)
    assert task(co, made, f"{SOURCE} publish").status == "completed"
    assert len(bench.target.entities) == 2


def test_a_cancel_takes_out_of_the_queue_what_waits_there(co: Coordination, bench: Bench) -> None:
    """Whether the workflow had begun to follow the batch or not; the target never sees it."""
    for looks in (True, False):
        made = _create(co)
        bench.clock.sleep(60)
        batch = _land(co, bench, made)
        if looks:
            _look(co)
        assert cancel_workflow(co, made, by=BY).status is WorkflowStatus.CANCELLING
        _look(co)
        assert co.workflows.get_workflow(made).status is WorkflowStatus.CANCELLED
        state = bench.control.get_state(batch, TARGET)
        assert state.status is PublishStatus.FAILED
        assert state.failure_details is not None
        assert state.failure_details.error_code == "cancelled"
    assert bench.target.entities == {}


def test_a_cancel_waits_for_what_is_being_published_and_undoes_it(
    co: Coordination, bench: Bench
) -> None:
    """A batch that a publish run has in hand ends; then it is rolled back, if the step declares so."""
    made = _create(co, compensation={"publish": "rollback"})
    _land(co, bench, made)
    _look(co)
    now = bench.clock.now()
    held = bench.control.claim("w", now=now, lease_s=30, policy=bench.platform.queue_policy)
    assert held is not None
    cancel_workflow(co, made, by=BY)
    _look(co)
    assert _statuses(co, made)[2] == "stopping"
    bench.clock.sleep(31)  # the claim is abandoned, and another takes the batch to its end
    bench.publish(guard_policy=ANYTHING)
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.CANCELLED
    assert _statuses(co, made)[2] == "compensated"
    bench.publish(guard_policy=ANYTHING)
    assert bench.target.entities == {}


def test_what_cannot_be_undone_says_why(co: Coordination, bench: Bench) -> None:
    """It stands, the reason is with the task, and the workflow ends all the same."""
    made = _create(co, SOURCE, OTHER, compensation={"publish": "rollback"})
    _land(co, bench, made)
    _look(co)
    bench.publish(guard_policy=ANYTHING)
    _look(co)
    for key in list(bench.platform.objects.list("plans/")):
        bench.platform.objects.delete([key if isinstance(key, str) else key.key])
    cancel_workflow(co, made, by=BY)
    _look(co)
    left = task(co, made, f"{SOURCE} publish")
    assert left.status == "not_compensated"
    assert left.trouble is not None
    assert left.trouble.code == "object_missing"
    assert co.workflows.get_workflow(made).status is WorkflowStatus.CANCELLED


def test_a_batch_that_fails_fails_its_workflow(co: Coordination, bench: Bench) -> None:
    """With the target's words; a retry requeues it."""
    made = _create(co)
    batch = _land(co, bench, made)
    _look(co)
    bench.control.cancel(batch, TARGET, now=bench.clock.now(), message="kim: not now")
    _look(co)
    failed = co.workflows.get_workflow(made)
    assert failed.status is WorkflowStatus.FAILED
    assert failed.trouble is not None
    assert f"at target {TARGET}: " in failed.trouble.message
    retry_workflow(co, made, by=BY)
    _look(co)
    bench.publish()
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED


def test_a_rerun_of_publish_republishes(co: Coordination, bench: Bench) -> None:
    """The target is taken to the batch once more, though it is COMPLETE already."""
    made = _create(co)
    batch = _land(co, bench, made)
    _look(co)
    bench.publish()
    _look(co)
    bench.target.entities.clear()
    rerun_workflow(co, made, task(co, made, f"{SOURCE} publish").task_id, by=BY)
    _look(co)
    assert bench.control.get_state(batch, TARGET).status is PublishStatus.PENDING
    bench.publish()
    _look(co)
    assert co.workflows.get_workflow(made).status is WorkflowStatus.COMPLETED


def test_trouble_with_one_workflow_keeps_no_other_back(
    co: Coordination, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong is said, and the rest of the look is done."""
    first, second = _create(co), _create(co)
    for made in (first, second):
        claim(co, made, f"{SOURCE} collect")
    bench.clock.sleep(31)
    change_task = SqlWorkflows.change_task
    bad = task(co, first, f"{SOURCE} collect").task_id

    def sometimes(store: SqlWorkflows, task_id: str, *rest: Any, **options: Any) -> Any:
        if task_id == bad:
            raise NotFound("it is gone")
        return change_task(store, task_id, *rest, **options)

    monkeypatch.setattr(SqlWorkflows, "change_task", sometimes)
    looked = progress_workflows(co)
    assert looked.troubles == [f"{bad}: it is gone"]
    assert looked.expired == 1
    assert replace(looked, troubles=[]).did_something
