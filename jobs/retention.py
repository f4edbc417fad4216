"""The retention job, and the schedule that runs it each night."""

from datetime import timedelta

import dagster as dg

from penstock.errors import InvalidIdentifier
from penstock.identity import ids
from platform_assets.partitions import dynamic_name
from resources.dagster_resources import PlatformResource

ACTOR = "penstock"


@dg.op(description="Delete batches, plans and snapshots that the policy no longer keeps.")
def let_go(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
    """Let old batches go, and their partitions with them."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.retention import retain

    opened = platform.open()
    done = retain(opened, by=By(actor=ACTOR, reason="the retention policy"))
    context.log.info(
        f"gone: {len(done.batches)} batches, {done.objects} objects, {done.size_bytes} bytes; kept: {done.kept}"
    )
    before = opened.clock.now() - timedelta(days=opened.retention_policy.keep_days)
    for spec in opened.control.list_sources():
        name = dynamic_name(spec.source_id)
        for key in context.instance.get_dynamic_partitions(name):
            try:
                timestamp = ids.timestamp_from_text(key)
            except InvalidIdentifier:
                continue
            batch = ids.batch_id(spec.source_id, timestamp)
            if timestamp < before and not opened.control.known_batches([batch]):
                context.instance.delete_dynamic_partition(name, key)


@dg.job(
    name="retention",
    description="Delete what is older than the retention policy keeps, and what nothing live needs.",
    executor_def=dg.in_process_executor,
)
def retention() -> None:
    """Let old batches go."""
    let_go()


retention_schedule = dg.ScheduleDefinition(
    name="retention_schedule",
    job=retention,
    cron_schedule="17 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
