"""What a target is known to hold, with attributes: a snapshot's index joined to the rows of the batches behind it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from penstock.batch.index import I64, LOCATOR_ROW_BITS, Column, IndexFile, find_rows
from penstock.batch.rows import SCHEMAS, Kind
from penstock.diff.keys import RowRefs
from penstock.identity.digest import U64
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.rows import BatchRows
from penstock.snapshot.manifest import read_snapshot_manifest
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.platform import Platform

_SCAN_ROWS = 65_536
_ROW_MASK = np.uint64((1 << LOCATOR_ROW_BITS) - 1)


class KnownRows:
    """One snapshot, open for reading."""

    def __init__(self, platform: Platform, view: SnapshotView) -> None:
        self._platform = platform
        self.view = view

    @classmethod
    def open(cls, platform: Platform, source: SourceId, target: TargetId) -> KnownRows:
        """Open the current snapshot of a source on a target; empty before the first publish."""
        head = platform.control.snapshot_head(source, target)
        manifest = None
        if head is not None:
            manifest = read_snapshot_manifest(platform.objects.get(head.path), where=head.path)

        def open_index(batch: BatchId, kind: Kind) -> IndexFile:
            return platform.batches.rows(platform.control.get_batch(batch).manifest, kind).index

        return cls(platform, SnapshotView.open(platform.objects, manifest, open_index))

    def fetch(self, kind: Kind, refs: RowRefs) -> pa.Table:
        """Return rows with the columns of ``SCHEMAS[kind]``, in the order of ``refs``."""
        return self._fetch(kind, refs.ordinals, refs.rows)

    def _fetch(self, kind: Kind, ordinals: np.ndarray, rows: np.ndarray) -> pa.Table:
        if not len(rows):
            return SCHEMAS[kind].empty_table()
        if (ordinals == ordinals[0]).all():
            return self._batch_rows(int(ordinals[0]), kind).take(rows)
        pieces, places = [], []
        for ordinal in np.unique(ordinals).tolist():
            at = np.flatnonzero(ordinals == ordinal)
            pieces.append(self._batch_rows(ordinal, kind).take(rows[at]))
            places.append(at)
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(pieces).take(pa.array(order))

    def _batch_rows(self, ordinal: int, kind: Kind) -> BatchRows:
        batch = self._platform.control.get_batch(self.view.files[ordinal])
        return self._platform.batches.rows(batch.manifest, kind)

    def scan(self, kind: Kind, type_name: str) -> Iterator[tuple[U64, U64, pa.Table]]:
        """Yield all rows of one type by the chunk, with their index keys."""
        section = self.view.section(kind, type_name)
        for start in range(0, section.rows if section else 0, _SCAN_ROWS):
            assert section is not None
            stop = min(start + _SCAN_ROWS, section.rows)
            key_hi, key_lo, locator = section.read(("key_hi", "key_lo", "locator"), start, stop)
            ordinals = (locator >> np.uint64(LOCATOR_ROW_BITS)).astype(np.int64)
            yield (
                key_hi,
                key_lo,
                self._fetch(kind, ordinals, (locator & _ROW_MASK).astype(np.int64)),
            )

    def slice(
        self, kind: Kind, type_name: str, start: int, stop: int
    ) -> tuple[U64, U64, U64, U64, pa.Table]:
        """Return some rows of one type in the order of their index: key and digest halves, and the rows."""
        section = self.view.section(kind, type_name)
        assert section is not None
        columns: tuple[Column, ...] = ("key_hi", "key_lo", "hash_hi", "hash_lo", "locator")
        key_hi, key_lo, hash_hi, hash_lo, locator = section.read(columns, start, stop)
        ordinals = (locator >> np.uint64(LOCATOR_ROW_BITS)).astype(np.int64)
        rows = self._fetch(kind, ordinals, (locator & _ROW_MASK).astype(np.int64))
        return key_hi, key_lo, hash_hi, hash_lo, rows

    def located(self, kind: Kind, locators: I64) -> pa.Table:
        """Return the rows at some locators."""
        words = locators.astype(np.uint64)
        ordinals = (words >> np.uint64(LOCATOR_ROW_BITS)).astype(np.int64)
        return self._fetch(kind, ordinals, (words & _ROW_MASK).astype(np.int64))

    def find_type(self, kind: Kind, key_hi: U64, key_lo: U64) -> list[str | None]:
        """Return the type under which each key is known, or None."""
        found: list[str | None] = [None] * len(key_hi)
        for type_name in self.view.types(kind):
            section = self.view.section(kind, type_name)
            assert section is not None
            for at in np.flatnonzero(find_rows(section, key_hi, key_lo) >= 0).tolist():
                found[at] = type_name
        return found
