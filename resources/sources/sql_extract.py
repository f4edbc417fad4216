"""The extract of a SQL catalog: schema by schema, then what links them.

Reflecting comes first and yields all but views: a schema is in memory only while it is reflected.
What outlives it are the names of columns, foreign keys and the SQL of views, for links can be told
only when all ends are known: what lies outside of what was read would be a reference to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, inspect

from penstock.batch.qualified_name import qualified_name, within
from penstock.batch.rows import Entity, Kind
from penstock.batch.scope import Completeness
from penstock.batch.source import Extract
from resources.sources.errors import SourceUnavailable
from resources.sources.sql_catalog import LINK_TYPES, OBJECT_TYPES
from resources.sources.sql_dialects import is_system_schema, open_engine
from resources.sources.sql_links import Known, link_rows
from resources.sources.sql_reflection import Relation, reason_of, reflect_schema
from resources.sources.sql_rows import Row, contains, part_rows, table_rows

if TYPE_CHECKING:
    from resources.sources.sql_catalog import SqlCatalog


def catalog_rows(catalog: SqlCatalog, extract: Extract) -> Iterator[Row]:
    """Yield every row of the catalog, declaring scopes on ``extract``."""
    url = catalog.database_url()
    scrub = Scrub(url)
    with _connected(url, scrub) as connection:
        name = catalog.name or default_name(url)
        key = qualified_name(name)
        with scrub.or_unavailable("will not list its schemas"):
            schemas = _schemas(catalog, connection)
        yield _database(connection, name, key)
        _declare_database(catalog, extract, key, schemas)
        known = Known()
        for schema in schemas.read:
            yield from _schema_rows(
                catalog, extract, connection, key, schema=schema, known=known, scrub=scrub
            )
    yield from link_rows(extract, key, known, dialect=connection.dialect.name)


@contextmanager
def _connected(url: URL, scrub: Scrub) -> Iterator[Connection]:
    with scrub.or_unavailable("cannot be reached"):
        engine = open_engine(url)
    try:
        with scrub.or_unavailable("cannot be reached"):
            connection = engine.connect()
        with connection:
            yield connection
    finally:
        engine.dispose()


class Scrub:
    """Takes a URL's password out of what drivers and databases say."""

    def __init__(self, url: URL) -> None:
        self._shown = url.set(query={}).render_as_string(hide_password=True)
        password = str(url.password or "")
        secrets = [password, *_secrets_of_query(url)]
        forms = {
            form for text in secrets if text for form in (text, quote(text, ""), quote_plus(text))
        }
        self._secrets = sorted(forms, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def or_unavailable(self, what: str) -> Iterator[None]:
        """Turn whatever a driver raises into a :class:`SourceUnavailable` of the database."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  drivers raise what they like, secrets and all
            raise SourceUnavailable(
                f"the database {self._shown} {what}: {self.clean(reason_of(error))}. "
                "Check the URL, the network, and that its user may read the catalog"
            ) from None


def _secrets_of_query(url: URL) -> Iterator[str]:
    for name, value in url.query.items():
        if any(word in name.lower() for word in ("pass", "pwd", "secret", "token", "key")):
            yield from [value] if isinstance(value, str) else value


def default_name(url: URL) -> str:
    """Return the name of a database without one: its dialect and database, never its host."""
    dialect = url.get_backend_name()
    database = str(url.database or "")
    if dialect == "sqlite":
        database = PurePath(database.removeprefix("file:")).stem or "memory"
    return f"{dialect}.{database}" if database else dialect


@dataclass(frozen=True, kw_only=True)
class Schemas:
    """The schemas of a database: those to read, and those left out on purpose."""

    read: Sequence[str]
    left_out: Sequence[str]
    missing: Sequence[str] = ()
    """Asked for, and surely not there."""


def _schemas(catalog: SqlCatalog, connection: Connection) -> Schemas:
    inspector = inspect(connection)
    if catalog.schemas is None:
        names = sorted(inspector.get_schema_names())
        own = {name for name in names if is_system_schema(connection.dialect.name, name)}
        left_out = [name for name in names if name in own or _matches(name, catalog.exclude)]
        read = [name for name in names if name not in left_out]
        answer = Schemas(read=read, left_out=left_out)
    else:
        there = {name: inspector.has_schema(name) for name in sorted(set(catalog.schemas))}
        answer = Schemas(
            read=[name for name, exists in there.items() if exists],
            left_out=(),
            missing=[name for name, exists in there.items() if not exists],
        )
    connection.rollback()
    return answer


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _database(connection: Connection, name: str, key: str) -> Entity:
    dialect = connection.dialect
    version = ".".join(map(str, getattr(dialect, "server_version_info", None) or ()))
    attributes = {
        "name": name,
        "dialect": dialect.name,
        "default_schema": dialect.default_schema_name,
    }
    if version:
        attributes["server_version"] = version
    return Entity(entity_type="database", entity_key=key, attributes=attributes)


def _declare_database(catalog: SqlCatalog, extract: Extract, key: str, schemas: Schemas) -> None:
    """Say what this extract speaks for outside the schemas that it reads."""
    extract.declare("database", Completeness.COMPLETE, key)
    everything = [(Kind.ENTITY, "schema"), *OBJECT_TYPES, *LINK_TYPES]
    some = catalog.schemas is not None
    for kind, type_name in everything:
        extract.declare(
            type_name,
            Completeness.FILTERED if some else Completeness.COMPLETE,
            key,
            kind=kind,
            reason="only some schemas were asked for" if some else None,
        )
    for schema in schemas.left_out:
        extract.filter("schema")
        for kind, type_name in everything:
            extract.declare(
                type_name,
                Completeness.FILTERED,
                within(key, schema),
                kind=kind,
                reason="the schema is left out on purpose",
            )
    for schema in schemas.missing:
        for kind, type_name in everything:
            extract.declare(type_name, Completeness.COMPLETE, within(key, schema), kind=kind)


def _schema_rows(
    catalog: SqlCatalog,
    extract: Extract,
    connection: Connection,
    database_key: str,
    *,
    schema: str,
    known: Known,
    scrub: Scrub,
) -> Iterator[Row]:
    key = within(database_key, schema)
    yield Entity(entity_type="schema", entity_key=key, attributes={"name": schema})
    yield contains(database_key, key)
    with extract.scopes_of(OBJECT_TYPES, key):
        try:
            relations, left_out = reflect_schema(
                connection,
                schema,
                wanted=lambda name: not _matches(f"{schema}.{name}", catalog.exclude),
            )
            known.columns[schema] = {}
            _leave_out(extract, key, schema, left_out, known)
            for relation in relations:
                clean = replace(relation, error=relation.error and scrub.clean(relation.error))
                yield from _relation_rows(extract, key, schema, clean, known)
        except Exception as error:  # noqa: BLE001  whatever it is, the edges of the schema fail with it
            connection.rollback()  # a lost connection is replaced by a new one after this
            known.fail(schema, scrub.clean(reason_of(error)))
            raise SourceUnavailable(known.failed[schema]) from None


def _leave_out(
    extract: Extract, schema_key: str, schema: str, names: Iterable[str], known: Known
) -> None:
    for name in names:
        known.excluded.add((schema, name))
        extract.filter("table")
        for kind, type_name in (*OBJECT_TYPES, *LINK_TYPES):
            extract.declare(
                type_name,
                Completeness.FILTERED,
                within(schema_key, name),
                kind=kind,
                reason="the table is left out on purpose",
            )


def _relation_rows(
    extract: Extract, schema_key: str, schema: str, relation: Relation, known: Known
) -> Iterator[Row]:
    columns = [column["name"] for column in relation.columns]
    known.columns[schema][relation.name] = columns
    if primary_key := relation.pk_constraint.get("constrained_columns"):
        known.primary_keys[schema, relation.name] = primary_key
    if relation.foreign_keys:
        found = relation.name, relation.foreign_keys
        known.foreign_keys.setdefault(schema, []).append(found)
    if relation.error:
        _declare_broken(extract, within(schema_key, relation.name), relation.error)
    if relation.is_view:
        slim = replace(relation, columns=[], indexes=[])
        known.views.setdefault(schema, []).append(slim)
    else:
        yield from table_rows(relation, schema_key)
    yield from part_rows(relation, schema_key)


def _declare_broken(extract: Extract, key: str, reason: str) -> None:
    for kind, type_name in (*OBJECT_TYPES, *LINK_TYPES):
        if type_name not in {"table", "view"}:
            extract.declare(type_name, Completeness.FAILED, key, kind=kind, reason=reason)
