"""The key diff: what it reads, how it streams, and what it does not let pass."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from penstock.batch.index import BytesReader, IndexFile, SectionRows, holding
from penstock.batch.index_tree import BUCKET_MASK
from penstock.diff.compiled import WORTH_ROWS, compiled_merge, prepare
from penstock.diff.keys import diff_section
from penstock.diff.places import merge_by_search, places
from penstock.errors import IndexCorrupt
from tests.property.index_models import MappedBytes
from tests.unit.batch.test_index import rows_of, words, written


def edited(rows: SectionRows, at: list[int]) -> SectionRows:
    """Return rows with other digests at some positions."""
    hash_hi, hash_lo = rows.hash_hi.copy(), rows.hash_lo.copy()
    hash_hi[at] += np.uint64(1)
    hash_lo[at] += np.uint64(1)
    return SectionRows(
        type_name=rows.type_name,
        key_hi=rows.key_hi,
        key_lo=rows.key_lo,
        hash_hi=hash_hi,
        hash_lo=hash_lo,
    )


def without(rows: SectionRows, at: list[int]) -> SectionRows:
    """Return rows without some."""
    names = ("key_hi", "key_lo", "hash_hi", "hash_lo")
    columns = {name: np.delete(getattr(rows, name), at) for name in names}
    return SectionRows(type_name=rows.type_name, **columns)


def opened(rows: SectionRows) -> IndexFile:
    """Return rows as an open index file."""
    return IndexFile.open(BytesReader(written(rows)))


def test_equal_sections_read_nothing_but_their_totals() -> None:
    """When nothing changed, only footers are read, however many rows there are."""
    before, after = opened(rows_of("t", 50_000)), opened(rows_of("t", 50_000))
    footers = before.bytes_read, after.bytes_read
    diff = diff_section(before.sections["t"], after.sections["t"], absent=True)
    assert list(diff) == []
    assert (before.bytes_read, after.bytes_read) == footers
    assert diff.counts.unchanged == 50_000


def test_one_changed_row_reads_the_buckets_one_of_them_and_one_leaf() -> None:
    """Bytes read are at most the digests that have to be compared and twice the touched leaves."""
    rows = rows_of("t", 50_000)
    before, after = opened(rows), opened(edited(rows, [33_333]))
    footer = before.bytes_read
    (changes,) = diff_section(before.sections["t"], after.sections["t"], absent=True)
    assert changes.updated_after.rows.tolist() == [33_333]
    assert after.bytes_read == before.bytes_read
    read = before.bytes_read - footer
    tree, row = before.sections["t"].tree(), np.array([33_333])
    leaves, leaf = holding(tree, rows.key_hi[row], rows.key_lo[row])
    touched_rows = int((leaves.hi - leaves.lo)[leaf[0]])
    assert read <= 48 * len(tree.buckets) + 40 * len(leaves) + 2 * 32 * touched_rows
    assert len(leaves) < len(before.sections["t"].directory()) / 2


@pytest.mark.parametrize("compiled", [True, False])
def test_sides_without_a_fence_in_common_are_cut_into_pieces(compiled: bool) -> None:
    """Where all rows were replaced, buckets and leaves are read some at a time, and every row is told once."""
    sides = [rows_of("t", 3000, seed=seed) for seed in (5, 6)]
    buckets = [
        SectionRows(
            type_name="t",
            key_hi=side.key_hi,
            key_lo=side.key_lo & ~np.uint64(BUCKET_MASK),
            hash_hi=side.hash_hi,
            hash_lo=side.hash_lo,
        )
        for side in sides
    ]
    for before, after in (sides, buckets, [sides[0], buckets[1]]):
        diff = diff_section(before, after, absent=True, piece_rows=10, compiled=compiled)
        found = list(diff)
        assert max(map(len, found)) < 2000
        assert (np.concatenate([one.created.key_hi for one in found]) == after.key_hi).all()
        assert (np.concatenate([one.deleted.key_hi for one in found]) == before.key_hi).all()
        assert (diff.counts.created, diff.counts.deleted) == (3000, 3000)


def test_changes_come_by_the_piece_in_order_of_keys() -> None:
    """No piece holds much more than it may, and none goes back."""
    rows = rows_of("t", 20_000)
    before, after = opened(rows), opened(edited(rows, list(range(0, 20_000, 3))))
    diff = diff_section(before.sections["t"], after.sections["t"], absent=True, piece_rows=1000)
    changes = list(diff)
    assert len(changes) > 15
    assert max(map(len, changes)) < 1000
    at = np.concatenate([change.updated_after.rows for change in changes])
    assert at.tolist() == list(range(0, 20_000, 3))


def test_a_small_delta_reads_only_the_leaves_it_names() -> None:
    """Absences mean nothing in a delta batch, so what it does not name is not read."""
    rows = rows_of("t", 50_000)
    named = without(edited(rows, [7, 40_000]), [n for n in range(50_000) if n not in {7, 40_000}])
    before, after = opened(rows), opened(named)
    diff = diff_section(before.sections["t"], after.sections["t"], absent=False)
    assert sum(len(change.updated_after) for change in diff) == 2
    assert diff.counts.kept == 49_998
    assert before.bytes_read < 40 * len(before.sections["t"].directory()) + 4 * 32 * 2000


@pytest.mark.parametrize("column", ["hash_hi", "hash_lo"])
@pytest.mark.parametrize("absent", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_rows_that_are_not_what_their_leaf_says_are_noticed(
    column: str, absent: bool, compiled: bool
) -> None:
    """A bit that flipped in a digest of a leaf that is read raises instead of planning on it."""
    rows = rows_of("t", 3000)
    after = edited(rows, [1500])
    data = bytearray(written(rows))
    section = opened(rows).sections["t"]
    data[section.entry.columns[column] + 8 * 1500 + 1] ^= 4
    if not absent:
        after = without(after, [n for n in range(3000) if n != 1500])
    broken = IndexFile.open(MappedBytes(bytes(data))).sections["t"]
    other = IndexFile.open(MappedBytes(written(after))).sections["t"]
    with pytest.raises(IndexCorrupt, match=r"type 't' do not add up to the digests"):
        list(diff_section(broken, other, absent=absent, compiled=compiled))


def test_rows_that_share_half_a_key_are_told_apart() -> None:
    """A row replaced by another with the same ``key_hi`` is a delete and a create, not an update."""
    one = SectionRows(
        type_name="t", key_hi=words(5), key_lo=words(1), hash_hi=words(1), hash_lo=words(1)
    )
    other = SectionRows(
        type_name="t", key_hi=words(5), key_lo=words(2), hash_hi=words(2), hash_lo=words(2)
    )
    (changes,) = diff_section(one, other, absent=True)
    assert changes.created.key_lo.tolist() == [2]
    assert changes.deleted.key_lo.tolist() == [1]
    assert len(changes.updated_after) == 0


def test_a_diff_without_sides_is_refused() -> None:
    """There is nothing to name the type by."""
    with pytest.raises(ValueError, match="both None"):
        diff_section(None, None, absent=True)


def test_both_merges_agree() -> None:
    """The compiled merge and the binary search in its place give the same answer."""
    have, want = rows_of("t", 5000).key_hi, rows_of("t", 5000, seed=3).key_hi
    mixed = np.sort(np.concatenate([want, have[::7]]))
    assert places(have, mixed).tolist() == merge_by_search(have, mixed).tolist()


def test_the_compiled_merge_is_used_where_it_is_there_and_pays() -> None:
    """Not for a few rows, nor over files that have to be read; at any size where it is asked for."""
    assert prepare()
    small, large = rows_of("t", 100), rows_of("t", WORTH_ROWS)
    assert compiled_merge(small, small) is None
    assert compiled_merge(small, small, wanted=True) is not None
    assert compiled_merge(large, small) is not None
    assert compiled_merge(large, small, wanted=False) is None
    assert compiled_merge(opened(large).sections["t"], small, wanted=True) is None


class _Mapped:
    """An index file, mapped, that counts how often it lets go of its pages."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self._map)
        self.size_bytes = len(self.view)
        self.released = 0

    def read(self, offset: int, length: int) -> memoryview:
        return self.view[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        self._file.seek(offset)
        self._file.readinto(buffer)

    def release(self) -> None:
        self.released += 1

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("compiled", [True, False])
def test_a_mapped_file_gives_the_same_changes(tmp_path: Path, compiled: bool) -> None:
    """Rows scattered over a mapped file are found as in one that is read, and its pages are let go."""
    rows = rows_of("t", 300_000)
    after = without(edited(rows, list(range(0, 300_000, 900))), list(range(5, 300_000, 5000)))
    expected = list(diff_section(rows, after, absent=True, piece_rows=16_384, compiled=False))
    readers = []
    for name, side in (("before", rows), ("after", after)):
        (tmp_path / name).write_bytes(written(side))
        readers.append(_Mapped(tmp_path / name))
    sections = [IndexFile.open(reader).sections["t"] for reader in readers]
    diff = diff_section(*sections, absent=True, piece_rows=16_384, compiled=compiled)
    found = list(diff)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for part in ("created", "updated_before", "updated_after", "deleted"):
            a, b = getattr(one, part), getattr(other, part)
            for column in ("key_hi", "key_lo", "hash_hi", "hash_lo", "locator"):
                assert (getattr(a, column) == getattr(b, column)).all()
    list(sections[0].read(("key_hi", "key_lo"), 0, 300_000))
    list(sections[0].read(("key_hi", "key_lo"), 0, 300_000))
    assert readers[0].released > 0
    for reader in readers:
        reader.close()
