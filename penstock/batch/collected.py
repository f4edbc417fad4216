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

import pyarrow as pa

from penstock.batch.encode import decoded, encode
from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.scope import Completeness, Scope, ScopeMap
from penstock.batch.source import Extract, Extracted, SourceDefinition
from penstock.batch.validate import check_rows
from penstock.errors import BadRow

EntityName = tuple[str, str]
"""Type and key."""
RelationshipName = tuple[str, str, str]
"""Key, type and key: from, what, to."""

Row = Entity | Relationship
SOME_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
"""The source timestamp of what is collected without one."""


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
    """Extract a source into memory, with the checks that landing makes.

    Raises what its extractor raises, and ``BadRow`` for what no batch can hold, such as a key
    yielded twice.
    """
    extract = Extract(
        source_timestamp=source_timestamp or SOME_MOMENT,
        settings={**source.settings, **(settings or {})},
    )
    found = Collected(mode=source.mode, scopes=extract.scopes, filtered=extract.filtered)
    for row in _rows(source.extractor(extract), source.mode):
        if source.transform is None:
            _add(found, row)
        else:
            _add_transformed(found, row, source)
    return found


def _add_transformed(found: Collected, row: Row, source: SourceDefinition) -> None:
    assert source.transform is not None
    made = list(source.transform(row))
    for each in _rows(made, source.mode):
        _add(found, each)
    if not made:
        kind, type_name = (
            (Kind.ENTITY, row.entity_type)
            if isinstance(row, Entity)
            else (Kind.RELATIONSHIP, row.relationship_type)
        )
        found.filtered[kind, type_name] += 1


def _rows(items: Iterable[Extracted], mode: Mode) -> Iterator[Row]:
    """Yield rows as landing would see them: encoded, checked, and read back."""
    for kind, rows in encode(items):
        check_rows(kind, rows, mode, lambda n, rows=rows: " ".join(_names(rows, n)))  # type: ignore[misc]
        yield from decoded(kind, rows)


def _names(rows: pa.Table, number: int) -> Iterator[str]:
    row = rows.slice(number, 1).to_pylist()[0]
    return (
        repr(row[name]) for name in rows.column_names if name not in {"attributes", "tombstone"}
    )


def _add(found: Collected, row: Row) -> None:
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
