"""Assets: three per source, ``<source>/extract`` -> ``<source>/batch`` -> ``<source>/published``."""

import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from penstock.batch.source import SourceDefinition, SourceSpec
from penstock.identity import ids
from penstock.publish.state import PublishStatus
from penstock.use_cases.reports import ExtractReport, LandReport, PublishReport
from platform_assets.checks import (
    batch_check_specs,
    batch_key,
    evaluations,
    failure_of,
    published_key,
    scopes_result,
)
from platform_assets.partitions import batch_of, partition_key, partitions_of
from resources.dagster_resources import PlatformResource, trace_of

CODE_VERSION = "1"
ACTOR = "dagster"
"""Who publishes a partition again, by the audit log: Dagster does not say who has materialized it."""


def source_assets(definition: SourceDefinition) -> list[dg.AssetsDefinition]:
    """Return the assets of one declared source."""
    return [_extract(definition), _batch(definition), _published(definition.spec)]


def extract_key(spec: SourceSpec) -> dg.AssetKey:
    """Return the key of a source's extract asset."""
    return dg.AssetKey([spec.source_id, "extract"])


def _tags(spec: SourceSpec) -> dict[str, str]:
    return {"penstock/source": spec.source_id, "penstock/tenant": spec.tenant_id}


def _extract(definition: SourceDefinition) -> dg.AssetsDefinition:
    spec = definition.spec

    @dg.asset(
        key=extract_key(spec),
        description=f"What {spec.source_id} held at a moment, as it was extracted. {spec.description}",
        kinds={"python", "arrow"},
        partitions_def=partitions_of(spec.source_id),
        group_name=spec.source_id,
        code_version=CODE_VERSION,
        tags=_tags(spec),
    )
    def extract(
        context: dg.AssetExecutionContext, platform: PlatformResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster looks for the bare class
        from penstock.use_cases.extract_source import extract_source

        batch = batch_of(context.partition_key)
        _, timestamp = ids.split_batch_id(batch)
        of = {"run_id": context.run.run_id, "trace_parent": trace_of(context.run.tags)}
        report = extract_source(platform.open(), definition, timestamp, **of)
        return dg.MaterializeResult(metadata=extract_metadata(report))

    return extract


def _batch(definition: SourceDefinition) -> dg.AssetsDefinition:
    spec = definition.spec

    @dg.asset(
        key=batch_key(spec.source_id),
        deps=[extract_key(spec)],
        description="The extract, transformed, hashed and indexed: an immutable batch in the object store.",
        kinds={"s3", "parquet"},
        check_specs=batch_check_specs(spec.source_id),
        partitions_def=partitions_of(spec.source_id),
        group_name=spec.source_id,
        code_version=CODE_VERSION,
        tags=_tags(spec),
    )
    def batch(
        context: dg.AssetExecutionContext, platform: PlatformResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster looks for the bare class
        from penstock.use_cases.land_batch import land_batch

        _, timestamp = ids.split_batch_id(batch_of(context.partition_key))
        of = {"run_id": context.run.run_id, "trace_parent": trace_of(context.run.tags)}
        report = land_batch(platform.open(), definition, timestamp, **of)
        return dg.MaterializeResult(
            metadata=batch_metadata(report), check_results=[scopes_result(report.manifest)]
        )

    return batch


def _published(spec: SourceSpec) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        # Backfill policies are marked as beta; without one a backfill would be a run for every batch.
        warnings.simplefilter("ignore", dg.BetaWarning)
        policy = dg.BackfillPolicy.single_run()

        @dg.asset(
            key=published_key(spec.source_id),
            deps=[batch_key(spec.source_id)],
            description="The batch, as its targets hold it. Materializing a published partition publishes it again.",
            kinds={"sql"},
            output_required=False,
            backfill_policy=policy,
            freshness_policy=_freshness(spec),
            partitions_def=partitions_of(spec.source_id),
            group_name=spec.source_id,
            code_version=CODE_VERSION,
            tags=_tags(spec),
        )
        def published(
            context: dg.AssetExecutionContext, platform: PlatformResource
        ) -> Iterator[Any]:
            from penstock.use_cases.acts import By
            from penstock.use_cases.publish_batch import publish_batch

            asked = f"its published partition was materialized in run {context.run.run_id}"

            def log(report: PublishReport) -> None:
                for event in published_events(report):
                    context.log_event(event)

            reports = [
                report
                for key in context.partition_keys
                for report in publish_batch(
                    platform.open(),
                    batch_of(key),
                    context.run.run_id,
                    by=By(actor=ACTOR, reason=asked),
                    run_id=context.run.run_id,
                    on_report=log,
                )
            ]
            failed = [
                failure_of(r.state) for r in reports if r.state.status is not PublishStatus.COMPLETE
            ]
            if failed:
                raise dg.Failure(description="; ".join(failed)[:4000])
            # What was published is logged above, per partition; Dagster's own output would repeat it without counts.
            yield from ()

    return published


def _freshness(spec: SourceSpec) -> dg.FreshnessPolicy | None:
    if spec.sla_s is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=spec.sla_s))


def extract_metadata(report: ExtractReport) -> dict[str, Any]:
    """Describe an extract."""
    return {
        "rows": sum(report.rows.values()),
        "rows by type": dg.MetadataValue.json(
            {f"{kind}/{name}": n for (kind, name), n in sorted(report.rows.items())}
        ),
        "failed scopes": dg.MetadataValue.json(list(report.failed_scopes)),
        "path": report.path,
        "already there": report.already_there,
        "duration (ms)": report.duration_ms,
    }


def batch_metadata(report: LandReport) -> dict[str, Any]:
    """Describe a batch."""
    manifest = report.manifest
    return {
        "entities": manifest.entities.rows,
        "relationships": manifest.relationships.rows,
        "mode": str(manifest.mode),
        "path": dg.MetadataValue.path(report.path),
        "size (bytes)": report.size_bytes,
        "already landed": report.already_landed,
        "duration (ms)": report.duration_ms,
        "hashing (ms)": report.hashing_ms,
    }


def published_metadata(report: PublishReport) -> dict[str, Any]:
    """Describe a publish: what took effect, or why nothing did."""
    state = report.state
    about = {
        "status": str(state.status),
        "target": state.target_id,
        "plan": state.execution_plan_path or "",
        "plan digest": state.plan_digest or "",
    }
    if state.status is not PublishStatus.COMPLETE:
        return {"error": failure_of(state), **about}
    return {
        **state.metrics.model_dump(),
        **about,
        "exceptions": state.exceptions,
        "operations": report.operations,
        "already applied": report.already_applied,
        "merged with edits": report.merged,
        "conflicts with edits": report.conflicts,
        "planning (ms)": report.plan_ms,
        "snapshot": state.state_snapshot_path or "",
        "ledger": _ledger_table(report),
    }


_LEDGER_COLUMNS = (
    "extracted",
    "inferred_deletes",
    "created",
    "updated",
    "deleted",
    "unchanged",
    "filtered",
    "held",
    "blocked",
    "superseded",
    "dead_lettered",
)


def _ledger_table(report: PublishReport) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "kind": str(row.kind),
                "type": row.type_name,
                **{name: getattr(row, name) for name in _LEDGER_COLUMNS},
            }
        )
        for row in report.ledger
    ]
    columns = [dg.TableColumn("kind"), dg.TableColumn("type")]
    columns += [dg.TableColumn(name, "int") for name in _LEDGER_COLUMNS]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def published_events(
    report: PublishReport,
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation]:
    """Yield what one publish shows in Dagster, and its checks: a materialization only if it took effect."""
    state = report.state
    kind = (
        dg.AssetMaterialization if state.status is PublishStatus.COMPLETE else dg.AssetObservation
    )
    yield kind(
        asset_key=published_key(state.source_id),
        partition=partition_key(state.batch_id),
        metadata=published_metadata(report),
    )
    yield from evaluations(report)
