"""Traces over HTTP to a collector: one batch is one trace, from its plan to the calls that applied its operations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.ports.tracing import trace_parent_of
from penstock.publish.state import PublishStatus
from resources.tracing import OtelTracer, open_tracer
from tests.fixtures.collector import Collector
from tests.fixtures.memory import Bench, person


def _publish(bench: Bench, collector: Collector) -> PublishStatus:
    tracer = open_tracer(collector.url)
    assert isinstance(tracer, OtelTracer)
    bench.platform = replace(bench.platform, tracer=tracer)
    report = bench.publish()
    tracer.close()
    return report.state.status


def test_a_batch_is_one_trace_from_its_plan_to_its_operations(
    bench: Bench, collector: Collector
) -> None:
    """Planning, executing and each call hang together, within the trace that follows from the batch's id."""
    batch = bench.land([person("crm/a", v=1), person("crm/b", v=1)]).batch_id
    assert _publish(bench, collector) is PublishStatus.COMPLETE
    _, trace, root, _ = trace_parent_of(batch).split("-")
    assert collector.traces() == {trace}
    parents = collector.parents()
    assert parents["penstock.plan"] == parents["penstock.execute"] == "penstock.publish"
    assert parents["penstock.apply"] == "penstock.execute"
    (top,) = [span for span in collector.spans if span.name == "penstock.publish"]
    assert top.parent_span_id.hex() == root
    (published,) = collector.attributes("penstock.publish")
    assert published["status"] == "COMPLETE"
    (applied,) = collector.attributes("penstock.apply")
    assert (applied["operations"], applied["outcome"]) == (2, "applied")
    assert len(applied["operation_ids"].split()) == 2


@pytest.mark.parametrize("flags", ["01", "00"])
def test_a_batch_that_came_with_a_trace_goes_on_in_it(
    bench: Bench, collector: Collector, flags: str
) -> None:
    """Its publish is below what its manifest names; where that is not recorded, neither is this."""
    trace, above = "a" * 32, "b" * 16
    traced = f"00-{trace}-{above}-{flags}"
    bench.land([person("crm/a", v=1)], trace_parent=traced)
    assert _publish(bench, collector) is PublishStatus.COMPLETE
    told = {(span.trace_id.hex(), span.parent_span_id.hex()) for span in collector.spans}
    assert ((trace, above) in told) is (flags == "01")
    assert collector.traces() == ({trace} if flags == "01" else set())


def test_a_trace_shows_how_a_culprit_was_found_and_no_data(
    bench: Bench, collector: Collector
) -> None:
    """A rejected call is followed by smaller ones, down to the one operation; keys and values are in no span."""
    bench.target.poison.add("crm/secret")
    bench.land([person("crm/secret", v="hidden"), person("crm/b", v=1)])
    _publish(bench, collector)
    calls = collector.attributes("penstock.apply")
    rejected = [call["operations"] for call in calls if call["outcome"] == "rejected"]
    assert rejected[-1] == 1
    told = str(collector.spans)
    assert "secret" not in told
    assert "hidden" not in told


def test_without_an_address_nobody_is_told(bench: Bench) -> None:
    """Tracing is opt-in: by default no library is loaded and nothing is sent."""
    assert not isinstance(open_tracer(None), OtelTracer)
    bench.land([person("crm/a", v=1)])
    assert bench.publish().state.status is PublishStatus.COMPLETE
