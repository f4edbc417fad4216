"""A file on its way into the object store, with what a manifest says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa

from penstock.ports.object_store import ObjectStore


class WrittenFile:
    """A sink, front to back, that counts and digests what passes."""

    def __init__(self, sink: BinaryIO, path: str) -> None:
        self._sink = sink
        self.path = path
        """Below the folder it belongs to."""
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self.closed = False

    @property
    def sha256(self) -> str:
        """The digest of all that was written, in hex."""
        return self._sha256.hexdigest()

    def write(self, data: bytes | memoryview | pa.Buffer, /) -> int:
        """Take the next bytes."""
        view = memoryview(data)
        self._sink.write(view)
        self._sha256.update(view)
        self.size_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.size_bytes

    def flush(self) -> None:
        """Do nothing: the object store decides when bytes leave."""

    def close(self) -> None:
        """Do nothing: the object store closes its own sink."""


@contextmanager
def written_file(objects: ObjectStore, folder: str, path: str) -> Iterator[WrittenFile]:
    """Upload one file below a folder, front to back; it appears when the block ends without an error."""
    with objects.upload(folder + path) as sink:
        yield WrittenFile(sink, path)
