"""Alerts begin, are told once, pass, and come back, as the policy says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from penstock.events.alerts import (
    EVERYBODY,
    Alert,
    AlertKind,
    AlertPolicy,
    AlertRoute,
    Condition,
    Severity,
    after_look,
    messages_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = AlertPolicy()
DOWN = Condition(
    kind=AlertKind.BREAKER,
    key="wiki",
    tenant_id=EVERYBODY,
    severity=Severity.WARNING,
    title="target wiki is down",
    body="It said: no.",
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def look(kept: list[Alert], *found: Condition, seconds: float = 0) -> list[Alert]:
    changed = after_look(kept, found, now=at(seconds), policy=POLICY)
    return list(({a.alert_id: a for a in kept} | {a.alert_id: a for a in changed}).values())


def told(alerts: list[Alert], seconds: float = 0) -> list[Alert]:
    return [replace(alert, told_at=at(seconds)) for alert in alerts]


def test_what_is_found_is_told_once_and_again_after_a_day() -> None:
    """A condition that goes on is told when it begins, and then not before the policy's time is over."""
    (alert,) = look([], DOWN)
    assert alert.is_to_be_told(NOW, POLICY)
    (still,) = look(told([alert]), DOWN, seconds=30)
    assert not still.is_to_be_told(at(30), POLICY)
    assert still.first_at == NOW
    assert still.is_to_be_told(at(86_400), POLICY)


def test_what_is_found_no_more_has_passed_and_that_is_told_once() -> None:
    """People who were told that something stands are told that it has passed; others are not."""
    (alert,) = look([], DOWN)
    (passed,) = look(told([alert]), seconds=40)
    assert passed.passed_at == at(40)
    assert passed.passing_is_to_be_told
    (untold,) = look([alert], seconds=40)
    assert not untold.passing_is_to_be_told
    assert look([replace(passed, told_passed_at=at(41))], seconds=50)[0].passed_at == at(40)


def test_what_flaps_is_one_alert() -> None:
    """What comes back within the settling time is not told again, what comes back later is."""
    (passed,) = look(told(look([], DOWN)), seconds=40)
    (back,) = look([passed], DOWN, seconds=70)
    assert not back.is_to_be_told(at(70), POLICY)
    assert back.times == 1
    (later,) = look([passed], DOWN, seconds=140)
    assert later.is_to_be_told(at(140), POLICY)
    assert (later.times, later.first_at) == (2, at(140))


def test_what_becomes_graver_is_told_anew() -> None:
    """A warning that becomes critical is told again, one that becomes less grave is not."""
    alerts = told(look([], DOWN))
    (graver,) = look(alerts, replace(DOWN, severity=Severity.CRITICAL), seconds=5)
    assert graver.is_to_be_told(at(5), POLICY)
    (less,) = look(alerts, replace(DOWN, severity=Severity.INFO), seconds=5)
    assert not less.is_to_be_told(at(5), POLICY)


def test_a_route_takes_its_tenants_kinds_and_severities() -> None:
    """Alerts go by tenant, kind and severity, and one message holds all of a kind."""
    urls = (SecretStr("json://x"),)
    routes = [
        AlertRoute(urls=urls, tenants=("a",)),
        AlertRoute(urls=urls, kinds=(AlertKind.BREAKER,), severity=Severity.CRITICAL),
        AlertRoute(urls=urls),
    ]
    held = replace(DOWN, kind=AlertKind.HOLD, tenant_id="a", key="x", title="3 are held")
    other = replace(held, tenant_id="b", key="y")
    alerts = look([], DOWN, held, other)
    messages = list(messages_of(alerts, routes, runbooks="https://x/runbooks"))
    assert [(m.route, len(m.alert_ids)) for m in messages] == [(0, 1), (2, 2), (2, 1)]
    assert messages[1].title == "Penstock [warning] 3 are held and 1 more"
    assert messages[1].body.endswith("What to do: https://x/runbooks#hold")


def test_a_long_list_is_cut_and_says_so() -> None:
    """A message lists twenty alerts and counts the rest."""
    found = [replace(DOWN, key=str(n)) for n in range(23)]
    route = AlertRoute(urls=(SecretStr("json://x"),))
    (message,) = messages_of(look([], *found), [route], runbooks="r")
    assert "... and 3 more" in message.body
    assert len(message.alert_ids) == 23
