"""The snapshot manifest: which files hold what a target is known to hold, and what it adds up to.

A snapshot is, for each kind, a base (a batch's own index, or a compacted one) and deltas over it, oldest first.
Attributes stay in the batches that brought them; a locator names the batch by its ordinal in ``files``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from penstock.batch.index import Totals
from penstock.batch.rows import Kind
from penstock.errors import IndexCorrupt
from penstock.identity import ids
from penstock.identity.digest import TAG_SNAPSHOT, digest
from penstock.identity.ids import BatchId, SourceId, TargetId

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_Word = Annotated[int, Field(ge=0, lt=2**64)]
_TypeName = Annotated[str, AfterValidator(ids.type_name)]


class TypeTotals(BaseModel):
    """The digest of all rows of one type: their count, and the sums of their hashes modulo 2**64."""

    model_config = _FROZEN
    rows: int = Field(ge=1)
    sum_hi: _Word
    sum_lo: _Word

    @classmethod
    def of(cls, totals: Totals) -> TypeTotals:
        """Return totals as a manifest writes them."""
        return cls(rows=totals.rows, sum_hi=totals.sum_hi, sum_lo=totals.sum_lo)

    def plain(self) -> Totals:
        """Return totals as indexes have them."""
        return Totals(rows=self.rows, sum_hi=self.sum_hi, sum_lo=self.sum_lo)


class SnapshotFile(BaseModel):
    """One index file that belongs to snapshots, by its key in the object store."""

    model_config = _FROZEN
    key: str
    rows: int = Field(ge=0)


class Base(BaseModel):
    """What deltas lie over: the index of the batch ``files[ordinal]``, or a compacted index with locators."""

    model_config = _FROZEN
    ordinal: int | None = Field(default=None, ge=0)
    file: SnapshotFile | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Base:
        if (self.ordinal is None) == (self.file is None):
            raise ValueError("a base is either a batch's index or a file, not both or neither")
        return self


class KindState(BaseModel):
    """All that a snapshot holds of one kind."""

    model_config = _FROZEN
    base: Base | None = None
    deltas: tuple[SnapshotFile, ...] = ()
    totals: dict[_TypeName, TypeTotals] = Field(default_factory=dict)
    """By type; types without rows are left out."""


class SnapshotManifest(BaseModel):
    """One version of what a target is known to hold from a source."""

    model_config = _FROZEN
    schema_version: Literal[1] = 1
    source_id: Annotated[SourceId, AfterValidator(ids.source_id)]
    target_id: Annotated[TargetId, AfterValidator(ids.target_id)]
    version: int = Field(ge=1)
    batch_id: BatchId
    """The batch that it was last advanced by."""
    digest: str = Field(pattern=r"^[0-9a-f]{32}$")
    """Of the content alone: the same rows have the same digest, however they are laid out in files."""
    files: tuple[BatchId, ...]
    """The batches whose rows hold the attributes; a locator's ordinal is an index into this."""
    entities: KindState = KindState()
    relationships: KindState = KindState()

    @model_validator(mode="after")
    def _bases_are_listed(self) -> SnapshotManifest:
        for kind in Kind:
            base = self.state(kind).base
            if base and base.ordinal is not None and base.ordinal >= len(self.files):
                raise ValueError(f"{kind}.base.ordinal {base.ordinal} is not in files")
        return self

    def state(self, kind: Kind) -> KindState:
        """Return what the snapshot holds of one kind."""
        return self.entities if kind is Kind.ENTITY else self.relationships

    def to_json(self) -> bytes:
        """Return the bytes that are put under the snapshot's path."""
        return self.model_dump_json(indent=1).encode()


def read_snapshot_manifest(data: bytes, *, where: str) -> SnapshotManifest:
    """Parse and validate; raises :class:`IndexCorrupt`, naming ``where`` and the field."""
    try:
        manifest = SnapshotManifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "document"
        raise IndexCorrupt(
            f"{where} is not a snapshot manifest: {field}: {first['msg']}"
        ) from error
    totals = {
        kind: {name: value.plain() for name, value in manifest.state(kind).totals.items()}
        for kind in Kind
    }
    if snapshot_digest(totals) != manifest.digest:
        raise IndexCorrupt(f"{where}: its totals do not have the digest {manifest.digest} it names")
    return manifest


def snapshot_digest(totals: Mapping[Kind, Mapping[str, Totals]]) -> str:
    """Return the content digest of a snapshot, 32 hex digits: over the totals of every type that has rows."""
    parts: list[bytes] = []
    for kind in Kind:
        for name, value in sorted(totals.get(kind, {}).items()):
            if value.rows:
                parts += [kind.encode(), name.encode()]
                parts += [n.to_bytes(8, "big") for n in (value.rows, value.sum_hi, value.sum_lo)]
    return digest(TAG_SNAPSHOT, *parts).hex()


def snapshot_prefix(source: SourceId, target: TargetId) -> str:
    """Return the folder of a lane's snapshots, with a ``/`` at its end."""
    return f"snapshots/{target}/{source}/"
