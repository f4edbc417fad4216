"""The jobs of an operator who works in Dagster's pages: each does one act on the queue, signed, and says what follows.

They publish nothing themselves: what they put into the queue the sensor wakes a publish run for, as for any batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from penstock.errors import PenstockError
from penstock.identity import ids
from resources.dagster_resources import PlatformResource

if TYPE_CHECKING:
    from penstock.identity.ids import BatchId, TargetId
    from penstock.use_cases.acts import By
    from penstock.use_cases.operate import Acted


class SignedConfig(dg.Config):
    """Who asks, and why."""

    actor: str = Field(description="Who asks for it.")
    reason: str = Field(description="Why; it is kept in the audit log.")

    def by(self) -> "By":
        """Return it as use cases take it."""
        from penstock.use_cases.acts import By

        return By(actor=self.actor, reason=self.reason)


class BatchConfig(SignedConfig):
    """Which batch is meant, on its way to which target."""

    batch_id: str = Field(description="The batch, e.g. crm@2026-11-20T19-24-14.000000Z.")
    target_id: str = Field(default="registry", description="The target.")

    def names(self) -> "tuple[BatchId, TargetId]":
        """Return the ids, or raise ``InvalidIdentifier``."""
        batch = ids.batch_id(*ids.split_batch_id(self.batch_id))
        return batch, ids.target_id(self.target_id)


class PriorityConfig(BatchConfig):
    """How much sooner it is to go."""

    boost: float | None = Field(
        default=None,
        description="Its boost, in points; without it, enough to go before all others.",
    )


class PauseConfig(SignedConfig):
    """What is paused or resumed."""

    scope: str = Field(description="`source` or `target`.")
    scope_id: str = Field(description="Its id.")


@contextmanager
def _refusals() -> Iterator[None]:
    """Show what Penstock refuses as the run's failure, in its own words and without a stack trace."""
    try:
        yield
    except PenstockError as error:
        raise dg.Failure(description=str(error), metadata={"code": error.code}) from None


def _tell(context: dg.OpExecutionContext, acted: "Acted") -> None:
    for state in acted.states:
        context.log.info(
            f"batch {state.batch_id} is {state.status} for target {state.target_id}, with a boost of "
            f"{state.priority_boost:g}"
        )
    for note in acted.notes:
        context.log.info(note)


@dg.op(description="Boost a waiting batch, so that it is claimed sooner.")
def prioritise_batch(
    context: dg.OpExecutionContext, config: PriorityConfig, platform: PlatformResource
) -> None:
    """Prioritise one batch."""
    from penstock.use_cases import operate

    with _refusals():
        batch, target = config.names()
        acted = operate.prioritise(
            platform.open(), batch, target, by=config.by(), boost=config.boost
        )
    _tell(context, acted)


@dg.op(description="Have nothing more claimed of a source, or for a target; what is in hand ends.")
def pause_lanes(
    context: dg.OpExecutionContext, config: PauseConfig, platform: PlatformResource
) -> None:
    """Pause one source or target."""
    from penstock.use_cases import operate

    with _refusals():
        scope = operate.scope_of(config.scope)
        operate.pause(platform.open(), scope, config.scope_id, by=config.by())
    context.log.info(f"{config.scope} {config.scope_id} is paused until somebody resumes it")


@dg.op(description="Have a paused source or target go on.")
def resume_lanes(
    context: dg.OpExecutionContext, config: PauseConfig, platform: PlatformResource
) -> None:
    """Resume one source or target."""
    from penstock.use_cases import operate

    with _refusals():
        scope = operate.scope_of(config.scope)
        operate.resume(platform.open(), scope, config.scope_id, by=config.by())
    context.log.info(f"{config.scope} {config.scope_id} goes on")


@dg.op(description="Put a FAILED batch back in the queue; the sensor then wakes a publish run.")
def requeue_batch(
    context: dg.OpExecutionContext, config: BatchConfig, platform: PlatformResource
) -> None:
    """Requeue one batch."""
    from penstock.use_cases import operate

    with _refusals():
        acted = operate.requeue(platform.open(), *config.names(), by=config.by())
    _tell(context, acted)


@dg.op(description="Take a waiting batch out of the queue.")
def cancel_batch(
    context: dg.OpExecutionContext, config: BatchConfig, platform: PlatformResource
) -> None:
    """Cancel one batch."""
    from penstock.use_cases import operate

    with _refusals():
        acted = operate.cancel(platform.open(), *config.names(), by=config.by())
    _tell(context, acted)


_IN_PROCESS = dg.in_process_executor


@dg.job(
    name="prioritise", description="Have a waiting batch claimed sooner.", executor_def=_IN_PROCESS
)
def prioritise() -> None:
    """Prioritise one batch."""
    prioritise_batch()


@dg.job(
    name="pause",
    description="Have nothing more claimed of a source, or for a target.",
    executor_def=_IN_PROCESS,
)
def pause() -> None:
    """Pause one source or target."""
    pause_lanes()


@dg.job(
    name="resume", description="Have a paused source or target go on.", executor_def=_IN_PROCESS
)
def resume() -> None:
    """Resume one source or target."""
    resume_lanes()


@dg.job(
    name="requeue", description="Put a FAILED batch back in the queue.", executor_def=_IN_PROCESS
)
def requeue() -> None:
    """Requeue one batch."""
    requeue_batch()


@dg.job(
    name="cancel", description="Take a waiting batch out of the queue.", executor_def=_IN_PROCESS
)
def cancel() -> None:
    """Cancel one batch."""
    cancel_batch()


OPERATOR_JOBS = [prioritise, pause, resume, requeue, cancel]
"""All of them but ``republish``, which publishes in its own run."""
