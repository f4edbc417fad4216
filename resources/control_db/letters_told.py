"""Events of dead letters: one for each batch, target and cause, however many letters there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from penstock.events.envelope import NewEvent
from penstock.events.facts import shortened
from penstock.events.publishing import DeadLetterCreated, DeadLetterSettled
from penstock.identity.ids import TenantId
from penstock.ports.dead_letters import DeadLetter
from penstock.publish.dead_letters import LetterEvent, LetterStatus, normalised
from penstock.publish.state import PublishState
from resources.control_db.outbox import add_events
from resources.control_db.rows import storable_text
from resources.control_db.tables import dead_letter, source

_UNKNOWN = TenantId("default")
"""Whose a fact is that names no declared source."""
_table = dead_letter.c
_CAUSE = (
    _table.fingerprint,
    func.count().label("letters"),
    func.max(_table.code).label("code"),
    func.max(_table.type_name).label("type_name"),
)


def letters_of(
    connection: Connection, state: PublishState, now: datetime, token: int | None
) -> list[NewEvent]:
    """Return an event for each cause of what became a dead letter since a batch was put in the queue.

    They are told when the batch settles, so that one event has the count of all. ``token`` is of the claim that ended.
    """
    fresh = and_(
        or_(_table.batch_id == state.batch_id, _table.correction_batch_id == state.batch_id),
        _table.target_id == state.target_id,
        _table.status == str(LetterStatus.OPEN),
        _table.updated_at >= state.enqueued_at,
    )
    message = func.max(_table.message).label("message")
    query = select(*_CAUSE, message).where(fresh).group_by(_table.fingerprint)
    of = {
        "source_id": state.source_id,
        "batch_id": state.batch_id,
        "target_id": state.target_id,
    }
    events = []
    for row in connection.execute(query.order_by(_table.fingerprint)).mappings():
        created = DeadLetterCreated(
            **{**row, **of, "code": name_of(row["code"]), "message": told_of(row["message"])}
        )
        fact: Sequence[str | int] = ()
        if token is not None:
            fact = (state.batch_id, state.target_id, created.fingerprint, token)
        events.append(created.as_event(tenant_id=state.tenant_id, time=now, fact=fact))
    return events


def tell_letter(connection: Connection, letter: DeadLetter, now: datetime) -> None:
    """Tell of a dead letter that no claim is behind: of what should have been a batch."""
    created = DeadLetterCreated(
        fingerprint=letter.fingerprint,
        letters=1,
        code=name_of(letter.code),
        type_name=letter.type_name,
        source_id=letter.source_id,
        batch_id=letter.batch_id,
        target_id=letter.target_id,
        message=told_of(letter.message),
    )
    tenant = tenant_of(connection, letter.source_id)
    add_events(connection, [created.as_event(tenant_id=tenant, time=now)])


def tell_settled(
    connection: Connection,
    condition: ColumnElement[bool],
    event: LetterEvent,
    now: datetime,
    actor: str | None,
) -> None:
    """Tell that the letters that meet a condition are settled, before their rows say so."""
    lane = (_table.batch_id, _table.target_id, _table.source_id, source.c.tenant_id)
    query = (
        select(*_CAUSE, *lane)
        .select_from(dead_letter.outerjoin(source, source.c.source_id == _table.source_id))
        .where(condition)
        .group_by(_table.fingerprint, *lane)
    )
    rows: list[dict[str, Any]] = [dict(row) for row in connection.execute(query).mappings()]
    events = []
    for row in rows:
        tenant = TenantId(row.pop("tenant_id") or _UNKNOWN)
        row["code"], by = name_of(row["code"]), storable_text(actor)
        settled = DeadLetterSettled(**row, outcome=event.value, settled_by=by)  # type: ignore[arg-type]
        events.append(settled.as_event(tenant_id=tenant, time=now))
    add_events(connection, events)


def tenant_of(connection: Connection, source_id: str | None) -> TenantId:
    """Return whose a source is, as far as it is declared."""
    query = select(source.c.tenant_id).where(source.c.source_id == source_id)
    found = None if source_id is None else connection.execute(query).scalar()
    return _UNKNOWN if found is None else TenantId(found)


def told_of(message: str) -> str:
    """Return an error's message as an event may carry it: without what it quotes, and not too long."""
    return shortened(normalised(storable_text(message) or ""))


def name_of(text: str | None) -> str:
    """Return a code or a name as an event may carry it; targets and people choose some of them."""
    return (storable_text(text) or "unknown")[:255]
