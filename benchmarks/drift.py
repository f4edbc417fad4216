"""The drift audit: rows of a target read back, listed, and held against what was published, in rows a second.

The rows are published for real, through the queue. The peer reads the very same rows of the very same table from end to
end, keys, digests and attributes, and looks at none of them: less than that no audit can read. A repair is measured on
1 % of the rows, edited by hand.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr
from sqlalchemy import Engine, text

from benchmarks.execute import postgres_server
from benchmarks.harness import Result, peak_resident_bytes, result
from penstock.batch.rows import Kind
from penstock.batch.source import Extract, Extracted, SourceDefinition, SourceSpec, source
from penstock.identity.ids import SourceId, TargetId
from penstock.ports.target import HeldName, ListingTarget
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.drift_audit import DriftReport, audit_lane, repair_lane
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from penstock.use_cases.publish import publish_next
from resources.settings import Settings
from resources.targets.registry import RegistryTarget
from resources.targets.sql_table import SqlTableTarget
from resources.wiring import open_platform

SOURCE = SourceId("warehouse")
REGISTRY, TABLES = TargetId("registry"), TargetId("tables")
SCAN = "bare scan of the same rows"
_TABLE_OF = {REGISTRY: ("registry_entity", "source_id", "digest")} | {
    TABLES: ("penstock_entities", "_penstock_source", "_penstock_digest")
}
_AT = datetime(2026, 1, 1, tzinfo=UTC)
_PAGE = 10_000
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much one run does."""

    rows: int
    rounds: int


FULL = Size(rows=200_000, rounds=3)
QUICK = Size(rows=5_000, rounds=1)


def run(*, quick: bool = False) -> list[Result]:
    """Audit 200k rows (5k if quick) in the registry and in a SQL table, on SQLite and on PostgreSQL."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        results = _measured("SQLite", None, size)
        url = stack.enter_context(postgres_server())
        results += _measured("PostgreSQL", url, size)
    results.append(result("peak memory", peak_resident_bytes() / 2**20, "MiB"))
    return results


def _measured(name: str, url: str | None, size: Size) -> list[Result]:
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        tables = url or f"sqlite:///{folder}/tables.db"
        settings = Settings(
            home=folder,
            database_url=None if url is None else SecretStr(url),
            sql_targets={"tables": SecretStr(tables)},
        )
        platform = open_platform(settings)
        spec = SourceSpec(source_id=SOURCE, targets=(REGISTRY, TABLES))
        platform.control.sync_sources([spec])
        _publish_rows(platform, size.rows)
        results = []
        for target in (REGISTRY, TABLES):
            results += _of_target(platform, target, f"{name}, {target}", size)
        return results
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_target(platform: Platform, target: TargetId, name: str, size: Size) -> list[Result]:
    """Measure both ways in turns, so that whatever else the machine does is shared."""
    audits, listings, scans = [], [], []
    for _ in range(size.rounds):
        seconds, report = _timed(lambda: _audit(platform, target))
        assert (report.checked, report.listed, report.missing) == (size.rows, size.rows, 0)
        audits.append(seconds)
        listings.append(_timed(lambda: _list(platform, target))[0])
        seconds, scanned = _timed(lambda: _scan(_engine(platform, target), target))
        assert scanned == size.rows
        scans.append(seconds)
    audit_s, listing_s, scan_s = median(audits), median(listings), median(scans)
    found = [
        result(f"{name}: audit, rows looked at", size.rows / audit_s, "rows/s"),
        result(f"{name}: audit, all of it", audit_s / scan_s, "x", peer=SCAN),
        result(f"{name}: listing alone", listing_s / scan_s, "x", peer=SCAN),
        result(f"{name}: bare scan", size.rows / scan_s, "rows/s"),
    ]
    return found + _repaired(platform, target, name, audit_s)


def _repaired(platform: Platform, target: TargetId, name: str, clean_s: float) -> list[Result]:
    edited = _edit(_engine(platform, target), target)
    seconds, report = _timed(lambda: _audit(platform, target))
    assert report.differing == edited
    repair_lane(platform, SOURCE, target, by=By(actor="bench", reason="measured"))
    repair_s, state = _timed(lambda: _publish(platform))
    assert state.exceptions == 0
    assert _audit(platform, target).differing == 0
    return [
        result(f"{name}: 1 % edited, audit", seconds / clean_s, "x", peer="audit, none edited"),
        result(f"{name}: repair", edited / repair_s, "rows/s"),
    ]


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    start = perf_counter()
    answer = work()
    return perf_counter() - start, answer


def _audit(platform: Platform, target: TargetId) -> DriftReport:
    return audit_lane(platform, SOURCE, target, period_s=1.0, everything=True)


def _list(platform: Platform, target: TargetId) -> int:
    listing, listed, after = platform.targets[target], 0, None
    assert isinstance(listing, ListingTarget)
    while True:
        page = listing.list_held(SOURCE, Kind.ENTITY, after=after, limit=_PAGE)
        listed += len(page)
        if len(page) < _PAGE:
            return listed
        names = page.select(["type_name", "key", "to_key"])
        after = HeldName(**names.slice(len(page) - 1).to_pylist()[0])


def _scan(engine: Engine, target: TargetId) -> int:
    """Read all rows through the driver, page by page, and do nothing with them."""
    table, source_column, digest = _TABLE_OF[target]
    query = (
        f"SELECT type_name, key, {digest}, attributes FROM {table} WHERE {source_column} = :source"
    )
    rows = 0
    with engine.connect().execution_options(yield_per=_PAGE) as connection:
        for page in connection.execute(text(query), {"source": SOURCE}).partitions():
            rows += len(page)
    return rows


def _edit(engine: Engine, target: TargetId) -> int:
    """Change one row of a hundred by hand, which leaves their digests."""
    table, source_column, _ = _TABLE_OF[target]
    with engine.begin() as connection:
        statement = (
            f"UPDATE {table} SET attributes = :edited WHERE {source_column} = :source "
            "AND key LIKE '%/c_00'"
        )
        values = {"edited": '{"edited":true}', "source": SOURCE}
        return connection.execute(text(statement), values).rowcount


def _engine(platform: Platform, target: TargetId) -> Engine:
    found = platform.targets[target]
    assert isinstance(found, RegistryTarget | SqlTableTarget)
    return found.engine


def _publish_rows(platform: Platform, rows: int) -> None:
    definition = _source(rows)
    extract_source(platform, definition, _AT)
    land_batch(platform, definition, _AT)
    assert discover_batches(platform, "").admitted
    for _ in range(2):
        _publish(platform)


def _publish(platform: Platform) -> PublishState:
    report = publish_next(platform, "bench")
    assert report is not None
    assert report.state.status is PublishStatus.COMPLETE
    return report.state


def _source(rows: int) -> SourceDefinition:
    """Columns of a warehouse, 1,000 a table, of some 0.3 KB."""

    @source(SOURCE)
    def warehouse(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("column"):
            for start in range(0, rows, _PAGE):
                yield _table(np.arange(start, min(start + _PAGE, rows)))

    return warehouse


def _table(n: np.ndarray) -> pa.Table:
    number = pc.utf8_lpad(pc.cast(pa.array(n % 1000), pa.string()), 3, "0")
    table = pc.cast(pa.array(n // 1000), pa.string())
    said = "The amount that was agreed on, before any discount. " * 4
    texts = pc.binary_join_element_wise(
        f'{{"comment":"{said}","data_type":"varchar(255)","name":"c', number,
        '","nullable":true,"owner":"sales"}', "",
    )  # fmt: skip
    keys = pc.binary_join_element_wise("warehouse/sales/t", table, "/c", number, "")
    kinds = pa.repeat(pa.scalar("column"), len(n))
    return pa.table({"entity_type": kinds, "entity_key": keys, "attributes": texts})
