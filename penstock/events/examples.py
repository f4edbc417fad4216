"""An example of each event's data, for the pages and the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BATCH = "sql_catalog@2026-11-20T19-24-14.000000Z"
_PLAN = "6f1c2b7a90d34e58a1b2c3d4e5f60718"
_CAUSE = "0b5d7c1e2f3a4b5c6d7e8f9010213243"
_OF_PUBLISH = {
    "batch_id": _BATCH,
    "source_id": "sql_catalog",
    "target_id": "registry",
    "intent": "publish",
}
_OF_PLAN = {
    "batch_id": _BATCH,
    "source_id": "sql_catalog",
    "target_id": "registry",
    "plan_digest": _PLAN,
}
_OF_LETTERS = {
    "fingerprint": _CAUSE,
    "letters": 12,
    "code": "unknown_type",
    "type_name": "Table",
    "source_id": "sql_catalog",
    "batch_id": _BATCH,
    "target_id": "registry",
}
_PAUSED = {"by": "kim", "reason": "the source is being moved"}
_WORKFLOW = {"workflow_id": "3f2a9c0d1e4b5a69788796a5b4c3d2e1", "kind": "on_demand"}
_TASK = {
    "workflow_id": "3f2a9c0d1e4b5a69788796a5b4c3d2e1",
    "turn": 1,
    "task_id": "a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "step": "collect",
    "source_id": "sql_catalog",
    "attempt": 1,
}
_INCIDENT = {
    "incident_id": "9e8d7c6b5a4938271605f4e3d2c1b0a9",
    "source_id": "sql_catalog",
    "severity": "warning",
    "title": "sql_catalog is later than it promises",
    "opened_at": "2026-11-20T20:00:00Z",
}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "batch_landed": {
        "batch_id": _BATCH,
        "source_id": "sql_catalog",
        "source_timestamp": "2026-11-20T19:24:14Z",
        "mode": "full",
        "targets": ["registry"],
        "entities": 12000,
        "relationships": 34000,
    },
    "batch_published": {
        **_OF_PUBLISH,
        "source_timestamp": "2026-11-20T19:24:14Z",
        "plan_digest": _PLAN,
        "entities_created": 10,
        "entities_updated": 110,
        "entities_deleted": 0,
        "relationships_created": 40,
        "relationships_updated": 0,
        "relationships_deleted": 2,
        "held": 0,
        "blocked": 0,
        "rejected": 0,
        "execution_time_ms": 840,
        "latency_s": 6.4,
    },
    "lease_lost": {
        "batch_id": _BATCH,
        "source_id": "sql_catalog",
        "target_id": "registry",
        "lost_by": "5f0c2f3b/0",
        "taken_by": "8e03978e/1",
    },
    "batch_postponed": {
        **_OF_PUBLISH,
        "error_code": "unavailable",
        "message": "the target does not answer",
        "retry_count": 2,
        "retry_at": "2026-11-20T19:40:00Z",
    },
    "batch_failed": {
        **_OF_PUBLISH,
        "error_code": "bad_file",
        "message": "part # of Table has # rows, and the manifest says #",
        "retry_count": 0,
    },
    "batch_withdrawn": {**_OF_PUBLISH, "intent": "release"},
    "batch_requeued": {**_OF_PUBLISH, "intent": "republish", "requeued_by": "kim"},
    "plan_held": {**_OF_PLAN, "held": 4200, "guards": {"mass_delete": 4200}},
    "hold_decided": {
        **_OF_PLAN,
        "decision": "approve",
        "decided_by": "kim",
        "expires_at": "2026-11-21T19:24:14Z",
    },
    "dead_letter_created": {**_OF_LETTERS, "message": "there is no entity type '...'"},
    "dead_letter_requeued": {
        **_OF_LETTERS,
        "mended": True,
        "carried_by": "sql_catalog@2026-11-20T19-24-14.000001Z",
        "requeued_by": "kim",
    },
    "dead_letter_settled": {**_OF_LETTERS, "outcome": "discarded", "settled_by": "kim"},
    "breaker_opened": {
        "target_id": "registry",
        "open_until": "2026-11-20T19:25:14Z",
        "times_opened": 1,
        "calls": 6,
        "failures": 6,
    },
    "breaker_closed": {"target_id": "registry"},
    "source_paused": {"source_id": "sql_catalog", **_PAUSED},
    "source_resumed": {"source_id": "sql_catalog", "by": "kim"},
    "target_paused": {"target_id": "registry", **_PAUSED},
    "target_resumed": {"target_id": "registry", "by": "kim"},
    "workflow_created": {
        **_WORKFLOW,
        "source_ids": ["sql_catalog"],
        "priority": 1.0,
        "created_by": "kim",
    },
    "workflow_started": {**_WORKFLOW, "turn": 1, "source_ids": ["sql_catalog"]},
    "workflow_paused": {**_WORKFLOW, **_PAUSED},
    "workflow_resumed": {**_WORKFLOW, "by": "kim"},
    "workflow_completed": {**_WORKFLOW, "turn": 1, "tasks": 3},
    "workflow_failed": {
        **_WORKFLOW,
        "turn": 1,
        "tasks": 3,
        "failed_tasks": 1,
        "error_code": "task_failed",
        "message": "collect of sql_catalog failed for good",
    },
    "workflow_cancelled": {**_WORKFLOW, "by": "kim", "reason": "asked for by mistake"},
    "task_assigned": {
        **_TASK,
        "worker_id": "collector_1",
        "lease_expires_at": "2026-11-20T19:25:14Z",
    },
    "task_completed": {**_TASK, "worker_id": "collector_1", "batch_id": _BATCH},
    "task_failed": {
        **_TASK,
        "worker_id": "collector_1",
        "error_code": "source_unreachable",
        "message": "the database does not answer",
        "retry_at": "2026-11-20T19:30:00Z",
    },
    "worker_status_changed": {
        "worker_id": "collector_1",
        "status": "draining",
        "before": "active",
        "reason": "its machine is to be replaced",
    },
    "destination_disabled": {
        "destination_id": "chat",
        "why": "it has taken nothing since 2026-11-15T19:24:14Z: it answered 500",
        "by": "penstock",
    },
    "incident_opened": _INCIDENT,
    "incident_resolved": {**_INCIDENT, "resolved_at": "2026-11-20T20:40:00Z"},
    "archive_discovered": {
        "source_id": "sql_catalog",
        "archive": "s3://exports/sql_catalog/2026-11-20.tar",
        "discovered_at": "2026-11-20T19:24:14Z",
        "size_bytes": 1048576,
    },
    "collection_completed": {
        "task_id": "a1b2c3d4e5f60718293a4b5c6d7e8f90",
        "fencing_token": 7,
        "batch_id": _BATCH,
    },
    "collection_failed": {
        "task_id": "a1b2c3d4e5f60718293a4b5c6d7e8f90",
        "fencing_token": 7,
        "error_code": "source_unreachable",
        "message": "the database does not answer",
    },
}
"""By the type's name; each is checked against its model in the tests."""
