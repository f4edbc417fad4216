"""Dead letters in the control database: one row each, and a row for each thing that happened to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, update

from penstock.errors import IllegalMove, NotFound
from penstock.identity.ids import SourceId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import OperationException
from penstock.ports.dead_letters import DeadLetter, LetterFilter, LetterGroup, LetterHistory
from penstock.publish.dead_letters import (
    LetterEvent,
    LetterStatus,
    next_letter_status,
)
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database
from resources.control_db.letter_records import (
    REQUEUING,
    batch_letter,
    move,
    pages,
    record_letters,
)
from resources.control_db.letters_told import tell_letter, tell_requeued
from resources.control_db.tables import (
    dead_letter,
    dead_letter_event,
    operation_exception,
)

LETTER_OUTCOMES = frozenset({"refused", "rejected", "conflict", "lost"})
"""Outcomes of an operation that no retry mends."""
MAX_DATA_CHARACTERS = 64 * 1024
"""Longer attributes are not copied: they lie in the plan."""
_PAGE = 500
_T = TypeVar("_T")
LETTER_COLUMNS = [dead_letter.c[field.name] for field in fields(DeadLetter)]
_HISTORY = [dead_letter_event.c[field.name] for field in fields(LetterHistory)]


class SqlDeadLetters(Database):
    """:class:`penstock.ports.dead_letters.DeadLetters` in SQL."""

    def record_dead_letter(
        self,
        *,
        subject: str,
        where: str,
        source_id: str | None,
        code: str,
        message: str,
        now: datetime,
        details: Mapping[str, Any] | None = None,
        batch_id: str | None = None,
        target_id: str | None = None,
        data_path: str | None = None,
    ) -> DeadLetter:
        """Record one of a batch; the same subject and code again is the same one, which has failed again.

        ``details`` must be JSON.
        """
        letter = batch_letter(
            subject=subject,
            where=where,
            source_id=source_id,
            code=code,
            message=message,
            now=now,
            details=details,
            batch_id=batch_id,
            target_id=target_id,
            data_path=data_path,
        )
        with self._writing() as connection:
            known = dead_letter.c.dead_letter_id == letter.dead_letter_id
            before = connection.execute(select(dead_letter.c.status).where(known)).scalar()
            record_letters(connection, [letter], now)
            if before != LetterStatus.OPEN:
                tell_letter(connection, letter, now)
            return _read(connection, letter.dead_letter_id)

    def get_dead_letter(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter, or raise ``NotFound``."""
        with self._reading() as connection:
            return _read(connection, dead_letter_id)

    def letter_history(self, dead_letter_id: str) -> list[LetterHistory]:
        """Return what happened to a dead letter, oldest first."""
        table = dead_letter_event.c
        query = select(*_HISTORY).where(table.dead_letter_id == dead_letter_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.number)).mappings()
            return [LetterHistory(**{**row, "event": LetterEvent(row["event"])}) for row in rows]

    def list_dead_letters(
        self,
        *,
        source: SourceId | None = None,
        chosen: LetterFilter | None = None,
        after: DeadLetter | None = None,
        limit: int = 1000,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first; ``after`` is the last of the page before."""
        table = dead_letter.c
        query = chosen_letters(select(*LETTER_COLUMNS), chosen or LetterFilter())
        if source is not None:
            query = query.where(table.source_id == source)
        with self._reading() as connection:
            return read_letters(connection, query, after=after, limit=limit)

    def letter_groups(
        self, *, chosen: LetterFilter | None = None, limit: int = 1000
    ) -> list[LetterGroup]:
        """Return dead letters by fingerprint, the newest group first."""
        query = chosen_letters(grouped_letters(), chosen or LetterFilter())
        with self._reading() as connection:
            return [LetterGroup(**row) for row in connection.execute(query.limit(limit)).mappings()]

    def requeued_since(self, moment: datetime) -> int:
        """Return how many dead letters were requeued or fixed since a moment."""
        table = dead_letter_event.c
        asked = table.event.in_([str(LetterEvent.REQUEUED), str(LetterEvent.FIXED)])
        query = select(func.count()).where(asked, table.at > moment)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def unalerted_groups(self, *, silent_since: datetime, limit: int = 100) -> list[LetterGroup]:
        """Return open letters that nobody was alerted of, by fingerprint, but for those alerted of lately."""
        table = dead_letter.c
        lately = select(table.fingerprint).where(table.alerted_at > silent_since)
        is_open = and_(table.status == str(LetterStatus.OPEN), table.alerted_at.is_(None))
        query = grouped_letters(is_open, table.fingerprint.not_in(lately)).limit(limit)
        with self._reading() as connection:
            return [LetterGroup(**row) for row in connection.execute(query).mappings()]

    def mark_alerted(self, fingerprint: str, *, until: datetime, now: datetime) -> None:
        """Note that the letters of a fingerprint recorded up to a moment have been alerted of."""
        table = dead_letter.c
        mine = and_(
            table.fingerprint == fingerprint, table.alerted_at.is_(None), table.recorded_at <= until
        )
        with self._writing() as connection:
            connection.execute(update(dead_letter).where(mine).values(alerted_at=now))

    def blocked_exceptions(
        self, batch: str, target: str, operation_ids: Sequence[str]
    ) -> list[OperationException]:
        """Return the open exceptions that some operations block, by operation id."""
        table = operation_exception.c
        found = []
        columns = [table[field.name] for field in fields(OperationException)]
        with self._reading() as connection:
            for page in pages(operation_ids):
                query = select(*columns).where(
                    table.batch_id == batch,
                    table.target_id == target,
                    table.settled_by.is_(None),
                    table.blocked_by.in_(page),
                )
                rows = connection.execute(query.order_by(table.operation_id)).mappings()
                found += [OperationException(**row) for row in rows]
        return found

    def move_letters(
        self,
        dead_letter_ids: Sequence[str],
        event: LetterEvent,
        *,
        now: datetime,
        actor: str | None = None,
        message: str | None = None,
        batch_id: str | None = None,
        act: AuditEntry | None = None,
    ) -> int:
        """Make one move of several dead letters, with the act behind it, in one transaction; return how many."""
        with self._writing() as connection:
            for page in pages(list(dict.fromkeys(dead_letter_ids))):
                rows = select(dead_letter.c.dead_letter_id, dead_letter.c.status).where(
                    dead_letter.c.dead_letter_id.in_(page)
                )
                found = {row[0]: row[1] for row in connection.execute(rows.with_for_update())}
                _check_all_there(page, found)
                for name, status in found.items():
                    try:
                        next_letter_status(LetterStatus(status), event)
                    except IllegalMove as error:
                        raise IllegalMove(f"dead letter {name}: {error}") from None
                mine = dead_letter.c.dead_letter_id.in_(page)
                happened = {"actor": actor, "message": message, "batch_id": batch_id}
                if event in REQUEUING:
                    mended = event is LetterEvent.FIXED
                    tell_requeued(
                        connection, mine, now, carried_by=batch_id, actor=actor, mended=mended
                    )
                move(connection, mine, event, now, **happened)
            if act is not None:
                add_act(connection, act)
        return len(set(dead_letter_ids))


def read_letters(
    connection: Connection, query: Select[Any], *, after: DeadLetter | None, limit: int
) -> list[DeadLetter]:
    """Return the letters that a query of :data:`LETTER_COLUMNS` finds, newest first, behind one of them."""
    table = dead_letter.c
    if after is not None:
        older = table.recorded_at < after.recorded_at
        same = table.recorded_at == after.recorded_at
        behind = and_(same, table.dead_letter_id > after.dead_letter_id)
        query = query.where(or_(older, behind))
    query = query.order_by(table.recorded_at.desc(), table.dead_letter_id).limit(limit)
    return [letter_of(dict(row)) for row in connection.execute(query).mappings()]


def _read(connection: Connection, dead_letter_id: str) -> DeadLetter:
    query = select(*LETTER_COLUMNS).where(dead_letter.c.dead_letter_id == dead_letter_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            f"there is no dead letter {dead_letter_id!r}: `penstock dead-letters` lists what there is"
        )
    return letter_of(dict(row))


def letter_of(row: Mapping[str, Any]) -> DeadLetter:
    """Return the dead letter of a row that has :data:`LETTER_COLUMNS`."""
    return DeadLetter(**{**row, "status": LetterStatus(row["status"])})


def chosen_letters(query: Select[Any], chosen: LetterFilter) -> Select[Any]:
    """Restrict a query to what a filter means."""
    table = dead_letter.c
    for column, value in (
        (table.source_id, chosen.source),
        (table.target_id, chosen.target),
        (table.batch_id, chosen.batch),
        (table.status, None if chosen.status is None else str(chosen.status)),
        (table.fingerprint, chosen.fingerprint),
        (table.type_name, chosen.type_name),
        (table.code, chosen.code),
    ):
        if value is not None:
            query = query.where(column == value)
    if chosen.sources is not None:
        query = query.where(table.source_id.in_(sorted(chosen.sources)))
    return query


def grouped_letters(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Return a query for letters by fingerprint, the newest group first."""
    table = dead_letter.c
    last_at = func.max(table.recorded_at).label("last_at")
    return (
        select(
            table.fingerprint,
            func.max(table.code).label("code"),
            func.max(table.message).label("message"),
            func.max(table.type_name).label("type_name"),
            func.max(table.source_id).label("source_id"),
            func.max(table.target_id).label("target_id"),
            func.count().label("letters"),
            func.min(table.recorded_at).label("first_at"),
            last_at,
        )
        .where(*conditions)
        .group_by(table.fingerprint)
        .order_by(last_at.desc(), table.fingerprint)
    )


def _check_all_there(wanted: Sequence[str], found: Mapping[str, str]) -> None:
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise NotFound(
            f"there is no dead letter {missing[0]!r}: `penstock dead-letters` lists what there is"
        )
