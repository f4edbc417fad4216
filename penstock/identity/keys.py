"""Index keys: the 128-bit names under which rows are sorted, found and compared.

Within one type, the key of a row is ``(key_hi, key_lo)``::

    key_hi = 24 bits of the digest of the container | 40 bits of the digest of the key
    key_lo = the next 64 bits of the digest of the key

Rows of one container therefore lie together, so that a change inside one container touches few leaves;
``key_hi`` alone is unique nearly always, so that a merge can run on one 64-bit column and look at
``key_lo`` only where two rows share ``key_hi``. A relationship lies in the container of its
``from_key``'s own key, so that all relationships of one entity are neighbours.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.identity.digest import TAG_CONTAINER, TAG_KEY, U64, column_digests, halves

CONTAINER_BITS = 24
_KEY_BITS = np.uint64(64 - CONTAINER_BITS)


def containers_of(entity_keys: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the key of each entity's container: ``ids.container_of``, for a whole column."""
    return pc.replace_substring_regex(entity_keys, r"(?s)/?[^/]*\z", "")


def entity_index_keys(entity_keys: pa.Array) -> tuple[U64, U64]:
    """Return ``(key_hi, key_lo)`` for entity keys (strings without nulls)."""
    containers = containers_of(entity_keys)
    return _index_keys(containers, column_digests(TAG_KEY, [entity_keys]))


def relationship_index_keys(from_keys: pa.Array, to_keys: pa.Array) -> tuple[U64, U64]:
    """Return ``(key_hi, key_lo)`` for relationships of one type."""
    return _index_keys(from_keys, column_digests(TAG_KEY, [from_keys, to_keys]))


def _index_keys(containers: pa.Array, digests: np.ndarray) -> tuple[U64, U64]:
    high, low = halves(digests)
    return (_container_prefix(containers) | (high >> np.uint64(CONTAINER_BITS))), low


def _container_prefix(containers: pa.Array) -> U64:
    """Return the container's 24 bits in their place; each distinct container is hashed once."""
    encoded = pc.dictionary_encode(containers)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    high, _ = halves(column_digests(TAG_CONTAINER, [encoded.dictionary]))
    prefixes = (high >> _KEY_BITS) << _KEY_BITS
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return prefixes[indices] if len(prefixes) else np.empty(0, np.uint64)
