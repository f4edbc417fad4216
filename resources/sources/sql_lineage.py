"""Lineage: which columns a view reads, found by parsing its SQL against the catalogued schemas.

``sqlglot`` parses in the database's own dialect, qualifies every name and expands ``select *``; the
columns behind each output column are then followed through aliases, CTEs, subqueries and unions to
tables and views. What cannot be parsed or followed is an ``error`` of that one view, never of the
extract.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

SQLGLOT_DIALECTS: Final[Mapping[str, str]] = {
    "postgresql": "postgres",
    "mariadb": "mysql",
    "mssql": "tsql",
    "awsathena": "athena",
}
"""SQLAlchemy's names of dialects that sqlglot calls otherwise."""

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")

TableName = tuple[str, str]
"""Schema and table."""
ColumnName = tuple[str, str, str]
"""Schema, table and column."""


@dataclass(frozen=True, kw_only=True)
class ViewLineage:
    """What one view reads, in the catalog's own names."""

    tables: frozenset[TableName] = frozenset()
    columns: frozenset[ColumnName] = frozenset()
    """Every column that the view's SQL mentions, in conditions too."""
    by_column: Mapping[str, frozenset[ColumnName]]
    """The columns whose values an output column is made of."""
    outside: frozenset[str] = frozenset()
    """Tables that the SQL names and the catalog does not hold."""
    error: str | None = None
    """Why less is known than could be."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    name: TableName
    columns: Mapping[str, str]
    """Normalised name to the catalog's."""


class Lineage:
    """Finds the lineage of the views of one database.

    ``columns`` holds the columns of each relation, by schema and relation.
    """

    def __init__(self, *, dialect: str, columns: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self._dialect = Dialect.get_or_raise(_sqlglot_name(dialect))
        self._normal = lru_cache(maxsize=65536)(self._normalised)
        self._tables: dict[TableName, _Table] = {}
        shape: dict[str, Any] = {}
        for schema, relations in columns.items():
            for relation, names in relations.items():
                known = {self._normal(name): name for name in names}
                key = self._normal(schema), self._normal(relation)
                self._tables[key] = _Table(name=(schema, relation), columns=known)
                if known:
                    shape.setdefault(key[0], {})[key[1]] = dict.fromkeys(known, "UNKNOWN")
        self._schema = MappingSchema(shape, dialect=self._dialect, normalize=False)

    def of_view(self, *, schema: str, sql: str, columns: Sequence[str]) -> ViewLineage:
        """Return what a view in ``schema`` reads; ``columns`` are its own, in order."""
        try:
            query = self._parsed(sql)
        except Exception as error:  # noqa: BLE001  SQL of any kind may come; one view is all it may cost
            return ViewLineage(by_column={}, error=_reason(error))
        named = dict(self._tables_named(query, schema))
        outside = frozenset(name for name, table in named.items() if table is None)
        try:
            return replace(self._followed(query, schema, columns), outside=outside)
        except Exception as error:  # noqa: BLE001  as above: what is known is which tables are named
            tables = frozenset(table for table in named.values() if table)
            return ViewLineage(tables=tables, by_column={}, outside=outside, error=_reason(error))

    def _normalised(self, name: str) -> str:
        identifier = exp.to_identifier(name, quoted=name != name.lower())
        return str(self._dialect.normalize_identifier(identifier).name)

    def _as_normal(self, identifier: exp.Identifier) -> str:
        return str(self._dialect.normalize_identifier(identifier.copy()).name)

    def _parsed(self, sql: str) -> exp.Query:
        tree: Any = sqlglot.parse_one(sql, dialect=self._dialect)
        if isinstance(tree, exp.Create):
            tree = tree.expression
        tree = tree.unnest() if isinstance(tree, exp.Subquery) else tree
        if isinstance(tree, exp.Values):
            tree = exp.select("*").from_(tree)
        if not isinstance(tree, exp.Query):
            raise SqlglotError(f"sqlglot reads no query in it but {type(tree).__name__}")
        return tree

    def _tables_named(
        self, query: exp.Query, schema: str
    ) -> Iterator[tuple[str, TableName | None]]:
        """Yield the tables that the SQL names, each with the catalog's own."""
        ctes = {cte.alias for cte in query.find_all(exp.CTE)}
        for table in query.find_all(exp.Table):
            if isinstance(table.this, exp.Identifier) and (table.db or table.name not in ctes):
                db = self._as_normal(table.args["db"]) if table.db else self._normal(schema)
                known = self._tables.get((db, self._as_normal(table.this)))
                yield f"{db}.{table.name}", known.name if known else None

    def _followed(self, query: exp.Query, schema: str, columns: Sequence[str]) -> ViewLineage:
        qualified = qualify(
            query,
            dialect=self._dialect,
            db=exp.to_identifier(self._normal(schema), quoted=True),  # type: ignore[arg-type]
            schema=self._schema,
            validate_qualify_columns=False,
            identify=False,
        )
        root = build_scope(qualified)
        if root is None:
            raise SqlglotError("sqlglot finds no scope in it")
        nodes = lineage(
            None,
            qualified,
            self._schema,
            dialect=self._dialect,
            scope=root,
            trim_selects=False,
            copy=False,
        )
        outputs = {name: frozenset(self._leaves(node)) for name, node in nodes.items()}
        tables, mentioned = self._mentioned(root)
        by_column, error = _by_position(outputs, columns)
        return ViewLineage(
            tables=tables,
            columns=mentioned.union(*by_column.values()),
            by_column=by_column,
            error=error,
        )

    def _leaves(self, node: Node) -> Iterator[ColumnName]:
        for leaf in node.walk():
            if not leaf.downstream and isinstance(leaf.expression, exp.Table):
                table = self._known(leaf.expression)
                column = table and table.columns.get(_column_name(leaf.name))
                if table and column:
                    yield (*table.name, column)

    def _known(self, table: exp.Table) -> _Table | None:
        return self._tables.get((table.db, table.name))

    def _mentioned(self, root: Scope) -> tuple[frozenset[TableName], frozenset[ColumnName]]:
        tables: set[TableName] = set()
        columns: set[ColumnName] = set()
        for scope in root.traverse():
            sources = {
                name: known
                for name, source in scope.sources.items()
                if isinstance(source, exp.Table) and (known := self._known(source))
            }
            tables.update(table.name for table in sources.values())
            for column in scope.columns:
                table = sources.get(column.table)
                name = table and table.columns.get(column.name)
                if table and name:
                    columns.add((*table.name, name))
        return frozenset(tables), frozenset(columns)


def _sqlglot_name(dialect: str) -> str:
    name = SQLGLOT_DIALECTS.get(dialect, dialect)
    return name if name in Dialect.classes else ""


@lru_cache(maxsize=65536)
def _column_name(text: str) -> str:
    return exp.to_column(text).name


def _by_position(
    outputs: Mapping[str, frozenset[ColumnName]], columns: Sequence[str]
) -> tuple[dict[str, frozenset[ColumnName]], str | None]:
    """Give each column the output in its place: ``create view v(a, b)`` names them anew."""
    if len(outputs) == len(columns):
        return dict(zip(columns, outputs.values(), strict=True)), None
    found = {name: outputs[name] for name in columns if name in outputs}
    return (
        found,
        f"the view has {len(columns)} columns, and its SQL {len(outputs)} that could be named",
    )


def _reason(error: Exception) -> str:
    text = " ".join(_TERMINAL_CODES.sub("", str(error)).split())
    return f"{type(error).__name__}: {text}"[:500]
