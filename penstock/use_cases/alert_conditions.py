"""What is worth an alert as things stand: each function looks at one thing and yields a condition for each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from penstock.events.alerts import EVERYBODY, AlertKind, AlertPolicy, Condition, Severity
from penstock.forecast.incidents import IncidentKind
from penstock.identity.ids import TargetId
from penstock.ports.dead_letters import LetterFilter, LetterGroup
from penstock.ports.incidents import Incidents
from penstock.ports.metrics import Sample
from penstock.publish.breaker import BreakerState, BreakerStatus
from penstock.publish.dead_letters import LetterStatus, normalised
from penstock.publish.state import PublishState
from penstock.use_cases.platform import Platform

_SAID = 300
_CRITICAL_FACTOR = 4
_MOST = 200


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at how things stand."""

    platform: Platform
    now: datetime
    policy: AlertPolicy
    samples: Sequence[Sample]
    """Gauges, as they were read for this look."""
    tenants: dict[str, str]
    """Of each source that is declared."""

    def tenant_of(self, source: str | None) -> str:
        """Return whose a source is; what belongs to none concerns the platform as a whole."""
        return self.tenants.get(source or "", EVERYBODY)


def queue_build_up(look: Look) -> Iterator[Condition]:
    """Lanes in which more waits, or waits longer, than the policy says is usual."""
    waiting = {_lane(s): s.value for s in look.samples if s.name == "queue_batches"}
    ages = {_lane(s): s.value for s in look.samples if s.name == "queue_oldest_age_seconds"}
    for (source, target), batches in waiting.items():
        age_s, policy = ages.get((source, target), 0.0), look.policy
        worst = max(batches / policy.queue_batches, age_s / policy.queue_age_s)
        if worst < 1:
            continue
        yield Condition(
            kind=AlertKind.QUEUE_BUILD_UP,
            key=f"{source} -> {target}",
            tenant_id=look.tenant_of(source),
            severity=Severity.CRITICAL if worst >= _CRITICAL_FACTOR else Severity.WARNING,
            title=f"{batches:,.0f} batches of {source} wait for target {target}",
            body=(
                f"The oldest has waited {_duration(age_s)}. Worth an alert are {policy.queue_batches:,} batches, or "
                f"{_duration(policy.queue_age_s)}. `penstock queue --explain` says what each waits for."
            ),
            details={"batches": batches, "oldest_age_s": age_s},
        )


def dead_letters(look: Look) -> Iterator[Condition]:
    """Open dead letters, one condition for each cause."""
    chosen = LetterFilter(status=LetterStatus.OPEN)
    for group in look.platform.control.letter_groups(chosen=chosen, limit=_MOST):
        letters = "a dead letter" if group.letters == 1 else f"{group.letters:,} dead letters"
        yield Condition(
            kind=AlertKind.DEAD_LETTERS,
            key=group.fingerprint,
            tenant_id=look.tenant_of(group.source_id),
            severity=Severity.WARNING,
            title=f"{letters}, {group.code}",
            body=(
                f"{_about(group)}: {normalised(group.message)[:_SAID]}\n"
                f"To look at them: penstock dead-letters --fingerprint {group.fingerprint}"
            ),
            details={"letters": group.letters, "code": group.code},
        )


def holds(look: Look) -> Iterator[Condition]:
    """Batches of which a guard holds something back."""
    for state in look.platform.control.list_states(held_only=True, limit=_MOST):
        yield _hold(state, look)


def _hold(state: PublishState, look: Look) -> Condition:
    return Condition(
        kind=AlertKind.HOLD,
        key=f"{state.batch_id} -> {state.target_id}",
        tenant_id=look.tenant_of(state.source_id),
        severity=Severity.WARNING,
        title=f"{state.held:,} operations of {state.source_id} are held",
        body=(
            f"A guard holds them back from target {state.target_id}, in batch {state.batch_id}; {state.blocked:,} more "
            f"depend on what did not take effect. To look at them: penstock holds show {state.batch_id}"
        ),
        details={"held": state.held, "blocked": state.blocked},
    )


def breakers(look: Look) -> Iterator[Condition]:
    """Targets that are down and left alone."""
    for target in look.platform.targets:
        breaker = look.platform.control.get_breaker(target, now=look.now)
        if breaker.status_at(look.now) is not BreakerStatus.CLOSED:
            yield _breaker(target, breaker)


def _breaker(target: TargetId, breaker: BreakerState) -> Condition:
    often = breaker.times_opened
    return Condition(
        kind=AlertKind.BREAKER,
        key=target,
        tenant_id=EVERYBODY,
        severity=Severity.CRITICAL,
        title=f"target {target} is down",
        body=(
            f"Its breaker has opened {often} {'time' if often == 1 else 'times'} in a row. It last said: "
            f"{(breaker.last_error or 'nothing')[:_SAID]}. Its batches wait; nothing is lost."
        ),
        details={"times_opened": often},
    )


_KINDS = {
    IncidentKind.SLA_BREACH: AlertKind.SLA_BREACH,
    IncidentKind.SLA_BURN: AlertKind.SLA_BREACH,
    IncidentKind.BREACH_FORECAST: AlertKind.BREACH_FORECAST,
    IncidentKind.SILENT_SOURCE: AlertKind.SILENT_SOURCE,
    IncidentKind.ANOMALY: AlertKind.ANOMALY,
    IncidentKind.NOTICE: AlertKind.INCIDENT,
}
"""A target that is down has an alert of its own, from its breaker."""


def incidents_of(incidents: Incidents) -> Callable[[Look], Iterator[Condition]]:
    """Return what looks at open incidents: breaches and their forecasts, silent sources, anomalies, notices."""

    def look_at(_look: Look) -> Iterator[Condition]:
        for incident in incidents.list_incidents(open_only=True, limit=_MOST):
            kind = _KINDS.get(incident.kind)
            if kind is not None:
                yield Condition(
                    kind=kind,
                    key=incident.incident_id,
                    tenant_id=incident.tenant_id,
                    severity=Severity(str(incident.severity)),
                    title=incident.title,
                    body=incident.explanation or "An operator opened it: `penstock incidents`.",
                    details={"incident": incident.incident_id},
                )

    return look_at


def _lane(sample: Sample) -> tuple[str, str]:
    return sample.labels["source"], sample.labels["target"]


def _about(group: LetterGroup) -> str:
    named = (
        ("source", group.source_id),
        ("target", group.target_id),
        ("type", group.type_name),
    )
    return ", ".join(f"{name} {value}" for name, value in named if value) or "of no source"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def tenants_of(platform: Platform) -> dict[str, str]:
    """Return whose each declared source is."""
    return {str(s.source_id): str(s.tenant_id) for s in platform.control.list_sources()}
