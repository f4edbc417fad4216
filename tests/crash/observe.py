"""What is compared: all that an installation and its target hold, but for moments, workers and the number of tries.

Two runs are the same when what :func:`observe` says of them is equal. Every effect is listed, so an operation that
took effect twice is a difference.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Engine, text

from penstock.batch.rows import Kind
from penstock.identity.ids import TargetId
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.platform import Platform
from tests.crash.scenario import SOURCE
from tests.crash.worlds import Worlds

Seen = dict[str, list[Any]]
_COUNTS = ", ".join(
    f"{kind}_{change}"
    for kind in ("entities", "relationships")
    for change in ("created", "updated", "deleted")
)
_CONTROL = {
    "publish_state": "batch_id, target_id, status, intent, mode, exceptions, held, blocked, rejected, error_code, "
    + _COUNTS,
    "publish_ledger": "batch_id, target_id, kind, type_name, extracted, filtered, inferred_deletes, created, updated, "
    "deleted, unchanged, held, blocked, superseded, dead_lettered, lost",
    "operation_exception": 'batch_id, target_id, kind, type_name, "key", to_key, action, outcome, code, guard',
    "dead_letter": 'batch_id, target_id, kind, type_name, "key", to_key, action, code, status, fingerprint, data, '
    "correction_batch_id",
    "dead_letter_event": "number, event, actor, batch_id",
    "drift": 'kind, type_name, "key", to_key, finding, status',
    "approval": "batch_id, decision, status",
    "plan_execution": "batch_id, target_id, intent, snapshot_before, snapshot_after, operations, "
    "applied + already_applied, exceptions, finished_at IS NULL",
    "execution_chunk": "batch_id, target_id, chunk, operations, applied + already_applied, failed, finished_at IS NULL",
    "snapshot": "source_id, target_id, version, digest, batch_id, source_timestamp",
    "lane": "source_id, target_id, batch_id, started_batch_id",
    "audit_entry": "act, subject, source_id",
    # How often something was put off is the number of tries; a lease is lost by each worker that is killed.
    "outbox_event WHERE type NOT IN ('batch_postponed', 'lease_lost', 'breaker_opened', 'breaker_closed')": "type, "
    "subject, tenant_id, data ->> 'target_id', data ->> 'letters', data ->> 'held', data ->> 'outcome'",
}
_PLANS = {
    "publish_state": "plan_digest, base_plan_digest, execution_plan_path, state_snapshot_path",
    "operation_exception": "plan_digest, operation_id, blocked_by, settled_by",
    "execution_chunk": "plan_digest, chunk",
    "plan_execution": "plan_digest, plan_path",
    "snapshot": "path",
}
"""What is the same only where the plans are, byte for byte."""
_REGISTRY = {
    "registry_event": "kind, type_name, key, to_key, action, attributes, before_digest, after_digest",
    "registry_entity": "type_name, key, attributes, digest",
    "registry_relationship": "type_name, key, to_key, attributes, digest",
}
_TABLES = {
    "penstock_entities": "type_name, key, attributes, _penstock_digest",
    "penstock_relationships": "type_name, key, to_key, attributes, _penstock_digest",
    "effect": "action, key, digest",
}
_WIKI = {
    "held": "kind, type_name, key, to_key, attributes, digest",
    "effect": "action, kind, type_name, key, to_key, attributes",
}


def observe(worlds: Worlds, platform: Platform, *, same_plans: bool) -> Seen:
    """Return what there is; ``same_plans`` if plans have to be the same to the byte."""
    control: Engine = platform.control.engine  # type: ignore[attr-defined]
    with control.connect() as connection:
        seen = _rows(connection, _CONTROL)
        if same_plans:
            seen |= {f"{name}, plans": rows for name, rows in _rows(connection, _PLANS).items()}
        if worlds.target == "registry":
            seen |= _rows(connection, _REGISTRY)
    if worlds.target == "tables":
        tables: Engine = platform.targets[worlds.target].engine  # type: ignore[attr-defined]
        with tables.connect() as connection:
            seen |= _rows(connection, _TABLES)
    if worlds.target == "wiki":
        seen |= _wiki(worlds)
    return seen | _known(platform, worlds.target)


def _rows(connection: Connection, queries: Mapping[str, str]) -> Seen:
    return {
        name: _sorted(connection.execute(text(f"SELECT {columns} FROM {name}")))
        for name, columns in queries.items()
    }


def _wiki(worlds: Worlds) -> Seen:
    file = worlds.endpoint.folder / worlds.endpoint_world / "endpoint.db"
    if not file.exists():
        return {f"wiki {name}": [] for name in _WIKI}
    with closing(sqlite3.connect(file)) as connection:
        return {
            f"wiki {name}": _sorted(connection.execute(f"SELECT {columns} FROM {name}"))
            for name, columns in _WIKI.items()
        }


def _known(platform: Platform, target: TargetId) -> Seen:
    """Return every row of the snapshot, from its files."""
    known = KnownRows.open(platform, SOURCE, target)
    return {
        f"snapshot of {kind}": _sorted(
            tuple(row.values())
            for type_name in known.view.types(kind)
            for _, _, rows in known.scan(kind, type_name)
            for row in rows.to_pylist()
        )
        for kind in Kind
    }


def _sorted(rows: Iterable[Any]) -> list[tuple[str, ...]]:
    return sorted(tuple(_plain(value) for value in row) for row in rows)


def _plain(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(int(value)) if isinstance(value, bool) else str(value)


def differences(expected: Seen, found: Seen) -> list[str]:
    """Say in a line each what is missing and what is too much."""
    said = []
    for name in sorted(expected.keys() | found.keys()):
        want, got = Counter(expected.get(name, [])), Counter(found.get(name, []))
        said += [f"{name}: missing {row}" for row in (want - got).elements()]
        said += [f"{name}: too much {row}" for row in (got - want).elements()]
    return said
