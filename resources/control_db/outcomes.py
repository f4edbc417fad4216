"""Ends of tasks in the breakers of workers and sources, within the transaction that ends them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from penstock.ports.work import Outcome
from penstock.publish.breaker import after_calls
from penstock.workflow.workers import BreakerScope, WorkBreaker
from resources.control_db.engine import insert_new, upsert
from resources.control_db.work_rows import BREAKER_COLUMNS, breaker_of, row_of_breaker
from resources.control_db.workflow_tables import work_breaker

_Key = tuple[BreakerScope, str]


def count_outcomes(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Count how tasks ended, one after another, for the breakers of their workers and of their sources."""
    if not outcomes:
        return
    at = {key: outcome.at for outcome in outcomes for key in _keys(outcome)}
    _add_missing(connection, at)
    there = locked_breakers(connection, list(at))
    breakers = {(each.scope, each.scope_id): each for each in there}
    for outcome in outcomes:
        failures = 0 if outcome.error is None else 1
        for key in _keys(outcome):
            breakers[key] = after_calls(
                breakers[key],
                outcome.policy.breaker,
                successes=1 - failures,
                failures=failures,
                now=outcome.at,
                error=outcome.error,
            )
    upsert(connection, work_breaker, [row_of_breaker(each) for each in breakers.values()])


def _add_missing(connection: Connection, at: Mapping[_Key, datetime]) -> None:
    """Add those that there are not yet; before any is locked, since an insert waits for others' inserts."""
    query = select(work_breaker.c.scope, work_breaker.c.scope_id).where(_is_one_of(at))
    known = {(BreakerScope(row.scope), row.scope_id) for row in connection.execute(query)}
    new = [WorkBreaker.closed(*key, at[key]) for key in sorted(at) if key not in known]
    insert_new(connection, work_breaker, [row_of_breaker(each) for each in new])


def _is_one_of(keys: Iterable[_Key]) -> ColumnElement[bool]:
    columns = tuple_(work_breaker.c.scope, work_breaker.c.scope_id)
    return columns.in_([(str(scope), scope_id) for scope, scope_id in keys])


def _keys(outcome: Outcome) -> tuple[_Key, _Key]:
    return (
        (BreakerScope.SOURCE, str(outcome.source)),
        (BreakerScope.WORKER, outcome.worker_id),
    )


def locked_breakers(connection: Connection, keys: Sequence[_Key]) -> list[WorkBreaker]:
    """Return those of some breakers that are there, locked: in one order always, so that none waits in a ring."""
    query = (
        select(*BREAKER_COLUMNS)
        .where(_is_one_of(keys))
        .order_by(work_breaker.c.scope, work_breaker.c.scope_id)
        .with_for_update()
    )
    return [breaker_of(dict(row)) for row in connection.execute(query).mappings()]
