"""Pauses in the control database."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, select

from penstock.ports.audit_log import AuditEntry
from penstock.ports.pauses import Pause, PauseScope
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_if_new
from resources.control_db.rows import storable_text
from resources.control_db.tables import pause as pauses
from resources.control_db.telling import tell_pause


class SqlPauses(Database):
    """:class:`penstock.ports.pauses.Pauses` in SQL."""

    def pause(self, pause: Pause, *, act: AuditEntry | None = None) -> bool:
        """Pause a source or target; False if it is paused already (the first pause stands)."""
        texts = {name: storable_text(getattr(pause, name)) for name in ("paused_by", "reason")}
        with self._writing() as connection:
            row = {**asdict(pause), **texts, "scope": str(pause.scope)}
            is_new = insert_if_new(connection, pauses, row)
            if is_new:
                tell_pause(
                    connection,
                    pause.scope,
                    pause.scope_id,
                    paused=True,
                    by=pause.paused_by,
                    reason=pause.reason,
                    now=pause.paused_at,
                )
            if is_new and act is not None:
                add_act(connection, act)
        return is_new

    def resume(self, scope: PauseScope, scope_id: str, *, act: AuditEntry | None = None) -> bool:
        """Resume a source or target; False if it is not paused."""
        mine = (pauses.c.scope == str(scope)) & (pauses.c.scope_id == scope_id)
        with self._writing() as connection:
            was_paused = bool(connection.execute(delete(pauses).where(mine)).rowcount)
            if was_paused and act is not None:
                tell_pause(
                    connection,
                    scope,
                    scope_id,
                    paused=False,
                    by=act.actor,
                    reason=act.reason,
                    now=act.at,
                )
                add_act(connection, act)
        return was_paused

    def list_pauses(self) -> list[Pause]:
        """Return what is paused, targets after sources, by id."""
        query = select(pauses).order_by(pauses.c.scope, pauses.c.scope_id)
        with self._reading() as connection:
            rows = connection.execute(query).mappings()
            return [Pause(**{**row, "scope": PauseScope(row["scope"])}) for row in rows]
