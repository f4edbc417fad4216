"""Schedules: a source with a cadence is extracted and landed by it."""

import dagster as dg

from penstock.batch.source import SourceSpec
from penstock.errors import PenstockError
from penstock.identity import ids
from platform_assets.assets import extract_key
from platform_assets.checks import batch_key
from platform_assets.partitions import add_partitions, partition_key

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def cron_of(spec: SourceSpec) -> str:
    """Return a source's cadence as cron; raises for one that cron cannot say."""
    cadence = spec.cadence_s or 0
    if cadence == _DAY:
        return "0 0 * * *"
    if cadence % _HOUR == 0 and cadence and _DAY % cadence == 0:
        return f"0 */{cadence // _HOUR} * * *"
    if cadence % _MINUTE == 0 and cadence and _HOUR % cadence == 0:
        return f"*/{cadence // _MINUTE} * * * *"
    raise PenstockError(
        f"source {spec.source_id!r} has cadence_s={cadence}: use whole minutes that divide an hour, whole hours "
        "that divide a day, or a day"
    )


def schedule_of(spec: SourceSpec) -> dg.ScheduleDefinition:
    """Return the schedule that extracts a source and lands its batch, under the moment it was due."""

    @dg.schedule(
        name=f"{spec.source_id}_cadence",
        cron_schedule=cron_of(spec),
        target=dg.AssetSelection.assets(extract_key(spec), batch_key(spec.source_id)),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        execution_timezone="UTC",
        description=f"Extracts {spec.source_id} and lands its batch every {spec.cadence_s} s.",
    )
    def cadence(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        batch = ids.batch_id(spec.source_id, context.scheduled_execution_time)
        add_partitions(context.instance, [batch])
        return dg.RunRequest(
            partition_key=partition_key(batch),
            tags={"penstock/batch": batch, "penstock/source": spec.source_id},
        )

    return cadence
