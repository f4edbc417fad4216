"""Traces over HTTP to a collector: one batch is one trace, from its plan to the calls that applied its operations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.ports.tracing import trace_parent_of
from penstock.publish.state import PublishStatus
from resources.tracing import OtelTracer, open_tracer
from tests.fixtures.memory import Bench, person


class Collector:
    """An OTLP endpoint that keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                del args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def attributes(self, name: str) -> list[dict[str, Any]]:
        """What the spans of a name carry, in the order in which they ended."""
        return [
            {a.key.removeprefix("penstock."): _value(a.value) for a in span.attributes}
            for span in self.spans
            if span.name == name
        ]


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes spans until the test is over."""
    opened = Collector()
    thread = threading.Thread(target=opened.server.serve_forever)
    thread.start()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()
    thread.join()


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
    assert {span.trace_id.hex() for span in collector.spans} == {trace}
    by_id = {span.span_id: span for span in collector.spans}
    parents = {
        span.name: by_id[span.parent_span_id].name
        for span in collector.spans
        if span.parent_span_id in by_id
    }
    assert parents["penstock.plan"] == parents["penstock.execute"] == "penstock.publish"
    assert parents["penstock.apply"] == "penstock.execute"
    (top,) = [span for span in collector.spans if span.name == "penstock.publish"]
    assert top.parent_span_id.hex() == root
    (published,) = collector.attributes("penstock.publish")
    assert published["status"] == "COMPLETE"
    (applied,) = collector.attributes("penstock.apply")
    assert (applied["operations"], applied["outcome"]) == (2, "applied")
    assert len(applied["operation_ids"].split()) == 2


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
