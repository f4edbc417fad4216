"""Events add to counters and histograms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.events.measures import COUNTED, MEASURES, MeasureKind, Tally, tallies_of
from penstock.identity.ids import TenantId

PUBLISHED = {
    "source_id": "crm",
    "target_id": "registry",
    **{f"{k}_{a}": 0 for k in ("entities", "relationships") for a in ("updated", "deleted")},
    "entities_created": 7,
    "relationships_created": 2,
    "held": 3,
    "blocked": 0,
    "rejected": 0,
    "latency_s": 4.0,
    "execution_time_ms": 250,
}


def event(kind: str, data: dict[str, Any]) -> OutboxEvent:
    return OutboxEvent(
        cursor=OutboxCursor(),
        event_id="e",
        type=kind,
        source="/penstock",
        subject="s",
        tenant_id=TenantId("default"),
        time=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
    )


def values(*events: OutboxEvent) -> dict[tuple[str, tuple[str, ...], str], float]:
    return {(t.name, t.labels, t.part): t.value for t in tallies_of(list(events))}


def test_a_publish_counts_what_it_did_and_how_long_it_took() -> None:
    """Operations by kind and action, what was kept back, and the bucket that its latency falls into."""
    found = values(event("batch_published", PUBLISHED), event("batch_published", PUBLISHED))
    lane = ("crm", "registry")
    assert found == {
        ("publishes", (*lane, "published"), ""): 2,
        ("operations", ("registry", "entities", "created"), ""): 14,
        ("operations", ("registry", "relationships", "created"), ""): 4,
        ("operations_kept_back", ("registry", "held"), ""): 6,
        ("publish_latency_seconds", lane, "5"): 2,
        ("publish_latency_seconds", lane, "sum"): 8,
        ("execution_seconds", ("registry",), "1"): 2,
        ("execution_seconds", ("registry",), "sum"): 0.5,
    }


def test_what_is_beyond_the_last_bound_is_in_the_last_bucket() -> None:
    """A latency of a day falls into the bucket up to infinity."""
    found = values(event("batch_published", {**PUBLISHED, "latency_s": 86_400.0}))
    assert found["publish_latency_seconds", ("crm", "registry"), "+Inf"] == 1


def test_one_event_of_many_dead_letters_counts_them_all() -> None:
    """The count that an event carries is what is added."""
    data = {"source_id": "crm", "target_id": None, "code": "bad_row", "letters": 400}
    assert tallies_of([event("dead_letter_created", data)]) == [
        Tally(name="dead_letters_created", labels=("crm", "", "bad_row"), value=400.0)
    ]


def test_an_event_that_nothing_counts_adds_nothing() -> None:
    """Types that no metric follows are passed over."""
    assert tallies_of([event("source_paused", {"source_id": "crm"})]) == []


def test_metrics_are_named_as_prometheus_names_them() -> None:
    """Counters end in _total, no name is given twice, and bounds rise."""
    assert len(MEASURES) == len({m.shown for m in MEASURES.values()})
    for measure in COUNTED:
        assert measure.shown.endswith("_total") is (measure.kind is MeasureKind.COUNTER)
        assert list(measure.bounds) == sorted(measure.bounds)
