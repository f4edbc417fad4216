"""Alerts: what people are told of, to whom, and when again; decided without side effects.

A condition that holds is an alert until it has passed. It is told once, and again only if it comes back, or becomes
graver; what comes within one round makes one message for each kind and route.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from penstock.identity.digest import digest

EVERYBODY = "*"
"""The tenant of what concerns the platform as a whole."""
_ID_TAG = b"A"
_MOST_LISTED = 20


class AlertKind(StrEnum):
    """What an alert is about; each has a section in ``docs/howto/runbooks.md``."""

    QUEUE_BUILD_UP = "queue_build_up"
    """More waits to be published, or waits longer, than the policy says is usual."""
    ANOMALY = "anomaly"
    """Counts, error rates or durations of a source are out of the ordinary."""
    BREACH_FORECAST = "breach_forecast"
    """A batch will probably miss its source's SLA."""
    SLA_BREACH = "sla_breach"
    """A batch has missed its source's SLA."""
    DEAD_LETTERS = "dead_letters"
    """Something could not be published, and waits for a person."""
    HOLD = "hold"
    """A guard holds operations back until somebody decides."""
    BREAKER = "breaker"
    """A target is down and left alone."""
    SILENT_SOURCE = "silent_source"
    """A source has landed no batch for longer than its cadence allows."""
    DESTINATION = "destination"
    """A destination of events has been disabled, or is far behind."""
    WORKFLOW = "workflow"
    """A workflow has failed."""
    INCIDENT = "incident"
    """Something else that was opened as an incident."""


class Severity(StrEnum):
    """How soon somebody should look; rising."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    def reaches(self, least: Severity) -> bool:
        """Say whether it is as grave as ``least``."""
        ranks = list(Severity)
        return ranks.index(self) >= ranks.index(least)


class AlertPolicy(BaseModel):
    """From when on something is worth an alert."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    queue_batches: int = Field(default=100, ge=1)
    """Waiting batches of one source for one target."""
    queue_age_s: float = Field(default=3600.0, gt=0)
    """Seconds that the oldest of them has waited; four times as long is critical."""
    again_after_s: float = Field(default=86_400.0, gt=0)
    """What still stands is told again after so many seconds."""
    settle_s: float = Field(default=60.0, ge=0)
    """What comes back within so many seconds after it passed is the same alert, and not told again."""


class AlertRoute(BaseModel):
    """Who is told of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    urls: tuple[SecretStr, ...] = Field(min_length=1)
    """apprise URLs; they hold secrets."""
    tenants: tuple[str, ...] | None = None
    """Whose alerts; None for everybody's. ``*`` stands for what concerns the platform as a whole."""
    kinds: tuple[AlertKind, ...] | None = None
    """None for all."""
    severity: Severity = Severity.WARNING
    """The least that is told."""

    def takes(self, alert: Condition) -> bool:
        """Say whether an alert goes this way."""
        ours = self.tenants is None or alert.tenant_id in self.tenants
        meant = self.kinds is None or alert.kind in self.kinds
        return ours and meant and alert.severity.reaches(self.severity)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Something that people should know of, as it is now."""

    kind: AlertKind
    key: str
    """What it is about: a lane, a batch, a target, a fingerprint."""
    tenant_id: str
    severity: Severity
    title: str
    """One line; no attribute and no key of an entity is in it."""
    body: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alert_id(self) -> str:
        """32 hex digits that follow from what it is about."""
        parts = (self.kind, self.tenant_id, self.key)
        return digest(_ID_TAG, *(part.encode() for part in parts)).hex()


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """A condition over time."""

    condition: Condition
    first_at: datetime
    last_at: datetime
    times: int = 1
    passed_at: datetime | None = None
    told_at: datetime | None = None
    told_passed_at: datetime | None = None

    @property
    def alert_id(self) -> str:
        """The condition's."""
        return self.condition.alert_id

    def is_to_be_told(self, now: datetime, policy: AlertPolicy) -> bool:
        """Say whether people have to be told that it stands."""
        if self.passed_at is not None:
            return False
        return self.told_at is None or now - self.told_at >= timedelta(seconds=policy.again_after_s)

    @property
    def passing_is_to_be_told(self) -> bool:
        """Whether people were told that it stands, and not yet that it has passed."""
        return self.passed_at is not None and self.told_at is not None and not self.told_passed_at


def after_look(
    kept: Iterable[Alert], found: Iterable[Condition], *, now: datetime, policy: AlertPolicy
) -> list[Alert]:
    """Return the alerts that differ after a look that found these conditions.

    What is found anew begins, what is found no more has passed, what has become graver is told anew.
    """
    before = {alert.alert_id: alert for alert in kept}
    conditions = {condition.alert_id: condition for condition in found}
    after = [_seen(before.get(i), c, now, policy) for i, c in conditions.items()]
    after += [
        replace(alert, passed_at=now)
        for alert_id, alert in before.items()
        if alert_id not in conditions and alert.passed_at is None
    ]
    return [alert for alert in after if before.get(alert.alert_id) != alert]


def _seen(alert: Alert | None, condition: Condition, now: datetime, policy: AlertPolicy) -> Alert:
    if alert is None:
        return Alert(condition=condition, first_at=now, last_at=now)
    still = replace(alert, condition=condition, last_at=now)
    if alert.passed_at is not None:
        settled = (now - alert.passed_at).total_seconds() < policy.settle_s
        still = replace(still, passed_at=None)
        if not settled or alert.told_passed_at is not None:
            return replace(
                still, first_at=now, times=alert.times + 1, told_at=None, told_passed_at=None
            )
    graver = not alert.condition.severity.reaches(condition.severity)
    return replace(still, told_at=None) if graver else still


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What one route is told at once."""

    route: int
    """Its number in the configuration, from 0."""
    title: str
    body: str
    alert_ids: tuple[str, ...]


def messages_of(
    alerts: Sequence[Alert], routes: Sequence[AlertRoute], *, runbooks: str, passed: bool = False
) -> Iterator[Message]:
    """Yield one message for each route and kind, with a link to what to do."""
    for number, route in enumerate(routes):
        for kind in AlertKind:
            mine = [a for a in alerts if a.condition.kind is kind and route.takes(a.condition)]
            if mine:
                yield _message(number, kind, mine, runbooks, passed)


def _message(
    route: int, kind: AlertKind, alerts: Sequence[Alert], runbooks: str, passed: bool
) -> Message:
    gravest = max(alerts, key=lambda alert: list(Severity).index(alert.condition.severity))
    worst = "passed" if passed else str(gravest.condition.severity)
    more = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    listed = [_line(alert, passed) for alert in alerts[:_MOST_LISTED]]
    if len(alerts) > _MOST_LISTED:
        listed.append(f"... and {len(alerts) - _MOST_LISTED} more")
    return Message(
        route=route,
        title=f"Penstock [{worst}] {gravest.condition.title}{more}",
        body="\n\n".join([*listed, f"What to do: {runbooks}#{kind}"]),
        alert_ids=tuple(alert.alert_id for alert in alerts),
    )


def _line(alert: Alert, passed: bool) -> str:
    since = f"since {alert.first_at:%Y-%m-%d %H:%M} UTC"
    if passed and alert.passed_at is not None:
        since += f", passed at {alert.passed_at:%Y-%m-%d %H:%M} UTC"
    again = f", for the {alert.times}. time" if alert.times > 1 else ""
    return f"{alert.condition.title} ({since}{again})\n{alert.condition.body}"
