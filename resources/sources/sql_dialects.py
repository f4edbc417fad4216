"""What a database says itself and SQLAlchemy leaves out: declared types, indexes on expressions.

Also what differs between databases around reflection: which schemas are the system's own, and how a
connection is made to give consistent, fully qualified answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

SYSTEM_SCHEMAS: Final[Mapping[str, frozenset[str]]] = {
    "postgresql": frozenset({"information_schema", "pg_catalog", "pg_toast"}),
    "mysql": frozenset({"information_schema", "mysql", "performance_schema", "sys"}),
    "mariadb": frozenset({"information_schema", "mysql", "performance_schema", "sys"}),
    "mssql": frozenset({"information_schema", "sys", "guest"}),
}


def is_system_schema(dialect: str, schema: str) -> bool:
    """Say whether a schema belongs to the database itself."""
    return schema.casefold() in SYSTEM_SCHEMAS.get(dialect, frozenset())


def open_engine(url: URL) -> Engine:
    """Return an engine that only reads; a SQLite file that is not there is an error."""
    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    name = url.get_backend_name()
    if name == "sqlite" and _is_plain_file(url):
        url = url.set(database=f"file:{_uri_path(str(url.database))}").update_query_dict(
            {"mode": "rw", "uri": "true"}
        )
    if name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    engine = create_engine(url, **options)
    event.listen(engine, "connect", lambda connection, _: _prepare(connection, name))
    return engine


def _is_plain_file(url: URL) -> bool:
    database = url.database
    return bool(database) and database != ":memory:" and not str(database).startswith("file:")


def _uri_path(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3F").replace("#", "%23")


_SESSION: Final[Mapping[str, tuple[str, ...]]] = {
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        # With nothing on the path, constraints and views come with the schema of everything in them.
        "SET search_path = ''",
    ),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""What is said on every new connection; one that is lost is replaced by another."""


def _prepare(dbapi_connection: Any, dialect: str) -> None:
    cursor = dbapi_connection.cursor()
    for statement in _SESSION.get(dialect, ()):
        cursor.execute(statement)
    cursor.close()
    dbapi_connection.commit()


def begin_reading(connection: Connection) -> None:
    """Let all that is read until the next rollback be of one moment.

    PostgreSQL's transactions are so by their isolation level; Python's SQLite driver begins none
    for reading.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")


_POSTGRES_TYPES = text(
    """
    SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND a.attnum > 0 AND NOT a.attisdropped
      AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
    """
)
_POSTGRES_VIEWS = text(
    """
    SELECT c.relname, pg_catalog.pg_get_viewdef(c.oid)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind IN ('v', 'm')
    """
)
_POSTGRES_READS = text(
    """
    SELECT DISTINCT v.relname, tn.nspname, t.relname, a.attname
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
    JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    JOIN pg_catalog.pg_class t ON t.oid = d.refobjid AND t.oid <> v.oid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
      AND a.attnum > 0
    WHERE vn.nspname = :schema AND v.relkind IN ('v', 'm')
    """
)
_SQLITE_TYPES = """
    SELECT m.name, x.name, x.type
    FROM {schema}.sqlite_master m, pragma_table_xinfo(m.name, :schema) x
    WHERE m.type = 'table'
    """
_SQLITE_INDEXES = """
    SELECT m.name, i.name, i."unique", c.name
    FROM {schema}.sqlite_master m, pragma_index_list(m.name, :schema) i,
         pragma_index_info(i.name, :schema) c
    WHERE m.type = 'table' AND i.origin = 'c'
    ORDER BY m.name, i.name, c.seqno
    """
# Not joined to the above: sqlite_master has no index, so that a join takes seconds at 2,000 tables.
_SQLITE_INDEX_SQL = "SELECT name, sql FROM {schema}.sqlite_master WHERE type = 'index'"


def declared_types(connection: Connection, schema: str) -> dict[tuple[str, str], str]:
    """Return the types of columns as the database itself writes them, by table and column.

    Empty where the database is asked through SQLAlchemy's types alone.
    """
    match connection.dialect.name:
        case "postgresql":
            rows = connection.execute(_POSTGRES_TYPES, {"schema": schema})
        case "sqlite":
            rows = connection.execute(
                _in_schema(connection, _SQLITE_TYPES, schema), {"schema": schema}
            )
        case _:
            return {}
    return {(table, column): declared for table, column, declared in rows}


def view_definitions(connection: Connection, schema: str) -> dict[str, str] | None:
    """Return the SQL of all views at once, or None where they are asked for one by one."""
    if connection.dialect.name != "postgresql":
        return None
    return {
        name: sql for name, sql in connection.execute(_POSTGRES_VIEWS, {"schema": schema}) if sql
    }


def view_reads(connection: Connection, schema: str) -> dict[str, set[tuple[str, str, str | None]]]:
    """Return what the database itself knows its views to read: schema, relation, and column if any.

    Only PostgreSQL keeps this, and not for which column of the view; empty for others.
    """
    if connection.dialect.name != "postgresql":
        return {}
    found: dict[str, set[tuple[str, str, str | None]]] = {}
    for view, *name in connection.execute(_POSTGRES_READS, {"schema": schema}):
        found.setdefault(view, set()).add((name[0], name[1], name[2]))
    return found


def own_indexes(connection: Connection, schema: str) -> dict[str, list[dict[str, Any]]]:
    """Return SQLite's indexes by table, with those on expressions, which SQLAlchemy passes over.

    Each has the form of SQLAlchemy's reflected indexes, and its ``sql``. Empty for other databases.
    """
    if connection.dialect.name != "sqlite":
        return {}
    query = _in_schema(connection, _SQLITE_INDEXES, schema)
    written = connection.execute(_in_schema(connection, _SQLITE_INDEX_SQL, schema))
    definitions: dict[str, str | None] = {row.name: row.sql for row in written}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for table, name, unique, column in connection.execute(query, {"schema": schema}):
        entry = {
            "name": name,
            "unique": bool(unique),
            "sql": definitions.get(name),
            "column_names": [],
        }
        found.setdefault((table, name), entry)["column_names"].append(column)
    by_table: dict[str, list[dict[str, Any]]] = {}
    for (table, _), index in found.items():
        by_table.setdefault(table, []).append(index)
    return by_table


def _in_schema(connection: Connection, query: str, schema: str) -> Any:
    return text(
        query.format(schema=connection.dialect.identifier_preparer.quote_identifier(schema))
    )
