"""Events of dead letters: one for each batch, target and cause, however many letters there are.

What people settle is settled, and told, in pages: then there is one for each page, of the letters in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, distinct, func, or_, select

from penstock.events.envelope import NewEvent
from penstock.events.facts import shortened
from penstock.events.publishing import DeadLetterCreated, DeadLetterRequeued, DeadLetterSettled
from penstock.identity.ids import TenantId
from penstock.ports.dead_letters import DeadLetter
from penstock.publish.dead_letters import LetterEvent, LetterStatus, normalised
from penstock.publish.state import PublishState
from resources.control_db.outbox import add_events
from resources.control_db.rows import storable_text
from resources.control_db.tables import dead_letter, dead_letter_event, source

_UNKNOWN = TenantId("default")
"""Whose a fact is that names no declared source."""
_table = dead_letter.c
_CAUSE = (
    _table.fingerprint,
    func.count().label("letters"),
    func.max(_table.code).label("code"),
    func.max(_table.type_name).label("type_name"),
)


def letters_of(connection: Connection, state: PublishState, now: datetime) -> list[NewEvent]:
    """Return an event for each cause of a batch's open dead letters, when the batch settles.

    So one event has the count of all. Its fact is how many there are and how often anything has happened to them: while
    nothing has, it is the same event, however often the batch settles.
    """
    events = dead_letter_event.c
    still_open = and_(
        or_(_table.batch_id == state.batch_id, _table.correction_batch_id == state.batch_id),
        _table.target_id == state.target_id,
        _table.status == str(LetterStatus.OPEN),
    )
    query = (
        select(
            _table.fingerprint,
            func.count(distinct(_table.dead_letter_id)).label("letters"),
            func.max(_table.code).label("code"),
            func.max(_table.type_name).label("type_name"),
            func.max(_table.message).label("message"),
            func.count().label("changes"),
        )
        .select_from(dead_letter)
        .join(dead_letter_event, events.dead_letter_id == _table.dead_letter_id)
        .where(still_open)
        .group_by(_table.fingerprint)
        .order_by(_table.fingerprint)
    )
    return [_created(dict(row), state, now) for row in connection.execute(query).mappings()]


def _created(row: dict[str, Any], state: PublishState, now: datetime) -> NewEvent:
    changes = row.pop("changes")
    created = DeadLetterCreated(
        fingerprint=row["fingerprint"],
        letters=row["letters"],
        code=name_of(row["code"]),
        type_name=row["type_name"],
        source_id=state.source_id,
        batch_id=state.batch_id,
        target_id=state.target_id,
        message=told_of(row["message"]),
    )
    of = (state.batch_id, state.target_id, created.fingerprint)
    return created.as_event(
        tenant_id=state.tenant_id,
        time=now,
        fact=(*of, created.letters, changes),
        trace_parent=state.trace_parent,
    )


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
    said: dict[str, Any] = {"outcome": event.value, "settled_by": storable_text(actor)}
    events = [
        DeadLetterSettled(**cause, **said).as_event(tenant_id=tenant, time=now)
        for tenant, cause in _by_cause(connection, condition)
    ]
    add_events(connection, events)


def tell_requeued(
    connection: Connection,
    condition: ColumnElement[bool],
    now: datetime,
    *,
    carried_by: str | None,
    actor: str | None,
    mended: bool = False,
) -> None:
    """Tell that the letters that meet a condition are on their way again, and with which batch."""
    said: dict[str, Any] = {"carried_by": carried_by, "requeued_by": storable_text(actor)}
    events = [
        DeadLetterRequeued(**cause, **said, mended=mended).as_event(tenant_id=tenant, time=now)
        for tenant, cause in _by_cause(connection, condition)
    ]
    add_events(connection, events)


def _by_cause(
    connection: Connection, condition: ColumnElement[bool]
) -> list[tuple[TenantId, dict[str, Any]]]:
    """Return whose the letters are that meet a condition, and what the events of each cause have in common."""
    lane = (_table.batch_id, _table.target_id, _table.source_id, source.c.tenant_id)
    query = (
        select(*_CAUSE, *lane)
        .select_from(dead_letter.outerjoin(source, source.c.source_id == _table.source_id))
        .where(condition)
        .group_by(_table.fingerprint, *lane)
    )
    found = []
    for row in connection.execute(query).mappings():
        cause = {**row, "code": name_of(row["code"])}
        found.append((TenantId(cause.pop("tenant_id") or _UNKNOWN), cause))
    return found


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
