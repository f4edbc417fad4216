"""Planning at 1 % change: what it costs as a whole, and what fetching and comparing the changed rows costs.

Both batches are landed for real, the first is made the snapshot, and the second is planned against it. The peer decodes
both batches' Parquet files from end to end, which is what a planner without an index has to do before it compares.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import Result, at_most, peak_resident_bytes, result, timed
from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Manifest, batch_prefix
from penstock.batch.rows import Kind
from penstock.batch.source import Extract, Extracted, SourceDefinition, SourceSpec, source
from penstock.diff.fields import changed_fields
from penstock.diff.keys import diff_section
from penstock.identity.ids import SourceId, TargetId
from penstock.publish.state import Move
from penstock.snapshot.commit import AppliedRows
from penstock.use_cases.advance_snapshot import next_snapshot
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.plan_batch import plan_batch
from penstock.use_cases.platform import Platform
from resources.settings import Settings
from resources.wiring import open_platform

SOURCE, TARGET = SourceId("warehouse"), TargetId("registry")
_CHUNK = 100_000
_AT = datetime(2026, 1, 1, tzinfo=UTC)


def run(*, quick: bool = False) -> list[Result]:
    """Plan 1M and 5M entities (50k if quick) with 1 % changed, spread evenly at random."""
    found: list[Result] = []
    for rows in (50_000,) if quick else (1_000_000, 5_000_000):
        folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
        try:
            found += _planned(rows, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _planned(rows: int, folder: Path) -> list[Result]:
    name = f"{rows / 1e6:g}M"
    platform = open_platform(Settings(home=folder))
    platform.control.sync_sources([SourceSpec(source_id=SOURCE)])
    rng = np.random.default_rng(1)
    changed = np.sort(rng.choice(rows, rows // 100, replace=False))
    before = _land(platform, _AT, rows, None)
    _make_snapshot(platform, before)
    after = _land(platform, _AT + timedelta(hours=1), rows, changed)
    found = _parts(platform, after, name, _decode_s(folder, [before, after]))
    start = perf_counter()
    stored = plan_batch(platform, after, TARGET, guard_policy=GuardPolicy())
    seconds = perf_counter() - start
    found.append(result(f"plan, {name}", seconds, "s"))
    found.append(result(f"operations, {name}", stored.document.operations, ""))
    found.append(result(f"plan, {name}, a changed row", 1e6 * seconds / (rows // 100), "us"))
    found.append(result(f"peak memory so far, {name}", peak_resident_bytes() / 2**20, "MiB"))
    return found


def _source(rows: int, changed: np.ndarray | None) -> SourceDefinition:
    """Columns of a warehouse, 100 a table; of those changed, 8 of 10 have another type, 1 is gone and 1 is new."""
    kept = np.ones(rows, bool)
    updated = np.zeros(rows, bool)
    if changed is not None:
        kept[changed[0::10]] = False
        for offset in range(2, 10):
            updated[changed[offset::10]] = True
    new = changed[1::10] if changed is not None else np.empty(0, np.int64)

    @source(SOURCE)
    def warehouse(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("column"):
            for start in range(0, rows, _CHUNK):
                n = np.arange(start, min(start + _CHUNK, rows))
                n = n[kept[n]]
                yield _table(n, updated[n])
            if len(new):
                yield _table(new + rows, np.zeros(len(new), bool))

    return warehouse


def _table(n: np.ndarray, updated: np.ndarray) -> pa.Table:
    number = pc.cast(pa.array(n), pa.string())
    table = pc.cast(pa.array(n // 100), pa.string())
    kind = pc.if_else(pa.array(updated), "numeric(18,4)", "varchar(255)")
    said = "The amount that was agreed on, before any discount; see the handbook of the sales team."
    texts = pc.binary_join_element_wise(
        f'{{"comment":"{said}","data_type":"', kind, '","name":"c', number,
        '","nullable":true,"ordinal":', number, ',"owner":"sales"}', "",
    )  # fmt: skip
    keys = pc.binary_join_element_wise("warehouse/sales/t", table, "/c", number, "")
    kinds = pa.repeat(pa.scalar("column"), len(n))
    return pa.table({"entity_type": kinds, "entity_key": keys, "attributes": texts})


def _land(platform: Platform, at: datetime, rows: int, changed: np.ndarray | None) -> Manifest:
    definition = _source(rows, changed)
    extract_source(platform, definition, at)
    manifest = land_batch(platform, definition, at).manifest
    cursor = ""
    while manifest.batch_id not in (found := discover_batches(platform, cursor)).admitted:
        cursor = found.cursor
    return manifest


def _make_snapshot(platform: Platform, manifest: Manifest) -> None:
    """Record the batch as published: what executing its plan would have come to."""
    claim = platform.control.claim(
        "bench", now=platform.clock.now(), lease_s=3600, policy=platform.queue_policy
    )
    assert claim is not None
    view = KnownRows.open(platform, SOURCE, TARGET).view
    index = platform.batches.rows(manifest, Kind.ENTITY).index
    applied = []
    for section in index.sections.values():
        columns = section.read(("key_hi", "key_lo", "hash_hi", "hash_lo"), 0, section.rows)
        nothing = np.zeros(section.rows, np.uint64)
        applied.append(
            AppliedRows(
                type_name=section.type_name,
                key_hi=columns[0],
                key_lo=columns[1],
                hash_hi=columns[2],
                hash_lo=columns[3],
                before_hi=nothing,
                before_lo=nothing,
                row=np.arange(section.rows, dtype=np.int64) + section.start,
            )
        )
    head = next_snapshot(
        platform, view, manifest, TARGET, {Kind.ENTITY: applied, Kind.RELATIONSHIP: []}
    )
    now = platform.clock.now()
    planned = {"plan_digest": "0" * 32, "execution_plan_path": "none"}
    claim = platform.control.advance(claim, Move.PLANNED, now=now, changes=planned)
    claim = platform.control.advance(claim, Move.START, now=now)
    platform.control.complete(claim, now=now, changes={}, head=head, ledger=[])


def _decode_s(folder: Path, manifests: list[Manifest]) -> float:
    def decode() -> None:
        for manifest in manifests:
            for part in manifest.entities.parts:
                file = folder / "objects" / batch_prefix(manifest.batch_id) / part.path
                for _ in pq.ParquetFile(file).iter_batches(65_536):
                    pass

    return timed(decode, repeat=3)[0]


def _parts(platform: Platform, after: Manifest, name: str, decode_s: float) -> list[Result]:
    """Time the steps of planning apart from each other."""
    known = KnownRows.open(platform, SOURCE, TARGET)
    rows = platform.batches.rows(after, Kind.ENTITY)
    old, new = known.view.section(Kind.ENTITY, "column"), rows.index.sections["column"]
    diff_s, _ = timed(lambda: list(diff_section(old, new, absent=True)))
    changes = list(diff_section(old, new, absent=True))

    def fetch_and_compare() -> None:
        for change in changes:
            rows.take(change.created.rows)
            known.fetch(Kind.ENTITY, change.deleted)
            texts = [
                known.fetch(Kind.ENTITY, change.updated_before)["attributes"],
                rows.take(change.updated_after.rows)["attributes"],
            ]
            changed_fields(*texts)

    fetch_s, spread_s = timed(fetch_and_compare)
    share = 100 * fetch_s / decode_s
    peer = "decoding both batches' Parquet"
    return [
        result(f"decode both batches, {name}", decode_s, "s"),
        result(f"key diff, {name}", 1000 * diff_s, "ms"),
        result(f"fetch and compare what changed, {name}", 1000 * fetch_s, "ms"),
        result(f"... its spread, {name}", 1000 * spread_s, "ms"),
        result(f"... of decoding both, {name}", share, "%", peer=peer, goal=at_most(10, "%")),
    ]
