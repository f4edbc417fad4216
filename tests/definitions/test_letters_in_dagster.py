"""The jobs that deal with dead letters, launched as from Dagster's pages."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from penstock.batch.source import SourceDefinition
from penstock.identity.ids import BatchId, TargetId
from penstock.ports.attempts import PublishAttempt
from penstock.publish.retry import Tier
from penstock.publish.state import Move, PublishStatus
from platform_assets import definitions
from resources.dagster_resources import PlatformResource
from tests.contracts.control_values import failure
from tests.definitions.publishing import collect_now, publish_now, resources, tick

SIGNED = {"actor": "ada", "reason": "the disk has room"}


def launch(
    instance: dg.DagsterInstance, job: str, op: str, *, success: bool = True, **config: Any
) -> None:
    """Launch one job of the code location with a config."""
    result = definitions.defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        resources=resources(),
        run_config={"ops": {op: {"config": {**SIGNED, **config}}}},
        raise_on_error=False,
    )
    assert result.success is success


@pytest.fixture
def given_up(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...]
) -> tuple[str, BatchId, TargetId]:
    """The dead letter of a batch that was given up, and its state's names."""
    collect_now(instance)
    tick(instance)
    platform = PlatformResource().open()
    now = platform.clock.now()
    claim = platform.control.claim("w", now=now, lease_s=60, policy=platform.queue_policy)
    assert claim
    attempt = PublishAttempt(
        tier=Tier.FIRST,
        worker_id="w",
        enqueued_at=claim.state.enqueued_at,
        started_at=now,
        failed_at=now,
        step="plan",
        code="boom",
        message="the disk is full",
    )
    details = {"failure_details": failure()}
    platform.control.advance(claim, Move.FAIL, now=now, changes=details, attempt=attempt)
    (letter,) = platform.control.list_dead_letters()
    return letter.dead_letter_id, claim.state.batch_id, claim.state.target_id


def test_a_batch_s_letter_is_tried_again(
    instance: dg.DagsterInstance, given_up: tuple[str, BatchId, TargetId]
) -> None:
    """The batch is back in the queue, the sensor asks for a run, and published its letter is resolved."""
    letter, batch, target = given_up
    launch(instance, "requeue_dead_letters", "try_letters_again", dead_letter_ids=[letter])
    assert tick(instance).run_requests
    publish_now(instance)
    control = PlatformResource().open().control
    assert control.get_state(batch, target).status is PublishStatus.COMPLETE
    assert control.get_dead_letter(letter).status == "resolved"
    launch(
        instance,
        "requeue_dead_letters",
        "try_letters_again",
        success=False,
        dead_letter_ids=[letter],
    )


def test_a_letter_is_discarded_once(
    instance: dg.DagsterInstance, given_up: tuple[str, BatchId, TargetId]
) -> None:
    """Discarded it stays so; without a reason, or a second time, the run fails and nothing changes."""
    letter = given_up[0]
    job = ("discard_dead_letters", "drop_letters")
    launch(instance, *job, success=False, dead_letter_ids=[letter], reason=" ")
    launch(instance, *job, dead_letter_ids=[letter])
    launch(instance, *job, success=False, dead_letter_ids=[letter])
    assert PlatformResource().open().control.get_dead_letter(letter).status == "discarded"


def test_a_batch_has_no_attributes_to_mend(
    instance: dg.DagsterInstance, given_up: tuple[str, BatchId, TargetId]
) -> None:
    """A patch of a whole batch's letter fails the run, and the letter stays open."""
    letter = given_up[0]
    launch(
        instance,
        "fix_dead_letter",
        "mend_letter",
        success=False,
        dead_letter_id=letter,
        patch='[{"op": "add", "path": "/a", "value": 1}]',
    )
    assert PlatformResource().open().control.get_dead_letter(letter).status == "open"
