"""Read the rows of an extract back, believed only when they are what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from penstock.batch.extract_record import ExtractFile
from penstock.errors import BadFile
from penstock.ports.object_store import ObjectStore


def read_extract(objects: ObjectStore, folder: str, file: ExtractFile) -> Iterator[pa.Table]:
    """Yield the rows of one kind by the chunk as written; the last one only if the whole file has its digest.

    Raises :class:`BadFile` and ``ObjectMissing``.
    """
    where = objects.url(folder + file.path)
    with objects.open(folder + file.path) as source:
        digested = _Digested(source)
        last: pa.Table | None = None
        try:
            for batch in pa.ipc.open_stream(pa.PythonFile(digested, "r")):
                if last is not None:
                    yield last
                last = pa.Table.from_batches([batch])
            digested.finish()
        except (pa.ArrowException, OSError) as error:
            raise BadFile(
                f"{where} cannot be read ({error}): delete the extract and extract again"
            ) from error
        if digested.sha256 != file.sha256:
            raise BadFile(
                f"{where} has the SHA-256 {digested.sha256}, and its record says {file.sha256}: delete the extract "
                "and extract again"
            )
        if last is not None:
            yield last


class _Digested:
    """A stream that digests what is read of it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self.closed = False

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def read(self, size: int | None = None) -> Any:
        data = self._source.read(-1 if size is None else size)
        self._sha256.update(data)
        return data

    def finish(self) -> None:
        while self.read(1024 * 1024):
            pass

    def close(self) -> None:
        """Do nothing: the object store closes its own stream."""
