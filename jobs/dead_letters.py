"""The jobs that deal with dead letters, for operators who work in Dagster's pages."""

import dagster as dg
from pydantic import Field

from platform_assets.partitions import add_partitions
from resources.dagster_resources import PlatformResource


class LettersConfig(dg.Config):
    """Which dead letters, by whom and why."""

    dead_letter_ids: list[str] = Field(
        default_factory=list, description="Ids, as `penstock dead-letters` writes them."
    )
    actor: str = Field(description="Who asks for it.")
    reason: str = Field(description="Why.")


class RequeueConfig(LettersConfig):
    """The same, or all open ones of one cause."""

    fingerprint: str = Field(
        default="", description="All open ones of this cause, in place of ids."
    )


class FixConfig(dg.Config):
    """Which dead letter to mend, and how."""

    dead_letter_id: str = Field(description="Its id.")
    patch: str = Field(description="A JSON patch (RFC 6902) of its attributes.")
    actor: str = Field(description="Who asks for it.")
    reason: str = Field(description="Why.")


@dg.op(description="Try dead letters again, with all that they blocked, as a correction.")
def try_letters_again(
    context: dg.OpExecutionContext, config: RequeueConfig, platform: PlatformResource
) -> None:
    """Requeue dead letters."""
    from penstock.ports.dead_letters import LetterFilter
    from penstock.use_cases.acts import By
    from penstock.use_cases.dead_letters import requeue_letters

    chosen = LetterFilter(fingerprint=config.fingerprint) if config.fingerprint else None
    done = requeue_letters(
        platform.open(),
        by=By(actor=config.actor, reason=config.reason),
        dead_letter_ids=config.dead_letter_ids,
        chosen=chosen,
    )
    corrections = [manifest.batch_id for manifest in done.corrections]
    add_partitions(context.instance, corrections)
    context.log.info(
        f"{done.letters} on their way again in {', '.join([*corrections, *done.batches])}; "
        f"{done.superseded} superseded and closed"
    )


@dg.op(description="Mend one dead letter by a JSON patch and try it again.")
def mend_letter(
    context: dg.OpExecutionContext, config: FixConfig, platform: PlatformResource
) -> None:
    """Fix one dead letter."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.dead_letters import fix_letter

    done = fix_letter(
        platform.open(),
        config.dead_letter_id,
        config.patch,
        by=By(actor=config.actor, reason=config.reason),
    )
    add_partitions(context.instance, [manifest.batch_id for manifest in done.corrections])
    context.log.info(f"landed as {done.corrections[0].batch_id}")


@dg.op(description="Decide that dead letters are not wanted.")
def drop_letters(
    context: dg.OpExecutionContext, config: LettersConfig, platform: PlatformResource
) -> None:
    """Discard dead letters."""
    from penstock.use_cases.acts import By
    from penstock.use_cases.dead_letters import discard_letters

    by = By(actor=config.actor, reason=config.reason)
    count = discard_letters(platform.open(), config.dead_letter_ids, by=by)
    context.log.info(f"discarded {count}")


@dg.job(
    name="requeue_dead_letters",
    description="Try dead letters again.",
    executor_def=dg.in_process_executor,
)
def requeue_letters_job() -> None:
    """Requeue dead letters."""
    try_letters_again()


@dg.job(
    name="fix_dead_letter",
    description="Mend one dead letter and try it again.",
    executor_def=dg.in_process_executor,
)
def fix_letter_job() -> None:
    """Fix one dead letter."""
    mend_letter()


@dg.job(
    name="discard_dead_letters",
    description="Decide that dead letters are not wanted.",
    executor_def=dg.in_process_executor,
)
def discard_letters_job() -> None:
    """Discard dead letters."""
    drop_letters()


DEAD_LETTER_JOBS = (requeue_letters_job, fix_letter_job, discard_letters_job)
