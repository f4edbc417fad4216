"""The folders of the row cache: named by content, added by one rename, evicted by least recent use."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from penstock.batch.manifest import Manifest
from penstock.batch.rows import Kind
from penstock.identity import ids

ROWS = "rows.arrow"
INDEX = "rows.index"
_LAYOUT = b"row-cache/1"
_BUILDING = "building-"
_LOCK = "lock"
_NEW_LOCK = "new-lock"


class Entries:
    """A folder of entries. What a process that died was building is known by its lock, which died with it."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def name(self, manifest: Manifest, kind: Kind) -> str:
        """Return the name of the entry for one kind of a batch: it changes with the content of the files."""
        files = manifest.files(kind).model_dump_json().encode()
        digest = hashlib.sha256(b"\0".join([_LAYOUT, manifest.mode.encode(), files])).hexdigest()
        at = ids.timestamp_text(manifest.source_timestamp)
        return f"{manifest.source_id}@{at}-{kind}-{digest[:32]}"

    @contextmanager
    def used(self, name: str) -> Iterator[Path]:
        """Give an entry's folder and mark it as used; raises ``FileNotFoundError`` if it is not there."""
        folder = self._folder / name
        os.utime(folder)
        yield folder

    @contextmanager
    def building(self) -> Iterator[Path]:
        """Give an empty folder to build an entry in, on the same file system; it goes with the block."""
        folder = self._folder / f"{_BUILDING}{uuid4().hex}"
        folder.mkdir()
        try:
            with (folder / _NEW_LOCK).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Only now can others see it: a lock that is there and not yet held would look abandoned.
                (folder / _NEW_LOCK).rename(folder / _LOCK)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, name: str, built: Path) -> None:
        """Make a built folder the entry of this name, unless another process was faster; evict what is too much."""
        (built / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # an equal one is there already
            built.rename(self._folder / name)
        self._evict(keep=name)

    def _evict(self, *, keep: str) -> None:
        found = []
        for entry in list(os.scandir(self._folder)):
            with suppress(FileNotFoundError):
                if entry.name.startswith(_BUILDING):
                    _remove_if_abandoned(Path(entry.path))
                else:
                    size_bytes = sum(file.stat().st_size for file in os.scandir(entry.path))
                    found.append((entry.stat().st_mtime_ns, entry.name, size_bytes))
        total = sum(size_bytes for _, _, size_bytes in found)
        for _, name, size_bytes in sorted(found):
            if total <= self._max_bytes:
                return
            if name != keep:
                self._remove(name)
                total -= size_bytes

    def _remove(self, name: str) -> None:
        """Take an entry away whole; who has it mapped keeps what is mapped."""
        doomed = self._folder / f"{_BUILDING}{uuid4().hex}"
        with suppress(FileNotFoundError):
            (self._folder / name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except FileNotFoundError:
        # Between two steps of its maker, unless it has been so for long.
        if _age_s(folder) < 3600:
            return
    shutil.rmtree(folder, ignore_errors=True)


def _age_s(folder: Path) -> float:
    import time

    return time.time() - folder.stat().st_mtime


class MappedFile:
    """A file as memory. Conforms to :class:`penstock.batch.index.RangeReader`."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return len(self._data)

    def read(self, offset: int, length: int) -> memoryview:
        """Return exactly ``length`` bytes from ``offset``."""
        return self._data[offset : offset + length]
