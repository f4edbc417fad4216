"""What forecasts are made from and kept in, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from penstock.batch.manifest import DataFile, Files, Manifest
from penstock.batch.source import SourceSpec
from penstock.forecast.eta import Size
from penstock.forecast.lane_model import MOST_SCORES, LaneModel, PastPublish, Score, Stage
from penstock.forecast.records import ForecastRecord, with_overdue
from penstock.forecast.sla import Tally
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.control import BatchRecord
from penstock.publish.queue import CANCELLED
from penstock.publish.state import FailureDetails, Intent, Move, PublishStatus
from resources.control_db.forecasts import SqlForecasts
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    NOW,
    REGISTRY,
    admit,
    at,
    fail,
    failure,
    finish,
    must_claim,
    pending,
    start,
)

CRM = SourceId("crm")
LANE = (CRM, REGISTRY)


@pytest.fixture
def store(control_store: SqlControlStore) -> Iterator[SqlControlStore]:
    control_store.sync_sources(
        [
            SourceSpec(source_id=CRM, sla_s=600, cadence_s=600),
            SourceSpec(source_id=SourceId("erp"), tenant_id=TenantId("acme")),
        ]
    )
    return control_store


@pytest.fixture
def forecasts(store: SqlControlStore) -> SqlForecasts:
    return SqlForecasts.from_engine(store.engine)


def _publish(store: SqlControlStore, minute: float, *, took: float = 1.0, rows: int = 0) -> BatchId:
    """Land a batch at a minute, claim it then and end it after ``took`` minutes."""
    part = DataFile(path="part-00000.parquet", rows=rows, size_bytes=1, sha256="0" * 64)
    files = Files(parts=(part,), counts={"person": rows}) if rows else Files()
    manifest = Manifest(
        source_id=CRM,
        source_timestamp=at(minute),
        processing_timestamp=at(minute),
        mode="full",
        entities=files,
    )
    record = BatchRecord(manifest=manifest, s3_path="s3://b", admitted_at=at(minute))
    assert store.admit(record, [pending(record, enqueued_at=at(minute))])
    batch = manifest.batch_id
    claimed = must_claim(store, now=at(minute), only=[(batch, REGISTRY)])
    finish(store, claimed, now=at(minute + took))
    return batch


def _forecast(batch: BatchId, minute: float, **fields: object) -> ForecastRecord:
    values: dict[str, object] = {
        "batch_id": batch,
        "target_id": REGISTRY,
        "source_id": CRM,
        "tenant_id": TenantId("default"),
        "made_at": at(minute),
        "stage": Stage.QUEUED,
        "point_s": 60.0,
        "p50_at": at(minute + 1),
        "p90_at": at(minute + 2),
        "due_at": None,
        "breach_probability": None,
    }
    return ForecastRecord(**{**values, **fields})  # type: ignore[arg-type]


def test_models_come_back_as_they_were_saved(forecasts: SqlForecasts) -> None:
    """A model that is saved again takes the place of the one before, number for number."""
    assert forecasts.lane_models() == []
    assert forecasts.measured_until() is None
    past = PastPublish(ended_at=at(1), work_s=1 / 3, rows=7, operations=None)
    model = LaneModel(source_id=CRM, target_id=REGISTRY).with_publishes([past])
    model = model.with_score(Stage.NEW, Score(at=at(2), value=-0.1, missed=True))
    forecasts.save_lane_models([LaneModel(source_id=CRM, target_id=REGISTRY)], now=at(1))
    forecasts.save_lane_models([model], now=at(3))
    assert forecasts.lane_models() == [model]
    assert forecasts.measured_until() == at(3)


def test_only_clean_first_attempts_are_measured(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """What was tried again, failed, or asked for by an operator says nothing about how long a publish takes."""
    first = _publish(store, 0, took=2, rows=5)
    _publish(store, 10)
    store.requeue(first, REGISTRY, now=at(20), intent=Intent.REPUBLISH)
    finish(store, must_claim(store, now=at(20)), now=at(30))
    admit(store, "crm", 40)
    fail(store, must_claim(store, now=at(40)), now=at(41))
    (past,) = forecasts.recent_publishes(at(0))[LANE]
    assert (past.ended_at, past.rows, past.operations) == (at(11), 0, None)
    assert past.work_s == pytest.approx(60, abs=0.01)
    assert forecasts.recent_publishes(at(12)) == {}


def test_what_workers_have_is_told_with_its_size(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """A batch in hand is known with since when, and both it and what waits with their rows."""
    batch = admit(store, "crm", 0)
    waiting = admit(store, "crm", 1)
    start(store, must_claim(store, now=at(5)), now=at(5))
    ((state, since),) = forecasts.in_hand(at(5.5))
    assert (state.batch_id, state.status, since) == (batch, PublishStatus.EXECUTING, at(5))
    assert forecasts.in_hand(at(10)) == []  # its lease has run out
    sizes = forecasts.job_sizes()
    assert sizes == {(batch, REGISTRY): Size(rows=0), (waiting, REGISTRY): Size(rows=0)}


def test_forecasts_are_held_against_what_came(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """A forecast is settled once, with when its batch was COMPLETE; one that failed for good never came."""
    early, late = admit(store, "crm", 0), admit(store, "crm", 1)
    lost = BatchId("crm@2020-01-01T00-00-00.000000Z")
    forecasts.record([_forecast(early, 0), _forecast(late, 0), _forecast(lost, 0)])
    forecasts.record([_forecast(early, 0, point_s=9.0)])
    assert forecasts.last_recorded()[early, REGISTRY] == (at(0), Stage.QUEUED)
    assert [each.batch_id for each in forecasts.settle(now=at(0))] == [lost]
    finish(store, must_claim(store, now=at(0)), now=at(1))
    fail(store, must_claim(store, now=at(3)), now=at(4))
    settled = forecasts.settle(now=at(5))
    assert {each.batch_id: each.came_at for each in settled} == {early: at(1), late: None}
    assert settled[0].point_s == 60.0
    assert settled[0].held("p50")
    assert forecasts.settle(now=at(6)) == []
    assert forecasts.last_recorded() == {}
    (told,) = forecasts.reliability(since=at(-1))
    assert (told.stage, told.forecasts, told.within_p50, told.within_p90) == (Stage.QUEUED, 1, 1, 1)
    assert forecasts.forget_forecasts(before=at(1)) == 3
    assert forecasts.reliability(since=at(-1)) == []


def test_overdue_is_what_is_on_its_way_after_its_p90(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """Every forecast counts whose p90 is over, as long as its batch is on its way; those of what is gone do not."""
    gone = BatchId("crm@2020-01-01T00-00-00.000000Z")
    first, second = admit(store, "crm", 0), admit(store, "crm", 1)
    forecasts.record(
        [_forecast(first, 1), _forecast(first, 0), _forecast(second, 3), _forecast(gone, 0)]
    )
    late_from = _forecast(first, 0).p90_at
    assert forecasts.overdue(now=late_from) == []
    assert forecasts.overdue(now=late_from + timedelta(seconds=1)) == [_forecast(first, 0)]
    assert [(each.batch_id, each.made_at) for each in forecasts.overdue(now=at(60))] == [
        (first, at(0)),
        (first, at(1)),
        (second, at(3)),
    ]
    finish(store, must_claim(store, now=at(60)), now=at(61))
    assert [each.batch_id for each in forecasts.overdue(now=at(61))] == [second]
    forecasts.settle(now=at(61))
    assert [each.batch_id for each in forecasts.overdue(now=at(61))] == [second]


def test_of_what_is_overdue_the_newest_of_a_lane_and_stage_count(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """As many as a model remembers: one more of another stage takes the place of none."""
    batch = admit(store, "crm", 0)
    made = [_forecast(batch, minute / 10) for minute in range(MOST_SCORES + 5)]
    retrying = _forecast(batch, 9, stage=Stage.RETRYING)
    forecasts.record([*made, retrying])
    found = forecasts.overdue(now=at(60))
    assert [each for each in found if each.stage is Stage.QUEUED] == made[5:]
    assert [each for each in found if each.stage is Stage.RETRYING] == [retrying]
    model = LaneModel(source_id=CRM, target_id=REGISTRY)
    assert with_overdue([model], found, at(60)) == with_overdue([model], [*made, retrying], at(60))


def test_a_lane_is_observed_oldest_first(store: SqlControlStore, forecasts: SqlForecasts) -> None:
    """The series that anomalies are looked for in has each COMPLETE batch with its rows, refusals and seconds."""
    _publish(store, 0, rows=3)
    _publish(store, 10, took=2, rows=4)
    admit(store, "crm", 20)
    seen = forecasts.observations(LANE, limit=10)
    assert [(each.ended_at, each.rows, each.refused) for each in seen] == [
        (at(1), 3, 0),
        (at(12), 4, 0),
    ]
    assert [each.duration_s for each in seen] == pytest.approx([60, 120], abs=0.01)
    assert [each.rows for each in forecasts.observations(LANE, limit=1)] == [4]


def test_sources_stand_as_their_lanes_do(store: SqlControlStore, forecasts: SqlForecasts) -> None:
    """A standing has what landed, what each target has and what is on its way; a tenant's alone if asked for."""
    _publish(store, 0)
    admit(store, "crm", 5)
    crm, erp = forecasts.standings()
    (lane,) = crm.lanes
    assert crm.last_landed_at == NOW
    assert (lane.published_at, lane.published_timestamp) == (at(1), at(0))
    assert (lane.in_progress, lane.newest_status) == (1, PublishStatus.PENDING)
    assert (erp.last_landed_at, erp.lanes[0].published_at, erp.lanes[0].newest_status) == (
        None,
        None,
        None,
    )
    assert [s.spec.source_id for s in forecasts.standings(TenantId("acme"))] == ["erp"]
    assert forecasts.landings(CRM, limit=5) == [NOW, NOW]


def test_late_is_what_waits_or_failed_past_its_sla(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """What is in the queue past its SLA is late; so is what failed, until something newer is published."""
    waiting = admit(store, "crm", 0)
    admit(store, "erp", 0)  # has no SLA
    assert forecasts.late_batches(now=at(10)) == []
    (late,) = forecasts.late_batches(now=at(10.1))
    assert (late.batch_id, late.sla_s, late.status) == (waiting, 600, PublishStatus.PENDING)
    fail(store, must_claim(store, now=at(11), only=[(waiting, REGISTRY)]), now=at(12))
    assert [each.status for each in forecasts.late_batches(now=at(20))] == [PublishStatus.FAILED]
    _publish(store, 30)
    assert forecasts.late_batches(now=at(31)) == []


def test_slas_are_counted_by_when_batches_fell_due(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """A window has what fell due in it: late is what came later or is still to come; what was cancelled is left out."""
    _publish(store, 0)
    _publish(store, 1, took=12)
    admit(store, "crm", 20)
    cancelled = admit(store, "crm", 21)
    store.cancel(cancelled, REGISTRY, now=at(22), message="not wanted")
    tallies = forecasts.sla_tallies([60 * 25, 3600], now=at(35))
    assert tallies == {CRM: {60 * 25: Tally(due=2, late=2), 3600: Tally(due=3, late=2)}}
    # What has not fallen due yet is neither.
    assert forecasts.sla_tallies([3600], now=at(29)) == {CRM: {3600: Tally(due=2, late=1)}}


def test_days_are_brought_up_to_date(store: SqlControlStore, forecasts: SqlForecasts) -> None:
    """A day counts its batches by what became of them, and changes as long as they may still come."""
    day = 24 * 60
    _publish(store, 0)
    _publish(store, day, took=20)
    admit(store, "crm", day + 30)
    failing = must_claim(store, now=at(day + 31))
    forecasts.refresh_days(now=at(day + 32))
    first, second = forecasts.days([CRM], since="2026-01-01")
    assert (first.day, first.batches, first.published, first.late) == ("2026-01-01", 1, 1, 0)
    assert (second.batches, second.published, second.late, second.failed) == (2, 1, 1, 0)
    assert second.latency_s == pytest.approx(1200, abs=0.01)
    details = FailureDetails(error_code="boom", error_message="it went wrong")
    store.advance(failing, Move.FAIL, now=at(day + 33), changes={"failure_details": details})
    forecasts.refresh_days(now=at(day + 60))
    (second,) = forecasts.days([CRM], since="2026-01-02")
    assert (second.failed, second.late) == (1, 2)
    assert forecasts.days([SourceId("erp")], since="2026-01-01") == []


def test_what_was_cancelled_is_no_failure(store: SqlControlStore, forecasts: SqlForecasts) -> None:
    """A batch that an operator took out of the queue counts for no day."""
    batch = admit(store, "crm", 0)
    state = store.cancel(batch, REGISTRY, now=at(1), message="not wanted")
    assert state.failure_details is not None
    assert state.failure_details.error_code == CANCELLED
    assert failure().error_code != CANCELLED
    forecasts.refresh_days(now=at(2) + timedelta(days=1))
    assert forecasts.days([CRM], since="2026-01-01") == []
    assert forecasts.late_batches(now=at(60)) == []


def test_several_targets_are_lanes_of_their_own(
    store: SqlControlStore, forecasts: SqlForecasts
) -> None:
    """Each target's publishes are measured for themselves."""
    admit(store, "erp", 0, targets=("registry", "wiki"))
    for minute in (1, 2):
        finish(store, must_claim(store, now=at(minute)), now=at(minute + 1))
    measured = forecasts.recent_publishes(at(0))
    assert set(measured) == {
        (SourceId("erp"), TargetId("registry")),
        (SourceId("erp"), TargetId("wiki")),
    }
