"""The digests of canonical values never change: they are in every index and snapshot that was ever written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.golden.canonical_hashes import PATH, hashes

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(PATH.read_text())


def test_every_text_digest_and_key_is_as_it_was() -> None:
    """A difference here means a new canonical version and a migration, not a new golden file."""
    assert hashes() == GOLDEN


def test_digests_follow_from_the_written_specification() -> None:
    """A few lines of hashlib, written after the reference page, give the same digests and keys."""

    def digest(tag: bytes, *parts: str) -> bytes:
        framed = tag
        for part in parts:
            framed += len(part.encode()).to_bytes(8, "big") + part.encode()
        return hashlib.sha256(framed).digest()[:16]

    def key(container: str, *names: str) -> str:
        prefix = int.from_bytes(digest(b"C", container)[:8], "big") >> 40
        named = int.from_bytes(digest(b"K", *names), "big")
        return f"{(prefix << 40) | (named >> 64 >> 24):016x}{named & (2**64 - 1):016x}"

    for row in GOLDEN["entities"]:
        parts = (row["entity_type"], row["entity_key"], row["attributes"])
        assert digest(b"E", *parts).hex() == row["digest"]
        assert key(row["entity_key"].rpartition("/")[0], row["entity_key"]) == row["index_key"]
    for row in GOLDEN["relationships"]:
        ends = (row["from_key"], row["to_key"])
        assert (
            digest(b"R", row["relationship_type"], *ends, row["attributes"]).hex() == row["digest"]
        )
        assert key(row["from_key"], *ends) == row["index_key"]


def test_only_equal_values_share_a_digest() -> None:
    """Of all golden rows, only the two that are one instant in two zones have one digest."""
    rows = GOLDEN["entities"] + GOLDEN["relationships"]
    digests = [row["digest"] for row in rows]
    twice = {digest for digest in digests if digests.count(digest) > 1}
    assert [row["entity_key"] for row in rows if row["digest"] in twice] == ["instant", "instant"]
