"""Traces through OpenTelemetry, sent to a collector over HTTP. Only where it is asked for is the library loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.errors import PenstockError
from penstock.ports.tracing import NO_TRACER, Attribute, Span, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

SERVICE = "penstock"
_PREFIX = "penstock."


class TracingMissing(PenstockError):
    """Traces are asked for, and the libraries that send them are not installed."""

    code = "tracing_missing"


class _Told:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def note(self, **attributes: Attribute) -> None:
        self._span.set_attributes({_PREFIX + name: value for name, value in attributes.items()})

    @property
    def trace_parent(self) -> str | None:
        context = self._span.get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class OtelTracer:
    """:class:`penstock.ports.tracing.Tracer` over OpenTelemetry."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)

    @contextmanager
    def span(
        self, name: str, *, parent: str | None = None, **attributes: Attribute
    ) -> Iterator[Span]:
        """Tell of the work of a block."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = None
        if parent is not None:
            context = TraceContextTextMapPropagator().extract({"traceparent": parent})
        told = {_PREFIX + key: value for key, value in attributes.items()}
        # The text of an exception may quote what it is about: that it failed, and with which class, is enough.
        with self._tracer.start_as_current_span(
            name,
            context=context,
            attributes=told,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _Told(span)
            except BaseException as error:
                _failed(span, error)
                raise

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _failed(span: OtelSpan, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))


def open_tracer(url: str | None) -> Tracer:
    """Return a tracer that sends to a collector's OTLP address, or one that tells nobody."""
    if url is None:
        return NO_TRACER
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingMissing(
            "PENSTOCK_OTLP_URL is set and OpenTelemetry is not installed: install penstock[otel], or unset it"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    endpoint = url.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return OtelTracer(provider)
