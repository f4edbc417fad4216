"""From a manifest's put to the first operation applied, through the shipped sensor, daemon, code server and run.

One batch at a time, at varying moments of the daemon's loops: cold, so far apart that each has to wait for a run of its
own to start, and warm, while the run of the batch before still lingers. The peer is the same batch published by the use
cases alone.
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
from sensors.s3_batches import LINGER_S

_LOOP_S = 5.0
"""The daemon looks at its sensors once a loop."""
_WARM_S, _COLD_S = 2.0, LINGER_S + 5.0
"""Pauses between batches, shorter and longer than a publish run lingers."""


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
    """Land 6 batches cold and 20 warm (1 and 3 if quick), one at a time, and follow each."""
    cold_batches, warm_batches = (1, 3) if quick else (6, 20)
    with tempfile.TemporaryDirectory() as folder:
        settings, platform = opened(Path(folder))
        with stack(settings):
            _sample(platform, land(platform, settings, 0))  # starts what is started only once
            cold = _samples(platform, settings, range(1, 1 + cold_batches), _COLD_S)
            warm = _samples(platform, settings, range(100, 100 + warm_batches), _WARM_S)
        alone = [_alone(platform, settings, number) for number in range(3 if quick else 20)]
    return [*_results("cold", cold, median(alone)), *_results("warm", warm, median(alone)), load()]


def _samples(
    platform: Platform, settings: Settings, numbers: range, pause_s: float
) -> list[Sample]:
    samples = []
    for number in numbers:
        time.sleep(pause_s + number * 1.7 % _LOOP_S)
        samples.append(_sample(platform, land(platform, settings, number)))
    return samples


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


def _results(how: str, samples: list[Sample], alone_s: float) -> list[Result]:
    latencies = sorted(sample.latency_s for sample in samples)
    p95 = latencies[math.ceil(0.95 * len(latencies)) - 1]
    noticed = median((s.admitted_at - s.put_at).total_seconds() for s in samples)
    woken = median((s.claimed_at - s.admitted_at).total_seconds() for s in samples)
    planned = median((s.applied_at - s.claimed_at).total_seconds() for s in samples)
    peer = f"use cases alone: {alone_s:.2f} s"
    return [
        result(f"{how}: median", median(latencies), "s", peer=peer, goal=at_most(5, "s")),
        result(f"{how}: p95", p95, "s", goal=at_most(8, "s")),
        result(f"{how}: fastest", latencies[0], "s"),
        result(f"{how}: slowest", latencies[-1], "s"),
        result(f"{how}: of it, put to admitted (the sensor's loop)", noticed, "s"),
        result(f"{how}: of it, admitted to claimed", woken, "s"),
        result(f"{how}: of it, claimed to first operation applied", planned, "s"),
        result(f"{how}: batches", len(samples), ""),
    ]
