"""A snapshot, open for reading: the same interface as a batch's index, whatever it is laid out in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from penstock.batch.index import (
    I64,
    BytesReader,
    IndexFile,
    KeyedRows,
    Totals,
    find_hashes,
    find_rows,
)
from penstock.batch.rows import Kind
from penstock.errors import IndexCorrupt, ObjectMissing
from penstock.identity.digest import U64
from penstock.identity.ids import BatchId
from penstock.snapshot.manifest import KindState, SnapshotFile, SnapshotManifest, snapshot_digest
from penstock.snapshot.overlay import LocatedRows, OverlaySection, merged_deltas, no_rows

OpenBatchIndex = Callable[[BatchId, Kind], IndexFile]


class ObjectSize(Protocol):
    """What a store says of one object."""

    @property
    def size_bytes(self) -> int:
        """Its length."""
        ...


class SnapshotObjects(Protocol):
    """What is needed of an object store to read a snapshot."""

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        ...

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        ...

    def stat(self, key: str) -> ObjectSize | None:
        """Return what is known of an object, or None if there is none."""
        ...


class ObjectRange:
    """One object of a store as a file to read ranges of."""

    def __init__(self, objects: SnapshotObjects, key: str) -> None:
        stat = objects.stat(key)
        if stat is None:
            raise ObjectMissing(f"{key} is not in the object store, and a snapshot refers to it")
        self._objects, self._key, self.size_bytes = objects, key, stat.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        return self._objects.read_range(self._key, offset, length) if length else b""


class SnapshotView:
    """What a target is known to hold from a source; a view of nothing before the first publish."""

    def __init__(
        self,
        manifest: SnapshotManifest | None,
        sections: Mapping[Kind, Mapping[str, KeyedRows]],
    ) -> None:
        self.manifest = manifest
        self._sections = sections

    @classmethod
    def open(
        cls,
        objects: SnapshotObjects,
        manifest: SnapshotManifest | None,
        open_batch_index: OpenBatchIndex,
    ) -> SnapshotView:
        """Open a snapshot: its deltas are read whole, its bases only as far as they are asked for.

        Raises :class:`IndexCorrupt` if the files do not add up to the manifest's totals.
        """
        if manifest is None:
            return cls(None, {kind: {} for kind in Kind})
        sections = {kind: _open_kind(objects, manifest, kind, open_batch_index) for kind in Kind}
        for kind in Kind:
            _check_totals(manifest.state(kind), sections[kind], f"snapshot {manifest.version}")
        return cls(manifest, sections)

    @property
    def version(self) -> int:
        """The snapshot's version, 0 for the view of nothing."""
        return self.manifest.version if self.manifest else 0

    @property
    def digest(self) -> str:
        """The content digest, 32 hex digits."""
        return snapshot_digest({kind: self.totals(kind) for kind in Kind})

    @property
    def path_digest(self) -> str:
        """The SHA-256 of the manifest, in hex: names this layout of this content."""
        return hashlib.sha256(self.manifest.to_json() if self.manifest else b"").hexdigest()

    @property
    def files(self) -> tuple[BatchId, ...]:
        """The batches that hold attributes, by the ordinal in locators."""
        return self.manifest.files if self.manifest else ()

    def types(self, kind: Kind) -> tuple[str, ...]:
        """Return the types that have rows, sorted."""
        return tuple(sorted(self._sections[kind]))

    def section(self, kind: Kind, type_name: str) -> KeyedRows | None:
        """Return the rows of one type, or None if there are none."""
        return self._sections[kind].get(type_name)

    def totals(self, kind: Kind) -> dict[str, Totals]:
        """Return the digests by type."""
        return {name: section.totals for name, section in self._sections[kind].items()}

    def find(self, kind: Kind, type_name: str, key_hi: U64, key_lo: U64) -> I64:
        """Return the locators of keys, -1 where absent; reads only the leaves that could hold them."""
        section = self.section(kind, type_name)
        if section is None:
            return np.full(len(key_hi), -1, np.int64)
        return find_rows(section, key_hi, key_lo, locators=True)

    def hashes(self, kind: Kind, type_name: str, key_hi: U64, key_lo: U64) -> tuple[U64, U64]:
        """Return the digest halves of keys, (0, 0) where absent; reads only the leaves that could hold them."""
        section = self.section(kind, type_name)
        if section is None:
            return np.zeros(len(key_hi), np.uint64), np.zeros(len(key_hi), np.uint64)
        return find_hashes(section, key_hi, key_lo)


def _open_kind(
    objects: SnapshotObjects, manifest: SnapshotManifest, kind: Kind, open_batch: OpenBatchIndex
) -> dict[str, KeyedRows]:
    state = manifest.state(kind)
    bases = _bases(objects, manifest, kind, open_batch)
    deltas = [_read_whole(objects, file) for file in state.deltas]
    sections: dict[str, KeyedRows] = {}
    for name in sorted(set(bases).union(*(d.sections for d in deltas))):
        over = [d.sections[name] for d in deltas if name in d.sections]
        section: KeyedRows = bases.get(name) or no_rows(name)
        if over:
            section = OverlaySection(section, merged_deltas(name, over))
        if section.rows:
            sections[name] = section
    return sections


def _bases(
    objects: SnapshotObjects, manifest: SnapshotManifest, kind: Kind, open_batch: OpenBatchIndex
) -> Mapping[str, KeyedRows]:
    base = manifest.state(kind).base
    if base is None:
        return {}
    if base.file is not None:
        reader = ObjectRange(objects, base.file.key)
        return IndexFile.open(reader, where=base.file.key).sections
    assert base.ordinal is not None
    index = open_batch(manifest.files[base.ordinal], kind)
    return {name: LocatedRows(section, base.ordinal) for name, section in index.sections.items()}


def _read_whole(objects: SnapshotObjects, file: SnapshotFile) -> IndexFile:
    return IndexFile.open(BytesReader(objects.get(file.key)), where=file.key)


def _check_totals(state: KindState, sections: Mapping[str, KeyedRows], where: str) -> None:
    for name in {*state.totals, *sections}:
        stated, found = state.totals.get(name), sections.get(name)
        if stated is None or found is None or stated.plain() != found.totals:
            raise IndexCorrupt(
                f"{where}: the rows of type {name!r} do not add up to the totals in its manifest"
            )
