"""An object store that is read as it is and never written: for trying things out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

from penstock.ports.object_store import ObjectInfo, ObjectStore


class NothingWritten:
    """Another store, all of whose writes are taken and forgotten."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        return self._objects.get(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        return self._objects.read_range(key, offset, length)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Stream an object from its beginning."""
        return self._objects.open(key)

    def put(self, key: str, data: bytes) -> None:
        """Forget it."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Forget it, as if the key had been free."""
        del key, data
        return True

    @contextmanager
    def upload(self, key: str) -> Iterator[BinaryIO]:
        """Forget what is written."""
        del key
        yield _Sink()

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None if there is none."""
        return self._objects.stat(key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix."""
        return self._objects.list(prefix, start_after=start_after)

    def list_folders(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Yield the folders under a prefix."""
        return self._objects.list_folders(prefix, start_after=start_after)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete nothing."""

    def url(self, key: str) -> str:
        """Return the address a person would look at."""
        return self._objects.url(key)


class _Sink(io.BytesIO):
    """Counts what is written, and keeps nothing."""

    def write(self, data: object) -> int:
        """Take bytes."""
        return memoryview(data).nbytes  # type: ignore[arg-type]
