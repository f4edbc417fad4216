"""Digests: 128 bits of SHA-256 over a framed, injective encoding.

Every digest is the first 16 bytes of SHA-256 over a frame: a one-byte domain tag, then each part
preceded by its length as 8 bytes, big-endian. Frames of different things never collide because
the tags differ and no part can run into the next. SHA-256 was chosen over faster hashes because every
engine that might write or audit a batch has it; see ``docs/adr``.

Digests travel as ``fixed_size_binary(16)`` in Arrow, as 32 hex digits in text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

DIGEST_BYTES: Final = 16
TAG_ENTITY: Final = b"E"
TAG_RELATIONSHIP: Final = b"R"
TAG_KEY: Final = b"K"
TAG_CONTAINER: Final = b"C"
TAG_OPERATION: Final = b"O"
TAG_PLAN: Final = b"P"
TAG_SNAPSHOT: Final = b"S"
TAG_SCHEMA: Final = b"J"

U64 = npt.NDArray[np.uint64]


def framed(tag: bytes, *parts: bytes) -> bytes:
    """Return the frame of ``parts`` under a one-byte domain tag."""
    pieces = [tag]
    for part in parts:
        pieces.append(len(part).to_bytes(8, "big"))
        pieces.append(part)
    return b"".join(pieces)


def digest(tag: bytes, *parts: bytes) -> bytes:
    """Return the 16-byte digest of ``parts`` under a one-byte domain tag."""
    return hashlib.sha256(framed(tag, *parts)).digest()[:DIGEST_BYTES]


def entity_digest(entity_type: str, entity_key: str, attributes_text: bytes) -> bytes:
    """Return the content digest of one entity; ``attributes_text`` is canonical."""
    return digest(TAG_ENTITY, entity_type.encode(), entity_key.encode(), attributes_text)


def relationship_digest(
    relationship_type: str, from_key: str, to_key: str, attributes_text: bytes
) -> bytes:
    """Return the content digest of one relationship; ``attributes_text`` is canonical."""
    return digest(
        TAG_RELATIONSHIP,
        relationship_type.encode(),
        from_key.encode(),
        to_key.encode(),
        attributes_text,
    )


def column_digests(tag: bytes, columns: Iterable[pa.Array]) -> npt.NDArray[np.uint8]:
    """Return the digests of rows, shape ``(n, 16)``: row i frames the i-th value of each column.

    ``columns`` are string or binary arrays without nulls, of one length. The frames are built by
    Arrow in one pass over the buffers; only the hash itself is called row by row.
    """
    parts: list[pa.Array | pa.Scalar] = [pa.scalar(tag, pa.large_binary())]
    n = 0
    for column in columns:
        binary = pc.cast(column, pa.large_binary())
        parts += [_length_prefixes(binary), binary]
        n = len(binary)
    if not n:
        return np.empty((0, DIGEST_BYTES), np.uint8)
    frames = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    return _hash_frames(frames)


def _hash_frames(frames: pa.Array) -> npt.NDArray[np.uint8]:
    offsets = _offsets(frames)
    data = memoryview(frames.buffers()[2])
    sha256 = hashlib.sha256
    ends = offsets.tolist()
    joined = b"".join([sha256(data[a:b]).digest() for a, b in pairwise(ends)])
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)[:, :DIGEST_BYTES].copy()


def _offsets(array: pa.Array) -> npt.NDArray[np.int64]:
    whole = np.frombuffer(array.buffers()[1], np.int64)
    return whole[array.offset : array.offset + len(array) + 1]


def _length_prefixes(binary: pa.Array) -> pa.Array:
    lengths = np.diff(_offsets(binary)).astype(">u8")
    stops = np.arange(len(lengths) + 1, dtype=np.int64) * 8
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lengths), [None, pa.py_buffer(stops), pa.py_buffer(lengths)]
    )


def halves(digests: npt.NDArray[np.uint8]) -> tuple[U64, U64]:
    """Split ``(n, 16)`` digests into their high and low 64 bits, read big-endian."""
    words = np.ascontiguousarray(digests).view(">u8").astype(np.uint64)
    return words[:, 0].copy(), words[:, 1].copy()


def joined(high: U64, low: U64) -> pa.Array:
    """Return the digests whose halves are given as a ``fixed_size_binary(16)`` array."""
    words = np.empty((len(high), 2), ">u8")
    words[:, 0], words[:, 1] = high, low
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DIGEST_BYTES), len(high), [None, pa.py_buffer(words.tobytes())]
    )
