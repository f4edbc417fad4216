"""Rows of the control database as the domain's values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Row

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.ownership import checked_ownership
from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.publish.state import (
    FailureDetails,
    Intent,
    PublishMetrics,
    PublishState,
    PublishStatus,
)
from resources.control_db.tables import publish_state

_METRICS = tuple(PublishMetrics.model_fields)
_FAILURE = tuple(FailureDetails.model_fields)
_PLAIN = tuple(
    name for name in PublishState.model_fields if name not in {"metrics", "failure_details"}
)
STATE_COLUMNS = tuple(publish_state.c[name] for name in (*_PLAIN, *_METRICS, *_FAILURE))
"""The columns that make a publish state."""


def storable_text(text: str | None) -> str | None:
    """Return text that PostgreSQL takes: NUL, and halves of surrogate pairs, become U+FFFD."""
    if text is None:
        return None
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """Return JSON whose texts both databases take."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {storable_text(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    return value


def state_of(row: Row[*tuple[Any, ...]]) -> PublishState:
    """Read a publish state from a row that has :data:`STATE_COLUMNS`.

    What the database holds was validated on its way in, so it is not validated again: a claim reads
    hundreds.
    """
    values = row._mapping
    plain = {name: values[name] for name in _PLAIN}
    plain["status"] = PublishStatus(plain["status"])
    plain["intent"] = Intent(plain["intent"])
    metrics = PublishMetrics.model_construct(**{name: values[name] for name in _METRICS})
    failure = None
    if values["error_code"] is not None:
        failure = FailureDetails.model_construct(**{name: values[name] for name in _FAILURE})
    return PublishState.model_construct(**plain, metrics=metrics, failure_details=failure)


def state_columns(state: PublishState) -> dict[str, Any]:
    """Return the columns of a publish state, ``mode`` aside."""
    failure = state.failure_details
    columns: dict[str, Any] = {name: getattr(state, name) for name in _PLAIN}
    columns["status"], columns["intent"] = str(state.status), str(state.intent)
    columns |= state.metrics.model_dump()
    columns |= dict.fromkeys(_FAILURE) if failure is None else failure.model_dump()
    for name in ("error_code", "error_message", "failed_operation", "stack_trace"):
        columns[name] = storable_text(columns[name])
    return columns


def changed_columns(before: PublishState, after: PublishState) -> dict[str, Any]:
    """Return the columns that differ between two versions of a publish state."""
    old = state_columns(before)
    return {name: value for name, value in state_columns(after).items() if old[name] != value}


def spec_of(row: Mapping[str, Any]) -> SourceSpec:
    """Read a source's declaration from its row."""
    return SourceSpec(
        source_id=SourceId(row["source_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        importance=row["importance"],
        complexity=row["complexity"],
        cadence_s=row["cadence_s"],
        sla_s=row["sla_s"],
        targets=tuple(TargetId(target) for target in row["targets"]),
        description=row["description"],
        guard_policy=None
        if row["guard_policy"] is None
        else GuardPolicy.model_validate(row["guard_policy"]),
        ownership=checked_ownership(row["ownership"] or {}),
    )


def columns_of_spec(spec: SourceSpec) -> dict[str, Any]:
    """Return the columns of a source's declaration, ``declared`` aside."""
    policy = spec.guard_policy
    return {
        **{field.name: getattr(spec, field.name) for field in fields(spec)},
        "targets": list(spec.targets),
        "guard_policy": None if policy is None else policy.model_dump(mode="json"),
        "ownership": {name: dict(fields) for name, fields in spec.ownership.items()} or None,
    }
