"""Entities and relationships, one at a time in Python and many at a time in Arrow.

The Arrow schemas here are the contract of ``part-*.parquet`` files. ``attributes`` is JSON text; a batch that
Penstock lands has it in canonical form (``penstock.identity.canonical``), and anything else is brought
to that form before it is hashed. ``tombstone`` rows appear in ``delta`` batches only and carry no attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa


class Kind(StrEnum):
    """The two kinds of rows; also the folder and index name of each in a batch."""

    ENTITY = "entities"
    RELATIONSHIP = "relationships"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entity:
    """One thing that a source knows of; ``deleted=True`` makes it a tombstone."""

    entity_type: str
    entity_key: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Relationship:
    """One directed edge between two entities; ``deleted=True`` makes it a tombstone."""

    from_key: str
    relationship_type: str
    to_key: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    deleted: bool = False


ENTITY_SCHEMA = pa.schema(
    [
        pa.field("entity_type", pa.string(), nullable=False),
        pa.field("entity_key", pa.string(), nullable=False),
        pa.field("attributes", pa.string()),
        pa.field("tombstone", pa.bool_(), nullable=False),
    ]
)
RELATIONSHIP_SCHEMA = pa.schema(
    [
        pa.field("relationship_type", pa.string(), nullable=False),
        pa.field("from_key", pa.string(), nullable=False),
        pa.field("to_key", pa.string(), nullable=False),
        pa.field("attributes", pa.string()),
        pa.field("tombstone", pa.bool_(), nullable=False),
    ]
)
SCHEMAS: Mapping[Kind, pa.Schema] = {
    Kind.ENTITY: ENTITY_SCHEMA,
    Kind.RELATIONSHIP: RELATIONSHIP_SCHEMA,
}
TYPE_COLUMN: Mapping[Kind, str] = {
    Kind.ENTITY: "entity_type",
    Kind.RELATIONSHIP: "relationship_type",
}
"""The column that holds the type; rows of a file and of an index are grouped by it."""
