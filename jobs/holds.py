"""The jobs that decide about what guards hold, for operators who work in Dagster's pages.

They only record the decision: the batch is then in the queue, and the sensor wakes a publish run for it as for any
other, so that an approved release is visible where every publish is.
"""

import dagster as dg
from pydantic import Field

from penstock.identity import ids
from resources.dagster_resources import PlatformResource


class DecisionConfig(dg.Config):
    """Which plan is decided about, by whom and why."""

    batch_id: str = Field(description="The batch, e.g. crm@2026-11-20T19-24-14.000000Z.")
    target_id: str = Field(default="registry", description="The target.")
    plan_digest: str = Field(
        description="The plan, as the check of the guard and `penstock holds show` write it; 8 digits do."
    )
    approver: str = Field(description="Who decides.")
    reason: str = Field(description="Why.")


class ApprovalConfig(DecisionConfig):
    """The same, for an approval."""

    expires_hours: float = Field(default=24.0, description="How long the approval counts.")


@dg.op(
    description="Approve what guards hold of a plan; the sensor then wakes a publish run that executes it."
)
def approve_held(
    context: dg.OpExecutionContext, config: ApprovalConfig, platform: PlatformResource
) -> None:
    """Approve one hold."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.holds import approve_hold

    approval = approve_hold(
        platform.open(),
        ids.batch_id(*ids.split_batch_id(config.batch_id)),
        ids.target_id(config.target_id),
        config.plan_digest,
        by=By(actor=config.approver, reason=config.reason),
        expires_in_s=config.expires_hours * 3600,
    )
    context.log.info(f"plan {approval.plan_digest} is approved until {approval.expires_at}")


@dg.op(description="Decide that what guards hold of a plan is not wanted.")
def reject_held(
    context: dg.OpExecutionContext, config: DecisionConfig, platform: PlatformResource
) -> None:
    """Reject one hold."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.holds import reject_hold

    decision = reject_hold(
        platform.open(),
        ids.batch_id(*ids.split_batch_id(config.batch_id)),
        ids.target_id(config.target_id),
        config.plan_digest,
        by=By(actor=config.approver, reason=config.reason),
    )
    context.log.info(f"plan {decision.plan_digest} is rejected")


@dg.job(
    name="approve_hold",
    description="Approve what guards hold of one plan.",
    executor_def=dg.in_process_executor,
)
def approve_hold() -> None:
    """Approve one hold."""
    approve_held()


@dg.job(
    name="reject_hold",
    description="Reject what guards hold of one plan.",
    executor_def=dg.in_process_executor,
)
def reject_hold() -> None:
    """Reject one hold."""
    reject_held()
