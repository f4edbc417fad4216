"""From an extract to a published partition, through Dagster's own jobs, sensor and assets."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from jobs.collect import collect
from jobs.publish import MAX_SECONDS, PUBLISH_JOB, publish
from jobs.republish import republish
from penstock.batch.source import SourceDefinition
from platform_assets import definitions, sources
from platform_assets.checks import GUARDS, LEDGER, NOTHING_LEFT_OUT, published_key
from platform_assets.partitions import dynamic_name, partition_key
from resources.dagster_resources import PlatformResource
from tests.definitions.publishing import CRM, resources, tick


def test_a_batch_goes_from_extract_to_published(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...]
) -> None:
    """Collecting lands a batch, the sensor admits it and asks for a run, and the run publishes its partition."""
    assert collect.execute_in_process(instance=instance, resources=resources()).success
    first = tick(instance)
    assert first.run_requests is not None
    assert len(first.run_requests) == 1
    (timestamp,) = instance.get_dynamic_partitions(dynamic_name(CRM))
    assert first.run_requests[0].tags["penstock/batch"] == f"crm@{timestamp}"
    result = publish.execute_in_process(instance=instance, resources=resources())
    assert result.success
    (shown,) = result.asset_materializations_for_node("plan_and_execute")
    assert shown.partition == f"crm|{timestamp}"
    assert shown.metadata["entities_created"].value == 2
    assert shown.metadata["plan digest"].value
    verdicts = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert verdicts == dict.fromkeys((LEDGER, NOTHING_LEFT_OUT, *GUARDS), True)
    assert instance.get_materialized_partitions(published_key(CRM)) == {shown.partition}
    again = tick(instance, first.cursor)
    assert not again.run_requests


def test_partitions_are_materialized_by_hand(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...], people: list[str]
) -> None:
    """Materializing a partition's three assets publishes it; a range of published partitions is one run."""
    defs = definitions.definitions_of(declared)
    job = defs.resolve_implicit_global_asset_job_def()
    stamps = ["2026-01-01T00-00-00.000000Z", "2026-01-02T00-00-00.000000Z"]
    instance.add_dynamic_partitions(dynamic_name(CRM), stamps)
    tick(instance)
    for stamp in stamps:
        key = dg.MultiPartitionKey({"source": "crm", "timestamp": stamp})
        result = job.execute_in_process(
            instance=instance,
            partition_key=key,
            asset_selection=[dg.AssetKey(["crm", "extract"]), dg.AssetKey(["crm", "batch"])],
        )
        assert result.success
        people.append("edsger")
    tags = {
        "dagster/asset_partition_range_start": f"crm|{stamps[0]}",
        "dagster/asset_partition_range_end": f"crm|{stamps[1]}",
    }
    result = job.execute_in_process(
        instance=instance, asset_selection=[published_key(CRM)], tags=tags
    )
    assert result.success
    shown = result.asset_materializations_for_node("crm__published")
    assert [m.metadata["entities_created"].value for m in shown] == [2, 1]
    assert [m.partition for m in shown] == [f"crm|{stamp}" for stamp in stamps]
    control = PlatformResource().open().control
    assert control.list_acts() == []
    again = job.execute_in_process(
        instance=instance,
        asset_selection=[published_key(CRM)],
        partition_key=dg.MultiPartitionKey({"source": "crm", "timestamp": stamps[0]}),
    )
    (act,) = control.list_acts()
    assert (act.actor, act.act, act.subject) == ("dagster", "batch.republish", f"crm@{stamps[0]}")
    assert again.run_id in (act.reason or "")


def test_any_batch_can_be_republished(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...], people: list[str]
) -> None:
    """The republish job takes the target back to an older batch, and shows what it did on that partition."""
    for _ in range(2):
        collect.execute_in_process(instance=instance, resources=resources())
        tick(instance)
        publish.execute_in_process(instance=instance, resources=resources())
        people.append("edsger")
    first = min(instance.get_dynamic_partitions(dynamic_name(CRM)))
    asked = {"batch_id": f"crm@{first}", "actor": "ada", "reason": "a bad extract"}
    config = {"ops": {"publish_again": {"config": asked}}}
    result = republish.execute_in_process(
        instance=instance, resources=resources(), run_config=config
    )
    assert result.success
    (shown,) = result.asset_materializations_for_node("publish_again")
    assert shown.partition == str(partition_key(f"crm@{first}"))
    assert shown.metadata["entities_deleted"].value == 1
    (act,) = PlatformResource().open().control.list_acts()
    assert (act.actor, act.act, act.reason) == ("ada", "batch.republish", "a bad extract")


def test_every_declared_source_has_its_assets_and_schedule() -> None:
    """Naming a source in one place gives it three assets, its checks and, with a cadence, a schedule."""
    declared = sources.declared_sources()
    graph = definitions.defs.resolve_asset_graph()
    for definition in declared:
        name = definition.spec.source_id
        for part in ("extract", "batch", "published"):
            assert graph.has(dg.AssetKey([name, part]))
        assert definitions.defs.resolve_schedule_def(f"{name}_cadence")
    assert len(graph.asset_check_keys) == 12 * len(declared)


def test_one_tick_goes_on_looking(
    instance: dg.DagsterInstance,
    declared: tuple[SourceDefinition, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that lands while a tick of the sensor looks is admitted by that tick, and ends it."""
    monkeypatch.setattr("sensors.s3_batches.WATCH_S", 60)
    platform = PlatformResource().open()
    looks = []

    def land_meanwhile(delay_s: float) -> None:
        looks.append(delay_s)
        if len(looks) == 3:
            collect.execute_in_process(instance=instance, resources=resources())

    monkeypatch.setattr(platform.clock, "sleep", land_meanwhile)
    answer = tick(instance)
    assert len(looks) == 3
    assert answer.run_requests is not None
    assert len(answer.run_requests) == 1


def test_a_batch_that_fails_is_shown_on_its_partition(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...], home: Path
) -> None:
    """A batch that breaks its contract is no materialization: it is an observation, with a check that failed."""
    collect.execute_in_process(instance=instance, resources=resources())
    tick(instance)
    for part in (home / "objects").glob("batches/crm/*/entities/*.parquet"):
        part.write_bytes(part.read_bytes()[:-10])
    for cached in (home / "cache").iterdir():
        shutil.rmtree(cached)
    result = publish.execute_in_process(instance=instance, resources=resources())
    assert result.success
    assert not result.asset_materializations_for_node("plan_and_execute")
    (seen,) = result.asset_observations_for_node("plan_and_execute")
    assert "part-" in str(seen.metadata["error"].value)
    (verdict,) = result.get_asset_check_evaluations()
    assert (verdict.check_name, verdict.passed) == ("nothing_left_out", False)
    assert verdict.partition == seen.partition
    assert not instance.get_materialized_partitions(published_key(CRM))


def test_checks_can_be_run_by_hand(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...]
) -> None:
    """One check of one partition, run alone, judges what was recorded of the batch; unpublished, it does not pass."""
    collect.execute_in_process(instance=instance, resources=resources())
    tick(instance)
    (timestamp,) = instance.get_dynamic_partitions(dynamic_name(CRM))
    job = dg.define_asset_job(
        "check_ledger",
        dg.AssetSelection.checks(dg.AssetCheckKey(published_key(CRM), "ledger_balanced")),
    )
    defs = dg.Definitions.merge(definitions.definitions_of(declared), dg.Definitions(jobs=[job]))
    job_def = defs.resolve_job_def("check_ledger")
    tags = {"dagster/partition": f"crm|{timestamp}"}  # as the UI launches it
    before = job_def.execute_in_process(instance=instance, tags=tags)
    (verdict,) = before.get_asset_check_evaluations()
    assert (verdict.passed, verdict.description) == (False, "this batch has not been published")
    publish.execute_in_process(instance=instance, resources=resources())
    after = job_def.execute_in_process(instance=instance, tags=tags)
    (verdict,) = after.get_asset_check_evaluations()
    assert (verdict.check_name, verdict.passed) == ("ledger_balanced", True)
    assert verdict.metadata["came_in"].value == 2


def test_a_publish_run_whose_time_is_up_holds_up_nothing(
    instance: dg.DagsterInstance, declared: tuple[SourceDefinition, ...]
) -> None:
    """While a run takes batches no other is asked for; beside one that only finishes a slow batch, another is."""
    collect.execute_in_process(instance=instance, resources=resources())
    slow = dg.DagsterRun(PUBLISH_JOB, str(uuid4()), status=dg.DagsterRunStatus.STARTED)
    long_ago = datetime.now(UTC) - timedelta(seconds=MAX_SECONDS + 1)
    instance.run_storage.add_historical_run(slow, run_creation_time=long_ago)
    first = tick(instance)
    assert first.run_requests
    instance.create_run_for_job(publish, status=dg.DagsterRunStatus.STARTING)
    second = tick(instance, first.cursor)
    assert not second.run_requests
