"""What orchestration costs: many batches of some work each, queued at once, through a publish run of the shipped stack.

The work is a target that takes a second for each batch, as one far away does. The ideal is that work alone, shared by
the publish run's threads. The peer is the same queue worked through by as many threads of the same use cases without
Dagster.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.bench_location import paced
from benchmarks.bench_stack import SOURCES, complete, land, load, opened, stack
from benchmarks.harness import Result, at_least, at_most, result
from jobs.publish import drained
from penstock.identity.ids import BatchId
from penstock.publish.state import PublishState
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.platform import Platform
from resources.settings import Settings

_SHOWN_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Drained:
    """How a queue of batches was worked through, in seconds."""

    wall_s: float
    """From the admission of the last batch until all are COMPLETE."""
    working_s: float
    """From the first claim until all are COMPLETE."""


def run(*, quick: bool = False) -> list[Result]:
    """Work through 100 batches of 1 s from 20 sources (20 of 0.2 s if quick), with Dagster and without."""
    count, work_s = (20, 0.2) if quick else (100, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        alone_s, workers = _alone(Path(folder), count, work_s)
    with tempfile.TemporaryDirectory() as folder:
        found, shown, runs = _in_dagster(Path(folder), count, work_s)
    ideal_s = count * work_s / workers
    peer = f"use cases alone: {_share(ideal_s, alone_s):.1f} %"
    return [
        result(
            "share of the time that is not the target's",
            _share(ideal_s, found.working_s),
            "%",
            peer=peer,
            goal=at_most(10, "%"),
        ),
        result("the same, with the start of the run", _share(ideal_s, found.wall_s), "%"),
        result("Dagster's part of the time", _share(alone_s, found.working_s), "%"),
        result("first claim to last COMPLETE", found.working_s, "s", peer=f"ideal {ideal_s:g} s"),
        result("admission to last COMPLETE", found.wall_s, "s"),
        result("batches shown as materializations", shown, "", goal=at_least(count, "")),
        result("runs", runs, ""),
        load(),
    ]


def _share(part_s: float, whole_s: float) -> float:
    """Return what is not ``part_s``, in percent."""
    return 100 * (1 - part_s / whole_s)


def _land_all(platform: Platform, settings: Settings, count: int) -> list[BatchId]:
    return [land(platform, settings, number).batch_id for number in range(count)]


def _alone(folder: Path, count: int, work_s: float) -> tuple[float, int]:
    """Return the seconds without Dagster, and how many threads shared the work."""
    settings, platform = opened(folder)
    _land_all(platform, settings, count)
    discover_batches(platform, "", limit=count)
    start = time.monotonic()
    slow = paced(platform, work_s)
    reports = list(drained(slow, "bench", workers=settings.workers, max_seconds=600))
    assert len(reports) == count
    return time.monotonic() - start, settings.workers


def _in_dagster(folder: Path, count: int, work_s: float) -> tuple[Drained, int, int]:
    """Return the times, how many batches Dagster shows, and in how many runs they were published."""
    settings, platform = opened(folder)
    batches = _land_all(platform, settings, count)
    with stack(settings, work_s=work_s):
        states = [complete(platform, batch) for batch in batches]
        shown = _shown(settings, count)
    runs = {state.workflow_run_id for state in states}
    return _drained(platform, states), shown, len(runs)


def _drained(platform: Platform, states: list[PublishState]) -> Drained:
    records = [platform.control.get_batch(state.batch_id) for state in states]
    admitted = max(record.admitted_at for record in records)
    first = min(_at(state.publish_start_timestamp) for state in states)
    last = max(_at(state.publish_end_timestamp) for state in states)
    return Drained(
        wall_s=(last - admitted).total_seconds(),
        working_s=(last - first).total_seconds(),
    )


def _at(moment: datetime | None) -> datetime:
    assert moment is not None
    return moment


def _shown(settings: Settings, count: int) -> int:
    """Return how many published partitions Dagster shows as materialized, waiting for the last to be logged."""
    import dagster as dg

    from platform_assets.checks import published_key

    give_up_at = time.monotonic() + _SHOWN_WITHIN_S
    with dg.DagsterInstance.from_config(str(settings.dagster_folder)) as instance:
        while True:
            keys = [published_key(definition.spec.source_id) for definition in SOURCES]
            shown = sum(len(instance.get_materialized_partitions(key)) for key in keys)
            if shown >= count or time.monotonic() > give_up_at:
                return shown
            time.sleep(0.5)
