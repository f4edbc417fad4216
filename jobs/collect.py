"""The collect job: extract sources and land their batches now, outside any schedule.

``python -m jobs.collect SOURCE...`` runs it in this process, as a run of the instance at ``DAGSTER_HOME``, and within
the trace that the environment variable ``TRACEPARENT`` names, if it names one.
"""

import os
import sys

import dagster as dg
from pydantic import Field

from penstock.batch.source import SourceDefinition
from penstock.errors import NotFound
from penstock.identity import ids
from penstock.identity.trace import read_trace_parent
from penstock.use_cases.reports import ExtractReport, LandReport
from platform_assets.assets import batch_metadata, extract_key, extract_metadata
from platform_assets.checks import batch_key, scopes_result
from platform_assets.partitions import add_partitions, partition_key
from platform_assets.sources import declared_sources
from resources.dagster_resources import (
    TRACE_TAG,
    PlatformResource,
    platform_resource,
    trace_of,
)
from resources.settings import Settings


class CollectConfig(dg.Config):
    """What to collect."""

    sources: list[str] = Field(default=[], description="Source ids; all declared ones if empty.")


def chosen(names: list[str]) -> list[SourceDefinition]:
    """Return the declared sources of these ids; raises ``NotFound`` for any other."""
    declared = {definition.spec.source_id: definition for definition in declared_sources()}
    for name in names:
        if name not in declared:
            raise NotFound(f"source {name!r} is not declared; declared are: {', '.join(declared)}")
    return [d for name, d in declared.items() if not names or name in names]


@dg.op(description="Extract each source and land its batch, under the present moment.")
def extract_and_land(
    context: dg.OpExecutionContext, config: CollectConfig, platform: PlatformResource
) -> None:
    """Collect sources one after another; one that fails does not keep the others from landing."""
    failed = []
    for definition in chosen(config.sources):
        try:
            _collect(context, definition, platform)
        except Exception as error:
            context.log.exception(f"{definition.spec.source_id} could not be collected")
            failed.append(f"{definition.spec.source_id}: {error}")
    if failed:
        raise dg.Failure(description="; ".join(failed)[:4000])


def _collect(
    context: dg.OpExecutionContext, definition: SourceDefinition, resource: PlatformResource
) -> None:
    from penstock.use_cases.extract_source import extract_source
    from penstock.use_cases.land_batch import land_batch

    platform, spec = resource.open(), definition.spec
    now = platform.clock.now()
    add_partitions(context.instance, [ids.batch_id(spec.source_id, now)])
    of = {"run_id": context.run_id, "trace_parent": trace_of(context.run.tags)}
    log_extracted(context, definition, extract_source(platform, definition, now, **of))
    log_landed(context, definition, land_batch(platform, definition, now, **of))


def log_extracted(
    context: dg.OpExecutionContext, definition: SourceDefinition, extracted: ExtractReport
) -> None:
    """Show an extract in Dagster: the materialization of its partition."""
    context.log_event(
        dg.AssetMaterialization(
            asset_key=extract_key(definition.spec),
            partition=partition_key(extracted.batch_id),
            metadata=extract_metadata(extracted),
        )
    )


def log_landed(
    context: dg.OpExecutionContext, definition: SourceDefinition, landed: LandReport
) -> None:
    """Show a landed batch in Dagster: the materialization of its partition, and the check of its scopes."""
    source_id = definition.spec.source_id
    partition = partition_key(landed.manifest.batch_id)
    context.log_event(
        dg.AssetMaterialization(
            asset_key=batch_key(source_id),
            partition=partition,
            metadata=batch_metadata(landed),
        )
    )
    verdict = scopes_result(landed.manifest)
    context.log_event(
        dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # it takes evaluations; its annotation lags
            asset_key=batch_key(source_id),
            check_name=verdict.check_name or "",
            passed=verdict.passed,
            description=verdict.description,
            metadata=verdict.metadata,
            severity=verdict.severity,
            partition=str(partition),
        )
    )


@dg.job(
    name="collect",
    description="Extract sources and land their batches now; the sensor publishes them.",
    executor_def=dg.in_process_executor,
)
def collect() -> None:
    """Collect sources."""
    extract_and_land()


def main(names: list[str]) -> int:
    """Run the job in this process; returns the exit status."""
    chosen(names)
    config = {"ops": {"extract_and_land": {"config": {"sources": names}}}}
    resources = {"platform": platform_resource(Settings.from_env())}
    trace = read_trace_parent(os.environ.get("TRACEPARENT"))
    with dg.DagsterInstance.get() as instance:
        result = collect.execute_in_process(
            run_config=config,
            instance=instance,
            resources=resources,
            tags={} if trace is None else {TRACE_TAG: trace},
            raise_on_error=False,
        )
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
