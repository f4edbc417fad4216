"""What is measured: every metric by name, kind and labels, and what each event adds to those that count.

Counters and histograms are folded from the outbox's events, each event once, so that they survive restarts and
retention and are the same whichever server is asked. Gauges are read from the control database when asked for.
``docs/reference/metrics.md`` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from penstock.events.envelope import OutboxEvent

PREFIX = "penstock_"


class MeasureKind(StrEnum):
    """How a metric behaves, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One metric."""

    name: str
    """Without the prefix ``penstock_`` and, for a counter, without ``_total``."""
    kind: MeasureKind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, rising; above the last is infinity."""

    @property
    def shown(self) -> str:
        """Its name as it is scraped."""
        total = "_total" if self.kind is MeasureKind.COUNTER else ""
        return f"{PREFIX}{self.name}{total}"


LATENCY_BOUNDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0)
"""Seconds from one second, below which nobody waits, to four hours, above which no batch is in time."""
_LANE = ("source", "target")


def _counter(name: str, text: str, *labels: str) -> Measure:
    return Measure(name=name, kind=MeasureKind.COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Measure:
    return Measure(name=name, kind=MeasureKind.GAUGE, help=text, labels=labels)


def _histogram(name: str, text: str, *labels: str) -> Measure:
    return Measure(
        name=name,
        kind=MeasureKind.HISTOGRAM,
        help=text,
        labels=labels,
        bounds=LATENCY_BOUNDS,
    )


COUNTED = (
    _counter("batches_landed", "Batches admitted.", "source"),
    _counter("publishes", "Publishes that ended, or were put off.", *_LANE, "outcome"),
    _counter("operations", "Operations that took effect.", "target", "kind", "action"),
    _counter("operations_kept_back", "Operations planned and not applied.", "target", "why"),
    _counter("errors", "Failed attempts at publishing, by class of error.", "target", "code"),
    _counter("retries", "Attempts that were put off to be made again.", "target"),
    _histogram(
        "publish_latency_seconds",
        "Seconds from a batch's manifest to COMPLETE, the first time it is published.",
        *_LANE,
    ),
    _histogram("execution_seconds", "Seconds that executing one plan took.", "target"),
    _counter("dead_letters_created", "Dead letters recorded.", *_LANE, "code"),
    _counter("dead_letters_settled", "Dead letters that were settled.", "how"),
    _counter("holds", "Plans of which a guard held something back.", *_LANE),
    _counter("holds_decided", "Holds that somebody decided about.", "decision"),
    _counter("breaker_openings", "Times that a target's breaker opened.", "target"),
    _counter("lease_losses", "Leases on lanes that ran out and were taken over.", *_LANE),
    _counter("workflows_ended", "Workflows that ended.", "kind", "outcome"),
    _counter("tasks_assigned", "Tasks given to a worker.", "step"),
    _counter("tasks_ended", "Tasks that ended.", "step", "outcome"),
    _counter("incidents", "Incidents opened.", "severity"),
)
"""What events add to."""

GAUGES = (
    _gauge("queue_batches", "Batches that wait to be published.", *_LANE),
    _gauge("queue_oldest_age_seconds", "Seconds that the oldest of them has waited.", *_LANE),
    _gauge("batches", "Batches by where they are on their way to a target.", "status"),
    _gauge("in_hand_batches", "Batches that a worker has in hand.", "target", "status"),
    _gauge("operations_held", "Operations that guards hold back.", *_LANE),
    _gauge("operations_blocked", "Operations blocked by others that failed.", *_LANE),
    _gauge("operations_rejected", "Operations rejected, each a dead letter.", *_LANE),
    _gauge("dead_letters_open", "Dead letters that wait for a person.", *_LANE, "code"),
    _gauge("breaker_state", "1 for the state that a target's breaker is in.", "target", "state"),
    _gauge("paused", "1 for each source and target that is paused.", "scope", "name"),
    _gauge("leases", "Leases on lanes that are in force.", "target"),
    _gauge(
        "published_source_timestamp_seconds",
        "Source timestamp of the newest batch that a target holds, in Unix time.",
        *_LANE,
    ),
    _gauge("source_sla_seconds", "Within so many seconds a batch should be published.", "source"),
    _gauge("source_cadence_seconds", "A batch is due every so many seconds.", "source"),
    _gauge("workflows", "Workflows by status.", "kind", "status"),
    _gauge("tasks", "Tasks of workflows that have not ended, by status.", "step", "status"),
    _gauge("workers", "Workers by status.", "kind", "status"),
    _gauge("outbox_events_untold", "Events that a destination has yet to be told.", "destination"),
    _gauge("inbox_events", "Events that came in, by how far they are.", "status"),
    _gauge("incidents_open", "Incidents that are open.", "kind"),
    _gauge("loop_lag_seconds", "Seconds that a loop of this server is overdue.", "loop"),
    _gauge("loop_failures", "Times that a loop of this server failed since it began.", "loop"),
)
"""What is read when it is asked for."""

MEASURES: Mapping[str, Measure] = {m.name: m for m in (*COUNTED, *GAUGES)}
"""Every metric by its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Increment:
    """What one event adds to one metric."""

    name: str
    labels: tuple[str, ...]
    """Values, in the order of the metric's labels."""
    amount: float = 1.0
    """Of a counter: how much it grows. Of a histogram: the value that was observed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """One counter, or one bucket or the sum of a histogram, with its labels."""

    name: str
    labels: tuple[str, ...]
    part: str = ""
    """Empty for a counter; for a histogram ``sum`` or a bucket's upper bound, ``+Inf`` for the last."""
    value: float


def parts_of(increment: Increment) -> Iterator[tuple[str, float]]:
    """Yield what an increment adds to which part of its metric; a bucket counts what lies in it alone."""
    measure = MEASURES[increment.name]
    if measure.kind is not MeasureKind.HISTOGRAM:
        yield "", increment.amount
        return
    bound = next((b for b in measure.bounds if increment.amount <= b), None)
    yield "+Inf" if bound is None else f"{bound:g}", 1.0
    yield "sum", increment.amount


def tallies_of(events: list[OutboxEvent]) -> list[Tally]:
    """Return what some events add, together."""
    sums: dict[tuple[str, tuple[str, ...], str], float] = {}
    for event in events:
        for increment in increments_of(event):
            for part, amount in parts_of(increment):
                key = (increment.name, increment.labels, part)
                sums[key] = sums.get(key, 0.0) + amount
    return [
        Tally(name=name, labels=labels, part=part, value=value)
        for (name, labels, part), value in sorted(sums.items())
    ]


def increments_of(event: OutboxEvent) -> Iterator[Increment]:
    """Yield what one event adds; an event of a type that nothing counts adds nothing."""
    fold = _FOLDS.get(event.type)
    if fold is not None:
        yield from fold(event.data)


_Data = Mapping[str, Any]
_ACTIONS = ("created", "updated", "deleted")
_KEPT_BACK = ("held", "blocked", "rejected")


def _lane(data: _Data) -> tuple[str, str]:
    return str(data.get("source_id") or ""), str(data.get("target_id") or "")


def _batch_published(data: _Data) -> Iterator[Increment]:
    source, target = _lane(data)
    yield Increment(name="publishes", labels=(source, target, "published"))
    for kind in ("entities", "relationships"):
        for action in _ACTIONS:
            count = data[f"{kind}_{action}"]
            if count:
                took = (target, kind, action)
                yield Increment(name="operations", labels=took, amount=count)
    for why in _KEPT_BACK:
        if data[why]:
            kept = (target, why)
            yield Increment(name="operations_kept_back", labels=kept, amount=data[why])
    if data.get("latency_s") is not None:
        seconds = float(data["latency_s"])
        yield Increment(name="publish_latency_seconds", labels=(source, target), amount=seconds)
    if data.get("execution_time_ms") is not None:
        seconds = data["execution_time_ms"] / 1000
        yield Increment(name="execution_seconds", labels=(target,), amount=seconds)


def _batch_not_published(outcome: str) -> Callable[[_Data], Iterator[Increment]]:
    def fold(data: _Data) -> Iterator[Increment]:
        source, target = _lane(data)
        yield Increment(name="publishes", labels=(source, target, outcome))
        yield Increment(name="errors", labels=(target, data["error_code"]))
        if outcome == "postponed":
            yield Increment(name="retries", labels=(target,))

    return fold


def _once(
    name: str, *fields: str, amount: str | None = None
) -> Callable[[_Data], Iterator[Increment]]:
    """Return what adds to one metric with labels taken from the data; ``amount`` names the field that says how much."""

    def fold(data: _Data) -> Iterator[Increment]:
        labels = tuple(str(data.get(field) or "") for field in fields)
        count = 1.0 if amount is None else float(data[amount])
        yield Increment(name=name, labels=labels, amount=count)

    return fold


def _ended(name: str, field: str, outcome: str) -> Callable[[_Data], Iterator[Increment]]:
    def fold(data: _Data) -> Iterator[Increment]:
        yield Increment(name=name, labels=(str(data[field]), outcome))

    return fold


def _task_failed(data: _Data) -> Iterator[Increment]:
    outcome = "failed" if data.get("retry_at") is None else "put_off"
    yield Increment(name="tasks_ended", labels=(str(data["step"]), outcome))


_FOLDS: Mapping[str, Callable[[_Data], Iterator[Increment]]] = {
    "batch_landed": _once("batches_landed", "source_id"),
    "batch_published": _batch_published,
    "batch_postponed": _batch_not_published("postponed"),
    "batch_failed": _batch_not_published("failed"),
    "plan_held": _once("holds", "source_id", "target_id"),
    "hold_decided": _once("holds_decided", "decision"),
    "dead_letter_created": _once(
        "dead_letters_created", "source_id", "target_id", "code", amount="letters"
    ),
    "dead_letter_settled": _once("dead_letters_settled", "outcome", amount="letters"),
    "breaker_opened": _once("breaker_openings", "target_id"),
    "lease_lost": _once("lease_losses", "source_id", "target_id"),
    "workflow_completed": _ended("workflows_ended", "kind", "completed"),
    "workflow_failed": _ended("workflows_ended", "kind", "failed"),
    "workflow_cancelled": _ended("workflows_ended", "kind", "cancelled"),
    "task_assigned": _once("tasks_assigned", "step"),
    "task_completed": _ended("tasks_ended", "step", "completed"),
    "task_failed": _task_failed,
    "incident_opened": _once("incidents", "severity"),
}
"""What each type of event adds."""
