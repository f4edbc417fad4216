"""How long publishing takes, measured."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from penstock.forecast.lane_model import LaneModel, PastPublish
from penstock.forecast.rates import DEFAULT_WORK_S, measured_rates
from penstock.identity.ids import SourceId, TargetId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
R = TargetId("registry")


def _model(name: str, works: list[tuple[int, float]], target: TargetId = R) -> LaneModel:
    publishes = [
        PastPublish(
            ended_at=NOW + timedelta(hours=number), work_s=work_s, rows=rows, operations=None
        )
        for number, (rows, work_s) in enumerate(works)
    ]
    return LaneModel(source_id=SourceId(name), target_id=target).with_publishes(publishes)


def _lane(name: str, target: TargetId = R) -> tuple[SourceId, TargetId]:
    return (SourceId(name), target)


def test_time_grows_with_rows_and_has_a_fixed_part() -> None:
    """From publishes of many sizes, that of another size follows: what each costs, and what its rows cost."""
    chance = random.Random(1)
    sizes = [100, 1_000, 10_000, 50_000, 300_000] * 4
    works = [(n, (10 + n / 1_000) * chance.lognormvariate(0, 0.1)) for n in sizes]
    rates = measured_rates([_model("crm", works)])
    assert rates.work_s(_lane("crm"), rows=200_000) == pytest.approx(210, rel=0.25)
    assert rates.work_s(_lane("crm"), rows=0) == pytest.approx(10, rel=0.25)


def test_outliers_move_nothing_and_the_newest_count_most() -> None:
    """A publish that hung is passed over; a level that changed is followed after a few."""
    steady = [(100, 20.0)] * 10
    hung = measured_rates([_model("crm", [*steady, (100, 9_000.0)])])
    assert hung.work_s(_lane("crm"), rows=100) == pytest.approx(20, rel=0.05)
    slower = measured_rates([_model("crm", [*steady, *[(100, 80.0)] * 8])])
    assert slower.work_s(_lane("crm"), rows=100) == pytest.approx(80, rel=0.1)


def test_a_source_without_history_takes_what_others_take() -> None:
    """A new lane is forecast from its target's lanes, then from any, then by a guess, and says so."""
    others = [_model(f"s{n}", [(100, 30.0)] * 5) for n in range(3)]
    rates = measured_rates(others)
    assert rates.work_s(_lane("new"), rows=100) == pytest.approx(30, rel=0.05)
    assert "mostly what others take" in rates.basis(_lane("new"))
    elsewhere = _lane("new", TargetId("wiki"))
    assert rates.work_s(elsewhere, rows=100) == pytest.approx(30, rel=0.05)
    assert "on other targets" in rates.basis(elsewhere)
    assert measured_rates([]).work_s(_lane("new"), rows=100) == DEFAULT_WORK_S
    assert "is a guess" in measured_rates([]).basis(_lane("new"))
    assert rates.is_new(_lane("new"))
    assert not rates.is_new(_lane("s1"))


def test_a_little_history_is_drawn_to_what_others_take() -> None:
    """One publish of its own counts as much as the pool: the rate lies between."""
    others = [_model(f"s{n}", [(100, 10.0)] * 8) for n in range(5)]
    rates = measured_rates([*others, _model("young", [(100, 1_000.0)])])
    assert 20 < rates.work_s(_lane("young"), rows=100) < 500


def test_models_survive_their_documents() -> None:
    """What is kept of a model as JSON makes the same model."""
    model = _model("crm", [(1, 1 / 3), (2, 0.1)])
    again = LaneModel.from_document(model.source_id, model.target_id, model.to_document())
    assert again == model
