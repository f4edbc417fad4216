"""Sets of rows small enough to reason about as dicts, and the same rows as indexes."""

from __future__ import annotations

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
hashes = st.tuples(
    st.one_of(st.integers(1, 3), st.sampled_from(WORDS[1:])),
    st.one_of(st.integers(0, 3), st.sampled_from(WORDS)),
)
models = st.dictionaries(keys, hashes, max_size=120)


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
