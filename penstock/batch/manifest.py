"""The manifest: a batch's commit marker and contract, written last.

Its JSON Schema is published in ``docs/reference/manifest.schema.json``: whatever can put objects into the
store may land a batch. A batch without index files is indexed by Penstock when it is admitted.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from penstock.batch.rows import Kind
from penstock.batch.scope import Scope
from penstock.errors import BadManifest, InvalidIdentifier
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.identity.trace import LONGEST_TRACE_PARENT, read_trace_parent

MANIFEST_NAME = "_manifest.json"
SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class Mode(StrEnum):
    """What an absence from the batch means."""

    FULL = "full"
    """Inside a complete scope, what is absent is gone."""
    DELTA = "delta"
    """Absence means nothing; tombstones say what is gone."""


def _relative_path(value: str) -> str:
    path = PurePosixPath(value)
    bad = (
        path.is_absolute() or not path.parts or "\\" in value or "\0" in value or str(path) != value
    )
    if bad or any(part in {".", ".."} for part in path.parts):
        raise ValueError(f"{value!r} is not a plain path below the batch's own folder")
    return value


RelativePath = Annotated[str, Field(max_length=512), AfterValidator(_relative_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
TypeName = Annotated[str, AfterValidator(ids.type_name)]
TraceParent = Annotated[str, Field(max_length=LONGEST_TRACE_PARENT)]
DeadLetterId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class DataFile(BaseModel):
    """One Parquet file of a batch; ``sha256`` is of its bytes."""

    model_config = _FROZEN
    path: RelativePath
    rows: Count
    size_bytes: Count
    sha256: Sha256


class IndexFileEntry(BaseModel):
    """One index sidecar; rows of the data files, in order, are the rows of the index."""

    model_config = _FROZEN
    path: RelativePath
    size_bytes: Count
    sha256: Sha256
    format: Literal["penstock-index/1"] = "penstock-index/1"


class RelationshipType(BaseModel):
    """What the planner has to know of a relationship type."""

    model_config = _FROZEN
    name: TypeName
    containment: bool = False
    """The ``from`` end contains the ``to`` end; such edges must form no cycle."""
    external_ends: bool = False
    """Ends may lie outside this source, so they are not checked to exist."""


class Correction(BaseModel):
    """What a corrective batch is for: it goes to one target, on somebody's word."""

    model_config = _FROZEN
    kind: Literal["rollback", "fix"]
    """``rollback``: takes back what a batch did. ``fix``: brings what a batch could not, mended or as it was."""
    batch_id: Annotated[str, Field(max_length=127)]
    """The batch that it corrects."""
    target_id: Annotated[TargetId, AfterValidator(ids.target_id)]
    requested_by: Annotated[str, Field(min_length=1, max_length=255)]
    reason: Annotated[str, Field(max_length=2000)] = ""
    dead_letter_ids: tuple[DeadLetterId, ...] = ()
    """The dead letters that it tries again: they are on their way from the moment that it is admitted."""
    mended: str | None = None
    """What the one dead letter among them was to bring, as somebody mended it: canonical text of its attributes."""


class Files(BaseModel):
    """All that a batch holds of one kind."""

    model_config = _FROZEN
    parts: tuple[DataFile, ...] = ()
    index: IndexFileEntry | None = None
    counts: dict[TypeName, Count] = Field(default_factory=dict)
    """Rows by type, tombstones included."""
    filtered: dict[TypeName, Count] = Field(default_factory=dict)
    """Rows that the transform left out on purpose, by type."""

    @property
    def rows(self) -> int:
        """All rows of this kind."""
        return sum(part.rows for part in self.parts)


class Manifest(BaseModel):
    """Everything that Penstock needs to know of a batch, and nothing that changes afterwards."""

    model_config = _FROZEN

    schema_version: Literal[1] = 1
    source_id: Annotated[SourceId, AfterValidator(ids.source_id)]
    tenant_id: Annotated[TenantId, AfterValidator(ids.tenant_id)] = TenantId("default")
    source_timestamp: AwareDatetime
    processing_timestamp: AwareDatetime
    mode: Mode
    run_id: str | None = Field(default=None, max_length=200)
    producer: str = Field(default="penstock", max_length=200)
    entities: Files = Files()
    relationships: Files = Files()
    scopes: tuple[Scope, ...] = ()
    relationship_types: tuple[RelationshipType, ...] = ()
    corrects: Correction | None = None
    """Set on what was landed to correct another batch at one target; None on what a source says."""
    trace_parent: Annotated[
        TraceParent | None,
        BeforeValidator(read_trace_parent),
        Field(
            description="W3C trace context that publishing the batch goes on below. One that is none is as if it were "
            "left out.",
        ),
    ] = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The bytes of a manifest, which the address of its plan follows from, are what they always were without one.
        document: dict[str, Any] = dump(self)
        if self.trace_parent is None:
            del document["trace_parent"]
        return document

    @model_validator(mode="after")
    def _counts_agree(self) -> Manifest:
        for kind in Kind:
            files = self.files(kind)
            counted = sum(files.counts.values())
            if counted != files.rows:
                raise ValueError(
                    f"{kind}.counts add up to {counted} rows but {kind}.parts hold {files.rows}"
                )
            paths = [part.path for part in files.parts]
            if len(set(paths)) != len(paths):
                raise ValueError(f"{kind}.parts name a file twice")
        return self

    def files(self, kind: Kind) -> Files:
        """Return what the batch holds of one kind."""
        return self.entities if kind is Kind.ENTITY else self.relationships

    @property
    def batch_id(self) -> BatchId:
        """The id of this batch."""
        return ids.batch_id(self.source_id, self.source_timestamp)

    def to_json(self) -> bytes:
        """Return the bytes that are put as ``_manifest.json``."""
        return self.model_dump_json(indent=1).encode()


def read_manifest(data: bytes, *, where: str) -> Manifest:
    """Parse and validate a manifest's bytes; ``where`` (its object key) goes into every error."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadManifest(
            f"{where} has {len(data):,} bytes, over the limit of {MAX_MANIFEST_BYTES:,}"
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()[:20]
        )
        raise BadManifest(
            f"{where} is not a valid manifest: {problems}. "
            "The contract is docs/reference/manifest.schema.json"
        ) from error


def batch_prefix(batch: BatchId) -> str:
    """Return the folder of a batch in the object store, with a ``/`` at its end."""
    source, timestamp = ids.split_batch_id(batch)
    return f"batches/{source}/{ids.timestamp_text(timestamp)}/"


def manifest_key(batch: BatchId) -> str:
    """Return the object key of a batch's manifest."""
    return batch_prefix(batch) + MANIFEST_NAME


def batch_of_manifest_key(key: str) -> BatchId:
    """Return the batch that a manifest's object key belongs to, or raise :class:`BadManifest`."""
    parts = key.split("/")
    if len(parts) != 4 or parts[0] != "batches" or parts[3] != MANIFEST_NAME:
        raise BadManifest(f"{key} is not of the form batches/<source>/<timestamp>/{MANIFEST_NAME}")
    try:
        return ids.batch_id(ids.source_id(parts[1]), ids.timestamp_from_text(parts[2]))
    except InvalidIdentifier as error:
        raise BadManifest(f"{key} names no batch: {error}") from error
