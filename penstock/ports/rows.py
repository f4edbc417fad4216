"""Rows of a landed batch, in the order of its index, fetched at random or scanned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.batch.index import IndexFile, KeyedRows
from penstock.batch.manifest import Manifest
from penstock.batch.rows import Kind


class BatchRows(Protocol):
    """All rows of one kind of one batch; row ``i`` here is row ``i`` of ``index``."""

    @property
    def index(self) -> IndexFile:
        """The index sidecar."""
        ...

    def take(self, positions: npt.NDArray[np.int64]) -> pa.Table:
        """Return rows by position, in the order asked for, with the columns of ``SCHEMAS[kind]``."""
        ...

    def scan(
        self, columns: Sequence[str], start: int, stop: int, *, chunk_rows: int = 65_536
    ) -> Iterator[pa.Table]:
        """Yield some columns of the rows ``start`` to ``stop``, by the chunk."""
        ...


class KeptRows(Protocol):
    """The rows of a batch that is being landed, on their way into the cache."""

    def append(self, rows: pa.Table) -> None:
        """Put rows down, in the order of the index."""
        ...

    def write_index(self, sections: tuple[KeyedRows, ...]) -> None:
        """Write the index of all rows."""
        ...

    def commit(self, manifest: Manifest) -> None:
        """Keep them as the rows of the batch that ``manifest`` commits."""
        ...


class BatchReader(Protocol):
    """Opens batches; what it needs to do so it fetches once and keeps in a cache that may be lost."""

    def rows(self, manifest: Manifest, kind: Kind) -> BatchRows:
        """Return the rows of one kind, validated when first opened.

        Raises ``BadFile`` (missing, truncated, wrong digest, wrong columns), ``BadRow`` (no key, duplicate key,
        attributes that are not an object or too large) and ``IndexCorrupt``, each naming file and row.
        """
        ...

    def keep(self, kind: Kind) -> AbstractContextManager[KeptRows]:
        """Take the rows of a batch while it is landed, so that nobody here has to fetch them."""
        ...
