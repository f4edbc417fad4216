"""Operations: one atomic, idempotent step each on one entity or relationship.

Operations travel as Arrow tables of ``OPERATION_SCHEMA``, by the chunk; no Python object is made per operation on
the way from diff to target.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa


class Action(StrEnum):
    """What an operation does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Verdict(StrEnum):
    """What planning decided about an operation."""

    PLANNED = "planned"
    """It will be sent."""
    REFUSED = "refused"
    """It breaks a rule (a reference to nothing, a cycle) and is never sent."""
    HELD = "held"
    """A guard keeps it back."""
    BLOCKED = "blocked"
    """What it depends on is refused or held."""


DIGEST = pa.binary(16)

OPERATION_SCHEMA = pa.schema(
    [
        pa.field("operation_id", DIGEST, nullable=False),
        pa.field("wave", pa.int32(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # Kind: "entities" or "relationships"
        pa.field("type_name", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),  # entity_key, or from_key
        pa.field("to_key", pa.string()),  # relationships only
        pa.field("attributes", pa.string()),  # canonical text after; null for deletes
        pa.field("before_attributes", pa.string()),  # the before-image; null for creates
        pa.field("before_digest", DIGEST),  # null for creates
        pa.field("after_digest", DIGEST),  # null for deletes
        pa.field("changed", pa.list_(pa.string())),  # top-level attributes, for updates
        pa.field("key_hi", pa.uint64(), nullable=False),
        pa.field("key_lo", pa.uint64(), nullable=False),
        pa.field(
            "row", pa.int64(), nullable=False
        ),  # position in the batch; -1 where there is none
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # why not planned
        pa.field("guard", pa.string()),  # what holds it; null for what is not held
        pa.field("blocked_by", DIGEST),  # the culprit's operation id; null for what is not blocked
    ]
)
"""One row per operation. ``row`` and the index key let the snapshot advance without a look at the rows."""
