"""The audit log in the control database: rows are added and never changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields

from sqlalchemy import Connection, select

from penstock.identity.ids import SourceId
from penstock.ports.audit_log import AuditEntry
from resources.control_db.engine import Database
from resources.control_db.rows import storable_json, storable_text
from resources.control_db.tables import audit_entry

_COLUMNS = [audit_entry.c[field.name] for field in fields(AuditEntry)]


class SqlAuditLog(Database):
    """:class:`penstock.ports.audit_log.AuditLog` in SQL."""

    def record_act(self, entry: AuditEntry) -> None:
        """Add an entry; raises ``PenstockError`` unless an actor is named."""
        with self._writing() as connection:
            add_act(connection, entry)

    def list_acts(
        self,
        *,
        subject: str | None = None,
        source: SourceId | None = None,
        sources: Collection[SourceId] | None = None,
        limit: int = 1000,
    ) -> list[AuditEntry]:
        """Return entries, newest first."""
        query = select(*_COLUMNS).order_by(audit_entry.c.entry_id.desc()).limit(limit)
        if subject is not None:
            query = query.where(audit_entry.c.subject == subject)
        if source is not None:
            query = query.where(audit_entry.c.source_id == source)
        if sources is not None:
            query = query.where(audit_entry.c.source_id.in_(sorted(sources)))
        with self._reading() as connection:
            return [AuditEntry(**row) for row in connection.execute(query).mappings()]


def add_act(connection: Connection, entry: AuditEntry) -> None:
    """Add an entry in the transaction of what was done, so that neither is there without the other."""
    row = asdict(entry)
    row |= {name: storable_text(row[name]) for name in ("actor", "subject", "reason")}
    row["details"] = storable_json(dict(entry.details))
    connection.execute(audit_entry.insert().inline(), row)
