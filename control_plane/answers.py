"""What queries answer with ``--json``: plain JSON values, with units and names as the domain has them."""

from __future__ import annotations

import base64
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time
from enum import Enum
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from penstock.batch.index import FORMAT as INDEX_FORMAT
from penstock.batch.manifest import SCHEMA_VERSION, Manifest
from penstock.identity.canonical import CANONICAL_VERSION
from penstock.plan.ledger import LedgerRow
from penstock.ports.control import DeadLetter
from penstock.publish.queue import QueuePlace, QueuePolicy
from penstock.publish.state import PublishState
from penstock.use_cases.explain_entity import EntityExplanation
from penstock.use_cases.queries import BatchDetails, BatchOverview, PlanOverview, SourceOverview

Document = dict[str, Any]


def to_json(value: Any) -> str:
    """Return one JSON document; non-ASCII text stays as it is."""
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: moments as ISO 8601 in UTC, bytes as base64, NaN and infinities as text."""
    match value:
        case LedgerRow():
            return {**plain(dict(value)), "balanced": value.balanced}
        case BaseModel():
            return {name: plain(each) for name, each in value}
        case Enum():
            return value.value
        case Mapping():
            return {str(plain(key)): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return _scalar(value)


def _scalar(value: object) -> str | int | float | None:
    match value:
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case float() if math.isfinite(value):
            return value
        case str() | int() | None:
            return value
        case _:
            return str(value)


def sources(found: Sequence[SourceOverview]) -> Document:
    """Return sources with their declarations and how they stand."""
    return {
        "sources": [
            {
                **plain(each.spec),
                "newest_batch": each.newest_batch,
                "newest_states": {s.target_id: s.status for s in each.newest_states},
                "waiting": each.waiting,
            }
            for each in found
        ]
    }


def batches(found: Sequence[BatchOverview]) -> Document:
    """Return batches by their counts, without files and scopes: ``batch show`` has those."""
    return {"batches": [_batch_line(each) for each in found]}


def _batch_line(each: BatchOverview) -> Document:
    manifest = each.record.manifest
    return {
        "batch_id": manifest.batch_id,
        "source_id": manifest.source_id,
        "source_timestamp": manifest.source_timestamp,
        "mode": manifest.mode,
        "entities": manifest.entities.rows,
        "relationships": manifest.relationships.rows,
        "s3_path": each.record.s3_path,
        "admitted_at": each.record.admitted_at,
        "states": {state.target_id: state.status for state in each.states},
    }


def batch(found: BatchDetails) -> Document:
    """Return everything of one batch, its manifest included."""
    record = found.record
    return {
        "batch_id": record.manifest.batch_id,
        "s3_path": record.s3_path,
        "admitted_at": record.admitted_at,
        "manifest": record.manifest,
        "targets": found.targets,
    }


def queue(found: Sequence[QueuePlace], policy: QueuePolicy, *, waiting: int) -> Document:
    """Return places with the parts of each score and their total, the weights, and how many wait in all."""
    return {
        "policy": policy,
        "waiting": waiting,
        "queue": [
            {
                "place": each.place,
                "batch_id": each.state.batch_id,
                "target_id": each.state.target_id,
                "status": each.state.status,
                "enqueued_at": each.state.enqueued_at,
                "score": {**plain(each.score), "total": each.score.total},
                "waits_for": each.waits_for,
            }
            for each in found
        ],
    }


def states(found: Sequence[PublishState]) -> Document:
    """Return publish states whole: the model is public API."""
    return {"publish_states": found}


def dead_letters(found: Sequence[DeadLetter]) -> Document:
    """Return dead letters whole."""
    return {"dead_letters": found}


def plan(found: PlanOverview) -> Document:
    """Return the plan document, its counts and its first operations."""
    return {
        "digest": found.digest,
        "path": found.path,
        "operations_in_all": found.document.operations,
        "counts": found.counts,
        "operations": found.operations,
        "merges": found.merges,
        "document": found.document,
    }


def explanations(found: Sequence[EntityExplanation]) -> Document:
    """Return explanations whole, one per type that the key is known under."""
    return {"explanations": found}


def manifest_schema() -> Document:
    """Return the JSON Schema of a manifest."""
    return Manifest.model_json_schema()


def versions() -> dict[str, str]:
    """Return the version of the package, and of what it writes."""
    return {
        "penstock": metadata.version("penstock"),
        "python": platform.python_version(),
        "manifest_schema": str(SCHEMA_VERSION),
        "canonical_encoding": str(CANONICAL_VERSION),
        "index_format": INDEX_FORMAT,
    }
