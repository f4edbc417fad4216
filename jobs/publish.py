"""The publish job: one run that works through the queue, every batch visible as a partition.

A run for every batch would cost some four seconds of processor time each (docs/adr/0008), so one run claims batches
until nothing is due or its time is up. Worker threads publish; the run's own thread logs what they report, because
a Dagster context belongs to one thread. A worker that finds nothing keeps looking while another is at work, so that a
slow batch does not keep what arrives meanwhile waiting.
"""

import queue
import threading
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from penstock.publish.state import PublishStatus
from penstock.use_cases.platform import Platform
from penstock.use_cases.reports import PublishReport
from platform_assets.assets import published_events
from platform_assets.checks import failure_of
from platform_assets.partitions import add_partitions
from resources.dagster_resources import PlatformResource
from resources.settings import Settings

PUBLISH_JOB = "publish"
MAX_SECONDS = 600.0
"""A run begins no batch after so many seconds; the sensor then starts another beside it."""
_POLL_S = 0.25


class DrainConfig(dg.Config):
    """How long one run goes on."""

    max_seconds: float = Field(
        default=MAX_SECONDS,
        description="No batch is begun after so many seconds; another run goes on.",
    )
    linger_seconds: float = Field(
        default=0.0,
        description="Seconds to wait for another batch once nothing is due; a run that is there already "
        "takes a batch several seconds sooner than one that has yet to start.",
    )


@dg.op(description="Claim batches from the queue, plan and execute each, until nothing is due.")
def plan_and_execute(
    context: dg.OpExecutionContext, config: DrainConfig, platform: PlatformResource
) -> None:
    """Work through the queue."""
    opened = platform.open()
    published = 0
    for report in drained(
        opened,
        context.run_id,
        workers=Settings.from_env().workers,
        max_seconds=config.max_seconds,
        linger_seconds=config.linger_seconds,
    ):
        published += 1
        log_report(context, report)
    context.log.info(f"published {published} batches")


def log_report(context: dg.OpExecutionContext, report: PublishReport) -> None:
    """Show one publish in Dagster: its partition, its materialization and its checks."""
    state = report.state
    add_partitions(context.instance, [state.batch_id])
    for event in published_events(report):
        context.log_event(event)  # type: ignore[arg-type]  # it takes evaluations; its annotation lags
    if state.status is not PublishStatus.COMPLETE:
        context.log.error(failure_of(state))


def drained(
    platform: Platform,
    run_id: str,
    *,
    workers: int,
    max_seconds: float,
    linger_seconds: float = 0.0,
) -> Iterator[PublishReport]:
    """Publish with several threads until nothing has been due for a while, yielding reports as they come."""
    now_s = platform.clock.monotonic_s
    give_up_at = now_s() + max_seconds
    last_busy_at = now_s()
    reports: queue.Queue[PublishReport | BaseException | None] = queue.Queue()
    busy: set[int] = set()

    def take(number: int) -> PublishReport | None:
        from penstock.use_cases.publish import publish_next

        nonlocal last_busy_at
        busy.add(number)
        try:
            report = publish_next(platform, f"{run_id}/{number}", run_id=run_id)
        finally:
            busy.discard(number)
        if report is not None:
            last_busy_at = now_s()
        return report

    def work(number: int) -> None:
        try:
            while now_s() < give_up_at:
                if (report := take(number)) is not None:
                    reports.put(report)
                elif busy or now_s() - last_busy_at < linger_seconds:
                    platform.clock.sleep(_POLL_S)
                else:
                    break
        except BaseException as error:  # noqa: BLE001  the run's own thread raises it
            reports.put(error)
        finally:
            reports.put(None)

    threads = [
        threading.Thread(target=work, args=(n,), name=f"publish-{n}") for n in range(workers)
    ]
    for thread in threads:
        thread.start()
    yield from _until_all_end(reports, len(threads))
    for thread in threads:
        thread.join()


def _until_all_end(
    reports: queue.Queue[PublishReport | BaseException | None], running: int
) -> Iterator[PublishReport]:
    failure: BaseException | None = None
    while running:
        item = reports.get()
        if item is None:
            running -= 1
        elif isinstance(item, BaseException):
            failure = item
        else:
            yield item
    if failure is not None:
        raise failure


@dg.job(
    name=PUBLISH_JOB,
    description="Plan and execute what the queue holds; woken by the sensor s3_batches.",
    executor_def=dg.in_process_executor,
)
def publish() -> None:
    """Drain the queue."""
    plan_and_execute()
