"""A code location for the benches of orchestration: twenty small sources, and a registry that takes its time.

All else is the shipped location: assets, checks, sensor, jobs and settings. Dagster loads this module, in its code
server and in every run; sources are overridden before the sensor's module can ask for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

import platform_assets.sources
from penstock.batch.rows import Entity
from penstock.batch.source import Extract, SourceDefinition, source
from resources.dagster_resources import PlatformResource

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.batch.rows import Kind
    from penstock.identity.ids import SourceId, TargetId
    from penstock.ports.target import ApplyContext, ApplyOutcome, Target
    from penstock.use_cases.platform import Platform
    from resources.settings import Settings

SOURCES, ROWS = 20, 50
WORK_S = "BENCH_WORK_S"
"""The environment variable with the seconds that the registry takes for a chunk."""


def bench_sources() -> tuple[SourceDefinition, ...]:
    """Return sources of which every batch changes every row."""
    return tuple(_source(number) for number in range(SOURCES))


def _source(number: int) -> SourceDefinition:
    @source(f"bench_{number:02d}", description="Rows that change with every batch.")
    def rows(extract: Extract) -> Iterator[Entity]:
        with extract.scope("row"):
            for i in range(ROWS):
                seen = extract.source_timestamp.isoformat()
                yield Entity(
                    entity_type="row",
                    entity_key=f"bench_{number:02d}/{i}",
                    attributes={"seen": seen},
                )

    return rows


class PacedTarget:
    """A target in front of another that waits before each chunk, as one far away does."""

    def __init__(self, target: Target, work_s: float) -> None:
        self.target, self.work_s = target, work_s

    @property
    def target_id(self) -> TargetId:
        """The other's id."""
        return self.target.target_id

    def prepare(self) -> None:
        """Prepare the other."""
        self.target.prepare()

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Wait, then apply."""
        time.sleep(self.work_s)
        return self.target.apply(operations, context)

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Ask the other."""
        return self.target.read_back(source, kind, keys)


def paced(platform: Platform, work_s: float) -> Platform:
    """Return the platform with targets that take their time."""
    if not work_s:
        return platform
    targets: Mapping[TargetId, Target] = {
        name: PacedTarget(target, work_s) for name, target in platform.targets.items()
    }
    return replace(platform, targets=targets)


class PacedPlatform(PlatformResource):
    """The platform with paced targets."""

    def _open(self, settings: Settings) -> Platform:
        return paced(super()._open(settings), float(os.environ.get(WORK_S, "0")))


def _definitions() -> dg.Definitions:
    platform_assets.sources.declared_sources = bench_sources
    from platform_assets.definitions import definitions_of

    shipped = definitions_of(bench_sources())
    return dg.Definitions(
        assets=shipped.assets,
        asset_checks=shipped.asset_checks,
        jobs=shipped.jobs,
        sensors=shipped.sensors,
        resources={"platform": PacedPlatform()},
        executor=shipped.executor,
    )


defs = _definitions()
