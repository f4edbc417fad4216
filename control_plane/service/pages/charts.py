"""Charts as SVG, drawn on the server.

Each is an answer of its own that a page shows as an image, so that its style sheet is its own as well and the page's
policy stays strict. What a chart shows stands in a table beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pygal
from pygal.style import Style

from penstock.ports.dashboard import SourceRecord, Stretch, Weighed
from penstock.use_cases.dashboard import Window

# pygal looks for plugins with maps in a way that Python 3.11 warns of at every import from then on.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != pygal.__name__]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "private, max-age=60",
}
"""An image with a style sheet inside it, and nothing else."""
_COLOURS = ("#0b6b5d", "#a3211a", "#0b57a8", "#7a4f00")
_DARK = ("#6fd3bf", "#ff9a92", "#8cc0ff", "#f0c674")
_MOST_SOURCES = 20


def outcomes(stretches: Sequence[Stretch], window: Window) -> bytes:
    """Draw how many batches were published and how many failed, stretch by stretch."""
    chart = pygal.StackedBar(y_title="batches", **_whole(), **_timed(stretches, window))
    chart.add("published", [each.published for each in stretches])
    chart.add("failed", [each.failed for each in stretches])
    return _drawn(chart)


def operations(stretches: Sequence[Stretch], window: Window) -> bytes:
    """Draw how much was created, updated and deleted."""
    chart = pygal.Bar(y_title="operations", show_legend=False, **_timed(stretches, window))
    chart.add("operations", [each.operations for each in stretches])
    return _drawn(chart)


def latency(stretches: Sequence[Stretch], window: Window) -> bytes:
    """Draw how long batches took from their admission to COMPLETE."""
    chart = pygal.Line(y_title="seconds", **_timed(stretches, window))
    chart.add("half within", [each.p50_s for each in stretches])
    chart.add("nine in ten within", [each.p90_s for each in stretches], stroke_style=_dashed())
    return _drawn(chart)


def reliability(records: Sequence[SourceRecord]) -> bytes:
    """Draw what became of each source's batches."""
    worst = sorted(records, key=lambda each: (-each.failed, -each.retried, each.source_id))
    shown = worst[:_MOST_SOURCES]
    chart = pygal.StackedBar(x_labels=[each.source_id for each in shown], **_whole(), **_looks())
    chart.add("at the first try", [each.published - each.retried for each in shown])
    chart.add("failed", [each.failed for each in shown])
    chart.add("after retries", [each.retried for each in shown])
    return _drawn(chart)


def volume(weighed: Sequence[Weighed]) -> bytes:
    """Draw how long publishes took against how much they were."""
    chart = pygal.XY(
        stroke=False,
        show_legend=False,
        x_title="operations",
        y_title="seconds",
        **_looks(),
    )
    chart.add("publishes", [(each.operations, each.execution_ms / 1000) for each in weighed])
    return _drawn(chart)


def _timed(stretches: Sequence[Stretch], window: Window) -> dict[str, Any]:
    pattern = {Window.DAY: "%H:%M", Window.WEEK: "%a %H:%M"}.get(window, "%m-%d")
    labels = [f"{each.begins_at:{pattern}}" for each in stretches]
    every = {Window.DAY: 4, Window.WEEK: 4}.get(window, 5)
    return {
        "x_labels": labels,
        "x_labels_major_every": every,
        "show_minor_x_labels": False,
        **_looks(),
    }


def _whole() -> dict[str, Any]:
    """Say that there are no parts of what is counted."""
    return {"order_min": 0, "value_formatter": lambda value: f"{value:,.0f}"}


def _dashed() -> dict[str, Any]:
    return {"width": 2, "dasharray": "6, 4"}


def _looks() -> dict[str, Any]:
    return {
        "width": 720,
        "height": 260,
        "explicit_size": True,
        "style": _style(),
        "css": ["file://style.css", "file://graph.css", f"inline:{_in_the_dark()}"],
        "js": [],
        "legend_at_bottom": True,
        "disable_xml_declaration": True,
        "no_data_text": "nothing was published",
        "truncate_legend": -1,
        "truncate_label": -1,
        "min_scale": 3,
        "max_scale": 6,
        "include_x_axis": True,
        "margin": 8,
        "dots_size": 3,
        "print_values": False,
    }


def _style() -> Any:
    text = "#1d2226"
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground=text,
        foreground_strong=text,
        foreground_subtle="#545d66",
        opacity=".9",
        guide_stroke_color="#d5dade",
        major_guide_stroke_color="#d5dade",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        colors=_COLOURS,
        font_family='system-ui, "DejaVu Sans", sans-serif',
        label_font_size=12,
        major_label_font_size=12,
        title_font_size=13,
        legend_font_size=13,
        no_data_font_size=16,
    )


def _in_the_dark() -> str:
    """Return the colours for those who have asked their browser for dark pages."""
    rules = ["text, .title { fill: #e7ebee !important; }"]
    rules += [".guide.line { stroke: #39424a !important; }"]
    rules += [".axis.line { stroke: #a4afb8 !important; }"]
    for number, colour in enumerate(_DARK):
        of = f".color-{number}"
        rules.append(
            f"{of}, {of} a:visited {{ stroke: {colour} !important; fill: {colour} !important; }}"
        )
    return f"@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}"


def _drawn(chart: Any) -> bytes:
    drawn: str = chart.render(is_unicode=True)
    return drawn.encode()
