"""Dead letters in the control database."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select

from penstock.identity.ids import SourceId
from penstock.ports.control import DeadLetter
from resources.control_db.engine import Database, insert_new
from resources.control_db.rows import storable_json, storable_text
from resources.control_db.tables import dead_letter

_COLUMNS = [dead_letter.c[field.name] for field in fields(DeadLetter)]


class SqlDeadLetters(Database):
    """:class:`penstock.ports.control.DeadLetters` in SQL."""

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
    ) -> DeadLetter:
        """Record one; the same subject and code again is the same dead letter, as first recorded.

        ``details`` must be JSON.
        """
        letter = DeadLetter(
            dead_letter_id=_id_of(subject, code),
            subject=storable_text(subject) or "",
            where=storable_text(where) or "",
            source_id=storable_text(source_id),
            code=code,
            message=storable_text(message) or "",
            details=storable_json(dict(details or {})),
            recorded_at=now,
        )
        query = select(*_COLUMNS).where(dead_letter.c.dead_letter_id == letter.dead_letter_id)
        with self._writing() as connection:
            insert_new(connection, dead_letter, [asdict(letter)])
            return DeadLetter(**connection.execute(query).mappings().one())

    def list_dead_letters(
        self, *, source: SourceId | None = None, limit: int = 1000
    ) -> list[DeadLetter]:
        """Return dead letters, newest first."""
        table = dead_letter.c
        newest_first = (table.recorded_at.desc(), table.dead_letter_id)
        query = select(*_COLUMNS).order_by(*newest_first).limit(limit)
        if source is not None:
            query = query.where(table.source_id == source)
        with self._reading() as connection:
            return [DeadLetter(**row) for row in connection.execute(query).mappings()]


def _id_of(subject: str, code: str) -> str:
    text = f"{len(code)}:{code}{subject}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
