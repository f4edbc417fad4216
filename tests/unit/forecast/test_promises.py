"""SLAs, rhythms and the rules of incidents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from penstock.forecast.incidents import (
    CALM_FOR_S,
    Condition,
    Incident,
    IncidentKind,
    Phase,
    Severity,
    decide,
)
from penstock.forecast.rhythm import rhythm_of
from penstock.forecast.sla import DAY_S, HOUR_S, Tally, sla_report
from penstock.identity.ids import SourceId, TenantId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CRM, ACME = SourceId("crm"), TenantId("acme")


def _report(**late: int) -> str | None:
    """Judge ten batches an hour, of which so many were late in each window."""
    spans = {"h1": HOUR_S, "h6": 6 * HOUR_S, "d1": DAY_S, "d3": 3 * DAY_S}
    tallies = {
        span: Tally(due=10 * span // HOUR_S, late=late.get(name, 0)) for name, span in spans.items()
    }
    alert = sla_report(CRM, ACME, 600, tallies, objective=0.95).alert
    return None if alert is None else f"{alert.rule.severity}: {alert.words()}"


def test_a_burn_needs_a_long_and_a_short_window() -> None:
    """The budget burns if both windows say so: what is over, or only just begun, is no alert."""
    assert _report(h1=5, h6=5) is None
    assert _report(h6=30) is None
    assert _report() is None
    fast = _report(h1=5, h6=20)
    assert fast == (
        "critical: the error budget burns 6.7 times as fast as allowed over 6 h and 10.0 times over 1 h (limit 6)"
    )
    slow = _report(h6=9, d3=80)
    assert slow is not None
    assert slow.startswith("warning: the error budget burns 2.2 times as fast as allowed over 3 d")


def test_attainment_and_budget_are_shares() -> None:
    """Of 200 batches 5 late: 97.5 % in time, half of a budget of 5 % left; of none nothing is said."""
    tally = Tally(due=200, late=5)
    assert tally.attainment == 0.975
    assert tally.budget_left(0.95) == pytest.approx(0.5)
    assert (Tally().attainment, Tally().budget_left(0.95)) == (None, 1.0)


def test_silence_is_what_the_source_never_did() -> None:
    """A source that is punctual is silent after one and a half cadences, one that is not after its own longest gaps."""
    punctual = rhythm_of(CRM, 600, [600.0] * 20, last=NOW, now=NOW)
    assert punctual.silent_at == NOW + timedelta(seconds=900)
    assert not punctual.is_silent(NOW + timedelta(seconds=900))
    assert punctual.is_silent(NOW + timedelta(seconds=901))
    lax = rhythm_of(CRM, 600, [600.0, 1300.0] * 20, last=NOW, now=NOW)
    assert lax.silent_at == NOW + timedelta(seconds=1430)
    wild = rhythm_of(CRM, 600, [600.0, 90_000.0] * 20, last=NOW, now=NOW)
    assert wild.silent_at == NOW + timedelta(seconds=1800)
    unknown = rhythm_of(CRM, 600, [], last=NOW, now=NOW)
    assert unknown.silent_at > NOW + timedelta(seconds=1200)


def test_the_probability_of_silence_grows_as_time_goes_by() -> None:
    """The longer nothing lands, the more likely the cadence is missed; once it is silent, it is certain."""
    gaps = [600.0] * 30 + [800.0] * 10 + [1700.0] * 2
    at = [NOW + timedelta(seconds=s) for s in (0, 700, 1000, 1900)]
    risks = [rhythm_of(CRM, 600, gaps, last=NOW, now=now).missed_probability for now in at]
    assert risks == sorted(risks)
    assert risks[0] < 0.1
    assert risks[-1] == 1.0


def _condition(key: str) -> Condition:
    return Condition(
        rule_key=key,
        kind=IncidentKind.SLA_BREACH,
        severity=Severity.WARNING,
        tenant_id=ACME,
        source_id=CRM,
        target_id=None,
        title="crm is late",
        explanation="",
        since=NOW,
    )


def _incident(key: str) -> Incident:
    return Incident(
        incident_id="0" * 32,
        tenant_id=ACME,
        kind=IncidentKind.SLA_BREACH,
        severity=Severity.WARNING,
        phase=Phase.INVESTIGATING,
        public=True,
        source_id=CRM,
        target_id=None,
        title="crm is late",
        explanation="",
        rule_key=key,
        opened_at=NOW,
        opened_by="penstock",
        updated_at=NOW,
        seen_at=NOW,
    )


def test_incidents_do_not_flap() -> None:
    """A new trouble is opened at once, one that lasts is seen, and one that is gone resolves only after a while."""
    soon = NOW + timedelta(seconds=CALM_FOR_S - 1)
    decision = decide([_condition("new"), _condition("old")], [_incident("old")], now=soon)
    assert [each.rule_key for each in decision.open] == ["new"]
    assert [each.rule_key for _, each in decision.seen] == ["old"]
    assert decision.resolve == ()
    assert decide([], [_incident("old")], now=soon).resolve == ()
    later = NOW + timedelta(seconds=CALM_FOR_S)
    assert [i.rule_key for i in decide([], [_incident("old")], now=later).resolve] == ["old"]
    seen = replace(_incident("old"), seen_at=later)
    assert decide([], [seen], now=later).resolve == ()
