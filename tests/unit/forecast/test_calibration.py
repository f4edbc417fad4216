"""Quantiles hold as often as they say."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.forecast.calibration import Calibration
from penstock.forecast.lane_model import LaneModel, Score, Stage, score_value
from penstock.forecast.records import ForecastRecord, with_overdue
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LANE = (SourceId("crm"), TargetId("registry"))


def _model(name: str = "crm") -> LaneModel:
    return LaneModel(source_id=SourceId(name), target_id=LANE[1])


def _held(took_s: Callable[[int], float], *, count: int = 400) -> tuple[float, float]:
    """Forecast ``count`` batches of 100 s each by what came before; return how often p50 and p90 held after 50."""
    model, p50, p90 = _model(), 0, 0
    for number in range(count):
        quantiles = Calibration([model]).quantiles(LANE, Stage.QUEUED)
        actual_s = took_s(number)
        missed = actual_s > quantiles.p90_s(100)
        if number >= 50:
            p50 += actual_s <= quantiles.p50_s(100)
            p90 += not missed
        value = score_value(actual_s=actual_s, point_s=100)
        at = NOW + timedelta(minutes=number)
        model = model.with_score(Stage.QUEUED, Score(at=at, value=value, missed=missed))
    return p50 / (count - 50), p90 / (count - 50)


@pytest.mark.parametrize("kind", ["log-normal", "heavy tail", "always late", "drifting"])
def test_p90_holds_nine_times_in_ten(kind: str) -> None:
    """Whether errors are biased, have a heavy tail or drift: p90 holds in 85 to 95 %, and p50 in about half."""
    chance = random.Random(3)
    took = {
        "log-normal": lambda _n: 100 * chance.lognormvariate(0, 0.5),
        "heavy tail": lambda _n: 60 * chance.paretovariate(1.2),
        "always late": lambda _n: 900 * chance.lognormvariate(0, 0.2),
        "drifting": lambda n: 100 * (1 + n / 200) * chance.lognormvariate(0, 0.4),
    }
    p50, p90 = _held(took[kind])
    assert 0.85 <= p90 <= 0.95
    assert 0.40 <= p50 <= 0.60


def test_without_history_quantiles_are_wide_and_in_order() -> None:
    """As long as nothing is known, p90 is far beyond p50, and neither is below 0."""
    quantiles = Calibration([]).quantiles(LANE, Stage.NEW)
    assert 0 <= quantiles.p50_s(0) <= quantiles.p90_s(0)
    assert quantiles.p90_s(100) > 2 * quantiles.p50_s(100)


def test_the_probability_of_being_late_falls_with_the_time_that_is_left() -> None:
    """It is 1 when the time is over, never quite 0 before, and falls in between."""
    quantiles = Calibration([]).quantiles(LANE, Stage.NEW)
    risks = [quantiles.later_than(100, limit) for limit in (-1, 0, 50, 100, 400, 1e6)]
    assert risks[:2] == [1.0, 1.0]
    assert risks == sorted(risks, reverse=True)
    assert 0 < risks[-1] < 0.05


@given(
    scores=st.lists(st.floats(-3, 3), max_size=50),
    point_s=st.floats(0, 1e6),
    limits=st.lists(st.floats(0.001, 1e7), min_size=2, max_size=2),
)
def test_quantiles_and_risks_are_of_the_same_scores(
    scores: list[float], point_s: float, limits: list[float]
) -> None:
    """At most half comes after the p50, at least half after just before it, and later limits are no higher risks."""
    model = _model().with_scores(
        Stage.QUEUED,
        [Score(at=NOW + timedelta(minutes=n), value=v, missed=False) for n, v in enumerate(scores)],
    )
    quantiles = Calibration([model]).quantiles(LANE, Stage.QUEUED)
    p50 = quantiles.p50_s(point_s)
    assert 0 <= p50 <= quantiles.p90_s(point_s)
    if p50 > 0:  # what is told is not before now, where half may be expected before it
        rounded = 1e-9 * (p50 + 5)
        assert quantiles.later_than(point_s, p50 + rounded) <= 0.5 + 1e-9
        assert quantiles.later_than(point_s, p50 - rounded) >= 0.5 - 1e-9
    sooner, later = sorted(limits)
    assert quantiles.later_than(point_s, sooner) >= quantiles.later_than(point_s, later)


def test_a_lane_is_judged_by_its_own_history_first() -> None:
    """A lane that always comes late has a later p90 than one that does not, though both know of each other."""
    late, early = _model("crm"), _model("erp")
    for number in range(30):
        at = NOW + timedelta(minutes=number)
        late = late.with_score(Stage.QUEUED, Score(at=at, value=1.0 + number / 100, missed=False))
        early = early.with_score(
            Stage.QUEUED, Score(at=at, value=-1.0 + number / 100, missed=False)
        )
    found = Calibration([late, early])
    mine = found.quantiles(LANE, Stage.QUEUED)
    other = found.quantiles((SourceId("erp"), LANE[1]), Stage.QUEUED)
    assert mine.p50_s(100) > 4 * other.p50_s(100)


def test_what_is_overdue_counts_before_it_has_come() -> None:
    """During an outage forecasts become later though nothing ends: what has not come is late already."""
    model = _model()
    for number in range(30):
        at = NOW + timedelta(minutes=number)
        model = model.with_score(Stage.QUEUED, Score(at=at, value=0.0, missed=False))
    overdue = [
        ForecastRecord(
            batch_id=BatchId(f"crm@{number}"),
            target_id=LANE[1],
            source_id=LANE[0],
            tenant_id=TenantId("default"),
            made_at=NOW,
            stage=Stage.QUEUED,
            point_s=60.0,
            p50_at=NOW + timedelta(seconds=60),
            p90_at=NOW + timedelta(seconds=90),
            due_at=None,
            breach_probability=None,
        )
        for number in range(8)
    ]
    known = with_overdue([model], overdue, NOW + timedelta(hours=2))
    before = Calibration([model]).quantiles(LANE, Stage.QUEUED)
    after = Calibration(known).quantiles(LANE, Stage.QUEUED)
    assert after.p90_s(60) > 20 * before.p90_s(60)
