"""The Grafana dashboard over ``/metrics``: ``grafana_dashboard.json`` beside this file is written from here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("grafana_dashboard.json")
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 8, 8
_COLUMNS = 24 // _WIDTH
_RATE = "[$__rate_interval]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One panel: what it shows, and the queries with their legends."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def _latency(quantile: float) -> tuple[str, str]:
    buckets = f"sum by (le) (rate(penstock_publish_latency_seconds_bucket{_RATE}))"
    return f"histogram_quantile({quantile}, {buckets})", f"p{quantile * 100:.0f}"


ROWS = (
    Row(
        title="Is it keeping up?",
        panels=(
            Panel(
                title="Waiting batches",
                description="Batches in the queue, by source.",
                queries=[("sum by (source) (penstock_queue_batches)", "{{source}}")],
            ),
            Panel(
                title="Longest wait",
                description="How long the oldest waiting batch of each lane has waited.",
                queries=[("penstock_queue_oldest_age_seconds", "{{source}} to {{target}}")],
                unit="s",
            ),
            Panel(
                title="From manifest to published",
                description="Seconds from a batch's manifest to COMPLETE.",
                queries=[_latency(0.5), _latency(0.9), _latency(0.99)],
                unit="s",
            ),
            Panel(
                title="Behind the source",
                description="How old what a target holds of a source is.",
                queries=[
                    (
                        "time() - penstock_published_source_timestamp_seconds",
                        "{{source}} in {{target}}",
                    )
                ],
                unit="s",
            ),
            Panel(
                title="Publishes",
                description="Publishes per second by how they ended.",
                queries=[
                    (f"sum by (outcome) (rate(penstock_publishes_total{_RATE}))", "{{outcome}}")
                ],
                unit="ops",
            ),
            Panel(
                title="Operations",
                description="Operations per second that took effect.",
                queries=[
                    (f"sum by (action) (rate(penstock_operations_total{_RATE}))", "{{action}}")
                ],
                unit="ops",
            ),
        ),
    ),
    Row(
        title="What is in the way?",
        panels=(
            Panel(
                title="Errors by class",
                description="Failed attempts per second.",
                queries=[
                    (
                        f"sum by (target, code) (rate(penstock_errors_total{_RATE}))",
                        "{{target}}: {{code}}",
                    )
                ],
                unit="ops",
            ),
            Panel(
                title="Breakers",
                description="1 while a target is left alone.",
                queries=[('penstock_breaker_state{state!="closed"}', "{{target}} {{state}}")],
            ),
            Panel(
                title="Held operations",
                description="What guards hold back until somebody decides.",
                queries=[("penstock_operations_held", "{{source}} to {{target}}")],
            ),
            Panel(
                title="Dead letters",
                description="What waits for a person.",
                queries=[("penstock_dead_letters_open", "{{source}}: {{code}}")],
            ),
            Panel(
                title="Retries",
                description="Attempts per second that were put off.",
                queries=[(f"sum by (target) (rate(penstock_retries_total{_RATE}))", "{{target}}")],
                unit="ops",
            ),
            Panel(
                title="Lost leases",
                description="Leases that ran out and were taken over: workers that died or stood still.",
                queries=[
                    (
                        f"sum by (target) (increase(penstock_lease_losses_total{_RATE}))",
                        "{{target}}",
                    )
                ],
            ),
        ),
    ),
    Row(
        title="The control plane",
        panels=(
            Panel(
                title="Workflows",
                description="Workflows by status.",
                queries=[("sum by (status) (penstock_workflows)", "{{status}}")],
            ),
            Panel(
                title="Tasks",
                description="Tasks by status.",
                queries=[("sum by (step, status) (penstock_tasks)", "{{step}} {{status}}")],
            ),
            Panel(
                title="Workers",
                description="Workers by status.",
                queries=[("sum by (kind, status) (penstock_workers)", "{{kind}} {{status}}")],
            ),
            Panel(
                title="Untold events",
                description="Events that a destination has yet to be told.",
                queries=[("penstock_outbox_events_untold", "{{destination}}")],
            ),
            Panel(
                title="Events that came in",
                description="By how far they are.",
                queries=[("penstock_inbox_events", "{{status}}")],
            ),
            Panel(
                title="Overdue loops",
                description="Seconds that a loop of the server is overdue.",
                queries=[("penstock_loop_lag_seconds", "{{loop}}")],
                unit="s",
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": "Penstock",
        "uid": "penstock",
        "tags": ["penstock"],
        "schemaVersion": 39,
        "editable": True,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    numbers, y = count(1), 0
    for row in ROWS:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        yield {"id": next(numbers), "type": "row", "title": row.title, "gridPos": place}
        y += 1
        for index, panel in enumerate(row.panels):
            across, down = index % _COLUMNS, index // _COLUMNS
            place = {"x": across * _WIDTH, "y": y + down * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            yield {"id": next(numbers), **_panel(panel), "gridPos": place}
        y += -(-len(row.panels) // _COLUMNS) * _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expr, "legendFormat": legend}
            for n, (expr, legend) in enumerate(panel.queries)
        ],
    }


def dashboard_text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"
