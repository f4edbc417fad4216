"""A folder as an object store: what is its own beside the contract of all stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.errors import InvalidIdentifier, PenstockError
from resources.object_store import open_object_store
from resources.object_store.local import UPLOADS, LocalObjectStore
from resources.object_store.s3 import S3ObjectStore

_WRITE = """
import sys
from pathlib import Path
from resources.object_store.local import LocalObjectStore

store = LocalObjectStore(Path(sys.argv[1]))
for n in range(10**9):
    with store.upload(f"uploaded/{n}") as sink:
        for _ in range(20):
            sink.write(b"x" * 50_000)
    store.put_if_absent(f"put/{n}", b"y" * 1_000_000)
    if n == 2:
        print("writing", flush=True)
"""


def test_a_killed_writer_leaves_no_torn_object(tmp_path: Path) -> None:
    """After SIGKILL in the middle of writing, every object that can be seen is whole."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    store = LocalObjectStore(tmp_path)
    found = list(store.list(""))
    assert len(found) >= 5
    for info in found:
        data = store.get(info.key)
        assert (len(data), len(set(data))) == (1_000_000, 1)


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path: Path) -> None:
    """Unfinished uploads are not kept for ever, and not taken from those still writing."""
    LocalObjectStore(tmp_path)
    old, new = tmp_path / UPLOADS / "old", tmp_path / UPLOADS / "new"
    old.touch()
    new.touch()
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    LocalObjectStore(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_the_folder_of_uploads_is_no_place_for_objects(tmp_path: Path) -> None:
    """The store's own folder is neither written to nor listed."""
    store = LocalObjectStore(tmp_path)
    with pytest.raises(InvalidIdentifier, match="the store's own"):
        store.put(f"{UPLOADS}/x", b"")
    with store.upload("a") as sink:
        sink.write(b"")
        assert list(store.list("")) == []
    assert list(store.list_folders("")) == []


def test_an_address_opens_its_store(tmp_path: Path, s3_endpoint_url: str) -> None:
    """A URL names a folder or a bucket with a prefix; anything else is refused."""
    folder = tmp_path / "with space"
    local = open_object_store(folder.as_uri())
    local.put("a/b", b"x")
    assert (folder / "a" / "b").read_bytes() == b"x"
    remote = open_object_store("s3://bucket/some/prefix/", endpoint_url=s3_endpoint_url)
    assert isinstance(remote, S3ObjectStore)
    assert remote.url("a") == "s3://bucket/some/prefix/a"


@pytest.mark.parametrize(
    "url", ["", "folder", "ftp://host/x", "s3:///prefix", "file://", "file:///"]
)
def test_an_address_of_nothing_is_refused(url: str) -> None:
    """The error says what an address looks like."""
    with pytest.raises(PenstockError, match="s3://bucket/prefix nor file:///folder"):
        open_object_store(url)
