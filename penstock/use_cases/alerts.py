"""Alerts: looking at how things stand, keeping the book, and telling people what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from penstock.events.alerts import (
    Alert,
    AlertPolicy,
    AlertRoute,
    Condition,
    after_look,
    messages_of,
)
from penstock.ports.alert_book import AlertBook
from penstock.ports.alerts import Alerts
from penstock.ports.metrics import Metrics
from penstock.use_cases import alert_conditions
from penstock.use_cases.alert_conditions import Look
from penstock.use_cases.platform import Platform

Watch = Callable[[Look], Iterable[Condition]]
WATCHES: tuple[Watch, ...] = (
    alert_conditions.queue_build_up,
    alert_conditions.dead_letters,
    alert_conditions.holds,
    alert_conditions.breakers,
)


@dataclass(frozen=True, kw_only=True)
class AlertDesk:
    """What alerts need beside the platform."""

    book: AlertBook
    metrics: Metrics
    routes: Sequence[AlertRoute]
    senders: Sequence[Alerts]
    """One for each route."""
    runbooks: str
    """Where the runbooks are: an address, to which ``#<kind>`` is added."""
    policy: AlertPolicy
    watches: Sequence[Watch] = WATCHES


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of one round."""

    standing: int
    messages: int
    failed: int
    """Messages that reached nobody; they are tried again with the next round."""


def tell_of_alerts(platform: Platform, desk: AlertDesk) -> Told:
    """Look at how things stand, write down what has changed, and tell people of it."""
    now = platform.clock.now()
    look = Look(
        platform=platform,
        now=now,
        policy=desk.policy,
        samples=desk.metrics.standing(now=now),
        tenants=alert_conditions.tenants_of(platform),
    )
    found = [condition for watch in desk.watches for condition in watch(look)]
    settled = now - timedelta(seconds=desk.policy.settle_s)
    kept = desk.book.list_alerts(passed_since=settled)
    changed = after_look(kept, found, now=now, policy=desk.policy)
    desk.book.write_alerts(changed)
    alerts = list(({a.alert_id: a for a in kept} | {a.alert_id: a for a in changed}).values())
    standing = [alert for alert in alerts if alert.is_to_be_told(now, desk.policy)]
    passed = [
        a
        for a in alerts
        if a.passing_is_to_be_told and a.passed_at is not None and a.passed_at <= settled
    ]
    sent, failed = _send(platform, desk, standing, passed=False)
    sent_too, failed_too = _send(platform, desk, passed, passed=True)
    return Told(
        standing=sum(alert.passed_at is None for alert in alerts),
        messages=sent + sent_too,
        failed=failed + failed_too,
    )


def _send(
    platform: Platform, desk: AlertDesk, alerts: Sequence[Alert], *, passed: bool
) -> tuple[int, int]:
    """Tell of alerts by every route that takes them; one counts as told once no route has failed with it."""
    sent, unheard = 0, set[str]()
    failed = 0
    for message in messages_of(alerts, desk.routes, runbooks=desk.runbooks, passed=passed):
        if desk.senders[message.route].send(message.title, message.body):
            sent += 1
        else:
            failed += 1
            unheard |= set(message.alert_ids)
    told = [alert.alert_id for alert in alerts if alert.alert_id not in unheard]
    if told:
        desk.book.mark_told(told, now=platform.clock.now(), passed=passed)
    return sent, failed
