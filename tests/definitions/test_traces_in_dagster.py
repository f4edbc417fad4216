"""One trace from an event that comes in to the operations of a publish, and to what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from control_plane.service.loops import event_handling
from control_plane.service.opening import open_services
from jobs import collect
from jobs.workflow_step import workflow_step
from penstock.batch.source import SourceDefinition
from penstock.identity.ids import TenantId
from penstock.ports.tracing import trace_parent_of
from penstock.use_cases.acts import By
from penstock.use_cases.progress_workflows import progress_workflows
from penstock.use_cases.workflows import create_workflow
from penstock.workflow.spec import WorkflowSpec
from resources.control_db.inbox import SqlInbox
from resources.dagster_resources import PlatformResource
from resources.settings import Settings
from resources.tracing import OtelTracer
from sensors.workflow_tasks import workflow_tasks
from tests.definitions.publishing import collect_now, publish_now, resources, tick
from tests.fixtures.collector import Collector
from tests.fixtures.control_server import ControlServer, running_control

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED = f"00-{TRACE}-{ABOVE}-01"


@pytest.fixture(autouse=True)
def traced(
    collector: Collector, home: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Collector, Path]:
    """Everything here tells the collector; sensors look once a tick."""
    monkeypatch.setenv("PENSTOCK_OTLP_URL", collector.url)
    monkeypatch.setattr("sensors.workflow_tasks.WATCH_S", 0.0)
    return collector, home


def _send(control: ControlServer, **attributes: str) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/crm",
        "type": "archive_discovered",
        "data": {"source_id": "crm", "archive": "s3://exports/crm.tar"},
        **attributes,
    }
    kind = {"content-type": "application/cloudevents+json"}
    answer = control.request("POST", "/events", content=json.dumps(event).encode(), headers=kind)
    assert answer.json() == {"accepted": 1, "known": 0}


def _do_task(instance: dg.DagsterInstance) -> dg.RunRequest:
    with dg.build_sensor_context(instance=instance, resources=resources()) as context:
        answer = workflow_tasks(context)
    assert isinstance(answer, dg.SensorResult)
    assert answer.run_requests
    (asked,) = answer.run_requests
    workflow_step.execute_in_process(
        instance=instance,
        resources=resources(),
        run_config=asked.run_config,
        tags=dict(asked.tags),
    )
    return asked


def _sent(*platforms: Any) -> None:
    """Have all that is told so far sent."""
    for platform in platforms:
        assert isinstance(platform.tracer, OtelTracer)
        platform.tracer.close()


def test_an_event_s_trace_reaches_the_operations_of_a_publish(
    declared: tuple[SourceDefinition, ...], instance: dg.DagsterInstance, collector: Collector
) -> None:
    """One trace is in the event, its turn, task, run, manifest, the spans of the publish and what is told of it."""
    services = open_services(Settings.from_env())
    platform, co = PlatformResource().open(), services.coordination
    platform.control.sync_sources([definition.spec for definition in declared])
    spec = WorkflowSpec.model_validate(
        {"name": "fresh", "kind": "event_driven", "event": {"type": "archive_discovered"}}
        | {"sources": ["crm"]}
    )
    made = create_workflow(co, spec, tenant=TenantId("default"), by=By(actor="olga"))
    with running_control(services) as control:
        _send(control, traceparent=TRACED)
        event_handling.run_once(services)
        runs = [_do_task(instance) for _ in ("collect", "transform")]
        tick(instance)
        publish_now(instance)
        for _ in range(2):
            progress_workflows(co)
        told = control.request("GET", "/events").json()["items"]
        shown = control.request("GET", f"/workflows/{made.workflow.workflow_id}").json()
        _sent(platform, services.platform)

    (came,) = SqlInbox.from_engine(services.engine).find()
    assert came.arrival.trace_parent == TRACED
    below = shown["last_turns"][0]["trace_parent"]
    tasks = co.workflows.list_tasks(made.workflow.workflow_id)
    assert {task.trace_parent for task in tasks} == {below}
    assert {asked.tags["penstock/trace_parent"] for asked in runs} == {below}
    (batch,) = platform.control.list_batches()
    (state,) = platform.control.list_states()
    assert batch.manifest.trace_parent == state.trace_parent
    kept = {below, state.trace_parent}
    assert {str(each).split("-")[1] for each in kept} == {TRACE}

    assert collector.traces() == {TRACE}
    (top,) = [span for span in collector.spans if span.name == "penstock.handle_event"]
    assert top.parent_span_id.hex() == ABOVE
    assert collector.parents() == {
        "penstock.extract": "penstock.handle_event",
        "penstock.land": "penstock.handle_event",
        "penstock.publish": "penstock.land",
        "penstock.plan": "penstock.publish",
        "penstock.execute": "penstock.publish",
        "penstock.apply": "penstock.execute",
        "penstock.read_back": "penstock.execute",
        "penstock.complete": "penstock.publish",
    }

    outgoing = {each["type"]: each["traceparent"].split("-")[1] for each in told}
    caused = {"workflow_started", "task_assigned", "task_completed", "workflow_completed"}
    caused |= {"batch_landed", "batch_published"}
    assert {outgoing[name] for name in caused} == {TRACE}


def test_a_batch_that_nobody_traced_is_a_trace_of_its_own(
    declared: tuple[SourceDefinition, ...], instance: dg.DagsterInstance, collector: Collector
) -> None:
    """From its extract to its operations, in the trace that follows from its id."""
    del declared
    collect_now(instance)
    tick(instance)
    publish_now(instance)
    platform = PlatformResource().open()
    _sent(platform)
    (batch,) = platform.control.list_batches()
    assert batch.manifest.trace_parent is None
    assert collector.traces() == {trace_parent_of(batch.manifest.batch_id).split("-")[1]}
    names = {span.name for span in collector.spans}
    assert {"penstock.extract", "penstock.land", "penstock.plan", "penstock.apply"} <= names


@pytest.mark.parametrize(("given", "kept"), [(TRACED, TRACE), ("no trace at all", None)])
def test_collecting_by_hand_goes_on_in_the_trace_of_the_environment(
    declared: tuple[SourceDefinition, ...],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    collector: Collector,
    given: str,
    kept: str | None,
) -> None:
    """What `python -m jobs.collect` lands is in the trace of TRACEPARENT; one that is none is dropped."""
    del declared
    (home / "dagster").mkdir(parents=True)
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.setenv("TRACEPARENT", given)
    assert collect.main(["crm"]) == 0
    settings = Settings.from_env()
    platform = PlatformResource(objects_url=settings.store_url).open()
    _sent(platform)
    (key,) = [each.key for each in platform.objects.list("batches/") if "manifest" in each.key]
    landed = json.loads(platform.objects.get(key)).get("trace_parent")
    assert (landed and landed.split("-")[1]) == kept
    assert (TRACE in collector.traces()) is (kept is not None)
