"""Rows in a mapped file: any of them, in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from penstock.batch import encode
from resources.row_cache.row_file import RowFile, RowFileWriter
from resources.row_cache.scratch import LocalScratch

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def table(start: int, stop: int) -> pa.Table:
    return pa.table(
        {"n": range(start, stop), "text": [f"é{n}" for n in range(start, stop)]}, SCHEMA
    )


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RowFile:
    monkeypatch.setattr(encode, "CHUNK_ROWS", 7)
    with RowFileWriter(tmp_path / "rows", SCHEMA) as writer:
        for start, stop in [(0, 10), (10, 10), (10, 11), (11, 50)]:
            writer.append(table(start, stop))
    return RowFile(tmp_path / "rows")


@pytest.mark.parametrize("seed", range(20))
def test_rows_come_in_the_order_asked_for(file: RowFile, seed: int) -> None:
    """Positions may be in any order, repeat, and lie in any chunk."""
    rng = np.random.default_rng(seed)
    positions = rng.integers(0, 50, rng.integers(0, 80))
    assert file.rows == 50
    taken = file.take(positions)
    assert taken.schema == SCHEMA
    assert taken["n"].to_pylist() == positions.tolist()
    assert taken["text"].to_pylist() == [f"é{n}" for n in positions]


@pytest.mark.parametrize("seed", range(20))
def test_a_scan_covers_its_range_once(file: RowFile, seed: int) -> None:
    """Chunks are no larger than asked for and leave nothing out."""
    rng = np.random.default_rng(seed)
    start, stop = sorted(rng.integers(0, 51, 2).tolist())
    chunk_rows = int(rng.integers(1, 20))
    chunks = list(file.scan(["n"], start, stop, chunk_rows=chunk_rows))
    assert [n for chunk in chunks for n in chunk["n"].to_pylist()] == list(range(start, stop))
    assert all(0 < len(chunk) <= chunk_rows and chunk.column_names == ["n"] for chunk in chunks)


def test_a_file_stays_readable_after_it_is_deleted(file: RowFile, tmp_path: Path) -> None:
    """An entry that is evicted serves those who have it open."""
    (tmp_path / "rows").unlink()
    assert file.take(np.array([49]))["n"].to_pylist() == [49]


def test_a_spool_goes_with_its_block(tmp_path: Path) -> None:
    """Rows that were put down are picked up in another order, and the file is gone afterwards."""
    with LocalScratch(tmp_path).spool(SCHEMA) as spool:
        spool.append(table(0, 5))
        assert spool.take(np.array([4, 0]))["n"].to_pylist() == [4, 0]
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
