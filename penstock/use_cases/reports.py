"""What use cases answer with: plain values that pages, tables and Dagster metadata are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.batch.manifest import Manifest
from penstock.batch.rows import Kind
from penstock.identity.ids import BatchId
from penstock.plan.guards import Hold
from penstock.plan.ledger import LedgerRow
from penstock.ports.control import DeadLetter
from penstock.publish.state import PublishState


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What extracting a source at one source timestamp gave."""

    batch_id: BatchId
    path: str
    """Object key of the folder that holds the extract."""
    rows: Mapping[tuple[Kind, str], int]
    failed_scopes: tuple[str, ...]
    already_there: bool
    duration_ms: int


@dataclass(frozen=True, kw_only=True)
class LandReport:
    """What landing a batch gave."""

    manifest: Manifest
    path: str
    """Address of the batch's folder."""
    already_landed: bool
    size_bytes: int
    duration_ms: int
    hashing_ms: int


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What one look at the object store found."""

    admitted: tuple[BatchId, ...]
    dead_letters: tuple[DeadLetter, ...]
    cursor: str
    """Pass it to the next look."""


@dataclass(frozen=True, kw_only=True)
class GuardVerdict:
    """What one guard said of a plan."""

    guard: str
    passed: bool
    message: str
    held_operations: int
    canary: str = "off"
    """Whether the guard tripped on a made-up disaster: ``tripped``, ``passed`` (it is broken) or ``off``."""
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PublishReport:
    """What publishing one batch to one target came to."""

    state: PublishState
    """Its status is COMPLETE, FAILED or RETRYING."""
    ledger: tuple[LedgerRow, ...]
    guards: tuple[GuardVerdict, ...]
    operations: int
    """Planned, whatever their verdict."""
    applied: int
    already_applied: int
    plan_ms: int
    execute_ms: int
    merged: int = 0
    """Operations in which something that somebody changed in the target was kept or put back."""
    conflicts: int = 0
    """Of these, operations with a field that both sides changed: what the source says of it was not written."""
