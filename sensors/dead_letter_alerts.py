"""The schedule that tells people of new dead letters, where alerts are set up."""

import dagster as dg

from resources.dagster_resources import PlatformResource
from resources.settings import Settings


@dg.op(description="Tell people of dead letters that nobody was told of.")
def send_alerts(context: dg.OpExecutionContext, platform: PlatformResource) -> None:
    """Send what is new."""
    from penstock.use_cases.alerting import alert_new_dead_letters
    from resources.alerts import AppriseAlerts

    settings = Settings.from_env()
    if not settings.alert_urls:
        context.log.info("PENSTOCK_ALERT_URLS is not set: nobody is told")
        return
    alerts = AppriseAlerts(settings.alert_urls)
    sent = alert_new_dead_letters(platform.open(), alerts, every_s=settings.alert_every_s)
    context.log.info(f"sent {sent} alerts")


@dg.job(
    name="dead_letter_alerts",
    description="Tell people of new dead letters, one message for a cause.",
    executor_def=dg.in_process_executor,
)
def dead_letter_alerts() -> None:
    """Send alerts."""
    send_alerts()


def alert_schedules() -> list[dg.ScheduleDefinition]:
    """Return the schedule, every five minutes, if there is anybody to be told."""
    if not Settings.from_env().alert_urls:
        return []
    schedule = dg.ScheduleDefinition(
        name="dead_letter_alerts_schedule",
        job=dead_letter_alerts,
        cron_schedule="*/5 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return [schedule]
