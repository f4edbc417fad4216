"""The record of one extract: what was read from a source, before any transform. Written last, as ``_extract.json``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from penstock.batch.manifest import Count, RelativePath, Sha256, TypeName
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness, Scope
from penstock.errors import BadFile
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId

RECORD_NAME = "_extract.json"
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ExtractFile(BaseModel):
    """All rows of one kind, as an Arrow IPC stream."""

    model_config = _FROZEN
    path: RelativePath
    rows: Count
    size_bytes: Count
    sha256: Sha256
    counts: dict[TypeName, Count] = Field(default_factory=dict)
    """Rows by type."""


class ExtractRecord(BaseModel):
    """What an extract holds, and how complete it is."""

    model_config = _FROZEN
    schema_version: Literal[1] = 1
    source_id: Annotated[SourceId, AfterValidator(ids.source_id)]
    source_timestamp: AwareDatetime
    extracted_at: AwareDatetime
    run_id: str | None = None
    files: dict[Kind, ExtractFile] = Field(default_factory=dict)
    filtered: dict[Kind, dict[TypeName, Count]] = Field(default_factory=dict)
    """Rows that the extractor left out on purpose, by type."""
    scopes: tuple[Scope, ...] = ()

    @property
    def failed_scopes(self) -> tuple[str, ...]:
        """Every scope whose enumeration broke off, for a person to read."""
        return tuple(
            f"{scope.type_name} {scope.key_prefix}".strip() + f": {scope.reason}"
            for scope in self.scopes
            if scope.completeness is Completeness.FAILED
        )

    def to_json(self) -> bytes:
        """Return the bytes that are put as ``_extract.json``."""
        return self.model_dump_json(indent=1).encode()


def read_extract_record(data: bytes, *, where: str) -> ExtractRecord:
    """Parse what :meth:`ExtractRecord.to_json` wrote; raises :class:`BadFile`, naming ``where``."""
    try:
        return ExtractRecord.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadFile(
            f"{where} is not the record of an extract ({'.'.join(map(str, problem['loc']))}: {problem['msg']}): "
            "delete it and extract again"
        ) from error


def extract_prefix(batch: BatchId) -> str:
    """Return the folder of an extract in the object store, with a ``/`` at its end."""
    source, timestamp = ids.split_batch_id(batch)
    return f"extracts/{source}/{ids.timestamp_text(timestamp)}/"
