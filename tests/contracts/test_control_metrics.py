"""What is measured on SQLite and PostgreSQL: tallies that count each event once, gauges of one moment."""

from __future__ import annotations

from datetime import timedelta

from penstock.batch.source import SourceSpec
from penstock.events.envelope import OutboxCursor
from penstock.events.measures import GAUGES, Tally
from penstock.identity.ids import SourceId, TargetId
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.breaker import BreakerPolicy
from resources.control_db.metrics import SqlMetrics
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, REGISTRY, admit, at, fail, must_claim, publish

START = OutboxCursor()
ONE = OutboxCursor(transaction=1, position=1)
TWO = OutboxCursor(transaction=2, position=2)


def _metrics(store: SqlControlStore) -> SqlMetrics:
    return SqlMetrics.from_engine(store.engine)


def _tally(value: float, part: str = "", *labels: str) -> Tally:
    return Tally(name="publishes", labels=labels, part=part, value=value)


def test_tallies_add_up_and_the_cursor_moves_with_them(control_store: SqlControlStore) -> None:
    """What is added twice is summed by name, labels and part."""
    metrics = _metrics(control_store)
    assert metrics.tallied_to() == START
    first = [_tally(1, "", "crm"), _tally(0.5, "sum", 'ü"')]
    assert metrics.add_tallies(first, since=START, to=ONE)
    assert metrics.add_tallies([_tally(2, "", "crm")], since=ONE, to=TWO)
    assert metrics.tallied_to() == TWO
    assert metrics.tallies() == [_tally(3, "", "crm"), _tally(0.5, "sum", 'ü"')]


def test_of_two_who_fold_the_same_events_one_counts(control_store: SqlControlStore) -> None:
    """Whoever finds the cursor moved has changed nothing."""
    metrics = _metrics(control_store)
    assert metrics.add_tallies([_tally(1)], since=START, to=ONE)
    assert not metrics.add_tallies([_tally(1)], since=START, to=TWO)
    assert metrics.tallies() == [_tally(1)]
    assert metrics.tallied_to() == ONE


def test_gauges_say_how_things_stand(control_store: SqlControlStore) -> None:
    """The queue, what is in hand, dead letters, breakers, pauses, leases, and what is published."""
    store = control_store
    store.sync_sources([SourceSpec(source_id=SourceId("crm"), sla_s=600, cadence_s=60)])
    admit(store, "crm", 0)
    publish(store)
    admit(store, "crm", 1)
    fail(store, must_claim(store))
    admit(store, "erp", 2)
    admit(store, "erp", 3)
    admit(store, "hr", 4)
    must_claim(store)
    store.pause(
        Pause(
            scope=PauseScope.SOURCE,
            scope_id="crm",
            paused_at=NOW,
            paused_by="ada",
            reason="x",
        )
    )
    store.record_calls(
        TargetId("wiki"), successes=0, failures=9, now=NOW, policy=BreakerPolicy(), error="no"
    )
    letter = {"subject": "x", "where": "plan", "source_id": "crm", "code": "bad_row"}
    store.record_dead_letter(**letter, message="no key", now=NOW)
    samples = _metrics(store).standing(now=NOW + timedelta(seconds=20))
    assert {s.name for s in samples} <= {gauge.name for gauge in GAUGES}
    found = {(s.name, *s.labels.values()): s.value for s in samples}
    assert found["batches", "COMPLETE"] == 1
    assert found["batches", "FAILED"] == 1
    assert sum(n for (name, *_), n in found.items() if name == "queue_batches") == 2
    ages = {n for (name, *_), n in found.items() if name == "queue_oldest_age_seconds"}
    assert ages == {20}
    assert found["in_hand_batches", "registry", "PLANNING"] == 1
    assert found["leases", "registry"] == 1
    assert found["breaker_state", "wiki", "open"] == 1
    assert found["breaker_state", "wiki", "closed"] == 0
    assert found["paused", "source", "crm"] == 1
    assert found["source_sla_seconds", "crm"] == 600
    assert found["published_source_timestamp_seconds", "crm", REGISTRY] == at(0).timestamp()
    assert found["dead_letters_open", "crm", "", "bad_row"] == 1
