"""The sensor that notices new batches in the object store and wakes a publish run for what the queue holds."""

from collections.abc import Sequence

import dagster as dg

from jobs.publish import PUBLISH_JOB, publish
from penstock.publish.queue import QueuePlace
from penstock.use_cases.platform import Platform
from platform_assets.partitions import add_partitions
from platform_assets.sources import declared_sources
from resources.dagster_resources import PlatformResource

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
_synced: set[int] = set()


@dg.sensor(
    name="s3_batches",
    job=publish,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Admits batches as their manifests appear, and wakes the publish job when something is due.",
)
def s3_batches(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    """Look once: admit what is new, then ask for a publish run if one is needed."""
    from penstock.use_cases.discover_batches import discover_batches

    opened = platform.open()
    _sync_sources(opened)
    found = discover_batches(opened, context.cursor or "")
    add_partitions(context.instance, list(found.admitted))
    for letter in found.dead_letters:
        context.log.warning(f"dead letter: {letter.where}: {letter.message}")
    due = due_places(opened)
    requests = [_run_request(due)] if due and not _running(context.instance) else []
    why = (
        None
        if requests
        else dg.SkipReason("nothing is due" if not due else "a publish run is at it")
    )
    return dg.SensorResult(run_requests=requests, skip_reason=why, cursor=found.cursor)


def _sync_sources(platform: Platform) -> None:
    """Make the declared sources known once per process: a code location's sources never change while it runs."""
    if id(platform) not in _synced:
        platform.control.sync_sources([definition.spec for definition in declared_sources()])
        _synced.add(id(platform))


def due_places(platform: Platform) -> list[QueuePlace]:
    """Return the places of the queue that could be claimed now."""
    places = platform.control.explain_queue(now=platform.clock.now(), policy=platform.queue_policy)
    return [place for place in places if place.waits_for is None]


def _running(instance: dg.DagsterInstance) -> bool:
    """A run in progress goes on until the queue is empty, so another would find nothing to do."""
    filters = dg.RunsFilter(job_name=PUBLISH_JOB, statuses=IN_PROGRESS)
    return bool(instance.get_run_ids(filters, limit=1))


def _run_request(due: Sequence[QueuePlace]) -> dg.RunRequest:
    """Ask for one run; it is named by its batch when there is one alone."""
    tags = {"penstock/batches": str(len(due))}
    if len(due) == 1:
        state = due[0].state
        tags |= {
            "penstock/batch": state.batch_id,
            "penstock/source": state.source_id,
            "penstock/target": state.target_id,
        }
    return dg.RunRequest(tags=tags)
