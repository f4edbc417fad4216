"""The sensor that notices new batches in the object store and wakes a publish run for what the queue holds.

Dagster's daemon looks at its sensors once in five seconds, whatever interval they ask for. So one tick goes on
looking for as long as fits between two of the daemon's: a batch waits for a look, not for a tick.
"""

from collections.abc import Sequence

import dagster as dg

from jobs.publish import MAX_SECONDS, PUBLISH_JOB, publish
from penstock.publish.queue import QueuePlace
from penstock.use_cases.platform import Platform
from platform_assets.partitions import add_partitions
from platform_assets.sources import declared_sources
from resources.dagster_resources import TRACE_TAG, PlatformResource
from resources.settings import Settings
from sensors.lost_runs import end_lost_runs

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
WATCH_S = 4.0
"""How long one tick looks; with its own costs it has to end before the daemon comes again."""
MOST_RUNS = 3
"""Publish runs at once: one that takes batches, and those that only finish what they have."""
LINGER_S = 15.0
"""How long a publish run waits for another batch. Starting one costs several seconds, most of them imports."""
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
    """Look until a publish run is needed or the watch is over, admitting what is new at each look."""
    opened = platform.open()
    _sync_sources(opened)
    clock, cursor = opened.clock, context.cursor or ""
    look_every_s = Settings.from_env().look_every_s
    give_up_at = clock.monotonic_s() + WATCH_S
    while True:
        cursor = _look(context, opened, cursor)
        due = due_places(opened)
        wanted = bool(due) and _wanted(context, opened)
        if wanted or clock.monotonic_s() + look_every_s > give_up_at:
            break
        clock.sleep(look_every_s)
    why = "a publish run is at it" if due else "nothing is due"
    return dg.SensorResult(
        run_requests=[_run_request(due)] if wanted else [],
        skip_reason=None if wanted else dg.SkipReason(why),
        cursor=cursor,
    )


def _look(context: dg.SensorEvaluationContext, platform: Platform, cursor: str) -> str:
    """Admit what is new, as batches and as partitions; returns where the next look begins."""
    from penstock.use_cases.discover_batches import discover_batches

    found = discover_batches(platform, cursor)
    add_partitions(context.instance, list(found.admitted))
    for letter in found.dead_letters:
        context.log.warning(f"dead letter: {letter.where}: {letter.message}")
    return found.cursor


def _sync_sources(platform: Platform) -> None:
    """Make the declared sources known once per process: a code location's sources never change while it runs."""
    if id(platform) not in _synced:
        platform.control.sync_sources([definition.spec for definition in declared_sources()])
        _synced.add(id(platform))


def due_places(platform: Platform) -> list[QueuePlace]:
    """Return the places of the queue that could be claimed now."""
    places = platform.control.explain_queue(now=platform.clock.now(), policy=platform.queue_policy)
    return [place for place in places if place.waits_for is None]


def _wanted(context: dg.SensorEvaluationContext, platform: Platform) -> bool:
    """Say whether another run would find something to do.

    One that still takes batches goes on until the queue is empty. One that is older than its time only finishes the
    slow batch it has; the others must not wait for that, nor for one whose process is gone.
    """
    now = platform.clock.now()
    for run_id in end_lost_runs(context.instance, platform.control.list_leases(now=now)):
        context.log.warning(f"run {run_id} has no process any more: it is marked as failed")
    filters = dg.RunsFilter(job_name=PUBLISH_JOB, statuses=IN_PROGRESS)
    records = context.instance.get_run_records(filters, limit=MOST_RUNS)
    taking = [r for r in records if (now - r.create_timestamp).total_seconds() < MAX_SECONDS]
    return not taking and len(records) < MOST_RUNS


def _run_request(due: Sequence[QueuePlace]) -> dg.RunRequest:
    """Ask for one run; it is named by its batch when there is one alone."""
    tags = {"penstock/batches": str(len(due)), "dagster/priority": "10"}
    if len(due) == 1:
        state = due[0].state
        tags |= {
            "penstock/batch": state.batch_id,
            "penstock/source": state.source_id,
            "penstock/target": state.target_id,
        }
        if state.trace_parent is not None:
            tags[TRACE_TAG] = state.trace_parent
    config = {"ops": {"plan_and_execute": {"config": {"linger_seconds": LINGER_S}}}}
    return dg.RunRequest(tags=tags, run_config=config)
