"""The rules that find something wrong: late batches, breaches to come, budgets, silence, dead targets, anomalies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from penstock.forecast.anomaly import MOST, Anomaly, Metric, Observation, judge
from penstock.forecast.breach import is_foretold
from penstock.forecast.eta import Eta
from penstock.forecast.incidents import Condition, Incident, IncidentKind, Severity
from penstock.forecast.lane_model import LaneId
from penstock.identity.ids import TargetId, TenantId
from penstock.ports.forecasts import LateBatch, ObservedPublish, SourceStanding
from penstock.publish.breaker import BreakerStatus
from penstock.use_cases.forecasting import Forecasting, sla_reports, source_rhythm


def conditions(
    forecasting: Forecasting,
    etas: Sequence[Eta],
    changed: Iterable[LaneId],
    known: Sequence[Incident],
    *,
    now: datetime,
) -> list[Condition]:
    """Return everything that is wrong now.

    ``changed`` are the lanes on which something has ended since the last round, ``known`` the open incidents of rules.
    """
    standings = forecasting.forecasts.standings()
    open_keys = {incident.rule_key for incident in known if incident.rule_key}
    return [
        *late(forecasting.forecasts.late_batches(now=now), now),
        *_foretold(forecasting, etas, open_keys),
        *_burning(forecasting, now),
        *_silent(forecasting, standings, now),
        *_down(forecasting, standings, now),
        *_unusual(forecasting, standings, set(changed), known),
    ]


def late(batches: Sequence[LateBatch], now: datetime) -> Iterator[Condition]:
    """Yield one condition for each lane that is later than its source promises."""
    by_lane: dict[LaneId, list[LateBatch]] = defaultdict(list)
    for batch in batches:
        by_lane[batch.source_id, batch.target_id].append(batch)
    for (source, target), late_ones in sorted(by_lane.items()):
        oldest = late_ones[0]
        due_at = oldest.source_timestamp + timedelta(seconds=oldest.sla_s)
        over_s = (now - due_at).total_seconds()
        yield Condition(
            rule_key=f"sla_breach:{source}:{target}",
            kind=IncidentKind.SLA_BREACH,
            severity=Severity.CRITICAL if over_s > oldest.sla_s else Severity.WARNING,
            tenant_id=oldest.tenant_id,
            source_id=source,
            target_id=target,
            title=f"{source} is later than it should be",
            explanation=(
                f"{len(late_ones)} batches are late for {target}; the oldest, {oldest.batch_id}, is {oldest.status} "
                f"and was due at {_text(due_at)}, {over_s / 60:,.0f} minutes ago (SLA {oldest.sla_s:,} s)"
            ),
            since=due_at,
        )


def _foretold(
    forecasting: Forecasting, etas: Sequence[Eta], open_keys: set[str]
) -> Iterator[Condition]:
    for eta in etas:
        key = f"breach_forecast:{eta.batch_id}:{eta.target_id}"
        if not is_foretold(eta, forecasting.policy, was_open=key in open_keys):
            continue
        assert eta.breach_probability is not None
        p90 = f", p90 {_text(eta.p90_at)}" if eta.p90_at else ""
        yield Condition(
            rule_key=key,
            kind=IncidentKind.BREACH_FORECAST,
            severity=Severity.WARNING,
            tenant_id=eta.tenant_id,
            source_id=eta.source_id,
            target_id=eta.target_id,
            title=f"{eta.source_id} will probably be late",
            explanation=(
                f"{eta.batch_id} is due for {eta.target_id} at {_text(eta.due_at)}; with a probability of "
                f"{100 * eta.breach_probability:.0f} % it comes later"
                f"{f' (p50 {_text(eta.p50_at)}{p90})' if eta.p50_at else ''}: {eta.explanation}"
            ),
            since=eta.made_at,
        )


def _burning(forecasting: Forecasting, now: datetime) -> Iterator[Condition]:
    for report in sla_reports(forecasting):
        if report.alert is None:
            continue
        yield Condition(
            rule_key=f"sla_burn:{report.source_id}",
            kind=IncidentKind.SLA_BURN,
            severity=Severity(report.alert.rule.severity),
            tenant_id=report.tenant_id,
            source_id=report.source_id,
            target_id=None,
            title=f"{report.source_id} is late too often",
            explanation=f"of {100 * report.objective:g} % that should come in time: {report.alert.words()}",
            since=now - timedelta(seconds=report.alert.rule.long_s),
        )


def _silent(
    forecasting: Forecasting, standings: Sequence[SourceStanding], now: datetime
) -> Iterator[Condition]:
    for standing in standings:
        rhythm = source_rhythm(forecasting, standing, now)
        if rhythm is None or not rhythm.is_silent(now):
            continue
        silent_s = (now - rhythm.last_landed_at).total_seconds()
        yield Condition(
            rule_key=f"silent_source:{rhythm.source_id}",
            kind=IncidentKind.SILENT_SOURCE,
            severity=Severity.WARNING,
            tenant_id=standing.spec.tenant_id,
            source_id=rhythm.source_id,
            target_id=None,
            title=f"{rhythm.source_id} has sent nothing since {_text(rhythm.last_landed_at)}",
            explanation=(
                f"nothing has landed for {silent_s / 60:,.0f} minutes; its cadence is {rhythm.cadence_s / 60:,.0f} "
                f"minutes, and it counts as silent since {_text(rhythm.silent_at)}"
            ),
            since=rhythm.silent_at,
        )


def _down(
    forecasting: Forecasting, standings: Sequence[SourceStanding], now: datetime
) -> Iterator[Condition]:
    tenants: dict[TargetId, set[TenantId]] = defaultdict(set)
    for standing in standings:
        for target in standing.spec.targets:
            tenants[target].add(standing.spec.tenant_id)
    for breaker in forecasting.platform.control.list_breakers():
        if breaker.status is BreakerStatus.CLOSED or breaker.opened_at is None:
            continue
        down_s = (now - breaker.opened_at).total_seconds()
        if breaker.times_opened < 2 and down_s < forecasting.policy.target_down_s:
            continue
        for tenant in sorted(tenants[breaker.target_id]):
            yield Condition(
                rule_key=f"target_down:{breaker.target_id}:{tenant}",
                kind=IncidentKind.TARGET_DOWN,
                severity=Severity.CRITICAL,
                tenant_id=tenant,
                source_id=None,
                target_id=breaker.target_id,
                title=f"Publishing to {breaker.target_id} is interrupted",
                explanation=(
                    f"the breaker of {breaker.target_id} is {breaker.status_at(now)}, opened {breaker.times_opened} "
                    f"times in a row, last at {_text(breaker.opened_at)}: {breaker.last_error}"
                ),
                since=breaker.opened_at,
            )


def _unusual(
    forecasting: Forecasting,
    standings: Sequence[SourceStanding],
    changed: set[LaneId],
    known: Sequence[Incident],
) -> Iterator[Condition]:
    """Look for anomalies on the lanes that something ended on, and where one is open."""
    open_keys = {each.rule_key for each in known if each.kind is IncidentKind.ANOMALY}
    lanes = {
        (standing.spec.source_id, target): standing.spec.tenant_id
        for standing in standings
        for target in standing.spec.targets
    }
    for lane, tenant in sorted(lanes.items()):
        keys = {metric: f"anomaly:{metric}:{lane[0]}:{lane[1]}" for metric in Metric}
        if lane not in changed and not open_keys.intersection(keys.values()):
            continue
        observed = forecasting.forecasts.observations(lane, limit=MOST)
        for metric, key in keys.items():
            found = judge(metric, series(metric, observed), was_open=key in open_keys)
            if found is not None:
                yield _anomaly(found, key, lane, tenant)


def series(metric: Metric, observed: Sequence[ObservedPublish]) -> list[Observation]:
    """Return one metric of a lane's publishes, as far as it is known."""
    match metric:
        case Metric.ROWS:
            return [
                Observation(at=each.ended_at, value=float(each.rows))
                for each in observed
                if each.rows is not None
            ]
        case Metric.ERROR_SHARE:
            return [
                Observation(
                    at=each.ended_at,
                    value=each.refused / each.operations if each.operations else 0.0,
                    of=float(each.operations),
                )
                for each in observed
            ]
        case Metric.DURATION:
            return [
                Observation(at=each.ended_at, value=each.duration_s)
                for each in observed
                if each.duration_s is not None
            ]


def _anomaly(found: Anomaly, key: str, lane: LaneId, tenant: TenantId) -> Condition:
    return Condition(
        rule_key=key,
        kind=IncidentKind.ANOMALY,
        severity=Severity.WARNING,
        tenant_id=tenant,
        source_id=lane[0],
        target_id=lane[1],
        title=f"{lane[0]}: unusual {str(found.metric).replace('_', ' ')}",
        explanation=found.words(),
        since=found.since,
    )


def _text(moment: datetime | None) -> str:
    return "unknown" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
