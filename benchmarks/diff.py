"""The key-level diff of two indexes, against a bare scan of them and against how others do it.

Every case runs in a process of its own, which imports, then measures the memory it has, then scans both files and
diffs them in turn, with the compiled merge and without. Peers run on the 1 % uniform change; deepdiff at a size that
it can bear.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.harness import Result, at_least, at_most, resident_bytes, result
from penstock.batch.index import IndexFile, IndexSection, SectionRows, sort_order, write_index
from penstock.diff.compiled import prepare
from penstock.diff.keys import PIECE_ROWS, diff_section
from penstock.diff.stretches import touched
from penstock.identity.digest import U64

SCAN_CHUNK_BYTES = 512 * 1024
ROW_BYTES = 32
DEEPDIFF_ROWS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One pair of indexes: ``rate`` of the rows changed; 60 % updates, 20 % creates, 20 % deletes."""

    name: str
    rate: float
    container_rows: int = 0
    """Change whole containers of this many rows; 0 changes rows anywhere."""
    limit: float | None = 1.5


CASES = (
    Case(name="nothing changed", rate=0.0, limit=None),
    Case(name="0.1 % uniform", rate=0.001),
    Case(name="1 % uniform", rate=0.01),
    Case(name="20 % uniform", rate=0.2),
    Case(name="0.1 % in containers of 1000", rate=0.001, container_rows=1000, limit=0.05),
    Case(name="1 % in containers of 1000", rate=0.01, container_rows=1000, limit=0.15),
    Case(name="0.1 % in containers of 100", rate=0.001, container_rows=100, limit=0.05),
    Case(name="1 % in containers of 100", rate=0.01, container_rows=100, limit=0.15),
    Case(name="all new, none before", rate=1.0),
    Case(name="all replaced", rate=2.0),
)
_QUICK = ("1 % uniform", "1 % in containers of 100", "all new, none before")


class FileReader:
    """An index file on disk, mapped. Conforms to ``penstock.batch.index.MappedReader``."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._map = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ)
        self.view = memoryview(self._map)
        self.size_bytes = len(self.view)

    def read(self, offset: int, length: int) -> memoryview:
        """Return a part of the mapping."""
        return self.view[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill a buffer by a read of the file."""
        os.preadv(self._fd, [buffer], offset)

    def release(self) -> None:
        """Let go of the pages that are mapped."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the file; the mapping goes with the last array on it."""
        os.close(self._fd)


# What is compared --------------------------------------------------------------------------------


def indexes(rows: int, case: Case) -> tuple[SectionRows, SectionRows]:
    """Return both sides of a case, the same on every run."""
    rng = np.random.default_rng(rows)
    per = case.container_rows or 100
    before = _rows(rng, rows, per)
    if case.rate > 1:
        return before, _rows(rng, rows, per)
    share = rng.random(rows) / max(case.rate, 1e-12)
    if case.container_rows:
        chosen = rng.random(rows // per + 1) < case.rate
        share = np.where(np.repeat(chosen, per)[:rows], rng.random(rows), 9.0)
    return before, _edited(rng, before, share)


def _words(rng: np.random.Generator, n: int) -> U64:
    return rng.integers(1, 2**64, n, dtype=np.uint64)


def _rows(rng: np.random.Generator, rows: int, per: int) -> SectionRows:
    containers = np.repeat(_words(rng, rows // per + 1) >> np.uint64(40) << np.uint64(40), per)
    key_hi = containers[:rows] | (_words(rng, rows) >> np.uint64(24))
    return _sorted(key_hi, *(_words(rng, rows) for _ in range(3)))


def _edited(rng: np.random.Generator, before: SectionRows, share: np.ndarray) -> SectionRows:
    kept, updated = share >= 0.2, (share >= 0.2) & (share < 0.8)
    near = before.key_hi[(share >= 0.8) & (share < 1)] >> np.uint64(40) << np.uint64(40)
    hash_hi, hash_lo = before.hash_hi.copy(), before.hash_lo.copy()
    hash_hi[updated], hash_lo[updated] = (_words(rng, int(updated.sum())) for _ in range(2))
    n = len(near)
    fresh = (near | (_words(rng, n) >> np.uint64(24)), *(_words(rng, n) for _ in range(3)))
    old = (before.key_hi[kept], before.key_lo[kept], hash_hi[kept], hash_lo[kept])
    return _sorted(*(np.concatenate(pair) for pair in zip(old, fresh, strict=True)))


def _sorted(key_hi: U64, key_lo: U64, hash_hi: U64, hash_lo: U64) -> SectionRows:
    order = sort_order(key_hi, key_lo)
    return SectionRows(
        type_name="table",
        key_hi=key_hi[order],
        key_lo=key_lo[order],
        hash_hi=hash_hi[order],
        hash_lo=hash_lo[order],
    )


def _write(path: Path, rows: SectionRows) -> None:
    with path.open("wb") as sink:
        write_index(sink, [rows])


# What is measured, in a process of its own ---------------------------------------------------------


def scan(paths: list[Path]) -> int:
    """Read files by the chunk and fold every 64-bit word once: the least that any reader does."""
    folded, buffer = 0, bytearray(SCAN_CHUNK_BYTES)
    words = np.frombuffer(buffer, np.uint64)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(buffer):
                folded ^= int(np.bitwise_xor.reduce(words[: size // 8]))
    return folded


def _section(path: Path) -> tuple[FileReader, IndexFile, IndexSection]:
    reader = FileReader(path)
    file = IndexFile.open(reader, where=path.name)
    return reader, file, file.sections["table"]


def diff(before: Path | None, after: Path, *, compiled: bool | None = None) -> tuple[int, int]:
    """Diff two index files; return how many keys changed and how many bytes were read."""
    sides = [_section(path) for path in (before, after) if path]
    old = sides[0][2] if before else None
    found = diff_section(old, sides[-1][2], absent=True, compiled=compiled)
    changes = sum(len(part) for part in found)
    for reader, _, _ in sides:
        reader.close()
    return changes, sum(file.bytes_read for _, file, _ in sides)


def allowed_bytes(before: Path | None, after: Path) -> int:
    """Return the digest tables and footers, and twice the leaves that differ, on both sides."""
    if before is None:
        return 2 * after.stat().st_size
    (_, file_b, old), (_, file_a, new) = _section(before), _section(after)
    footers = file_b.bytes_read + file_a.bytes_read
    if old.totals == new.totals:
        return footers
    rows = sum(
        int((found.before_hi - found.before_lo + found.after_hi - found.after_lo).sum())
        for found in touched(old.tree(), new.tree(), PIECE_ROWS)
    )
    return file_b.bytes_read + file_a.bytes_read + 2 * ROW_BYTES * rows


def measure(before: Path | None, after: Path, repeat: int) -> dict[str, float]:
    """Scan and diff in turn. Run in a fresh process: memory is counted above what the imports took."""
    import_s = _seconds(prepare)
    import_module("pandas")  # the NumPy merge imports it; imports are not what is measured

    paths = [path for path in (before, after) if path]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    resident = resident_bytes()
    seconds: list[float] = []
    scans: list[float] = []
    plain: list[float] = []
    changes, read = diff(before, after)
    peak = _peak_bytes() - resident
    for _ in range(repeat):
        scans.append(_seconds(lambda: scan(paths)))
        seconds.append(_seconds(lambda: diff(before, after)))
        plain.append(_seconds(lambda: diff(before, after, compiled=False)))
    return {
        "changes": changes,
        "read_bytes": read,
        "allowed_bytes": allowed_bytes(before, after),
        "resident_bytes": peak,
        "diff_s": median(seconds),
        "plain_s": median(plain),
        "import_s": import_s,
        "scan_s": median(scans),
        "best_ratio": min(seconds) / min(scans),
    }


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not report VmHWM")


def _in_process(before: Path | None, after: Path, repeat: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.diff", str(before or ""), str(after), str(repeat)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


# Peers -------------------------------------------------------------------------------------------


def set_difference(before: SectionRows, after: SectionRows) -> int:
    """Count changes as catalog ingestors do: sets of keys, and a dict of digests."""
    old, new = (
        dict(
            zip(
                zip(side.key_hi.tolist(), side.key_lo.tolist(), strict=True),
                zip(side.hash_hi.tolist(), side.hash_lo.tolist(), strict=True),
                strict=True,
            )
        )
        for side in (before, after)
    )
    created, deleted = new.keys() - old.keys(), old.keys() - new.keys()
    updated = [key for key in new.keys() & old.keys() if new[key] != old[key]]
    return len(created) + len(deleted) + len(updated)


def pandas_merge(before: SectionRows, after: SectionRows) -> int:
    """Count changes by an outer merge of two frames."""
    import pandas as pd

    frames = [pd.DataFrame(_columns(side)) for side in (before, after)]
    both = frames[0].merge(frames[1], on=["key_hi", "key_lo"], how="outer", indicator=True)
    same = (both["hash_hi_x"] == both["hash_hi_y"]) & (both["hash_lo_x"] == both["hash_lo_y"])
    return int((~same).sum())


def duckdb_join(before: SectionRows, after: SectionRows) -> int:
    """Count changes by a full outer join."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as database:
        database.register("b", pa.table(_columns(before)))
        database.register("a", pa.table(_columns(after)))
        found = database.execute(
            "select count(*) from b full join a on b.key_hi = a.key_hi and b.key_lo = a.key_lo "
            "where b.hash_hi is distinct from a.hash_hi or b.hash_lo is distinct from a.hash_lo"
        ).fetchone()
    assert found is not None
    return int(found[0])


def _columns(side: SectionRows) -> dict[str, U64]:
    return {name: getattr(side, name) for name in ("key_hi", "key_lo", "hash_hi", "hash_lo")}


def deepdiff_rows(rows: int) -> float:
    """Return the seconds that deepdiff takes over pairs of small changed objects."""
    from deepdiff import DeepDiff

    old = [
        {"name": f"t{n}", "columns": [{"name": "id", "type": "int"}], "n": n} for n in range(rows)
    ]
    new = [{**one, "n": -1} for one in old]
    return _seconds(lambda: [DeepDiff(a, b) for a, b in zip(old, new, strict=True)])


# The run -----------------------------------------------------------------------------------------


def run(*, quick: bool = False) -> list[Result]:
    """Measure every case at 1M and 5M rows; with ``quick``, some of them at 20k and 50k."""
    sizes = (20_000, 50_000) if quick else (1_000_000, 5_000_000)
    cases = [case for case in CASES if not quick or case.name in _QUICK]
    results: list[Result] = []
    resident: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        for rows in sizes:
            for case in cases:
                measured = _measured(Path(folder), rows, case, repeat=1 if quick else 7)
                resident[case.name, rows] = measured["resident_bytes"]
                results += list(_case_results(rows, case, measured, goals=rows == sizes[-1]))
    results.append(
        result("import of numba and of the compiled merge", measured["import_s"] * 1e3, "ms")
    )
    results += list(_growth(resident, sizes))
    results += _peers(sizes[-1], results)
    return results


def _measured(folder: Path, rows: int, case: Case, *, repeat: int) -> dict[str, float]:
    old, new = indexes(rows, case)
    before, after = folder / "before", folder / "after"
    _write(before, old)
    _write(after, new if case.rate != 1.0 else old)
    return _in_process(None if case.rate == 1.0 else before, after, repeat)


def _case_results(
    rows: int, case: Case, measured: dict[str, float], *, goals: bool
) -> Iterator[Result]:
    name = f"{rows:,} rows, {case.name}"
    yield result(f"{name}: diff", measured["diff_s"] * 1e3, "ms")
    yield result(
        f"{name}: diff / scan",
        measured["diff_s"] / measured["scan_s"],
        "x",
        peer=f"bare scan {measured['scan_s'] * 1e3:.1f} ms",
        goal=at_most(case.limit, "x") if goals and case.limit else None,
    )
    yield result(
        f"{name}: diff / scan, without numba",
        measured["plain_s"] / measured["scan_s"],
        "x",
        peer=f"best with numba {measured['best_ratio']:.2f} x",
    )
    yield result(
        f"{name}: bytes read",
        measured["read_bytes"] / 1e6,
        "MB",
        goal=at_most(round(measured["allowed_bytes"] / 1e6, 6), "MB"),
    )
    yield result(
        f"{name}: resident above imports",
        measured["resident_bytes"] / 2**20,
        "MiB",
        goal=at_most(64, "MiB") if goals else None,
    )


def _growth(resident: dict[tuple[str, int], float], sizes: tuple[int, int]) -> Iterator[Result]:
    small, large = (
        max(size for (_, rows), size in resident.items() if rows == wanted) for wanted in sizes
    )
    yield result(
        f"growth of the largest resident memory, {sizes[0]:,} to {sizes[1]:,} rows",
        100 * (large / small - 1),
        "%",
        goal=at_most(10, "%"),
    )


def _peers(rows: int, results: list[Result]) -> list[Result]:
    case = next(case for case in CASES if case.name == "1 % uniform")
    ours_s = next(r.value for r in results if r.name == f"{rows:,} rows, {case.name}: diff") / 1e3
    old, new = indexes(rows, case)
    found = []
    counts = set()
    for peer in (set_difference, pandas_merge, duckdb_join):
        start = perf_counter()
        counts.add(peer(old, new))
        ratio = (perf_counter() - start) / ours_s
        goal = at_least(20, "x") if peer is set_difference else None
        name = f"{rows:,} rows, {case.name}: {peer.__name__.replace('_', ' ')} / diff"
        found.append(result(name, ratio, "x", peer="the same rows in memory", goal=goal))
    assert len(counts) == 1, f"the peers disagree: {counts}"
    each_s = deepdiff_rows(DEEPDIFF_ROWS // 10) / (DEEPDIFF_ROWS // 10)
    found.append(result("deepdiff, one changed row", each_s * 1e6, "us"))
    return found


if __name__ == "__main__":
    first, second, times = sys.argv[1:]
    print(json.dumps(measure(Path(first) if first else None, Path(second), int(times))))
