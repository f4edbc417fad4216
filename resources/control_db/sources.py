"""Declared sources in the control database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, text, update

from penstock.batch.source import SourceSpec
from penstock.errors import UndeclaredSource
from penstock.identity.ids import SourceId
from resources.control_db.engine import Database, upsert
from resources.control_db.rows import columns_of_spec, spec_of
from resources.control_db.tables import source as sources


class SqlSources(Database):
    """:class:`penstock.ports.control.Sources` in SQL."""

    def sync_sources(self, specs: Iterable[SourceSpec]) -> None:
        """Make the stored declarations equal these; the others are kept, marked undeclared."""
        ordered = sorted(specs, key=lambda spec: spec.source_id)
        if self.list_sources() == ordered:
            return  # as at nearly every load of a code location: no write
        rows = [{**columns_of_spec(spec), "declared": True} for spec in ordered]
        declared = [spec.source_id for spec in ordered]
        with self._writing() as connection:
            if connection.dialect.name == "postgresql":
                # Two that undeclare each other's sources at once would deadlock row by row.
                connection.execute(text("LOCK TABLE source IN SHARE ROW EXCLUSIVE MODE"))
            upsert(connection, sources, rows)
            gone = sources.c.declared & sources.c.source_id.not_in(declared)
            connection.execute(update(sources).where(gone).values(declared=False))

    def list_sources(self) -> list[SourceSpec]:
        """Return the declared sources by id."""
        query = select(sources).where(sources.c.declared).order_by(sources.c.source_id)
        with self._reading() as connection:
            return [spec_of(dict(row)) for row in connection.execute(query).mappings()]

    def get_source(self, source: SourceId) -> SourceSpec:
        """Return one declared source, or raise ``UndeclaredSource``."""
        query = select(sources).where(sources.c.source_id == source)
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or not row["declared"]:
            was = "is no longer declared" if row is not None else "was never declared"
            raise UndeclaredSource(
                f"source {source!r} {was}: name it in platform_assets/sources.py and reload the "
                "code location"
            )
        return spec_of(dict(row))
