"""The merge of one piece in one compiled pass, for indexes that lie in memory or are mapped.

numba is an optional extra (``pip install 'penstock[fast]'``). Importing it takes about half a second, which a diff of
a few million rows does not win back: so it is used where the process has it already, or where a section is very
large. What it finds is checked against the sums of the leaves like what :mod:`penstock.diff.merge` finds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from penstock.batch.index import FAULT_BYTES, I64, Columns, KeyedRows
from penstock.diff.merge import Merged
from penstock.diff.rows import NO_ROWS, RowRefs
from penstock.diff.stretches import Piece, Runs
from penstock.identity.digest import U64

LARGE_ROWS = 20_000_000
"""From here on a diff wins back the import of numba."""
WORTH_ROWS = 50_000
"""Below this a diff takes a few milliseconds either way."""
PIECE_ROWS = 65_536
"""A call costs some microseconds, and the pages of a mapped file are had by the run: longer pieces are cheaper."""
_BLOCK = 16
"""Rows that are compared at once where the last ones were equal."""


def compiled_merge(
    before: KeyedRows, after: KeyedRows, *, wanted: bool | None = None
) -> CompiledMerge | None:
    """Return the compiled merge of two sections, or None where it cannot be had or would not pay.

    ``wanted`` decides what pays: True at any size, False never, None by the size.
    """
    rows = max(before.rows, after.rows)
    if wanted is None:
        wanted = rows >= LARGE_ROWS or (rows >= WORTH_ROWS and "numba" in sys.modules)
    old, new = (before.columns(), after.columns()) if wanted else (None, None)
    if old is None or new is None or ("numba" not in sys.modules and not find_spec("numba")):
        return None
    return CompiledMerge(old, new)


def prepare() -> bool:
    """Import numba and load or compile the merge, for a process that will diff much; False without numba."""
    found = find_spec("numba") is not None
    if found:
        _kernels()
    return found


class CompiledMerge:
    """Merges pieces of two sections whose columns are at hand."""

    def __init__(self, before: Columns, after: Columns) -> None:
        self.before, self.after = before, after
        self._kernels = _kernels()
        self._positions = np.empty((4, 0), np.int64)

    def merged(self, piece: Piece) -> Merged:
        """Return what became of the rows of a piece.

        Exact unless two digests share ``hash_lo``, which shows in the sums; exact in any case for pieces whose sums
        are not known.
        """
        return self._merge(piece, wide=not piece.whole)

    def exact(self, piece: Piece) -> Merged:
        """Return the same on all 128 bits of keys and digests."""
        return self._merge(piece, wide=True)

    def _merge(self, piece: Piece, *, wide: bool) -> Merged:
        deleted, created, old, new = self._scratch(max(len(piece.before), len(piece.after)))
        runs = (piece.before.lo, piece.before.hi, piece.after.lo, piece.after.hi)
        found = np.zeros(6, np.uint64)
        self._kernels.merge(
            *_words(self.before),
            *_words(self.after),
            *runs,
            wide,
            deleted,
            created,
            old,
            new,
            found,
        )
        n_deleted, n_created, n_updated, tombstones, moved_hi, moved_lo = found.tolist()
        merged = Merged(
            created=self._refs(self.after, created[:n_created], piece.after),
            updated_before=self._refs(self.before, old[:n_updated], piece.before),
            updated_after=self._refs(self.after, new[:n_updated], piece.after),
            deleted=self._refs(self.before, deleted[:n_deleted], piece.before),
            tombstones=tombstones,
            sums=(moved_hi, moved_lo),
        )
        _count(self.before, piece.before, n_updated + n_deleted, wide=wide)
        _count(self.after, piece.after, n_updated + n_created, wide=wide)
        return merged

    def _scratch(self, rows: int) -> I64:
        """Return four arrays for positions, the same ones again: fresh memory is dear by the page."""
        if self._positions.shape[1] < rows:
            self._positions = np.empty((4, 2 * rows), np.int64)
        return self._positions

    def _refs(self, columns: Columns, at: I64, runs: Runs) -> RowRefs:
        if not len(at):
            return NO_ROWS
        if len(runs.lo) == 1 and len(at) == runs.hi[0] - runs.lo[0]:
            return _views(columns, int(runs.lo[0]), int(runs.hi[0]))
        out = np.empty((5, len(at)), np.uint64)
        self._kernels.collect(*_words(columns), at, columns.first_locator or 0, out)
        if columns.locator is not None:
            out[4] = columns.locator.take(at)
        return RowRefs(key_hi=out[0], key_lo=out[1], hash_hi=out[2], hash_lo=out[3], locator=out[4])


def _words(columns: Columns) -> tuple[U64, U64, U64, U64]:
    return columns.key_hi, columns.key_lo, columns.hash_hi, columns.hash_lo


def _views(columns: Columns, lo: int, hi: int) -> RowRefs:
    """Return all rows of a range without a copy."""
    key_hi, key_lo, hash_hi, hash_lo = (column[lo:hi] for column in _words(columns))
    locator = columns.locator
    first = columns.first_locator or 0
    where = (
        np.arange(lo + first, hi + first, dtype=np.uint64) if locator is None else locator[lo:hi]
    )
    return RowRefs(key_hi=key_hi, key_lo=key_lo, hash_hi=hash_hi, hash_lo=hash_lo, locator=where)


def _count(columns: Columns, runs: Runs, changed: int, *, wide: bool) -> None:
    """Count two columns of all rows, and the other two of those that changed (or were compared in full)."""
    rows, span = len(runs), int(runs.hi[-1] - runs.lo[0])
    full = rows if wide else changed
    mapped = min(8 * span, 8 * rows + FAULT_BYTES * (len(runs.lo) - 1))
    columns.count(16 * (rows + full), 2 * (mapped + min(mapped, FAULT_BYTES * full)))


# What is compiled --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kernels:
    merge: Callable[..., None]
    collect: Callable[..., None]


_compiled: list[_Kernels] = []


def _kernels() -> _Kernels:
    """Compile both loops once a process, or load them from numba's cache."""
    if not _compiled:
        import numba  # noqa: PLC0415  optional, and dear to import

        words = numba.types.Array(numba.uint64, 1, "C", readonly=True)
        rows = numba.types.Array(numba.int64, 1, "C", readonly=True)
        out = numba.int64[::1]
        nothing = numba.void
        merge = nothing(
            *[words] * 8, *[rows] * 4, numba.boolean, out, out, out, out, numba.uint64[::1]
        )
        collect = nothing(*[words] * 4, rows, numba.int64, numba.uint64[:, ::1])
        _compiled.append(
            _Kernels(
                merge=_compile(numba, merge, _merge_runs),
                collect=_compile(numba, collect, _collect_rows),
            )
        )
    return _compiled[0]


def _compile(numba: Any, signature: Any, loop: Callable[..., None]) -> Callable[..., None]:
    """Compile a loop; where neither this folder nor the user's cache can be written to, every process does so."""
    try:
        compiled: Callable[..., None] = numba.njit(signature, cache=True, nogil=True)(loop)
    except (RuntimeError, OSError):
        compiled = numba.njit(signature, nogil=True)(loop)
    return compiled


def _merge_runs(  # noqa: PLR0912, PLR0915  one loop, because calls between loops are what it saves
    b_key_hi: Any,
    b_key_lo: Any,
    b_hash_hi: Any,
    b_hash_lo: Any,
    a_key_hi: Any,
    a_key_lo: Any,
    a_hash_hi: Any,
    a_hash_lo: Any,
    b_lo: Any,
    b_hi: Any,
    a_lo: Any,
    a_hi: Any,
    wide: Any,
    deleted: Any,
    created: Any,
    old: Any,
    new: Any,
    found: Any,
) -> None:
    """Merge runs of rows with two pointers: rows deleted, created and updated, by how much they move the sums.

    Where ``key_hi`` and ``hash_lo`` are equal, rows are taken as equal (unless ``wide``); everything else is decided
    on all 128 bits. ``found`` is (deleted, created, updated, tombstones among created and updated, sums moved).
    Everything is unsigned, because signed positions are checked for wrapping round at every access.
    """
    zero, one, block = np.uint64(0), np.uint64(1), np.uint64(_BLOCK)
    n_deleted, n_created, n_updated, tombstones = zero, zero, zero, zero
    moved_hi, moved_lo = zero, zero
    for run in range(len(b_lo)):
        i, i_end = np.uint64(b_lo[run]), np.uint64(b_hi[run])
        j, j_end = np.uint64(a_lo[run]), np.uint64(a_hi[run])
        equal = zero
        while i < i_end and j < j_end:
            if equal >= block and not wide:
                while i + block <= i_end and j + block <= j_end:
                    differs = zero
                    for k in range(block):
                        differs |= b_key_hi[i + k] ^ a_key_hi[j + k]
                        differs |= b_hash_lo[i + k] ^ a_hash_lo[j + k]
                    if differs != zero:
                        break
                    i += block
                    j += block
                equal = zero
                if i >= i_end or j >= j_end:
                    break
            mine, other = b_key_hi[i], a_key_hi[j]
            if mine == other:
                if not wide and b_hash_lo[i] == a_hash_lo[j]:
                    i += one
                    j += one
                    equal += one
                    continue
                mine, other = b_key_lo[i], a_key_lo[j]
                if mine == other:
                    if b_hash_hi[i] != a_hash_hi[j] or b_hash_lo[i] != a_hash_lo[j]:
                        old[n_updated], new[n_updated] = i, j
                        n_updated += one
                        moved_hi += a_hash_hi[j] - b_hash_hi[i]
                        moved_lo += a_hash_lo[j] - b_hash_lo[i]
                        tombstones += np.uint64((a_hash_hi[j] | a_hash_lo[j]) == zero)
                    i += one
                    j += one
                    continue
            if mine < other:
                deleted[n_deleted] = i
                n_deleted += one
                moved_hi -= b_hash_hi[i]
                moved_lo -= b_hash_lo[i]
                i += one
            else:
                created[n_created] = j
                n_created += one
                moved_hi += a_hash_hi[j]
                moved_lo += a_hash_lo[j]
                tombstones += np.uint64((a_hash_hi[j] | a_hash_lo[j]) == zero)
                j += one
        while i < i_end:
            deleted[n_deleted] = i
            n_deleted += one
            moved_hi -= b_hash_hi[i]
            moved_lo -= b_hash_lo[i]
            i += one
        while j < j_end:
            created[n_created] = j
            n_created += one
            moved_hi += a_hash_hi[j]
            moved_lo += a_hash_lo[j]
            tombstones += np.uint64((a_hash_hi[j] | a_hash_lo[j]) == zero)
            j += one
    found[0], found[1], found[2] = n_deleted, n_created, n_updated
    found[3], found[4], found[5] = tombstones, moved_hi, moved_lo


def _collect_rows(
    key_hi: Any, key_lo: Any, hash_hi: Any, hash_lo: Any, at: Any, first: Any, out: Any
) -> None:
    """Copy some rows, and where they are, into the rows of ``out``."""
    for n in range(len(at)):
        row = np.uint64(at[n])
        out[0, n] = key_hi[row]
        out[1, n] = key_lo[row]
        out[2, n] = hash_hi[row]
        out[3, n] = hash_lo[row]
        out[4, n] = at[n] + first
