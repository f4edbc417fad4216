"""When a breach is foretold, and when it is taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.forecast.breach import is_foretold
from penstock.forecast.eta import Eta
from penstock.forecast.lane_model import Stage
from penstock.forecast.policy import ForecastPolicy
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = ForecastPolicy(breach_alert=0.9, breach_calm=0.25)


def _eta(risk: float | None, *, due_in_s: float | None = 600.0) -> Eta:
    return Eta(
        batch_id=BatchId("crm@1"),
        source_id=SourceId("crm"),
        target_id=TargetId("registry"),
        tenant_id=TenantId("acme"),
        source_timestamp=NOW,
        made_at=NOW,
        stage=Stage.QUEUED,
        place=1,
        point_s=60.0,
        p50_at=NOW,
        p90_at=NOW,
        due_at=None if due_in_s is None else NOW + timedelta(seconds=due_in_s),
        breach_probability=risk,
        explanation="",
    )


def _along(risks: list[float]) -> list[bool]:
    """Return what is foretold look by look, each knowing whether it was by the look before."""
    told: list[bool] = []
    for risk in risks:
        told.append(is_foretold(_eta(risk), POLICY, was_open=bool(told) and told[-1]))
    return told


def test_a_breach_is_foretold_until_it_is_unlikely() -> None:
    """It takes nine in ten to be foretold; what is stays so while it falls, down to one in four."""
    assert _along([0.89, 0.9, 0.5, 0.25, 0.24, 0.5, 0.89, 1.0]) == [
        *(False, True, True, True),
        *(False, False, False, True),
    ]


def test_nothing_is_foretold_of_what_is_due_or_has_no_sla() -> None:
    """A batch that is due is late or not; one without an SLA is never late."""
    assert not is_foretold(_eta(1.0, due_in_s=0.0), POLICY, was_open=True)
    assert not is_foretold(_eta(1.0, due_in_s=-1.0), POLICY, was_open=True)
    assert not is_foretold(_eta(None), POLICY, was_open=True)
    assert not is_foretold(_eta(1.0, due_in_s=None), POLICY, was_open=False)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_an_alarm_does_not_flap(risks: list[float]) -> None:
    """Between the two limits what was foretold stays as it was: every change has crossed the whole of it."""
    told = [False, *_along(risks)]
    for before, after, risk in zip(told, told[1:], risks, strict=False):
        if before != after:
            assert risk >= POLICY.breach_alert if after else risk < POLICY.breach_calm


@pytest.mark.parametrize("was_open", [True, False])
def test_a_calm_above_the_alert_does_not_keep_an_alarm_away(was_open: bool) -> None:
    """Configured the wrong way round, what is foretold is not taken back at the same probability."""
    policy = ForecastPolicy(breach_alert=0.5, breach_calm=0.8)
    assert is_foretold(_eta(0.6), policy, was_open=was_open)
