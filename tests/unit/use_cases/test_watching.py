"""One round of watching after the other: what is learnt, foretold, and found to be wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.batch.source import SourceSpec
from penstock.errors import NotFound, PenstockError, Unsigned
from penstock.forecast.incidents import IncidentKind
from penstock.forecast.lane_model import Stage
from penstock.forecast.policy import ForecastPolicy
from penstock.identity.ids import BatchId, TenantId
from penstock.publish.breaker import BreakerPolicy
from penstock.use_cases.acts import By
from penstock.use_cases.forecasting import (
    Forecasting,
    SyncStatus,
    batch_eta,
    batch_etas,
    forecast_reliability,
    source_statuses,
)
from penstock.use_cases.incident_acts import IncidentReport, open_incident
from penstock.use_cases.watching import watch
from resources.control_db.forecasts import SqlForecasts
from resources.control_db.incidents import SqlIncidents
from tests.fixtures.memory import SOURCE, TARGET, Bench, person


@pytest.fixture
def forecasting(bench: Bench) -> Forecasting:
    spec = SourceSpec(source_id=SOURCE, targets=(TARGET,), sla_s=3600, cadence_s=3600)
    bench.control.sync_sources([spec])
    return Forecasting(
        platform=bench.platform,
        forecasts=SqlForecasts.from_engine(bench.control.engine),
        incidents=SqlIncidents.from_engine(bench.control.engine),
        policy=ForecastPolicy(breach_alert=0.05, breach_calm=0.01),
    )


def _hour(bench: Bench, forecasting: Forecasting, *, rows: int = 20) -> None:
    """Let an hour pass in which a batch lands, is forecast, and is published a minute later."""
    bench.clock.moment += timedelta(hours=1)
    bench.land([person(f"p{n}", n=bench.number) for n in range(rows)], at=bench.clock.moment)
    watch(forecasting)
    bench.clock.moment += timedelta(minutes=1)
    bench.publish()
    watch(forecasting)


def _open(forecasting: Forecasting) -> dict[IncidentKind, str]:
    found = forecasting.incidents.list_incidents(open_only=True)
    return {each.kind: each.explanation for each in found}


def test_what_ends_is_learnt_from(bench: Bench, forecasting: Forecasting) -> None:
    """Each batch is forecast when it has landed, and once it is there, the forecast is held against it."""
    for _ in range(4):
        _hour(bench, forecasting)
    (model,) = forecasting.forecasts.lane_models()
    assert len(model.publishes) == 4
    assert len(model.scores[Stage.NEW]) == 3
    held = {each.stage: each.forecasts for each in forecast_reliability(forecasting)}
    assert held == {Stage.NEW: 3, Stage.NEXT: 1}
    assert batch_etas(forecasting) == []
    assert source_statuses(forecasting)[0].status is SyncStatus.SYNCED


def test_a_batch_that_is_not_on_its_way_has_no_eta(bench: Bench, forecasting: Forecasting) -> None:
    """Asked for the ETA of a batch that is there, or not known, the answer says so."""
    landed = bench.land([person("ada")])
    eta = batch_eta(forecasting, landed.batch_id)
    assert eta.p50_at is not None
    assert "0 measured publishes" in eta.explanation
    bench.publish()
    with pytest.raises(NotFound, match="it is COMPLETE for model"):
        batch_eta(forecasting, landed.batch_id)
    with pytest.raises(NotFound, match="it is not known"):
        batch_eta(forecasting, BatchId("crm@2020-01-01T00-00-00.000000Z"))


def test_a_late_batch_is_foretold_then_found_then_over(
    bench: Bench, forecasting: Forecasting
) -> None:
    """Shortly before its time is over a breach is foretold; then it is one; published, it is over after a while."""
    _hour(bench, forecasting)
    bench.clock.moment += timedelta(minutes=30)
    bench.land([person("ada")], at=bench.clock.moment)
    bench.clock.moment += timedelta(minutes=59, seconds=58)
    watch(forecasting)
    assert "it comes later" in _open(forecasting)[IncidentKind.BREACH_FORECAST]
    bench.clock.moment += timedelta(minutes=1)
    watch(forecasting)
    assert "1 minutes ago (SLA 3,600 s)" in _open(forecasting)[IncidentKind.SLA_BREACH]
    assert source_statuses(forecasting)[0].status is SyncStatus.LATE
    bench.publish()
    bench.clock.moment += timedelta(minutes=6)
    watch(forecasting)
    assert not {IncidentKind.SLA_BREACH, IncidentKind.BREACH_FORECAST} & set(_open(forecasting))


def test_what_is_overdue_makes_forecasts_later_before_it_has_come(
    bench: Bench, forecasting: Forecasting
) -> None:
    """While batches hang for hours that used to take a minute, what lands then is not foretold to take a minute."""
    for _ in range(9):
        _hour(bench, forecasting)
    bench.clock.moment += timedelta(hours=1)
    usual = bench.land([person("ada")], at=bench.clock.moment)
    watch(forecasting)
    before = batch_eta(forecasting, usual.batch_id)
    for _ in range(12):  # on record again every ten minutes, and nothing ends
        bench.clock.moment += timedelta(minutes=10)
        watch(forecasting)
    after = batch_eta(forecasting, usual.batch_id)
    assert before.p90_at is not None
    assert after.p90_at is not None
    assert before.p90_at - before.made_at < timedelta(minutes=5)
    assert after.p90_at - after.made_at > timedelta(minutes=20)


def test_a_source_that_lands_nothing_is_silent(bench: Bench, forecasting: Forecasting) -> None:
    """After a while without a batch the source is silent, until it lands one."""
    for _ in range(9):
        _hour(bench, forecasting)
    bench.clock.moment += timedelta(hours=2)
    watch(forecasting)
    assert "its cadence is 60 minutes" in _open(forecasting)[IncidentKind.SILENT_SOURCE]
    assert source_statuses(forecasting)[0].status is SyncStatus.SILENT
    _hour(bench, forecasting)
    bench.clock.moment += timedelta(minutes=5)
    watch(forecasting)
    assert IncidentKind.SILENT_SOURCE not in _open(forecasting)


def test_unusual_counts_are_explained(bench: Bench, forecasting: Forecasting) -> None:
    """A batch with a fifth of the usual rows opens an incident in numbers; two usual ones end it, and none follows."""
    for _ in range(24):
        _hour(bench, forecasting)
    assert IncidentKind.ANOMALY not in _open(forecasting)
    _hour(bench, forecasting, rows=4)
    words = _open(forecasting)[IncidentKind.ANOMALY]
    assert words.startswith("rows: 4 at ")
    assert "usual at this time of week is 20" in words
    for _ in range(2):
        _hour(bench, forecasting)
    bench.clock.moment += timedelta(minutes=6)
    watch(forecasting)
    assert IncidentKind.ANOMALY not in _open(forecasting)


def test_a_target_that_is_down_is_told_to_those_who_rely_on_it(
    bench: Bench, forecasting: Forecasting
) -> None:
    """An open breaker opens an incident for each tenant with a source that goes there; its error is for operators."""
    bench.control.record_calls(
        TARGET,
        successes=0,
        failures=9,
        now=bench.clock.moment,
        policy=BreakerPolicy(),
        error="connection refused",
    )
    watch(forecasting)
    assert IncidentKind.TARGET_DOWN not in _open(forecasting)
    bench.clock.moment += timedelta(minutes=2)
    watch(forecasting)
    (incident,) = forecasting.incidents.list_incidents(open_only=True)
    assert (incident.tenant_id, incident.title) == (
        "default",
        "Publishing to model is interrupted",
    )
    assert "connection refused" in incident.explanation


def test_an_incident_is_signed_and_of_one_tenant(forecasting: Forecasting) -> None:
    """One without words, or about another tenant's source, is refused."""
    report = IncidentReport(tenant_id=TenantId("other"), title="Work", text="x", source_id=SOURCE)
    with pytest.raises(PenstockError, match="is not of tenant 'other'"):
        open_incident(forecasting, report, by=By(actor="ada"))
    empty = IncidentReport(tenant_id=TenantId("default"), title="Work", text=" ")
    with pytest.raises(Unsigned, match="the text is empty"):
        open_incident(forecasting, empty, by=By(actor="ada"))
