"""Index files: what is written is what is read, and anything else is named."""

from __future__ import annotations

import io

import numpy as np
import pytest

from penstock.batch.index import (
    MAGIC,
    NOTHING,
    BytesReader,
    IndexFile,
    SectionRows,
    equal_neighbours,
    find_hashes,
    find_rows,
    leaf_starts,
    sort_order,
    write_index,
)
from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64

ROWS = 1000


def rows_of(type_name: str, n: int = ROWS, seed: int = 1) -> SectionRows:
    """Return rows with keys that rise."""
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 2**64, (4, n), dtype=np.uint64)
    order = sort_order(words[0], words[1])
    key_hi, key_lo, hash_hi, hash_lo = (column[order] for column in words)
    return SectionRows(
        type_name=type_name, key_hi=key_hi, key_lo=key_lo, hash_hi=hash_hi, hash_lo=hash_lo
    )


def written(*sections: SectionRows) -> bytes:
    """Return an index file."""
    sink = io.BytesIO()
    write_index(sink, sections)
    return sink.getvalue()


def opened(data: bytes) -> IndexFile:
    """Return an index file, open."""
    return IndexFile.open(BytesReader(data), where="batches/s/1/entities.idx")


def words(*values: int) -> U64:
    """Return 64-bit words."""
    return np.array(values, np.uint64)


def test_rows_are_read_as_they_were_written() -> None:
    """Every column of every section comes back, by any range, at its place among all rows."""
    first, second = rows_of("column"), rows_of("table", 300, seed=2)
    file = opened(written(first, second))
    assert list(file.sections) == ["column", "table"]
    assert file.sections["table"].start == ROWS
    for rows, section in ((first, file.sections["column"]), (second, file.sections["table"])):
        assert section.rows == rows.rows
        assert section.totals == rows.totals
        for name in ("key_hi", "key_lo", "hash_hi", "hash_lo"):
            (column,) = section.read((name,), 17, 211)
            assert (column == getattr(rows, name)[17:211]).all()


def test_a_locator_is_the_position_among_all_rows() -> None:
    """Where a file has no locators of its own, rows of a section follow those before it."""
    section = opened(written(rows_of("a", 10), rows_of("b", 5))).sections["b"]
    assert section.read(("locator",), 1, 3)[0].tolist() == [11, 12]
    assert section.first_locator == 10


def test_leaves_are_cut_by_content_and_add_up() -> None:
    """A leaf begins at the first row and where seven low bits are zero; its sums are those of its rows."""
    rows = rows_of("table", 5000)
    leaves = opened(written(rows)).sections["table"].directory()
    assert leaves.first[0] == 0
    assert leaves.first[-1] == rows.rows
    assert ((rows.key_lo[leaves.first[1:-1]] & np.uint64(127)) == 0).all()
    for n in (0, len(leaves) // 2, len(leaves) - 1):
        lo, hi = leaves.first[n], leaves.first[n + 1]
        assert leaves.sum_hi[n] == rows.hash_hi[lo:hi].sum()
        assert (leaves.key_hi[n], leaves.key_lo[n]) == (rows.key_hi[lo], rows.key_lo[lo])
    assert len(leaves) == len(leaf_starts(rows.key_lo)) == len(rows.directory())


def test_an_inserted_row_moves_no_other_leaf() -> None:
    """All but the leaf that holds a new row keep their digests."""
    rows = rows_of("table", 5000)
    kept = np.delete(np.arange(5000), 2500)
    columns = {n: getattr(rows, n)[kept] for n in ("key_hi", "key_lo", "hash_hi", "hash_lo")}
    one, other = SectionRows(type_name="table", **columns).directory(), rows.directory()
    sums = set(one.sum_hi.tolist()) ^ set(other.sum_hi.tolist())
    assert len(sums) <= 3


def test_the_same_rows_are_the_same_bytes() -> None:
    """Writing is deterministic, and says how much it wrote and its digest."""
    sink = io.BytesIO()
    size_bytes, sha256 = write_index(sink, [rows_of("table")])
    assert sink.getvalue() == written(rows_of("table"))
    assert size_bytes == len(sink.getvalue())
    assert len(sha256) == 64


def test_a_file_without_rows_is_an_index() -> None:
    """No sections, and a section without rows, are both fine."""
    assert opened(written()).sections == {}
    empty = opened(written(rows_of("table", 0))).sections["table"]
    assert empty.totals == NOTHING
    assert len(empty.directory()) == 0
    assert find_rows(empty, words(1), words(2)).tolist() == [-1]


def test_digests_are_found_by_key_in_any_order() -> None:
    """Each key has its own row's digest, and one that is absent has none."""
    rows = rows_of("table", 20_000)
    section = opened(written(rows)).sections["table"]
    asked = np.random.default_rng(7).permutation(20_000)[:500]
    key_hi, key_lo = rows.key_hi[asked].copy(), rows.key_lo[asked].copy()
    key_lo[13] += np.uint64(1)
    hash_hi, hash_lo = find_hashes(section, key_hi, key_lo)
    expected = [rows.hash_hi[asked], rows.hash_lo[asked]]
    for column in expected:
        column[13] = 0
    assert np.array_equal([hash_hi, hash_lo], expected)


def test_opening_reads_the_footer_and_a_lookup_one_leaf() -> None:
    """What is read is counted, and is little."""
    rows = rows_of("table", 20_000)
    file = opened(written(rows))
    assert file.bytes_read < 1000
    section = file.sections["table"]
    section.directory()
    before = file.bytes_read
    found = section.find(rows.key_hi[[777]], rows.key_lo[[777]])
    assert found.tolist() == [777]
    assert file.bytes_read - before < 32 * 2000


def test_keys_are_found_in_any_order_and_absent_ones_are_not() -> None:
    """Positions count over all rows of the kind; ties of ``key_hi`` are told apart by ``key_lo``."""
    tied = SectionRows(
        type_name="b",
        key_hi=words(5, 5, 5, 7),
        key_lo=words(0, 128, 200, 0),
        hash_hi=words(1, 2, 3, 4),
        hash_lo=words(1, 2, 3, 4),
    )
    section = opened(written(rows_of("a", 10), tied)).sections["b"]
    found = section.find(words(7, 5, 5, 5, 6, 5), words(0, 200, 128, 129, 0, 0))
    assert found.tolist() == [13, 12, 11, -1, -1, 10]


def test_keys_out_of_order_are_named_by_type_and_row() -> None:
    """An index of unsorted rows is never written."""
    rows = rows_of("table", 10)
    swapped = SectionRows(
        type_name="table",
        key_hi=rows.key_hi[::-1].copy(),
        key_lo=rows.key_lo,
        hash_hi=rows.hash_hi,
        hash_lo=rows.hash_lo,
    )
    with pytest.raises(IndexCorrupt, match=r"type 'table' do not rise at row 1"):
        written(swapped)


def test_duplicate_keys_are_refused_and_can_be_found_beforehand() -> None:
    """Each pair of rows with one key is told by the position of its first."""
    rows = SectionRows(
        type_name="table",
        key_hi=words(1, 2, 2, 2, 3),
        key_lo=words(1, 1, 5, 5, 1),
        hash_hi=words(1, 1, 1, 1, 1),
        hash_lo=words(1, 1, 1, 1, 1),
    )
    assert equal_neighbours(rows.key_hi, rows.key_lo).tolist() == [2]
    with pytest.raises(IndexCorrupt, match=r"row 3"):
        written(rows)


def test_sections_are_written_once_each_in_order() -> None:
    """Types come sorted by name."""
    with pytest.raises(IndexCorrupt, match=r"'a' comes after 'b'"):
        written(rows_of("b", 3), rows_of("a", 3))


@pytest.mark.parametrize("kept", [0, 7, 40, 1000, 20_000])
def test_a_truncated_file_is_named(kept: int) -> None:
    """Whatever is cut off its end, opening it says which file is broken."""
    data = written(rows_of("table"))
    assert kept < len(data)
    with pytest.raises(IndexCorrupt, match=r"batches/s/1/entities\.idx"):
        opened(data[:kept])


@pytest.mark.parametrize("at", [-1, -20, -40, -60, 0])
def test_a_flipped_bit_in_what_describes_the_file_is_named(at: int) -> None:
    """Magic, trailer and footer are each checked when a file is opened."""
    data = bytearray(written(rows_of("table")))
    data[at] ^= 1
    with pytest.raises(IndexCorrupt, match=r"batches/s/1/entities\.idx"):
        opened(bytes(data))


@pytest.mark.parametrize("word", range(5))
def test_a_flipped_bit_in_a_leaf_is_named(word: int) -> None:
    """The leaves have to add up to their bucket, rise, and begin where it does."""
    entry = opened(written(rows_of("table"))).sections["table"].entry
    data = bytearray(written(rows_of("table")))
    data[entry.directory + 8 * word + (7 if word == 2 else 3)] ^= 16
    with pytest.raises(IndexCorrupt, match=r"leaf directory of type 'table'"):
        opened(bytes(data)).sections["table"].directory()


@pytest.mark.parametrize("word", range(6))
def test_a_flipped_bit_in_a_bucket_is_named(word: int) -> None:
    """Buckets have to add up to their section, and leaves to begin where their bucket does."""
    rows = rows_of("table", 50_000)
    entry = opened(written(rows)).sections["table"].entry
    assert entry.buckets > 2
    data = bytearray(written(rows))
    data[entry.bucket_directory + 48 + 8 * word] ^= 1
    with pytest.raises(IndexCorrupt, match=r"leaf directory of type 'table'"):
        opened(bytes(data)).sections["table"].directory()


def test_leaves_are_read_by_the_bucket() -> None:
    """Ranges of buckets give the leaves that the whole directory has there, from a file and from memory."""
    rows = rows_of("table", 50_000)
    every, file = rows.directory(), opened(written(rows))
    lo, hi = np.array([0, 2, 3]), np.array([1, 3, 5])
    for tree in (rows.tree(), file.sections["table"].tree()):
        found, top = tree.leaves(lo, hi), tree.buckets
        assert (top.lo[1:] == top.hi[:-1]).all()
        assert found.lo[found.starts].tolist() == top.lo[lo].tolist()
        assert found.key_hi.tolist() == every.key_hi[np.isin(every.first[:-1], found.lo)].tolist()
        assert int((found.hi - found.lo).sum()) == int((top.hi - top.lo)[[0, 2, 3, 4]].sum())
        assert found.sum_lo.sum() == top.sum_lo[[0, 2, 3, 4]].sum()


def test_a_reader_that_returns_too_little_is_noticed() -> None:
    """A range that ends early is an error, not a short column."""

    class Short(BytesReader):
        def read(self, offset: int, length: int) -> memoryview:
            return super().read(offset, length - 8 if length > 5000 else length)

    file = IndexFile.open(Short(written(rows_of("table"))), where="some.idx")
    with pytest.raises(IndexCorrupt, match=r"some\.idx ends before byte"):
        file.sections["table"].read(("hash_hi",), 0, ROWS)


def test_a_foreign_file_is_not_an_index() -> None:
    """A Parquet file under an index's name is told apart at once."""
    with pytest.raises(IndexCorrupt, match=MAGIC.decode()):
        opened(b"PAR1" + bytes(500) + b"PAR1")
