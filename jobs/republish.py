"""The republish job: take a target to any batch that is still kept, back or forward."""

import dagster as dg
from pydantic import Field

from jobs.publish import log_report
from penstock.identity import ids
from resources.dagster_resources import PlatformResource


class RepublishConfig(dg.Config):
    """What to publish again."""

    batch_id: str = Field(
        description="The batch, e.g. sql_catalog@2026-11-20T19-24-14.000000Z; it goes to all its targets."
    )
    actor: str = Field(description="Who asks for it.")
    reason: str = Field(description="Why; it is kept in the audit log.")


@dg.op(description="Plan the batch against what its targets hold now, and execute the plans.")
def publish_again(
    context: dg.OpExecutionContext, config: RepublishConfig, platform: PlatformResource
) -> None:
    """Publish one batch again."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.publish_batch import publish_batch

    reports = publish_batch(
        platform.open(),
        ids.batch_id(*ids.split_batch_id(config.batch_id)),
        context.run_id,
        by=By(actor=config.actor, reason=config.reason),
        run_id=context.run_id,
        on_report=lambda report: log_report(context, report),
    )
    for report in reports:
        if report.state.status != "COMPLETE":
            raise dg.Failure(description=f"{config.batch_id} is {report.state.status}")


@dg.job(
    name="republish",
    description="Publish a batch again, even if newer ones have been published since.",
    executor_def=dg.in_process_executor,
)
def republish() -> None:
    """Republish one batch."""
    publish_again()
