"""The drift audit: a look at every target, some rows at a time, four times an hour."""

import dagster as dg

from resources.dagster_resources import PlatformResource
from resources.settings import Settings


@dg.op(description="Read targets back, hold them against what was published, and ask for repairs.")
def look_for_drift(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
    """Audit every source and target that is due."""
    from penstock.use_cases.drift_audit import audit_all

    settings = Settings.from_env()
    repair = settings.drift_repair == "plan"
    for report in audit_all(platform.open(), period_s=settings.drift_period_s, repair=repair):
        extra = f"{report.extra} that nobody published"
        if report.listed is None:
            extra = "and it cannot list what it holds"
        said = (
            f"{report.source_id} at {report.target_id}: {report.checked} rows, {report.missing} missing, "
            f"{report.differing} differing, {report.left} left to people, {extra}"
        )
        if report.trouble:
            context.log.warning(f"{report.source_id} at {report.target_id}: {report.trouble}")
            continue
        found = report.missing + report.differing + report.extra
        (context.log.warning if found else context.log.info)(said)


@dg.job(
    name="drift_audit",
    description="Read targets back in rotation and repair what drifted.",
    executor_def=dg.in_process_executor,
)
def drift_audit() -> None:
    """Look for drift."""
    look_for_drift()


drift_schedule = dg.ScheduleDefinition(
    name="drift_audit_schedule",
    job=drift_audit,
    cron_schedule="*/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
