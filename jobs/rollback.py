"""The rollback job: take back what a batch did at a target."""

import dagster as dg
from pydantic import Field

from penstock.identity import ids
from platform_assets.partitions import add_partitions
from resources.dagster_resources import PlatformResource


class RollbackConfig(dg.Config):
    """What to take back."""

    batch_id: str = Field(description="The batch, e.g. crm@2026-11-20T19-24-14.000000Z.")
    target_id: str = Field(default="registry", description="The target.")
    actor: str = Field(description="Who asks for it.")
    reason: str = Field(description="Why.")
    take: list[str] = Field(
        default_factory=list, description="Keys to roll back although they changed since."
    )
    dry_run: bool = Field(default=False, description="Say what would be done, and do nothing.")


@dg.op(
    description="Land the inverse of a batch as a correction; the sensor then wakes a publish run for it."
)
def roll_back(
    context: dg.OpExecutionContext, config: RollbackConfig, platform: PlatformResource
) -> None:
    """Roll one batch back."""
    from penstock.use_cases.rollback import rollback as take_back

    found = take_back(
        platform.open(),
        ids.batch_id(*ids.split_batch_id(config.batch_id)),
        ids.target_id(config.target_id),
        by=config.actor,
        reason=config.reason,
        take=config.take,
        dry_run=config.dry_run,
    )
    context.log.info(
        f"{found.restored} rows restored, {found.removed} removed, {found.conflicts} conflicts left alone, "
        f"{found.taken} taken"
    )
    if found.correction is not None:
        add_partitions(context.instance, [found.correction.batch_id])
        context.log.info(f"landed as {found.correction.batch_id}")


@dg.job(
    name="rollback",
    description="Take back what a batch did at a target, as a guarded plan.",
    executor_def=dg.in_process_executor,
)
def rollback() -> None:
    """Roll one batch back."""
    roll_back()
