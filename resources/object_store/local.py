"""Objects as files in one folder: durable, conditional and listed in S3's order.

An object is written beside the others under ``.uploads/``, synced, and only then linked to its name, so that no
process that dies ever leaves a torn object: ``link`` fails if the name is taken, which makes it the conditional
put, and ``rename`` replaces whole files. Measured against obstore's local store in
``docs/adr/0004-embedded-object-store.md``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeAlias
from uuid import uuid4

from penstock.errors import InvalidIdentifier, ObjectMissing
from penstock.ports.object_store import ObjectInfo
from resources.object_store.keys import checked_folder, checked_key

UPLOADS = ".uploads"
_ABANDONED_S = 24 * 3600
_Entries: TypeAlias = list[tuple[str, os.DirEntry[str]]]


class LocalObjectStore:
    """A flat store in a folder of the local file system. Safe under several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._uploads = self._root / UPLOADS
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()

    def __repr__(self) -> str:
        return f"LocalObjectStore({str(self._root)!r})"

    def _remove_abandoned(self) -> None:
        limit = time.time() - _ABANDONED_S
        for entry in os.scandir(self._uploads):
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < limit:
                    os.unlink(entry.path)

    def _path(self, key: str) -> Path:
        if key.split("/", 1)[0] == UPLOADS:
            raise InvalidIdentifier(f"object key {key!r} is refused: {UPLOADS}/ is the store's own")
        return self._root / checked_key(key)

    # Reading ----------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        with self.open(key) as file:
            return file.read()

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``; fewer raise ``ObjectMissing``."""
        with self.open(key) as file:
            data = os.pread(file.fileno(), length, offset)
        if len(data) != length:
            raise ObjectMissing(f"{self.url(key)} ends before byte {offset + length}")
        return data

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Stream an object from its beginning."""
        try:
            file = self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissing(f"{self.url(key)} is not in the object store") from error
        with file:
            yield file

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None if there is none."""
        path = self._path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if path.is_dir() else _info(key, status)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose keys come after ``start_after``, in order of their UTF-8 bytes."""
        folder = prefix[: prefix.rfind("/") + 1]
        yield from self._walk(checked_folder(folder), prefix.encode(), start_after.encode())

    def _walk(self, folder: str, prefix: bytes, start_after: bytes) -> Iterator[ObjectInfo]:
        for name, entry in self._entries(folder):
            key = (folder + name).encode()
            is_folder = name.endswith("/")
            inside = key.startswith(prefix) or (is_folder and prefix.startswith(key))
            ahead = key > start_after or (is_folder and start_after.startswith(key))
            if not (inside and ahead):
                continue
            if is_folder:
                yield from self._walk(folder + name, prefix, start_after)
                continue
            with suppress(FileNotFoundError):
                yield _info(folder + name, entry.stat())

    def _entries(self, folder: str) -> _Entries:
        """Return a folder's entries in the order of the keys below them; folders end in ``/``."""
        try:
            found = list(os.scandir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        named = [(f"{e.name}/" if e.is_dir() else e.name, e) for e in found]
        kept = [(name, e) for name, e in named if folder or name != f"{UPLOADS}/"]
        return sorted(kept, key=lambda item: os.fsencode(item[0]))

    def list_folders(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Yield the distinct ``prefix<segment>/`` that hold an object, in order, after ``start_after``."""
        for name, _ in self._entries(checked_folder(prefix)):
            folder = prefix + name
            if not name.endswith("/") or folder.encode() <= start_after.encode():
                continue
            if next(self._walk(folder, folder.encode(), b""), None) is not None:
                yield folder

    def url(self, key: str) -> str:
        """Return the address a person would look at."""
        return f"file://{self._root}/{key}"

    # Writing ----------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        """Write an object, over whatever is there."""
        with self.upload(key) as file:
            file.write(data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object only if the key is free; say whether it was. Exactly one of many racers wins."""
        path = self._path(key)
        if path.exists():
            return False
        with self._staged() as (staged, file):
            file.write(data)
            _sync(file)
            try:
                _placed(path, lambda: os.link(staged, path))
            except FileExistsError:
                return False
        return True

    @contextmanager
    def upload(self, key: str) -> Iterator[BinaryIO]:
        """Stream an object; it appears, whole, when the block ends without an error."""
        path = self._path(key)
        with self._staged() as (staged, file):
            yield file
            _sync(file)
            _placed(path, lambda: staged.replace(path))

    @contextmanager
    def _staged(self) -> Iterator[tuple[Path, BinaryIO]]:
        staged = self._uploads / uuid4().hex
        try:
            with staged.open("xb") as file:
                yield staged, file
        finally:
            staged.unlink(missing_ok=True)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; absent ones are no error."""
        for key in keys:
            path = self._path(key)
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            self._remove_empty(path.parent)

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectInfo(key=key, size_bytes=status.st_size, last_modified=modified)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _placed(path: Path, place: Callable[[], object]) -> None:
    """Run ``place`` in a folder that is there, which a delete elsewhere may be taking away, and sync the folder."""
    while True:
        new_folders = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            place()
        except FileNotFoundError:
            continue
        break
    for folder in [path.parent, *(folder.parent for folder in new_folders)]:
        with suppress(FileNotFoundError):
            _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
