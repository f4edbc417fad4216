"""What every object store does, in the same words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.errors import InvalidIdentifier, ObjectMissing
from penstock.ports.object_store import ObjectStore
from resources.object_store.s3 import PART_BYTES


def _keys(store: ObjectStore, prefix: str, start_after: str = "") -> list[str]:
    return [found.key for found in store.list(prefix, start_after=start_after)]


class TestReading:
    def test_what_was_put_is_read_back(self, object_store: ObjectStore) -> None:
        """An object is read whole, by range and as a stream."""
        object_store.put("a/b", b"0123456789")
        assert object_store.get("a/b") == b"0123456789"
        assert object_store.read_range("a/b", 3, 4) == b"3456"
        with object_store.open("a/b") as file:
            assert (file.read(4), file.read()) == (b"0123", b"456789")

    def test_an_empty_object_is_an_object(self, object_store: ObjectStore) -> None:
        """Nothing is something once it is put."""
        object_store.put("empty", b"")
        stat = object_store.stat("empty")
        assert stat is not None
        assert stat.size_bytes == 0
        assert object_store.get("empty") == b""
        assert object_store.read_range("empty", 0, 0) == b""

    def test_a_missing_object_is_named(self, object_store: ObjectStore) -> None:
        """Every way to read what is not there says so, with its address."""
        with pytest.raises(ObjectMissing, match="no/such"):
            object_store.get("no/such")
        with pytest.raises(ObjectMissing, match="no/such"):
            object_store.read_range("no/such", 0, 1)
        with pytest.raises(ObjectMissing, match="no/such"), object_store.open("no/such"):
            pass
        assert object_store.stat("no/such") is None

    @pytest.mark.parametrize(("offset", "length"), [(8, 3), (10, 1), (50, 1)])
    def test_a_range_past_the_end_is_an_error(
        self, object_store: ObjectStore, offset: int, length: int
    ) -> None:
        """Fewer bytes than asked for are never returned."""
        object_store.put("a", b"0123456789")
        with pytest.raises(ObjectMissing, match=f"before byte {offset + length}"):
            object_store.read_range("a", offset, length)

    def test_a_stat_tells_size_and_time(self, object_store: ObjectStore) -> None:
        """The time of an object's last change is aware."""
        object_store.put("a", b"123")
        stat = object_store.stat("a")
        assert stat is not None
        assert (stat.key, stat.size_bytes) == ("a", 3)
        assert stat.last_modified.tzinfo is not None


class TestWriting:
    def test_a_put_replaces(self, object_store: ObjectStore) -> None:
        """The last put wins."""
        object_store.put("a", b"old")
        object_store.put("a", b"new")
        assert object_store.get("a") == b"new"

    def test_a_conditional_put_never_replaces(self, object_store: ObjectStore) -> None:
        """What is there stays, and the caller is told."""
        assert object_store.put_if_absent("a", b"first")
        assert not object_store.put_if_absent("a", b"second")
        assert object_store.get("a") == b"first"

    def test_exactly_one_of_many_racers_wins(self, object_store: ObjectStore) -> None:
        """Of eight threads that put one key at once, one is told that it won, and its bytes stand."""
        with ThreadPoolExecutor(8) as pool:
            for n in range(10):
                key = f"race/{n}"
                won = list(
                    pool.map(
                        lambda i, key=key: object_store.put_if_absent(key, b"%d" % i), range(8)
                    )
                )
                assert sum(won) == 1
                assert object_store.get(key) == b"%d" % won.index(True)

    @pytest.mark.parametrize("size", [0, 1, PART_BYTES, 2 * PART_BYTES + 17])
    def test_an_upload_appears_whole(self, object_store: ObjectStore, size: int) -> None:
        """However many pieces an object is written in, it is one object, and only after the last."""
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        with object_store.upload("big") as file:
            for start in range(0, size, 5_000_001):
                file.write(data[start : start + 5_000_001])
            assert object_store.stat("big") is None
        assert object_store.get("big") == data

    @pytest.mark.parametrize("size", [10, PART_BYTES + 10])
    def test_an_upload_that_breaks_off_leaves_nothing(
        self, object_store: ObjectStore, size: int
    ) -> None:
        """An exception inside the block is passed on, and no object appears."""

        def broken() -> None:
            with object_store.upload("big") as file:
                file.write(b"x" * size)
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            broken()
        assert object_store.stat("big") is None
        assert _keys(object_store, "") == []

    def test_deleting_is_idempotent(self, object_store: ObjectStore) -> None:
        """What is absent is no error, and the neighbours stay."""
        for key in ["a/1", "a/2", "b"]:
            object_store.put(key, b"")
        object_store.delete(["a/1", "a/2", "never/was"])
        object_store.delete(["a/1"])
        object_store.delete([])
        assert _keys(object_store, "") == ["b"]
        assert list(object_store.list_folders("")) == []

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\0b", "a\\b"]
    )
    def test_a_key_that_could_lead_elsewhere_is_refused(
        self, object_store: ObjectStore, key: str
    ) -> None:
        """No key leaves the store or means two things."""
        with pytest.raises(InvalidIdentifier, match="object key"):
            object_store.put(key, b"")
        with pytest.raises(InvalidIdentifier, match="object key"):
            object_store.get(key)

    def test_a_key_over_the_limit_is_refused(self, object_store: ObjectStore) -> None:
        """S3 takes 1,024 bytes, so no store takes more."""
        with pytest.raises(InvalidIdentifier, match="1024 bytes"):
            object_store.put("a/" * 600 + "b", b"")


class TestListing:
    def test_keys_come_in_the_order_of_their_bytes(self, object_store: ObjectStore) -> None:
        """A folder's keys stand where their bytes stand, which is after ``-`` and ``.`` and before ``0``."""
        keys = ["a-b", "a.b", "a/b", "a/b-c", "a/b/c/d", "a0", "aé", "a\uffee", "a\U0001f600", "b"]
        keys.remove("a/b")
        for key in reversed(keys):
            object_store.put(key, b"")
        assert _keys(object_store, "") == sorted(keys, key=str.encode)

    def test_a_prefix_may_end_anywhere(self, object_store: ObjectStore) -> None:
        """A prefix is text, not a folder."""
        for key in ["ab/1", "ab/2", "abc", "b", "a"]:
            object_store.put(key, b"")
        assert _keys(object_store, "ab") == ["ab/1", "ab/2", "abc"]
        assert _keys(object_store, "ab/") == ["ab/1", "ab/2"]
        assert _keys(object_store, "ab/2") == ["ab/2"]
        assert _keys(object_store, "no/such/") == []

    def test_a_listing_goes_on_after_a_key(self, object_store: ObjectStore) -> None:
        """``start_after`` need not be the key of an object."""
        for key in ["x/a/1", "x/a/2", "x/b", "x/c/1"]:
            object_store.put(key, b"")
        assert _keys(object_store, "x/", "x/a/1") == ["x/a/2", "x/b", "x/c/1"]
        assert _keys(object_store, "x/", "x/a/zz") == ["x/b", "x/c/1"]
        assert _keys(object_store, "x/", "x/a") == ["x/a/1", "x/a/2", "x/b", "x/c/1"]
        assert _keys(object_store, "x/", "x/c/1") == []
        assert _keys(object_store, "x/", "y") == []

    def test_folders_are_listed_once_each(self, object_store: ObjectStore) -> None:
        """Folders that hold an object, however deep, come in order and after ``start_after``."""
        for key in ["x/a/1", "x/a/2", "x/b/c/d", "x/b-/1", "x/file", "x/c/1"]:
            object_store.put(key, b"")
        assert list(object_store.list_folders("x/")) == ["x/a/", "x/b-/", "x/b/", "x/c/"]
        assert list(object_store.list_folders("x/", start_after="x/a/")) == [
            "x/b-/",
            "x/b/",
            "x/c/",
        ]
        assert list(object_store.list_folders("x/", start_after="x/b")) == ["x/b-/", "x/b/", "x/c/"]
        assert list(object_store.list_folders("no/")) == []

    def test_pages_are_invisible(self, object_store: ObjectStore) -> None:
        """More keys than a page of S3 holds are listed whole, whatever they start after."""
        keys = [f"many/{n:05}/x" for n in range(1_050)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: object_store.put(key, b""), keys))
        assert _keys(object_store, "many/") == keys
        assert _keys(object_store, "many/", keys[17]) == keys[18:]
        assert len(list(object_store.list_folders("many/"))) == 1_050
        object_store.delete(keys)
        assert _keys(object_store, "") == []

    def test_unicode_keys_are_themselves(self, object_store: ObjectStore) -> None:
        """A key is neither normalised nor escaped."""
        keys = ["é/1", "e\u0301/1", "日本/ %2F+?#&", "sp ace/+"]
        for key in keys:
            object_store.put(key, key.encode())
        assert _keys(object_store, "") == sorted(keys, key=str.encode)
        assert [object_store.get(key).decode() for key in keys] == keys


def test_an_address_names_store_and_key(object_store: ObjectStore) -> None:
    """A person can find the object by its address."""
    address = object_store.url("a/b")
    assert address.split(":")[0] in {"s3", "file"}
    assert address.endswith("/a/b")
