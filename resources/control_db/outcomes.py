"""Ends of tasks in the breakers of workers and sources, within the transaction that ends them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, tuple_

from penstock.ports.work import Outcome
from penstock.publish.breaker import after_calls
from penstock.workflow.workers import BreakerScope, WorkBreaker
from resources.control_db.engine import insert_new, upsert
from resources.control_db.work_rows import BREAKER_COLUMNS, breaker_of, row_of_breaker
from resources.control_db.workflow_tables import work_breaker


def count_outcome(connection: Connection, outcome: Outcome) -> None:
    """Count a task's end for the breakers of its worker and of its source."""
    keys = [
        (BreakerScope.SOURCE, str(outcome.source)),
        (BreakerScope.WORKER, outcome.worker_id),
    ]
    there = locked_breakers(connection, keys)
    if len(there) < len(keys):
        new = [WorkBreaker.closed(scope, scope_id, outcome.at) for scope, scope_id in keys]
        insert_new(connection, work_breaker, [row_of_breaker(each) for each in new])
        there = locked_breakers(connection, keys)
    failures = 0 if outcome.error is None else 1
    counted = [
        after_calls(
            before,
            outcome.policy.breaker,
            successes=1 - failures,
            failures=failures,
            now=outcome.at,
            error=outcome.error,
        )
        for before in there
    ]
    upsert(connection, work_breaker, [row_of_breaker(each) for each in counted])


def locked_breakers(
    connection: Connection, keys: Sequence[tuple[BreakerScope, str]]
) -> list[WorkBreaker]:
    """Return those of some breakers that are there, locked: in one order always, so that none waits in a ring."""
    columns = tuple_(work_breaker.c.scope, work_breaker.c.scope_id)
    query = (
        select(*BREAKER_COLUMNS)
        .where(columns.in_([(str(scope), scope_id) for scope, scope_id in keys]))
        .order_by(work_breaker.c.scope, work_breaker.c.scope_id)
        .with_for_update()
    )
    return [breaker_of(dict(row)) for row in connection.execute(query).mappings()]
