"""Circuit breakers in the control database: a row for each target that was ever called in vain."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select, update

from penstock.identity.ids import TargetId
from penstock.ports.audit_log import AuditEntry
from penstock.publish.breaker import (
    BREAKER_OPEN,
    BreakerPolicy,
    BreakerState,
    BreakerStatus,
    after_calls,
)
from penstock.publish.state import PublishStatus
from resources.control_db.audit_log import add_act
from resources.control_db.breaker_tables import target_breaker
from resources.control_db.engine import Database, insert_new, upsert
from resources.control_db.rows import storable_text
from resources.control_db.tables import publish_state
from resources.control_db.telling import tell_breaker

_COLUMNS = [target_breaker.c[field.name] for field in fields(BreakerState)]


class SqlBreakers(Database):
    """:class:`penstock.ports.breakers.Breakers` in SQL."""

    def record_calls(
        self,
        target: TargetId,
        *,
        successes: int,
        failures: int,
        now: datetime,
        policy: BreakerPolicy,
        error: str | None = None,
    ) -> BreakerState:
        """Count calls' outcomes in one transaction, and return the state that follows from them."""
        new = BreakerState.closed(target, now)
        with self._writing() as connection:
            # There before it is locked, so that two first callers count one after the other.
            insert_new(connection, target_breaker, [_row_of(new)])
            before = _read(connection, target, lock=True) or new
            after = after_calls(
                before, policy, successes=successes, failures=failures, now=now, error=error
            )
            upsert(connection, target_breaker, [_row_of(after)])
            tell_breaker(connection, before, after, now=now)
        return after

    def get_breaker(self, target: TargetId, *, now: datetime) -> BreakerState:
        """Return a target's breaker; one that was never called in vain is closed."""
        with self._reading() as connection:
            return _read(connection, target) or BreakerState.closed(target, now)

    def list_breakers(self) -> list[BreakerState]:
        """Return every breaker that there is a row of, by target id."""
        with self._reading() as connection:
            return read_breakers(connection)

    def reset_breaker(
        self, target: TargetId, *, now: datetime, act: AuditEntry | None = None
    ) -> tuple[BreakerState, int]:
        """Close a breaker on an operator's word, and make due what was put off because of it; return how many."""
        closed, state = BreakerState.closed(target, now), publish_state
        put_off = and_(
            state.c.target_id == target,
            state.c.status == str(PublishStatus.RETRYING),
            state.c.error_code == BREAKER_OPEN,
            state.c.retry_due_at > now,
        )
        with self._writing() as connection:
            before = _read(connection, target, lock=True)
            upsert(connection, target_breaker, [_row_of(closed)])
            tell_breaker(connection, before, closed, now=now, act=act)
            woken = connection.execute(update(state).where(put_off).values(retry_due_at=now))
            if act is not None:
                add_act(connection, act)
        return closed, woken.rowcount


def read_breakers(connection: Connection) -> list[BreakerState]:
    """Return every breaker that there is a row of, by target id."""
    query = select(*_COLUMNS).order_by(target_breaker.c.target_id)
    return [_state_of(dict(row)) for row in connection.execute(query).mappings()]


def _read(connection: Connection, target: TargetId, *, lock: bool = False) -> BreakerState | None:
    query = select(*_COLUMNS).where(target_breaker.c.target_id == target)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else _state_of(dict(row))


def _state_of(row: dict[str, Any]) -> BreakerState:
    return BreakerState(**{**row, "status": BreakerStatus(row["status"])})


def _row_of(state: BreakerState) -> dict[str, Any]:
    row = asdict(state)
    return {**row, "status": str(state.status), "last_error": storable_text(state.last_error)}
