"""The operator's jobs, launched as from Dagster's pages."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from penstock.batch.source import SourceDefinition
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import PublishStatus
from penstock.use_cases.platform import Platform
from platform_assets import definitions
from platform_assets.partitions import dynamic_name
from resources.dagster_resources import PlatformResource
from tests.contracts.control_values import fail
from tests.definitions.publishing import CRM, collect_now, publish_now, resources, tick

REGISTRY = TargetId("registry")
SIGNED = {"actor": "ada", "reason": "the migration"}
OPS = {
    "prioritise": "prioritise_batch",
    "pause": "pause_lanes",
    "resume": "resume_lanes",
    "requeue": "requeue_batch",
    "cancel": "cancel_batch",
}


@pytest.fixture
def batch(instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...]) -> BatchId:
    """A batch that waits in the queue."""
    collect_now(instance)
    tick(instance)
    (timestamp,) = instance.get_dynamic_partitions(dynamic_name(CRM))
    return BatchId(f"crm@{timestamp}")


def platform() -> Platform:
    return PlatformResource().open()


def launch(
    instance: dg.DagsterInstance, job: str, *, success: bool = True, **config: Any
) -> dg.ExecuteInProcessResult:
    """Launch one job of the code location with a config."""
    ops = {OPS[job]: {"config": {**SIGNED, **config}}}
    result = definitions.defs.resolve_job_def(job).execute_in_process(
        instance=instance, resources=resources(), run_config={"ops": ops}, raise_on_error=False
    )
    assert result.success is success
    return result


def why_it_failed(result: dg.ExecuteInProcessResult) -> str:
    """What the run's page says."""
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data
    assert data.user_failure_data
    return str(data.user_failure_data.description)


def last_act() -> tuple[str, str, str | None]:
    entry = platform().control.list_acts()[0]
    return entry.actor, entry.act, entry.reason


def test_a_batch_is_prioritised(instance: dg.DagsterInstance, batch: BatchId) -> None:
    """With a boost as named, or enough to go first; the act is signed."""
    launch(instance, "prioritise", batch_id=batch, boost=2.5)
    assert platform().control.get_state(batch, REGISTRY).priority_boost == 2.5
    assert last_act() == ("ada", "batch.prioritise", "the migration")
    launch(instance, "prioritise", batch_id=batch, boost=-9.0)
    launch(instance, "prioritise", batch_id=batch)
    assert platform().control.get_state(batch, REGISTRY).priority_boost > 0


@pytest.mark.parametrize("what", [("source", "crm"), ("target", "registry")])
def test_what_is_paused_waits_until_it_is_resumed(
    instance: dg.DagsterInstance, batch: BatchId, what: tuple[str, str]
) -> None:
    """Nothing is published of it, and the sensor asks for no run; resumed, it goes on."""
    named = {"scope": what[0], "scope_id": what[1]}
    launch(instance, "pause", **named)
    assert last_act() == ("ada", f"{what[0]}.pause", "the migration")
    again = launch(instance, "pause", success=False, **named)
    assert "is paused already, by ada" in why_it_failed(again)
    publish_now(instance)
    assert platform().control.get_state(batch, REGISTRY).status is PublishStatus.PENDING
    assert not tick(instance).run_requests
    launch(instance, "resume", **named)
    assert tick(instance).run_requests
    publish_now(instance)
    assert platform().control.get_state(batch, REGISTRY).status is PublishStatus.COMPLETE


def test_a_batch_is_cancelled_and_requeued(instance: dg.DagsterInstance, batch: BatchId) -> None:
    """Out of the queue and back in, each once; a second time fails and says how things stand."""
    launch(instance, "cancel", batch_id=batch)
    assert platform().control.get_state(batch, REGISTRY).status is PublishStatus.FAILED
    assert "is FAILED" in why_it_failed(launch(instance, "cancel", success=False, batch_id=batch))
    launch(instance, "requeue", batch_id=batch)
    assert last_act() == ("ada", "batch.requeue", "the migration")
    assert "is PENDING" in why_it_failed(launch(instance, "requeue", success=False, batch_id=batch))
    publish_now(instance)
    assert platform().control.get_state(batch, REGISTRY).status is PublishStatus.COMPLETE


@pytest.mark.parametrize(
    ("job", "config", "why"),
    [
        ("cancel", {"reason": " "}, "give a reason"),
        ("cancel", {"actor": ""}, "nobody is named"),
        ("requeue", {"batch_id": "crm"}, "crm"),
        ("requeue", {"target_id": "nowhere"}, "is not on its way to target 'nowhere'"),
        ("prioritise", {"batch_id": "crm@2020-01-01T00-00-00.000000Z"}, "is not on its way"),
    ],
)
def test_what_is_wrong_fails_the_run_in_words(
    instance: dg.DagsterInstance, batch: BatchId, job: str, config: dict[str, str], why: str
) -> None:
    """An act by nobody, without a reason or on nothing does nothing, and its run says why."""
    asked = {"batch_id": batch, **config}
    assert why in why_it_failed(launch(instance, job, success=False, **asked))
    assert platform().control.list_acts() == []
    assert platform().control.get_state(batch, REGISTRY).status is PublishStatus.PENDING


def test_pausing_names_a_source_or_a_target(instance: dg.DagsterInstance, batch: BatchId) -> None:
    """Anything else cannot be paused."""
    result = launch(instance, "pause", success=False, scope="tenant", scope_id="default")
    assert "name a source or a target" in why_it_failed(result)


def test_a_failed_batch_waits_for_nobody_but_an_operator(
    instance: dg.DagsterInstance, batch: BatchId
) -> None:
    """FAILED, it is not published by any run; requeued, the next one takes it."""
    opened = platform()
    claim = opened.control.claim(
        "w", now=opened.clock.now(), lease_s=60, policy=opened.queue_policy
    )
    assert claim
    fail(opened.control, claim, now=opened.clock.now())
    assert not tick(instance).run_requests
    launch(instance, "requeue", batch_id=batch)
    assert tick(instance).run_requests
