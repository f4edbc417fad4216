"""What the benches of orchestration share: the shipped stack over a folder of its own, and batches that land in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bench_location import WORK_S, bench_sources
from benchmarks.harness import Result, result
from control_plane.supervisor import Stack
from penstock.batch.manifest import manifest_key
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from resources.settings import Settings
from resources.wiring import open_platform

REGISTRY = TargetId("registry")
SOURCES = bench_sources()
_GIVE_UP_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Landed:
    """One batch, and when its manifest was put."""

    batch_id: BatchId
    put_at: datetime


def opened(folder: Path) -> tuple[Settings, Platform]:
    """Return the default settings over a folder, and the platform that they describe."""
    settings = Settings(home=folder)
    platform = open_platform(settings)
    platform.control.sync_sources([definition.spec for definition in SOURCES])
    return settings, platform


@contextmanager
def stack(settings: Settings, *, work_s: float = 0.0) -> Iterator[Stack]:
    """Run daemon and code server for as long as the block lasts."""
    environ = {WORK_S: str(work_s), "PYTHONWARNINGS": "ignore"}
    dagster = Stack(settings, port=None, environ=environ, location="benchmarks.bench_location")
    try:
        dagster.start()
        yield dagster
    finally:
        dagster.stop()


def land(platform: Platform, settings: Settings, number: int) -> Landed:
    """Land a batch of source ``number``, under the present moment."""
    definition = SOURCES[number % len(SOURCES)]
    now = platform.clock.now()
    extract_source(platform, definition, now)
    batch = land_batch(platform, definition, now).manifest.batch_id
    file = settings.home / "objects" / manifest_key(batch)
    return Landed(batch_id=batch, put_at=datetime.fromtimestamp(file.stat().st_mtime, UTC))


def complete(platform: Platform, batch: BatchId) -> PublishState:
    """Wait until a batch is COMPLETE and return its state; raises ``TimeoutError``."""
    give_up_at = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < give_up_at:
        states = platform.control.list_states(batch=batch, target=REGISTRY)
        if states and states[0].status is PublishStatus.COMPLETE:
            return states[0]
        time.sleep(0.1)
    raise TimeoutError(f"{batch} was not COMPLETE after {_GIVE_UP_S:g} s")


def first_applied_at(platform: Platform, state: PublishState) -> datetime:
    """Return when the first operations of a published batch had taken effect."""
    assert state.plan_digest is not None
    chunks = platform.control.chunks(state.plan_digest, state.batch_id, state.target_id)
    return min(chunk.finished_at for chunk in chunks.values() if chunk.finished_at is not None)


def load() -> Result:
    """Return how busy the machine was, others' work included: above 1 the figures say little of Penstock."""
    return result("load per core (5 minutes)", os.getloadavg()[1] / (os.cpu_count() or 1), "")
