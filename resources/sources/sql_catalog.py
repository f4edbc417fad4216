"""A source that catalogs any database that SQLAlchemy reaches.

::

    shop = sql_catalog("shop", url_env="SHOP_URL", exclude=["*.tmp_*"], cadence_s=3600)

Each schema is a scope of its own: one that cannot be read is ``failed``, and the others go on. The
extract itself fails only when the database cannot be reached or will not say which schemas it has.
Passwords appear in nothing that this module yields, raises or records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.batch.manifest import RelationshipType
from penstock.batch.rows import Kind
from penstock.batch.source import Extract, Extracted, SourceDefinition, source
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from sqlalchemy import URL

Url = str | Callable[[], str]

RELATIONSHIP_TYPES = (
    RelationshipType(name="contains", containment=True),
    RelationshipType(name="indexes"),
    RelationshipType(name="references"),
    RelationshipType(name="reads"),
)
SETTINGS = ("exclude", "name", "schemas", "url_env")
"""What may be replaced for one extract, and what people are shown."""
OBJECT_TYPES = (
    *((Kind.ENTITY, name) for name in ("table", "view", "column", "primary_key", "foreign_key")),
    *((Kind.ENTITY, name) for name in ("unique_constraint", "index")),
    *((Kind.RELATIONSHIP, name) for name in ("contains", "indexes")),
)
"""What is enumerated of a schema while it is reflected."""
LINK_TYPES = ((Kind.RELATIONSHIP, "references"), (Kind.RELATIONSHIP, "reads"))
"""What is enumerated of a schema once all schemas are known."""


@dataclass(frozen=True, kw_only=True)
class SqlCatalog:
    """The extractor of :func:`sql_catalog`; its repr shows no URL."""

    url: Url | None = field(default=None, repr=False)
    url_env: str | None = None
    name: str | None = None
    schemas: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    def __call__(self, extract: Extract, /) -> Iterator[Extracted]:
        """Yield the catalog; raises ``SourceUnavailable`` when the database cannot be read."""
        from resources.sources.sql_extract import catalog_rows

        configured = self.with_settings(extract.settings)
        yield from catalog_rows(configured, extract)

    def with_settings(self, settings: Mapping[str, Any]) -> SqlCatalog:
        """Return this extractor with what a source's settings say instead."""
        if unknown := settings.keys() - set(SETTINGS):
            raise PenstockError(
                f"sql_catalog has no setting {sorted(unknown)[0]!r}: use {', '.join(SETTINGS)}"
            )
        return replace(
            self,
            url=None if settings.get("url_env") else self.url,
            **{name: _listed(name, value) for name, value in settings.items()},
        )

    def database_url(self) -> URL:
        """Return the URL to connect to; raises :class:`PenstockError` if there is none."""
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        where = f"the environment variable {self.url_env}" if self.url_env else "the url"
        text = self.url() if callable(self.url) else self.url
        if text is None and self.url_env:
            text = os.environ.get(self.url_env)
        if not text:
            raise PenstockError(
                f"sql_catalog has no database: set {where} to a SQLAlchemy URL, "
                "e.g. postgresql+psycopg://user@host/name or sqlite:////folder/file.db"
            )
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise PenstockError(
                f"{where} is not a SQLAlchemy URL of the form dialect+driver://user:password@host/name"
            ) from None
        if url.drivername in {"postgresql", "postgres"}:
            return url.set(drivername="postgresql+psycopg")
        return url


def _listed(name: str, value: Any) -> Any:
    if name in {"schemas", "exclude"} and value is not None:
        return (value,) if isinstance(value, str) else tuple(value)
    return value


def sql_catalog(
    source_id: str,
    *,
    url: Url | None = None,
    url_env: str | None = None,
    name: str | None = None,
    schemas: Sequence[str] | str | None = None,
    exclude: Iterable[str] | str = (),
    **options: Any,
) -> SourceDefinition:
    """Return a source that catalogs the database at ``url``, or at the URL in variable ``url_env``.

    ``url`` may be a function, which is called at each extract. ``name`` is the first segment of
    every key; by default the dialect and the database's name, e.g. ``postgresql.shop``. ``schemas``
    are read instead of all but the database's own; ``exclude`` holds globs of schemas (``audit``)
    and of tables (``*.tmp_*``) to leave out. ``options`` go to
    :func:`penstock.batch.source.source`. Raises :class:`PenstockError` unless one of the URLs is
    given.
    """
    if (url is None) == (url_env is None):
        raise PenstockError(f"source {source_id}: give sql_catalog either url or url_env")
    extractor = SqlCatalog(
        url=url,
        url_env=url_env,
        name=name,
        schemas=_listed("schemas", schemas),
        exclude=_listed("exclude", exclude),
    )
    options.setdefault("description", "The schemas, tables, views and columns of a SQL database.")
    shown = {name: getattr(extractor, name) for name in SETTINGS}
    settings = {key: value for key, value in shown.items() if value}
    declare = source(source_id, relationship_types=RELATIONSHIP_TYPES, settings=settings, **options)
    return declare(extractor)
