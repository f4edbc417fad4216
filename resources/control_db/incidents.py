"""Incidents in the control database, each told in the transaction that opens or resolves it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, or_, select, update

from penstock.errors import NotFound, NothingToDo
from penstock.events.envelope import NewEvent
from penstock.forecast.incidents import (
    PUBLIC,
    Condition,
    Incident,
    IncidentKind,
    IncidentMessage,
    Phase,
    Severity,
)
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.incidents import NewIncident
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_into
from resources.control_db.forecast_tables import incident, incident_message
from resources.control_db.outbox import add_events
from resources.control_db.rows import storable_text

RULES = "penstock"
"""Who opens and resolves by rule."""


class SqlIncidents(Database):
    """:class:`penstock.ports.incidents.Incidents` in SQL."""

    def open_by_rule(self, condition: Condition, *, now: datetime) -> Incident | None:
        """Open an incident for what a rule found, and tell it; None where one is open for it already."""
        incident_id = uuid.uuid4().hex
        row = {
            **_of_condition(condition),
            "incident_id": incident_id,
            "tenant_id": condition.tenant_id,
            "kind": str(condition.kind),
            "phase": str(Phase.INVESTIGATING),
            "public": condition.kind in PUBLIC,
            "source_id": condition.source_id,
            "target_id": condition.target_id,
            "rule_key": condition.rule_key,
            "opened_at": now,
            "opened_by": RULES,
            "updated_at": now,
            "seen_at": now,
        }
        with self._writing() as connection:
            added = insert_into(connection, incident).on_conflict_do_nothing()
            answer = connection.execute(added.returning(incident.c.incident_id), row)
            if answer.one_or_none() is None:
                return None
            opened = _read(connection, incident_id)
            add_events(connection, [_opened(opened)])
        return opened

    def see_again(self, incident_id: str, condition: Condition, *, now: datetime) -> None:
        """Note that a rule still finds an incident's trouble, and as what."""
        mine = (incident.c.incident_id == incident_id) & incident.c.resolved_at.is_(None)
        values = {**_of_condition(condition), "seen_at": now}
        with self._writing() as connection:
            connection.execute(update(incident).where(mine).values(**values))

    def resolve_by_rule(self, incident_id: str, *, text: str, now: datetime) -> bool:
        """End an incident whose trouble is gone, and tell it; False if it has ended already."""
        with self._writing() as connection:
            before = _read(connection, incident_id, lock=True)
            if not before.is_open:
                return False
            _say(connection, before, Phase.RESOLVED, text, actor=RULES, now=now)
        return True

    def open_incident(
        self, new: NewIncident, *, now: datetime, actor: str, act: AuditEntry
    ) -> Incident:
        """Open an incident on an operator's word, and tell it; ``act`` gets its id as subject."""
        incident_id = uuid.uuid4().hex
        row = {
            "incident_id": incident_id,
            "tenant_id": new.tenant_id,
            "kind": str(IncidentKind.NOTICE),
            "severity": str(new.severity),
            "phase": str(new.phase),
            "public": new.public,
            "source_id": new.source_id,
            "target_id": new.target_id,
            "title": storable_text(new.title),
            "explanation": "",
            "opened_at": now,
            "opened_by": storable_text(actor),
            "updated_at": now,
            "seen_at": now,
        }
        with self._writing() as connection:
            connection.execute(incident.insert(), row)
            opened = _read(connection, incident_id)
            add_events(connection, [_opened(opened)])
            opened = _say(connection, opened, new.phase, new.text, actor=actor, now=now)
            add_act(connection, _named(act, incident_id))
        return opened

    def update_incident(
        self,
        incident_id: str,
        *,
        phase: Phase,
        text: str,
        public: bool | None,
        now: datetime,
        actor: str,
        act: AuditEntry,
    ) -> Incident:
        """Add a message; one that resolves ends it, and is told. Raises ``NotFound``, ``NothingToDo`` if it is over."""
        with self._writing() as connection:
            before = _read(connection, incident_id, lock=True)
            if not before.is_open:
                raise NothingToDo(
                    f"incident {incident_id} has ended at {before.resolved_at:%Y-%m-%d %H:%M} UTC: open another"
                )
            if public is not None:
                mine = incident.c.incident_id == incident_id
                connection.execute(update(incident).where(mine).values(public=public))
            after = _say(connection, before, phase, text, actor=actor, now=now)
            add_act(connection, act)
        return after

    def get_incident(self, incident_id: str) -> Incident:
        """Return one with its messages, or raise ``NotFound``."""
        with self._reading() as connection:
            return _read(connection, incident_id)

    def list_incidents(
        self,
        *,
        tenant: TenantId | None = None,
        source: SourceId | None = None,
        open_only: bool = False,
        by_rules: bool = False,
        public_only: bool = False,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        """Return incidents with their messages, newest first; ``since`` leaves out what ended before."""
        table = incident.c
        query = select(incident).order_by(table.opened_at.desc(), table.incident_id).limit(limit)
        if tenant is not None:
            query = query.where(table.tenant_id == tenant)
        if source is not None:
            query = query.where(table.source_id == source)
        if open_only:
            query = query.where(table.resolved_at.is_(None))
        if by_rules:
            query = query.where(table.rule_key.is_not(None))
        if public_only:
            query = query.where(table.public)
        if since is not None:
            query = query.where(or_(table.resolved_at.is_(None), table.resolved_at >= since))
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
            said = _messages(connection, [row["incident_id"] for row in rows])
        return [_incident(row, said.get(row["incident_id"], ())) for row in rows]


def _of_condition(condition: Condition) -> dict[str, Any]:
    return {
        "severity": str(condition.severity),
        "title": storable_text(condition.title),
        "explanation": storable_text(condition.explanation),
    }


def _named(act: AuditEntry, incident_id: str) -> AuditEntry:
    return replace(act, subject=incident_id)


def _say(
    connection: Connection,
    before: Incident,
    phase: Phase,
    text: str,
    *,
    actor: str,
    now: datetime,
) -> Incident:
    """Add a message to a locked incident, and end it if that is what it says."""
    mine = incident.c.incident_id == before.incident_id
    count = select(func.count()).where(incident_message.c.incident_id == before.incident_id)
    row = {
        "incident_id": before.incident_id,
        "number": connection.execute(count).scalar_one() + 1,
        "at": now,
        "actor": storable_text(actor),
        "phase": str(phase),
        "text": storable_text(text),
    }
    connection.execute(incident_message.insert(), row)
    values: dict[str, Any] = {"phase": str(phase), "updated_at": now}
    if phase is Phase.RESOLVED:
        values |= {"resolved_at": now, "resolved_by": storable_text(actor)}
    connection.execute(update(incident).where(mine).values(**values))
    after = _read(connection, before.incident_id)
    if phase is Phase.RESOLVED:
        add_events(connection, [_resolved(after)])
    return after


def _read(connection: Connection, incident_id: str, *, lock: bool = False) -> Incident:
    query = select(incident).where(incident.c.incident_id == incident_id)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no incident {incident_id!r}: `penstock incidents` lists them")
    return _incident(row, _messages(connection, [incident_id]).get(incident_id, ()))


def _messages(
    connection: Connection, incident_ids: Sequence[str]
) -> dict[str, tuple[IncidentMessage, ...]]:
    table = incident_message.c
    query = select(incident_message).where(table.incident_id.in_(incident_ids))
    said: dict[str, list[IncidentMessage]] = defaultdict(list)
    for row in connection.execute(query.order_by(table.incident_id, table.number)).mappings():
        values = {name: row[name] for name in ("number", "at", "actor", "text")}
        said[row["incident_id"]].append(IncidentMessage(**values, phase=Phase(row["phase"])))
    return {incident_id: tuple(messages) for incident_id, messages in said.items()}


def _incident(row: RowMapping, messages: tuple[IncidentMessage, ...]) -> Incident:
    return Incident(
        **{
            **row,
            "kind": IncidentKind(row["kind"]),
            "severity": Severity(row["severity"]),
            "phase": Phase(row["phase"]),
        },
        messages=messages,
    )


def _opened(of: Incident) -> NewEvent:
    return _event("incident_opened", of, at=of.opened_at)


def _resolved(of: Incident) -> NewEvent:
    assert of.resolved_at is not None
    resolved_at = {"resolved_at": of.resolved_at.isoformat()}
    return _event("incident_resolved", of, at=of.resolved_at, more=resolved_at)


def _event(
    name: str, of: Incident, *, at: datetime, more: dict[str, Any] | None = None
) -> NewEvent:
    return NewEvent(
        type=name,
        subject=of.incident_id,
        tenant_id=of.tenant_id,
        time=at,
        data={
            "incident_id": of.incident_id,
            "source_id": of.source_id,
            "severity": str(of.severity),
            "title": of.title,
            "opened_at": of.opened_at.isoformat(),
            **(more or {}),
        },
        event_id=f"{of.incident_id}-{name}",
    )
