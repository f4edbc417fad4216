"""From a manifest's put to the first operation applied, through the shipped sensor, daemon, code server and run.

One batch at a time, at varying moments of the daemon's loops, each in a run of its own. The peer is the same batch
published by the use cases alone.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.bench_stack import Landed, complete, first_applied_at, land, load, opened, stack
from benchmarks.harness import Result, at_most, result
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.platform import Platform
from penstock.use_cases.publish import publish_next
from resources.settings import Settings

_PAUSE_S, _LOOP_S = 4.0, 5.0
"""A publish run ends within the pause; the daemon looks at its sensors once a loop."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One batch on its way, in moments."""

    put_at: datetime
    admitted_at: datetime
    claimed_at: datetime
    applied_at: datetime

    @property
    def latency_s(self) -> float:
        """Seconds from the manifest's put to the first operation applied."""
        return (self.applied_at - self.put_at).total_seconds()


def run(*, quick: bool = False) -> list[Result]:
    """Land 20 batches (3 if quick), one at a time, and follow each."""
    with tempfile.TemporaryDirectory() as folder:
        settings, platform = opened(Path(folder))
        with stack(settings):
            _sample(platform, land(platform, settings, 0))  # starts what is started only once
            samples = []
            for number in range(3 if quick else 20):
                time.sleep(_PAUSE_S + number * 1.7 % _LOOP_S)
                samples.append(_sample(platform, land(platform, settings, 1 + number)))
        alone = [_alone(platform, settings, number) for number in range(3 if quick else 20)]
    return _results(samples, median(alone))


def _sample(platform: Platform, landed: Landed) -> Sample:
    state = complete(platform, landed.batch_id)
    assert state.publish_start_timestamp is not None
    return Sample(
        put_at=landed.put_at,
        admitted_at=platform.control.get_batch(landed.batch_id).admitted_at,
        claimed_at=state.publish_start_timestamp,
        applied_at=first_applied_at(platform, state),
    )


def _alone(platform: Platform, settings: Settings, number: int) -> float:
    landed = land(platform, settings, number)
    discover_batches(platform, "")
    report = publish_next(platform, "bench")
    assert report is not None
    return (first_applied_at(platform, report.state) - landed.put_at).total_seconds()


def _results(samples: list[Sample], alone_s: float) -> list[Result]:
    latencies = sorted(sample.latency_s for sample in samples)
    p95 = latencies[math.ceil(0.95 * len(latencies)) - 1]
    noticed = median((s.admitted_at - s.put_at).total_seconds() for s in samples)
    woken = median((s.claimed_at - s.admitted_at).total_seconds() for s in samples)
    planned = median((s.applied_at - s.claimed_at).total_seconds() for s in samples)
    peer = f"use cases alone: {alone_s:.2f} s"
    return [
        result("median", median(latencies), "s", peer=peer, goal=at_most(5, "s")),
        result("p95", p95, "s", goal=at_most(8, "s")),
        result("fastest", latencies[0], "s"),
        result("slowest", latencies[-1], "s"),
        result("of it, put to admitted (the sensor's loop)", noticed, "s"),
        result("of it, admitted to claimed (a run starts)", woken, "s"),
        result("of it, claimed to first operation applied", planned, "s"),
        result("batches", len(samples), ""),
        load(),
    ]
