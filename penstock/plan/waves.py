"""Waves: operations that may run in any order; waves run one after another.

Entities are created and updated before what refers to them, containers before what they contain. Then relationships
are deleted, and only then others created: of a type that allows one at an end, the old one makes room for the new.
Entities are deleted last, what is contained first.

=======  ==========================================================
rank     wave
=======  ==========================================================
0 + d    create and update entities whose key has depth ``d``
100      delete relationships
200      create and update relationships
300 - d  delete entities whose key has depth ``d`` (deepest first)
=======  ==========================================================

The rank is the wave's number; ranks without operations simply do not occur.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind

MAX_DEPTH = 99
RELATIONSHIP_DELETES = 100
RELATIONSHIPS = 200
ENTITY_DELETES = 300


def waves_of(kind: Kind, keys: pa.Array, *, deletes: bool) -> pa.Array:
    """Return the wave of each operation, ``int32``; ``keys`` are entity keys or from-keys."""
    if kind is Kind.RELATIONSHIP:
        return pa.repeat(
            pa.scalar(RELATIONSHIP_DELETES if deletes else RELATIONSHIPS, pa.int32()), len(keys)
        )
    depth = pc.min_element_wise(pc.count_substring(keys, "/"), pa.scalar(MAX_DEPTH, pa.int32()))
    ranks = pc.subtract(pa.scalar(ENTITY_DELETES, pa.int32()), depth) if deletes else depth
    return pc.cast(ranks, pa.int32())
