"""Metrics as Prometheus scrapes them: tallies as counters and histograms, samples as gauges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from penstock.events.measures import (
    COUNTED,
    GAUGES,
    PREFIX,
    Measure,
    MeasureKind,
    Tally,
)
from penstock.ports.metrics import Sample

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SUM, _REST = "sum", "+Inf"


def exposition(tallies: Iterable[Tally], samples: Iterable[Sample]) -> bytes:
    """Return the text of a scrape: every metric is in it, with or without values."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(tallies), list(samples)))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, tallies: Sequence[Tally], samples: Sequence[Sample]) -> None:
        self._tallies, self._samples = tallies, samples

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        by_name: dict[str, list[Tally]] = defaultdict(list)
        for tally in self._tallies:
            by_name[tally.name].append(tally)
        for measure in COUNTED:
            if measure.kind is MeasureKind.HISTOGRAM:
                yield _histogram(measure, by_name[measure.name])
            else:
                yield _counter(measure, by_name[measure.name])
        yield from _gauges(self._samples)


def _counter(measure: Measure, tallies: Iterable[Tally]) -> Metric:
    family = CounterMetricFamily(PREFIX + measure.name, measure.help, labels=measure.labels)
    for tally in tallies:
        family.add_metric(tally.labels, tally.value)
    return family


def _histogram(measure: Measure, tallies: Iterable[Tally]) -> Metric:
    family = HistogramMetricFamily(PREFIX + measure.name, measure.help, labels=measure.labels)
    parts: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for tally in tallies:
        parts[tally.labels][tally.part] = tally.value
    for labels, values in parts.items():
        buckets = list(_cumulative(measure, values))
        family.add_metric(labels, buckets=buckets, sum_value=values.get(_SUM, 0.0))
    return family


def _cumulative(measure: Measure, values: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Yield buckets as Prometheus has them: each counts what lies in those before it too."""
    count = 0.0
    for bound in measure.bounds:
        count += values.get(f"{bound:g}", 0.0)
        yield f"{bound:g}", count
    yield _REST, count + values.get(_REST, 0.0)


def _gauges(samples: Iterable[Sample]) -> Iterator[Metric]:
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.name].append(sample)
    for measure in GAUGES:
        family = GaugeMetricFamily(measure.shown, measure.help, labels=measure.labels)
        for sample in by_name[measure.name]:
            family.add_metric([sample.labels[label] for label in measure.labels], sample.value)
        yield family
