"""What a noisy neighbour costs the others: latency of calm sources alone, and next to a flood, poison or an outage.

Calm sources land a small batch each second in turn; their latency is from admission to COMPLETE. The peer is the same
without the neighbour, in the same run, on the same worker threads. Every neighbour keeps the workers busy for as long
as the measurement lasts:

- *flood*: one source has hundreds of batches in the queue, all older than those of the calm;
- *busy*: another tenant's batches are large, and all is well with them: what sharing two cores costs by itself;
- *poison*: the same batches hold entities that the target refuses, so that every chunk is bisected;
- *outage*: ten sources go to a target that takes two seconds to say that it is away.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from pydantic import SecretStr

from benchmarks.bench_stack import load
from benchmarks.harness import Result, at_most, result
from penstock.batch.rows import Entity
from penstock.batch.source import Extract, SourceDefinition, source
from penstock.identity.ids import BatchId, TargetId, target_id
from penstock.ports.target import Rejected, Unavailable
from penstock.publish.state import PublishStatus
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.publish import publish_next
from resources.settings import Settings
from resources.wiring import open_platform

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.batch.rows import Kind
    from penstock.identity.ids import SourceId
    from penstock.ports.target import ApplyContext, ApplyOutcome, Target
    from penstock.use_cases.platform import Platform

WORKERS, POLL_S = 2, 0.25
"""Worker threads, and how often an idle one looks, as in a publish run."""
CALM, CALM_ROWS = 4, 50
FLOOD_BATCHES, FLOOD_ROWS = 400, 200
POISON_BATCHES, POISON_ROWS, POISON_EVERY = 200, 2_000, 500
AWAY_SOURCES, AWAY_S = 10, 2.0
_BATCHES = {"flood": FLOOD_BATCHES, "busy": POISON_BATCHES, "poison": POISON_BATCHES, "outage": 1}
AWAY, PICKY = target_id("away"), target_id("picky")
_PATIENCE_S = 60.0


class AwayTarget:
    """A target that is down, and takes its time to say so."""

    target_id = AWAY

    def prepare(self) -> None:
        """Need nothing."""

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Keep the caller waiting, in vain."""
        del operations, context
        time.sleep(AWAY_S)
        return Unavailable(message="nobody answers")

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Hold nothing that could be read."""
        raise NotImplementedError


class PickyTarget:
    """A target in front of another that refuses a chunk with poison in it."""

    target_id = PICKY

    def __init__(self, target: Target) -> None:
        self.target = target

    def prepare(self) -> None:
        """Prepare the other."""
        self.target.prepare()

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Refuse the chunk, or apply it."""
        if any("/poison-" in key for key in operations["key"].to_pylist()):
            return Rejected(code="poison", message="it holds poison")
        return self.target.apply(operations, context)

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Ask the other."""
        return self.target.read_back(source, kind, keys)


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Seconds from admission to COMPLETE of the calm batches, and what the neighbour got done."""

    seconds: tuple[float, ...]
    neighbour_worked_on: int

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return quantiles(self.seconds, n=20)[-1]


def run(*, quick: bool = False) -> list[Result]:
    """Measure 40 calm batches (10 if quick) alone and next to each neighbour."""
    count = 10 if quick else 40
    alone = _measured(count, None)
    results = [
        result("alone: median latency", median(alone.seconds), "s"),
        result("alone: p95 latency", alone.p95, "s"),
    ]
    for neighbour in ("flood", "busy", "poison", "outage"):
        found = _measured(count, neighbour)
        middle = median(found.seconds) / median(alone.seconds)
        results += [
            result(
                f"{neighbour}: median latency", middle, "x", peer="alone", goal=at_most(1.5, "x")
            ),
            result(
                f"{neighbour}: p95 latency",
                found.p95 / alone.p95,
                "x",
                peer="alone",
                goal=at_most(2, "x"),
            ),
            result(
                f"{neighbour}: its own batches worked on meanwhile", found.neighbour_worked_on, ""
            ),
        ]
    return [*results, load()]


def _measured(count: int, neighbour: str | None) -> Latencies:
    with tempfile.TemporaryDirectory() as folder:
        platform = _platform(Path(folder))
        noisy = _neighbours(neighbour)
        calm = [_source(f"calm_{n}", CALM_ROWS, ("registry",)) for n in range(CALM)]
        platform.control.sync_sources([d.spec for d in (*calm, *noisy)])
        _land_noise(platform, neighbour, noisy)
        cursor = discover_batches(platform, "", limit=10_000).cursor
        reports: list[BatchId] = []
        stop = threading.Event()
        workers = [
            threading.Thread(target=_work, args=(platform, f"bench/{n}", reports, stop))
            for n in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        try:
            batches = list(_land_calm(platform, calm, count, cursor))
            seconds = tuple(_latency_s(platform, batch) for batch in batches)
            worked_on = len([b for b in reports if not b.startswith("calm_")])
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        return Latencies(seconds=seconds, neighbour_worked_on=worked_on)


def _platform(folder: Path) -> Platform:
    settings = Settings(
        home=folder,
        workers=WORKERS,
        sql_targets={name: SecretStr(f"sqlite:///{folder / name}.db") for name in (PICKY, AWAY)},
    )
    platform = open_platform(settings)
    targets: Mapping[TargetId, Target] = {
        **platform.targets,
        PICKY: PickyTarget(platform.targets[PICKY]),
        AWAY: AwayTarget(),
    }
    return replace(platform, targets=targets)


def _work(platform: Platform, name: str, reports: list[BatchId], stop: threading.Event) -> None:
    """Do what one worker of a publish run does, for as long as the measurement lasts."""
    while not stop.is_set():
        report = publish_next(platform, name)
        if report is not None:
            reports.append(report.state.batch_id)
        else:
            stop.wait(POLL_S)


def _source(
    name: str,
    rows: int,
    targets: tuple[str, ...],
    *,
    tenant: str = "default",
    poison_every: int = 0,
) -> SourceDefinition:
    @source(name, targets=targets, tenant=tenant, description="Rows that change with every batch.")
    def changing(extract: Extract) -> Iterator[Entity]:
        with extract.scope("row"):
            for i in range(rows):
                bad = poison_every and i % poison_every == 0
                yield Entity(
                    entity_type="row",
                    entity_key=f"{name}/{'poison' if bad else 'row'}-{i}",
                    attributes={"seen": extract.source_timestamp.isoformat()},
                )

    return changing


def _neighbours(neighbour: str | None) -> list[SourceDefinition]:
    if neighbour == "flood":
        return [_source("flood", FLOOD_ROWS, ("registry",))]
    if neighbour in {"busy", "poison"}:
        every = POISON_EVERY if neighbour == "poison" else 0
        return [_source(neighbour, POISON_ROWS, (PICKY,), tenant="other", poison_every=every)]
    if neighbour == "outage":
        return [_source(f"away_{n}", CALM_ROWS, (AWAY,)) for n in range(AWAY_SOURCES)]
    return []


def _land_noise(platform: Platform, neighbour: str | None, noisy: list[SourceDefinition]) -> None:
    """Land the neighbour's batches before the measurement begins, an hour ago and so ahead of the calm ones."""
    each = _BATCHES.get(neighbour or "", 0)
    begin = platform.clock.now() - timedelta(hours=1)
    for definition in noisy:
        for n in range(each):
            _land(platform, definition, begin + timedelta(seconds=n))


def _land(platform: Platform, definition: SourceDefinition, at: datetime) -> BatchId:
    extract_source(platform, definition, at)
    return land_batch(platform, definition, at).manifest.batch_id


def _land_calm(
    platform: Platform, calm: list[SourceDefinition], count: int, cursor: str
) -> Iterator[BatchId]:
    for n in range(count):
        began = time.monotonic()
        batch = _land(platform, calm[n % len(calm)], platform.clock.now())
        cursor = discover_batches(platform, cursor).cursor
        yield batch
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def _latency_s(platform: Platform, batch: BatchId) -> float:
    give_up_at = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up_at:
        (state,) = platform.control.list_states(batch=batch)
        if state.status is PublishStatus.COMPLETE and state.publish_end_timestamp:
            return (state.publish_end_timestamp - state.enqueued_at).total_seconds()
        time.sleep(0.2)
    raise TimeoutError(f"{batch} was not COMPLETE after {_PATIENCE_S:g} s")
