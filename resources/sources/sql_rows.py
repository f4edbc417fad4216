"""What a catalog's rows look like: one reflected relation in, its entities and relationships out.

``docs/reference/sources.md`` lists every type and attribute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy.engine.reflection import ObjectKind

from penstock.batch.qualified_name import facet, unnamed_facet, within
from penstock.batch.rows import Entity, Relationship
from resources.sources.sql_lineage import ViewLineage
from resources.sources.sql_reflection import Relation

Row = Entity | Relationship


def contains(container: str, contained: str) -> Relationship:
    """Return the edge from a container to what it contains."""
    return Relationship(from_key=container, relationship_type="contains", to_key=contained)


def table_rows(relation: Relation, schema_key: str) -> Iterator[Row]:
    """Yield a table and the edge to it; a view comes from :func:`view_rows`, with its lineage."""
    key = within(schema_key, relation.name)
    checks = {
        check["name"] or check["sqltext"]: check["sqltext"] for check in relation.check_constraints
    }
    yield Entity(
        entity_type="table",
        entity_key=key,
        attributes=_known(
            name=relation.name,
            comment=relation.comment,
            checks=checks or None,
            reflection_error=relation.error,
        ),
    )
    yield contains(schema_key, key)


def view_rows(relation: Relation, schema_key: str, lineage: ViewLineage | None) -> Iterator[Row]:
    """Yield a view and the edge to it."""
    key = within(schema_key, relation.name)
    yield Entity(
        entity_type="view",
        entity_key=key,
        attributes=_known(
            name=relation.name,
            materialized=relation.kind is ObjectKind.MATERIALIZED_VIEW,
            sql=relation.definition,
            comment=relation.comment,
            lineage_error=lineage.error if lineage else None,
            reflection_error=relation.error,
        ),
    )
    yield contains(schema_key, key)


def part_rows(relation: Relation, schema_key: str) -> Iterator[Row]:
    """Yield the columns, keys, constraints and indexes of a relation, and the edges to them.

    A constraint without a name that is declared twice is one constraint.
    """
    key = within(schema_key, relation.name)
    for part in {part.entity_key: part for part in _parts(relation, key)}.values():
        yield part
        yield contains(key, part.entity_key)
    columns = {column["name"] for column in relation.columns}
    for index in relation.indexes:
        yield from _index_edges(index, key, columns)


def _parts(relation: Relation, key: str) -> Iterator[Entity]:
    for ordinal, column in enumerate(relation.columns, start=1):
        yield _column(column, key, ordinal)
    if columns := relation.pk_constraint.get("constrained_columns"):
        yield Entity(
            entity_type="primary_key",
            entity_key=facet(key, "primary_key"),
            attributes=_known(
                name=relation.pk_constraint.get("name"),
                columns=list(columns),
                comment=relation.pk_constraint.get("comment"),
            ),
        )
    for foreign_key in relation.foreign_keys:
        yield _foreign_key(foreign_key, key)
    for constraint in relation.unique_constraints:
        yield Entity(
            entity_type="unique_constraint",
            entity_key=_facet_key(key, "unique", constraint, "column_names"),
            attributes=_known(
                name=constraint.get("name"),
                columns=list(constraint["column_names"]),
                comment=constraint.get("comment"),
            ),
        )
    for index in relation.indexes:
        yield _index(index, key)


def _column(column: Mapping[str, Any], key: str, ordinal: int) -> Entity:
    return Entity(
        entity_type="column",
        entity_key=within(key, column["name"]),
        attributes=_known(
            name=column["name"],
            ordinal=ordinal,
            type=column["type"],
            nullable=bool(column.get("nullable", True)),
            default=_text(column.get("default")),
            comment=column.get("comment"),
            computed=_plain(column.get("computed")),
            identity=_plain(column.get("identity")),
        ),
    )


def _foreign_key(foreign_key: Mapping[str, Any], key: str) -> Entity:
    return Entity(
        entity_type="foreign_key",
        entity_key=foreign_key_key(foreign_key, key),
        attributes=_known(
            name=foreign_key.get("name"),
            columns=list(foreign_key["constrained_columns"]),
            referred_schema=foreign_key.get("referred_schema"),
            referred_table=foreign_key["referred_table"],
            referred_columns=list(foreign_key["referred_columns"]),
            options=_plain(foreign_key.get("options")) or None,
            comment=foreign_key.get("comment"),
        ),
    )


def foreign_key_key(foreign_key: Mapping[str, Any], key: str) -> str:
    """Return a foreign key's key; one without a name is known by its columns at both ends."""
    if foreign_key.get("name"):
        return facet(key, "foreign_key", foreign_key["name"])
    names = (*foreign_key["constrained_columns"], foreign_key["referred_table"])
    return unnamed_facet(key, "foreign_key", *names, *foreign_key["referred_columns"])


def _index(index: Mapping[str, Any], key: str) -> Entity:
    options = {
        name: _text(value)
        for name, value in (index.get("dialect_options") or {}).items()
        if value not in (None, [], False, {})
    }
    return Entity(
        entity_type="index",
        entity_key=_facet_key(key, "index", index, "column_names"),
        attributes=_known(
            name=index.get("name"),
            unique=bool(index.get("unique")),
            columns=[name for name in index["column_names"] if name is not None],
            expressions=index.get("expressions"),
            sql=index.get("sql"),
            include=index.get("include_columns") or None,
            sorting=_plain(index.get("column_sorting")) or None,
            options=options or None,
            constraint=index.get("duplicates_constraint"),
            comment=index.get("comment"),
        ),
    )


def _facet_key(key: str, word: str, facts: Mapping[str, Any], columns: str) -> str:
    if facts.get("name"):
        return facet(key, word, facts["name"])
    return unnamed_facet(key, word, *(name or "" for name in facts[columns]))


def _index_edges(index: Mapping[str, Any], key: str, columns: set[str]) -> Iterator[Relationship]:
    index_key = _facet_key(key, "index", index, "column_names")
    positions: dict[str, int] = {}
    for position, name in enumerate(index["column_names"], start=1):
        if name in columns:
            positions.setdefault(name, position)
    for name, position in positions.items():
        yield Relationship(
            from_key=index_key,
            relationship_type="indexes",
            to_key=within(key, name),
            attributes={"position": position},
        )


def reference_rows(
    pairs: Iterable[tuple[Mapping[str, Any], str, str, list[tuple[str, str]]]],
) -> Iterator[Relationship]:
    """Yield what foreign keys refer to, from column to column and from table to table.

    Each item is a foreign key, the key of its table, the key of the table referred to, and the keys
    of its pairs of columns. Foreign keys between the same two ends share one edge, which lists them
    all.
    """
    edges: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for foreign_key, from_table, to_table, columns in pairs:
        for ends in [(from_table, to_table), *columns]:
            edges[ends].add(foreign_key_key(foreign_key, from_table))
    for (from_key, to_key), foreign_keys in edges.items():
        yield Relationship(
            from_key=from_key,
            relationship_type="references",
            to_key=to_key,
            attributes={"foreign_keys": sorted(foreign_keys)},
        )


def reads(from_key: str, to_key: str) -> Relationship:
    """Return the edge from a view or its column to what it reads."""
    return Relationship(from_key=from_key, relationship_type="reads", to_key=to_key)


def _known(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    """Return reflected options as canonical values."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items() if item is not None}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)
