"""Runs whose process died together with the code server that had launched it."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest

from jobs.publish import PUBLISH_JOB
from penstock.batch.source import SourceDefinition
from penstock.identity.ids import BatchId
from penstock.publish.queue import Lease
from resources.dagster_resources import PlatformResource
from sensors.lost_runs import end_lost_runs
from tests.definitions.publishing import collect_now, publish_now, tick

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
GONE = {"host": "127.0.0.1", "port": 1}


def launched(
    instance: dg.DagsterInstance,
    *,
    job: str = PUBLISH_JOB,
    by: dict[str, object] | None = GONE,
    ago_s: float = 60,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> str:
    """Record a run that some code server launched a while ago."""
    tags = {} if by is None else {".dagster/grpc_info": json.dumps(by)}
    run = dg.DagsterRun(job, str(uuid4()), status=status, tags=tags)
    instance.run_storage.add_historical_run(run, run_creation_time=NOW - timedelta(seconds=ago_s))
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def end(instance: dg.DagsterInstance, *workers: str) -> list[str]:
    leases = [Lease(worker_id=w, batch_id=BatchId("crm@x"), expires_at=NOW) for w in workers]
    return end_lost_runs(instance, leases, loaded_at=datetime.now(UTC) + timedelta(seconds=1))


@pytest.mark.parametrize("job", [PUBLISH_JOB, "collect"])
@pytest.mark.parametrize("at", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_run_whose_code_server_is_gone_is_ended(
    instance: dg.DagsterInstance, job: str, at: dg.DagsterRunStatus
) -> None:
    """It is marked as failed, once, so that it no longer takes one of the few places for runs."""
    run = launched(instance, job=job, status=at)
    assert end(instance) == [run]
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE
    assert end(instance) == []


def test_what_may_be_alive_is_left_alone(instance: dg.DagsterInstance) -> None:
    """A lease in force, a code server that listens, one elsewhere, none at all, or a run that was not launched."""
    holding = launched(instance)
    elsewhere = launched(instance, by={"host": "code-server.example", "port": 4000})
    unknown = launched(instance, by=None)
    waiting = launched(instance, status=dg.DagsterRunStatus.NOT_STARTED)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        here = {"host": "127.0.0.1", "port": server.getsockname()[1]}
        collecting = launched(instance, job="collect", by=here)
        assert end(instance, f"{holding}/0") == []
    for run in (holding, elsewhere, unknown, collecting):
        assert status(instance, run) is dg.DagsterRunStatus.STARTED
    assert status(instance, waiting) is dg.DagsterRunStatus.NOT_STARTED


def test_what_this_code_server_launched_is_left_alone(instance: dg.DagsterInstance) -> None:
    """It watches its own runs itself, and knows better."""
    run = launched(instance)
    assert end_lost_runs(instance, [], loaded_at=datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert status(instance, run) is dg.DagsterRunStatus.STARTED


def test_after_a_power_cut_the_sensor_has_the_rest_published(
    instance: dg.DagsterInstance,
    declared: tuple[SourceDefinition, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that a dead run had in hand is due when its lease expires, and a new run is asked for although the old
    one never ended.
    """
    collect_now(instance)
    first = tick(instance)
    platform = PlatformResource().open()
    dead = launched(instance)
    now = platform.clock.now()
    claim = platform.control.claim(
        f"{dead}/0", now=now, lease_s=platform.lease_s, policy=platform.queue_policy
    )
    assert claim
    assert platform.lease_s <= 30
    assert not tick(instance, first.cursor).run_requests
    monkeypatch.setattr(platform.clock, "now", lambda: now + timedelta(seconds=31))
    monkeypatch.setattr(
        "sensors.lost_runs.end_lost_runs.__kwdefaults__",
        {"loaded_at": datetime.now(UTC) + timedelta(seconds=1)},
    )
    assert tick(instance, first.cursor).run_requests
    assert status(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert publish_now(instance).success
    state = platform.control.get_state(claim.state.batch_id, claim.state.target_id)
    assert state.status == "COMPLETE"
