"""Collecting what a source yields, all of it in memory: for tests of a source and for a first look at one.

::

    found = collect(crm)
    assert found.entities["customer", "crm/42"] == {"name": "Ada"}
    assert found.absence_deletes("customer", "crm/43")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa

from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.scope import Completeness, Scope, ScopeMap
from penstock.batch.source import Extract, Extracted, SourceDefinition
from penstock.errors import BadRow

EntityName = tuple[str, str]
"""Type and key."""
RelationshipName = tuple[str, str, str]
"""Key, type and key: from, what, to."""

_NAMES = ("entity_type", "entity_key", "relationship_type", "from_key", "to_key", "tombstone")


@dataclass(frozen=True, kw_only=True)
class Collected:
    """All that one extract yielded, after the source's transform."""

    mode: Mode = Mode.FULL
    entities: dict[EntityName, Mapping[str, Any]] = field(default_factory=dict)
    relationships: dict[RelationshipName, Mapping[str, Any]] = field(default_factory=dict)
    tombstones: set[EntityName | RelationshipName] = field(default_factory=set)
    scopes: list[Scope]
    filtered: Counter[tuple[Kind, str]]

    def keys(self, entity_type: str) -> set[str]:
        """Return the keys of one type of entities."""
        return {key for type_name, key in self.entities if type_name == entity_type}

    def edges(self, relationship_type: str) -> set[tuple[str, str]]:
        """Return the ends of one type of relationships."""
        return {(a, b) for a, name, b in self.relationships if name == relationship_type}

    def completeness(self, type_name: str, key: str, *, kind: Kind = Kind.ENTITY) -> Completeness:
        """Return how complete the extract was where this key lies; a relationship lies at its from end."""
        return ScopeMap(self.scopes).completeness(kind, type_name, key)

    def absence_deletes(self, type_name: str, key: str, *, kind: Kind = Kind.ENTITY) -> bool:
        """Say whether a target would lose this key if the extract did not yield it."""
        complete = self.completeness(type_name, key, kind=kind) is Completeness.COMPLETE
        return complete and self.mode is Mode.FULL

    def dangling(self) -> set[RelationshipName]:
        """Return the relationships of which an end was not extracted."""
        keys = {key for _, key in self.entities}
        return {name for name in self.relationships if name[0] not in keys or name[2] not in keys}


def collect(
    source: SourceDefinition,
    *,
    source_timestamp: datetime | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Collected:
    """Extract a source into memory; raises what its extractor raises, and ``BadRow`` for a key yielded twice."""
    extract = Extract(
        source_timestamp=source_timestamp or datetime.now(UTC),
        settings={**source.settings, **(settings or {})},
    )
    found = Collected(mode=source.mode, scopes=extract.scopes, filtered=extract.filtered)
    for item in source.extractor(extract):
        for row in _rows(item):
            for each in source.transform(row) if source.transform else (row,):
                _add(found, each)
    return found


def _add(found: Collected, row: Entity | Relationship) -> None:
    name: EntityName | RelationshipName
    if isinstance(row, Entity):
        name = row.entity_type, row.entity_key
        seen: bool = name in found.entities
    else:
        name = row.from_key, row.relationship_type, row.to_key
        seen = name in found.relationships
    if seen or name in found.tombstones:
        raise BadRow(
            f"{' '.join(name)} was yielded twice: yield each key once, merging its attributes"
        )
    if row.deleted:
        found.tombstones.add(name)
    elif isinstance(row, Entity):
        found.entities[row.entity_type, row.entity_key] = row.attributes
    else:
        found.relationships[row.from_key, row.relationship_type, row.to_key] = row.attributes


def _rows(item: Extracted) -> Iterable[Entity | Relationship]:
    return _rows_of_arrow(item) if isinstance(item, pa.Table | pa.RecordBatch) else (item,)


def _rows_of_arrow(table: pa.Table | pa.RecordBatch) -> Iterator[Entity | Relationship]:
    for record in table.to_pylist():
        if "attributes" in record:
            attributes = orjson.loads(record["attributes"] or b"{}")
        else:
            attributes = {name: value for name, value in record.items() if name not in _NAMES}
        names = {name: record[name] for name in _NAMES[:-1] if name in record}
        row = Entity if "entity_key" in record else Relationship
        yield row(**names, attributes=attributes, deleted=bool(record.get("tombstone")))
