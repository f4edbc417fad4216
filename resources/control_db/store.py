"""The control database as use cases take it: all of ``penstock.ports.control`` in one object."""

from __future__ import annotations

from resources.control_db import (  # noqa: F401  so that their tables are declared
    event_tables,
    forecast_tables,
    outbox_tables,
    workflow_tables,
)
from resources.control_db.approvals import SqlApprovals
from resources.control_db.attempts import SqlAttempts
from resources.control_db.audit_log import SqlAuditLog
from resources.control_db.batches import SqlBatches
from resources.control_db.breakers import SqlBreakers
from resources.control_db.dead_letters import SqlDeadLetters
from resources.control_db.drift import SqlDrift
from resources.control_db.executions import SqlExecutions
from resources.control_db.pauses import SqlPauses
from resources.control_db.queue import SqlQueue
from resources.control_db.retention import SqlRetention
from resources.control_db.schema import upgrade
from resources.control_db.sources import SqlSources
from resources.control_db.states import SqlStates

__all__ = ["SqlControlStore", "upgrade"]


class SqlControlStore(
    SqlSources,
    SqlBatches,
    SqlQueue,
    SqlStates,
    SqlExecutions,
    SqlDeadLetters,
    SqlApprovals,
    SqlAttempts,
    SqlAuditLog,
    SqlBreakers,
    SqlPauses,
    SqlDrift,
    SqlRetention,
):
    """A :class:`penstock.ports.control.ControlStore` on SQLite or PostgreSQL.

    Its schema has to be there: call :func:`upgrade` first. Threads may share one; a forked process may not.
    """
