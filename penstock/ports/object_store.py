"""The object store: S3's words, as few of them as the platform needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """What a listing or a head says of one object."""

    key: str
    size_bytes: int
    last_modified: datetime


class ObjectStore(Protocol):
    """A flat store of immutable-by-convention objects under ``/``-separated keys.

    Reads of what is not there raise :class:`penstock.errors.ObjectMissing`. Adapters retry what the service
    calls transient; what still fails is raised as the client's own error.
    """

    def get(self, key: str) -> bytes:
        """Return a whole object. For small ones: manifests, plan headers."""
        ...

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``; fewer raise ``ObjectMissing``."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Stream an object from its beginning."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write an object, over whatever is there."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object only if the key is free; say whether it was. Exactly one of many racers wins."""
        ...

    def upload(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Stream an object in bounded memory; it appears, whole, when the block ends without an error."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None if there is none."""
        ...

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix whose keys come after ``start_after``, in order of their UTF-8 bytes."""
        ...

    def list_folders(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Yield the distinct ``prefix<segment>/`` under a prefix ending in ``/``, in order, after ``start_after``."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; absent ones are no error."""
        ...

    def url(self, key: str) -> str:
        """Return the address a person would look at, e.g. ``s3://bucket/prefix/key``."""
        ...
