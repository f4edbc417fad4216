"""Scratch space: rows that do not fit into memory, put down in one order and picked up in another."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Spool(Protocol):
    """Rows of one schema on disk. All are appended first; the first ``take`` ends that."""

    def append(self, rows: pa.Table) -> None:
        """Put rows down behind those that are there."""
        ...

    def take(self, positions: npt.NDArray[np.int64]) -> pa.Table:
        """Return rows by position, in the order asked for."""
        ...


class Scratch(Protocol):
    """A place for spools, none of which outlives its block."""

    def spool(self, schema: pa.Schema) -> AbstractContextManager[Spool]:
        """Open an empty spool."""
        ...
