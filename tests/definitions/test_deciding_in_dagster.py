"""The jobs that decide about holds and roll batches back, launched as from Dagster's pages."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from penstock.batch.source import SourceDefinition
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import PublishState
from penstock.use_cases.platform import Platform
from platform_assets import definitions
from platform_assets.checks import published_key
from platform_assets.partitions import dynamic_name, partition_key
from resources.dagster_resources import PlatformResource
from tests.definitions.publishing import CRM, collect_now, publish_now, resources, tick

REGISTRY = TargetId("registry")
OPS = {"approve_hold": "approve_held", "reject_hold": "reject_held", "rollback": "roll_back"}


def platform() -> Platform:
    return PlatformResource().open()


def state(batch: BatchId) -> PublishState:
    return platform().control.get_state(batch, REGISTRY)


def launch(
    instance: dg.DagsterInstance, job: str, *, success: bool = True, **config: Any
) -> dg.ExecuteInProcessResult:
    """Launch one job of the code location with a config."""
    result = definitions.defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        resources=resources(),
        run_config={"ops": {OPS[job]: {"config": config}}},
        raise_on_error=False,
    )
    assert result.success is success
    return result


def published(instance: dg.DagsterInstance) -> BatchId:
    """Extract and publish what the source holds now; return the batch."""
    collect_now(instance)
    tick(instance)
    publish_now(instance)
    return BatchId(f"crm@{max(instance.get_dynamic_partitions(dynamic_name(CRM)))}")


@pytest.fixture
def holding(
    instance: dg.DagsterInstance,
    declared: tuple[SourceDefinition, ...],
    people: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> PublishState:
    """A batch whose one delete a guard holds."""
    monkeypatch.setenv("PENSTOCK_GUARD_POLICY", '{"max_deletes": 0}')
    published(instance)
    people.remove("grace")
    held = state(published(instance))
    assert held.held == 1
    return held


def test_an_approved_hold_is_released_by_the_next_run(
    instance: dg.DagsterInstance, holding: PublishState
) -> None:
    """The job records the decision, the sensor asks for a run, and the batch's partition shows what it did."""
    assert holding.plan_digest
    signed = {"approver": "ada", "reason": "she left"}
    asked = {"batch_id": holding.batch_id, "plan_digest": holding.plan_digest[:8], **signed}
    launch(instance, "approve_hold", **asked)
    assert tick(instance).run_requests
    result = publish_now(instance)
    (shown,) = result.asset_materializations_for_node("plan_and_execute")
    assert shown.partition == str(partition_key(holding.batch_id))
    assert shown.metadata["entities_deleted"].value == 1
    assert state(holding.batch_id).held == 0
    (act,) = platform().control.list_acts()
    assert (act.actor, act.act, act.reason) == ("ada", "hold.approve", "she left")
    launch(instance, "approve_hold", success=False, **asked)


def test_a_rejected_hold_stays(instance: dg.DagsterInstance, holding: PublishState) -> None:
    """Nothing is put into the queue."""
    launch(
        instance,
        "reject_hold",
        batch_id=holding.batch_id,
        plan_digest=holding.plan_digest,
        approver="ada",
        reason="an outage",
    )
    assert not tick(instance).run_requests
    assert state(holding.batch_id).held == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"approver": " "},
        {"reason": ""},
        {"reason": "y" * 2001},
        {"plan_digest": "0" * 32},
        {"expires_hours": 0.0},
    ],
    ids="-".join,
)
def test_an_approval_that_does_not_count_fails_its_run(
    instance: dg.DagsterInstance, holding: PublishState, wrong: dict[str, Any]
) -> None:
    """By nobody, without a reason, of another plan or of no duration: nothing is released."""
    asked = {
        "batch_id": holding.batch_id,
        "plan_digest": holding.plan_digest,
        "approver": "ada",
        "reason": "she left",
    }
    launch(instance, "approve_hold", success=False, **{**asked, **wrong})
    assert not tick(instance).run_requests
    assert state(holding.batch_id) == holding


def test_a_batch_is_rolled_back(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...], people: list[str]
) -> None:
    """The job lands a correction with a partition of its own, and the next run publishes it there."""
    published(instance)
    people.append("edsger")
    second = published(instance)
    asked = {"batch_id": second, "actor": "ada", "reason": "a wrong database"}
    launch(instance, "rollback", dry_run=True, **asked)
    assert not tick(instance).run_requests
    launch(instance, "rollback", **asked)
    assert tick(instance).run_requests
    result = publish_now(instance)
    (shown,) = result.asset_materializations_for_node("plan_and_execute")
    assert shown.metadata["entities_deleted"].value == 1
    assert shown.partition in instance.get_materialized_partitions(published_key(CRM))
    assert shown.partition != str(partition_key(second))
    launch(instance, "rollback", success=False, **asked)
    (act,) = platform().control.list_acts()
    assert (act.actor, act.act, act.subject) == ("ada", "batch.rollback", second)
