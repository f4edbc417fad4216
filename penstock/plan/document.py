"""The plan document: what is in a plan's files, and the digest that stands for all of it.

A plan is a folder: ``plan.json`` (this document) and one Parquet file of operations per wave, a row group per
chunk. The document holds the SHA-256 of every file, and the plan's digest is of the document, so that the digest pins
every byte. Nothing in a plan tells when or by whom it was made: the same inputs give the same bytes.
"""

from __future__ import annotations

from typing import Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode
from penstock.errors import PlanChanged
from penstock.identity import digest
from penstock.identity.ids import (
    BatchId,
    SourceId,
    TargetId,
    TenantId,
    split_batch_id,
    timestamp_text,
)
from penstock.plan.guards import Hold
from penstock.plan.guards import Verdict as GuardVerdict
from penstock.plan.ledger import LedgerRow
from penstock.plan.merge import MergedRow

PLAN_NAME = "plan.json"


class WaveFile(BaseModel):
    """One wave's operations, in chunks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    wave: int
    path: str
    """Relative to the plan's folder."""
    chunks: tuple[int, ...]
    """Operations in each row group."""
    size_bytes: int
    sha256: str

    @property
    def operations(self) -> int:
        """Operations of all chunks."""
        return sum(self.chunks)


class DerivedFrom(BaseModel):
    """The stored plan that another was made from, and what for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    purpose: str
    """``release``: its held operations, once they are approved; ``repair``: what drifted since."""
    plan_digest: str
    path: str
    """Object key of its ``plan.json``."""


class PlanDocument(BaseModel):
    """Everything about a plan but its operations."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str = "penstock-plan/1"
    batch_id: BatchId
    source_id: SourceId
    target_id: TargetId
    tenant_id: TenantId
    mode: Mode
    source_timestamp: AwareDatetime
    snapshot_version: int = Field(ge=0)
    """The snapshot that the plan takes the target to hold; 0 for none."""
    snapshot_digest: str
    guard_policy: GuardPolicy
    guards: tuple[GuardVerdict, ...]
    holds: tuple[Hold, ...] = ()
    """What guards hold, and what stands behind it."""
    waves: tuple[WaveFile, ...]
    ledger: tuple[LedgerRow, ...]
    """As it will stand if every planned operation takes effect."""
    derived_from: DerivedFrom | None = None
    merges: tuple[MergedRow, ...] = ()
    """Of a repair, which is made from what the target holds: what it decides by field, of its first rows."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A plan that decides nothing by field, or of which nothing was superseded, has the bytes, and so the digest,
        # that it always had.
        document: dict[str, Any] = dump(self)
        if not self.merges:
            del document["merges"]
        for row in document["ledger"]:
            if not row["superseded"]:
                del row["superseded"]
        return document

    @property
    def operations(self) -> int:
        """Operations of all waves, whatever their verdict."""
        return sum(wave.operations for wave in self.waves)

    def to_json(self) -> bytes:
        """Return the bytes that are put as ``plan.json``."""
        return self.model_dump_json(indent=1).encode()

    @property
    def digest(self) -> str:
        """The digest that approval, execution and recovery bind to, as 32 hex digits."""
        return plan_digest(self.to_json())


def plan_digest(document: bytes) -> str:
    """Return the digest of a plan document's bytes, as 32 hex digits."""
    return digest.digest(digest.TAG_PLAN, document).hex()


def read_plan_document(data: bytes, *, where: str, expected_digest: str | None) -> PlanDocument:
    """Parse ``plan.json``; raises :class:`PlanChanged` if it is not what was recorded."""
    if expected_digest is not None and plan_digest(data) != expected_digest:
        raise PlanChanged(
            f"{where} has digest {plan_digest(data)}, but {expected_digest} was recorded: the stored plan "
            "was changed after it was made. Requeue the batch to plan it again"
        )
    try:
        return PlanDocument.model_validate_json(data)
    except ValidationError as error:
        raise PlanChanged(f"{where} is not a plan document: {error}") from error


def plan_prefix(batch: BatchId, target: TargetId, inputs: bytes) -> str:
    """Return the folder of a plan: addressed by the digest of what it was made from."""
    source, timestamp = split_batch_id(batch)
    return f"plans/{target}/{source}/{timestamp_text(timestamp)}/{inputs.hex()}/"
