"""From an extract to a published partition, through Dagster's own jobs, sensor and assets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from jobs.collect import collect
from jobs.publish import publish
from jobs.republish import republish
from penstock.batch.rows import Entity
from penstock.batch.source import Extract, SourceDefinition, source
from penstock.identity.ids import SourceId
from platform_assets import definitions, sources
from platform_assets.checks import published_key
from platform_assets.partitions import dynamic_name, partition_key
from resources.dagster_resources import PlatformResource
from sensors.s3_batches import s3_batches

CRM = SourceId("crm")


@pytest.fixture
def people() -> list[str]:
    return ["ada", "grace"]


@pytest.fixture
def declared(people: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[SourceDefinition, ...]:
    @source("crm", cadence_s=3600)
    def crm(extract: Extract) -> Iterator[Entity]:
        """People."""
        with extract.scope("person"):
            for name in people:
                yield Entity(entity_type="person", entity_key=f"crm/{name}")

    for module in ("platform_assets.sources", "jobs.collect", "sensors.s3_batches"):
        monkeypatch.setattr(f"{module}.declared_sources", lambda: (crm,))
    return (crm,)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sensors.s3_batches.WATCH_S", 0)
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def resources() -> dict[str, PlatformResource]:
    return {"platform": PlatformResource()}


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources=resources()
    ) as context:
        answer = s3_batches(context)
    assert isinstance(answer, dg.SensorResult)
    return answer


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
    assert verdicts == {
        "ledger_balanced": True,
        "nothing_left_out": True,
        "delete_share": True,
        "empty_extract": True,
    }
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
    config = {"ops": {"publish_again": {"config": {"batch_id": f"crm@{first}"}}}}
    result = republish.execute_in_process(
        instance=instance, resources=resources(), run_config=config
    )
    assert result.success
    (shown,) = result.asset_materializations_for_node("publish_again")
    assert shown.partition == str(partition_key(f"crm@{first}"))
    assert shown.metadata["entities_deleted"].value == 1


def test_every_declared_source_has_its_assets_and_schedule() -> None:
    """Naming a source in one place gives it three assets, its checks and, with a cadence, a schedule."""
    declared = sources.declared_sources()
    graph = definitions.defs.resolve_asset_graph()
    for definition in declared:
        name = definition.spec.source_id
        for part in ("extract", "batch", "published"):
            assert graph.has(dg.AssetKey([name, part]))
        assert definitions.defs.resolve_schedule_def(f"{name}_cadence")
    assert len(graph.asset_check_keys) == 5 * len(declared)


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
