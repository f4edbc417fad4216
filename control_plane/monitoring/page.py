"""The page ``docs/reference/metrics.md``, as it follows from the measures."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.events.measures import COUNTED, GAUGES, Measure


def metrics_page() -> str:
    """Return the page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield "<!-- Generated from penstock/events/measures.py by control_plane/reference.py. -->"
    yield ""
    yield "`GET /metrics` of the control plane's server, in Prometheus' text format. It takes a token with the role"
    yield "viewer over all tenants. `control_plane/monitoring/` has a Grafana dashboard, alert rules and a"
    yield "configuration for Prometheus."
    yield ""
    yield "Counters and histograms are folded from the outbox's events, each event once: they survive restarts and"
    yield "retention, and every server says the same. They lag behind by about a second."
    yield ""
    for title, measures in (("Counters and histograms", COUNTED), ("Gauges", GAUGES)):
        yield f"## {title}"
        yield ""
        yield "| metric | labels | meaning |"
        yield "|---|---|---|"
        yield from (_row(measure) for measure in measures)
        yield ""
    yield f"Histograms have the bounds {_bounds()} seconds."


def _row(measure: Measure) -> str:
    labels = ", ".join(f"`{label}`" for label in measure.labels)
    return f"| `{measure.shown}` | {labels} | {measure.help} |"


def _bounds() -> str:
    bounds = next(m.bounds for m in COUNTED if m.bounds)
    return ", ".join(f"{bound:g}" for bound in bounds)
