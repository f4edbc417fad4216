"""What links the objects of a catalog: foreign keys to what they refer to, views to what they read.

An edge is yielded only if both of its ends were read. Where an end lies in what was left out or
could not be read, the edges of that one table or view are declared ``filtered``, so that their
absence deletes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.batch.qualified_name import within
from penstock.batch.rows import Kind, Relationship
from penstock.batch.scope import Completeness
from penstock.batch.source import Extract
from resources.sources.sql_catalog import LINK_TYPES
from resources.sources.sql_lineage import Lineage, ViewLineage
from resources.sources.sql_reflection import Relation
from resources.sources.sql_rows import Row, reads, reference_rows, view_rows

ForeignKey = Mapping[str, Any]


@dataclass(kw_only=True)
class Known:
    """What is kept of the schemas read so far."""

    columns: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """The columns of every relation, by schema and relation; a schema is here if it was read."""
    views: dict[str, list[Relation]] = field(default_factory=dict)
    """The views of every schema, without their columns and indexes."""
    foreign_keys: dict[str, list[tuple[str, list[dict[str, Any]]]]] = field(default_factory=dict)
    """The foreign keys of every table that has some, by schema."""
    primary_keys: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The columns of primary keys: what a foreign key refers to that names no columns."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why a schema could not be read."""
    excluded: set[tuple[str, str]] = field(default_factory=set)
    """Tables and views that were left out on purpose."""

    def fail(self, schema: str, reason: str) -> None:
        """Record that a schema could not be read to its end, and forget what was read of it."""
        self.failed[schema] = reason
        for kept in (self.columns, self.views, self.foreign_keys):
            kept.pop(schema, None)

    def was_read(self, schema: str, relation: str) -> bool:
        """Say whether a relation would be known if it existed."""
        return schema in self.columns and (schema, relation) not in self.excluded

    def relation(self, schema: str, name: str) -> str | None:
        """Return the catalog's name of a relation, which may be written in another case."""
        return _as_catalogued(name, self.columns.get(schema, {}))

    def column(self, schema: str, relation: str, name: str) -> str | None:
        """Return the catalog's name of a column."""
        return _as_catalogued(name, self.columns[schema][relation])


def _as_catalogued(name: str, names: Any) -> str | None:
    if name in names:
        return name
    alike = [other for other in names if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def link_rows(extract: Extract, database_key: str, known: Known, *, dialect: str) -> Iterator[Row]:
    """Yield the views of all schemas, and all edges that may lead from one schema into another."""
    lineage = Lineage(dialect=dialect, columns=known.columns)
    for schema, reason in known.failed.items():
        for kind, type_name in LINK_TYPES:
            key = within(database_key, schema)
            extract.declare(type_name, Completeness.FAILED, key, kind=kind, reason=reason)
    for schema in known.columns:
        key = within(database_key, schema)
        found = [
            (view, _lineage_of(lineage, known, schema, view))
            for view in known.views.get(schema, ())
        ]
        for view, its_lineage in found:
            yield from view_rows(view, key, its_lineage)
        with extract.scopes_of(LINK_TYPES, key):
            yield from _references(extract, database_key, schema, known)
            for view, its_lineage in found:
                if its_lineage:
                    yield from _reads(extract, database_key, schema, view, its_lineage)


def _lineage_of(lineage: Lineage, known: Known, schema: str, view: Relation) -> ViewLineage | None:
    columns = known.columns[schema][view.name]
    if not view.definition:
        return ViewLineage(by_column={}, error="the database does not show the view's SQL")
    if view.error:
        return None
    found = lineage.of_view(schema=schema, sql=view.definition, columns=columns)
    return _with_known_reads(found, view, known) if found.error else found


def _with_known_reads(found: ViewLineage, view: Relation, known: Known) -> ViewLineage:
    """Add what the database knows a view to read, for parsing told too little."""
    tables = {(a, b) for a, b, _ in view.known_reads if b in known.columns.get(a, {})}
    columns = {(a, b, c) for a, b, c in view.known_reads if c and (a, b) in tables}
    return replace(found, tables=found.tables | tables, columns=found.columns | columns)


def _reads(
    extract: Extract, database_key: str, schema: str, view: Relation, lineage: ViewLineage
) -> Iterator[Relationship]:
    view_key = within(database_key, schema, view.name)
    for name in sorted({*lineage.tables, *lineage.columns}):
        yield reads(view_key, within(database_key, *name))
    for column, origins in lineage.by_column.items():
        for name in sorted(origins):
            yield reads(within(view_key, column), within(database_key, *name))
    if lineage.error:
        _declare_reads(extract, view_key, Completeness.FAILED, lineage.error)
    elif lineage.outside:
        extract.filter("reads", len(lineage.outside), kind=Kind.RELATIONSHIP)
        reason = f"it reads what this catalog does not hold: {', '.join(sorted(lineage.outside))}"
        _declare_reads(extract, view_key, Completeness.FILTERED, reason[:2000])


def _declare_reads(extract: Extract, view_key: str, how: Completeness, reason: str) -> None:
    extract.declare("reads", how, view_key, kind=Kind.RELATIONSHIP, reason=reason)


def _references(
    extract: Extract, database_key: str, schema: str, known: Known
) -> Iterator[Relationship]:
    for table, foreign_keys in known.foreign_keys.get(schema, ()):
        table_key = within(database_key, schema, table)
        inside = []
        for foreign_key in foreign_keys:
            ends = _ends(foreign_key, schema, table, known)
            if ends is None:
                _leave_out(extract, table_key, foreign_key)
            elif ends:
                to_table, columns = ends
                pairs = [
                    (within(table_key, a), within(database_key, *to_table, b)) for a, b in columns
                ]
                inside.append((foreign_key, table_key, within(database_key, *to_table), pairs))
        yield from reference_rows(inside)


def _ends(
    foreign_key: ForeignKey, schema: str, table: str, known: Known
) -> tuple[tuple[str, str], list[tuple[str, str]]] | tuple[()] | None:
    """Return the table referred to and pairs of columns; () if there is none, None if unknown."""
    to_schema = foreign_key.get("referred_schema") or schema
    written = foreign_key["referred_table"]
    to_table = known.relation(to_schema, written)
    if to_table is None:
        return () if known.was_read(to_schema, written) else None
    if not known.columns[to_schema][to_table]:
        return None
    referred = foreign_key["referred_columns"] or known.primary_keys.get((to_schema, to_table), [])
    named = zip(foreign_key["constrained_columns"], referred, strict=False)
    pairs = [
        (known.column(schema, table, a), known.column(to_schema, to_table, b)) for a, b in named
    ]
    return (to_schema, to_table), [(a, b) for a, b in pairs if a is not None and b is not None]


def _leave_out(extract: Extract, table_key: str, foreign_key: ForeignKey) -> None:
    extract.filter("references", kind=Kind.RELATIONSHIP)
    extract.declare(
        "references",
        Completeness.FILTERED,
        table_key,
        kind=Kind.RELATIONSHIP,
        reason=f"a foreign key refers to {foreign_key.get('referred_schema')}."
        f"{foreign_key['referred_table']}, which was not read",
    )
