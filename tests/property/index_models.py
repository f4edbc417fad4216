"""Sets of rows small enough to reason about as dicts, and the same rows as indexes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from penstock.batch.index import BytesReader, IndexFile, SectionRows, write_index
from penstock.diff.keys import KeyChanges, RowRefs

Key = tuple[int, int]
Hash = tuple[int, int]
Model = dict[Key, Hash]

WORDS = [0, 1, 127, 128, 129, 256, 384, 2**63, 2**64 - 129, 2**64 - 128, 2**64 - 1]

keys = st.tuples(
    st.one_of(st.integers(0, 6), st.sampled_from(WORDS)),
    st.one_of(st.integers(0, 300), st.sampled_from(WORDS)),
)
"""Few enough that two sets share many, that ``key_hi`` ties, and that some begin leaves."""
values = st.tuples(st.integers(0, 2), st.integers(0, 2))
"""Two versions may differ in the high half of their digests only, or in the low half only."""


def hash_of(key: Key, value: tuple[int, int]) -> Hash:
    """Return digests as real ones are: of key and content, so that neither rows nor sums agree by chance."""
    halves = [hashlib.sha256(f"{key} {n} {part}".encode()).digest() for n, part in enumerate(value)]
    high, low = (int.from_bytes(half[:8], "big") for half in halves)
    return high, low


def hashed(model: Mapping[Key, tuple[int, int]]) -> Model:
    """Return a model with the digests of its values."""
    return {key: hash_of(key, value) for key, value in model.items()}


models = st.dictionaries(keys, values, max_size=120).map(hashed)
edits = st.dictionaries(keys, st.one_of(st.none(), values), max_size=25).map(
    lambda edit: {key: value and hash_of(key, value) for key, value in edit.items()}
)
"""What becomes of some keys: a new digest, or None for gone."""


def section_rows(model: Mapping[Key, Hash], type_name: str = "t") -> SectionRows:
    """Return a model's rows, sorted."""
    ordered = sorted(model)
    columns = np.array([(*key, *model[key]) for key in ordered], np.uint64).reshape(-1, 4).T.copy()
    return SectionRows(
        type_name=type_name,
        key_hi=columns[0],
        key_lo=columns[1],
        hash_hi=columns[2],
        hash_lo=columns[3],
    )


def index_bytes(sections: Mapping[str, Mapping[Key, Hash]]) -> bytes:
    """Return the index file of some models by type."""
    sink = io.BytesIO()
    write_index(sink, [section_rows(sections[name], name) for name in sorted(sections)])
    return sink.getvalue()


def index_file(sections: Mapping[str, Mapping[Key, Hash]]) -> IndexFile:
    """Return some models by type as an open index."""
    return IndexFile.open(BytesReader(index_bytes(sections)))


class MappedBytes(BytesReader):
    """A file in memory that is read as a mapped one is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.view = memoryview(data)

    def read_into(self, offset: int, buffer: memoryview, /) -> None:
        """Fill a buffer."""
        buffer[:] = self.view[offset : offset + len(buffer)]

    def release(self) -> None:
        """Nothing is resident that could be let go."""


def mapped_file(sections: Mapping[str, Mapping[Key, Hash]]) -> IndexFile:
    """Return some models by type as an open index that is mapped."""
    return IndexFile.open(MappedBytes(index_bytes(sections)))


def rows_of(refs: RowRefs) -> dict[Key, tuple[Hash, int]]:
    """Return refs as a dict from key to hash and locator."""
    columns = (refs.key_hi, refs.key_lo, refs.hash_hi, refs.hash_lo, refs.locator)
    return {
        (a, b): ((c, d), e) for a, b, c, d, e in zip(*(x.tolist() for x in columns), strict=True)
    }


def gathered(changes: list[KeyChanges]) -> dict[str, dict[Key, tuple[Hash, int]]]:
    """Return all that a diff yielded, by part."""
    parts = ("created", "updated_before", "updated_after", "deleted")
    found: dict[str, dict[Key, tuple[Hash, int]]] = {part: {} for part in parts}
    for change in changes:
        for part in parts:
            rows = rows_of(getattr(change, part))
            assert not rows.keys() & found[part].keys()
            found[part] |= rows
    return found
