"""Spools in a folder on disk: what :class:`penstock.ports.scratch.Scratch` asks for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from resources.row_cache.row_file import I64, RowFile, RowFileWriter

_ABANDONED_S = 24 * 3600


class LocalScratch:
    """A folder for spools; what a process that died left in it is removed after a day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        limit = time.time() - _ABANDONED_S
        for path in folder.glob("*.spool"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    path.unlink()

    @contextmanager
    def spool(self, schema: pa.Schema) -> Iterator[LocalSpool]:
        """Open an empty spool; its file goes with the block."""
        path = self._folder / f"{uuid4().hex}.spool"
        try:
            with RowFileWriter(path, schema) as writer:
                yield LocalSpool(writer)
        finally:
            path.unlink(missing_ok=True)


class LocalSpool:
    """Rows of one schema on disk."""

    def __init__(self, writer: RowFileWriter) -> None:
        self._writer = writer
        self._file: RowFile | None = None

    def append(self, rows: pa.Table) -> None:
        """Put rows down behind those that are there."""
        self._writer.append(rows)

    def take(self, positions: I64) -> pa.Table:
        """Return rows by position, in the order asked for."""
        if self._file is None:
            self._writer.close()
            self._file = RowFile(self._writer.path)
        return self._file.take(positions)
