"""Asset checks: what must hold of every batch, shown per partition.

Each evaluation is logged by the run that did the work. Running a check by hand evaluates it again from what the
control database recorded.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from penstock.batch.manifest import Manifest
from penstock.batch.scope import Completeness
from penstock.identity.ids import SourceId
from penstock.plan.guards import GUARD_NAMES
from penstock.plan.ledger import LedgerRow
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.reports import GuardVerdict, PublishReport
from platform_assets.partitions import batch_of, partition_key, partitions_of
from resources.dagster_resources import PlatformResource

SCOPES = "scopes_complete"
LEDGER = "ledger_balanced"
NOTHING_LEFT_OUT = "nothing_left_out"
GUARDS = (*GUARD_NAMES[:-1],)
"""A check for each guard; that of a broken guard fails by its canary."""

_DESCRIPTIONS = {
    SCOPES: "Every scope of the extract was enumerated completely.",
    LEDGER: "All that came in is accounted for: created, updated, deleted, unchanged, filtered or kept back.",
    NOTHING_LEFT_OUT: "Every planned operation took effect.",
    "delete_limit": "No type loses more rows than it may.",
    "delete_share": "No type loses more than the allowed share of its rows.",
    "delete_history": "No type loses many times what any of the source's last batches did.",
    "extract_floor": "No type came back as a fraction of what is known.",
    "empty_extract": "The extract did not come back empty.",
    "update_limit": "No type changes more rows than it may.",
    "update_share": "No type changes more than the allowed share of its rows.",
    "update_history": "No type changes many times what any of the source's last batches did.",
    "protected": "No protected entity would be deleted.",
}


def batch_key(source: SourceId) -> dg.AssetKey:
    """Return the key of a source's batch asset."""
    return dg.AssetKey([source, "batch"])


def published_key(source: SourceId) -> dg.AssetKey:
    """Return the key of a source's published asset."""
    return dg.AssetKey([source, "published"])


def batch_check_specs(source: SourceId) -> list[dg.AssetCheckSpec]:
    """Return what is checked of a batch as it lands."""
    return [_spec(SCOPES, batch_key(source), source)]


def published_check_specs(source: SourceId) -> list[dg.AssetCheckSpec]:
    """Return what is checked of a batch as it is published."""
    return [
        _spec(name, published_key(source), source) for name in (LEDGER, NOTHING_LEFT_OUT, *GUARDS)
    ]


def _spec(name: str, asset: dg.AssetKey, source: SourceId) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Checks by partition are marked as a preview; without them a check would show the last batch alone.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name,
            asset=asset,
            description=_DESCRIPTIONS[name],
            partitions_def=partitions_of(source),
        )


def scopes_result(manifest: Manifest) -> dg.AssetCheckResult:
    """Judge a batch's scopes; an incomplete one is a warning, since it only keeps deletes from being planned."""
    bad = [s for s in manifest.scopes if s.completeness is not Completeness.COMPLETE]
    some = "; ".join(
        f"{s.type_name} under {s.key_prefix or '(all)'} is {s.completeness}: {s.reason or ''}"
        for s in bad[:10]
    )
    return dg.AssetCheckResult(
        check_name=SCOPES,
        asset_key=batch_key(manifest.source_id),
        passed=not bad,
        severity=dg.AssetCheckSeverity.WARN,
        description=some or "all scopes are complete",
        metadata={"scopes": len(manifest.scopes), "incomplete": len(bad)},
    )


def evaluations(report: PublishReport) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the evaluations of one publish, for its partition."""
    asset = published_key(report.state.source_id)
    partition = str(partition_key(report.state.batch_id))
    for name, passed, description, metadata in _judged(report):
        yield dg.AssetCheckEvaluation(
            asset_key=asset,
            check_name=name,
            passed=passed,
            description=description,
            metadata={key: _shown(value) for key, value in metadata.items()},
            severity=dg.AssetCheckSeverity.WARN if name in GUARDS else dg.AssetCheckSeverity.ERROR,
            partition=partition,
        )


Metadata = dict[str, int | str]


def _shown(value: int | str) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.text(value)


def _judged(report: PublishReport) -> Iterator[tuple[str, bool, str, Metadata]]:
    if report.state.status is PublishStatus.FAILED:
        yield NOTHING_LEFT_OUT, False, failure_of(report.state), {}
    if report.state.status is not PublishStatus.COMPLETE:
        return
    yield (LEDGER, *ledger_verdict(report.ledger))
    left_out = report.state.exceptions
    said = f"{left_out:,} operations did not take effect: `penstock publish-state {report.state.batch_id}`"
    yield (
        NOTHING_LEFT_OUT,
        left_out == 0,
        said if left_out else "every planned operation took effect",
        {
            "exceptions": left_out,
            "held": report.state.held,
            "blocked": report.state.blocked,
            "rejected": report.state.rejected,
        },
    )
    for guard in report.guards:
        if guard.guard in GUARDS:
            works = guard.canary != "passed"
            said = guard.message if works else f"its canary passed: it is broken. {guard.message}"
            yield guard.guard, guard.passed and works, said, _held(guard)


def failure_of(state: PublishState) -> str:
    """Say in a line where a batch stands that did not get through, and why."""
    details = state.failure_details
    why = f": {details.error_code}: {details.error_message}" if details else ""
    return f"{state.batch_id} to {state.target_id} is {state.status}{why}"


def _held(guard: GuardVerdict) -> Metadata:
    shown: Metadata = {"held_operations": guard.held_operations, "canary": guard.canary}
    for hold in guard.holds:
        behind = [
            f"{n:,} {what}"
            for what, n in (
                ("entities below", hold.entities_behind),
                ("relationships", hold.relationships_behind),
            )
            if n
        ]
        sample = ", ".join(hold.sample)
        shown[f"{hold.action} {hold.type_name}"] = (
            f"{hold.operations:,} operations, behind them {' and '.join(behind) or 'nothing'}: {sample}"
        )
    return shown


def ledger_verdict(ledger: Iterable[LedgerRow]) -> tuple[bool, str, Metadata]:
    """Say whether every row of a ledger balances, and which does not."""
    rows = list(ledger)
    off = [row for row in rows if not row.balanced]
    totals: Metadata = {
        "came_in": sum(row.came_in for row in rows),
        "accounted_for": sum(row.accounted_for for row in rows),
        "lost": sum(row.lost for row in rows),
    }
    said = "; ".join(
        f"{row.type_name}: {row.came_in} came in and {row.accounted_for} are accounted for"
        + (f", {row.lost} of them lost by the target" if row.lost else "")
        for row in off
    )
    return not off, said or "all that came in is accounted for", totals


def published_checks(source: SourceId) -> dg.AssetChecksDefinition:
    """Return the checks of a source's published asset; run by hand, they judge what is recorded of a batch."""
    specs = published_check_specs(source)

    @dg.multi_asset_check(specs=specs, name=f"{source}_published_checks", can_subset=True)
    def published_checks(
        context: dg.AssetCheckExecutionContext, platform: PlatformResource
    ) -> Iterable[dg.AssetCheckResult]:
        from penstock.use_cases.publish_reports import recorded_report

        opened = platform.open()
        states = [
            state
            for key in context.partition_keys
            for state in opened.control.list_states(batch=batch_of(key))
        ]
        found = [e for s in states for e in evaluations(recorded_report(opened, s))]
        for spec in specs:
            if spec.key in context.selected_asset_check_keys:
                yield _recorded(spec, [e for e in found if e.check_name == spec.name])

    return published_checks


def _recorded(spec: dg.AssetCheckSpec, found: list[dg.AssetCheckEvaluation]) -> dg.AssetCheckResult:
    """Sum up what is recorded of a batch at all its targets: the first that failed speaks for it."""
    bad = [e for e in found if not e.passed]
    shown = (bad or found)[:1]
    return dg.AssetCheckResult(
        check_name=spec.name,
        asset_key=spec.asset_key,
        passed=bool(found) and not bad,
        severity=shown[0].severity if shown else dg.AssetCheckSeverity.WARN,
        description=shown[0].description if shown else "this batch has not been published",
        metadata=shown[0].metadata if shown else {},
    )
