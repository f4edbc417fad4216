"""The stream of a binary COPY, against the server's own reading of it and against its written format."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import make_url

from resources.targets.binary_copy import binary_copy

DIGEST = pa.binary(16)


def joined(columns: list[object]) -> bytes:
    return b"".join(binary_copy(columns))


def test_a_row_is_its_fields_with_their_lengths() -> None:
    """Header, two fields of one row, trailer: as the server's documentation has it."""
    stream = joined([pa.array(["é"]), pa.array([7], pa.int64())])
    assert stream == (
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"
        b"\0\x02"
        b"\0\0\0\x02\xc3\xa9"
        b"\0\0\0\x08\0\0\0\0\0\0\0\x07"
        b"\xff\xff"
    )


def test_null_has_no_length() -> None:
    """A null is the length -1 and no bytes; an empty text is the length 0."""
    stream = joined([pa.array([None, ""], pa.string())])
    assert stream[19:] == b"\0\x01\xff\xff\xff\xff" + b"\0\x01\0\0\0\0" + b"\xff\xff"


def test_no_rows_are_a_header_and_a_trailer() -> None:
    """An empty column gives a stream that loads nothing."""
    assert joined([pa.array([], pa.string()), "constant"])[19:] == b"\xff\xff"


def test_slices_and_chunks_are_read_where_they_lie() -> None:
    """Arrays that begin inside their buffers, or come in chunks, give the same stream as fresh ones."""
    fresh = [pa.array(["b", "c", None]), pa.array([b"x" * 16, None, b"y" * 16], DIGEST)]
    sliced = [
        pa.array(["a", "b", "c", None, "d"]).slice(1, 3),
        pa.chunked_array(
            [pa.array([b"w" * 16, b"x" * 16], DIGEST).slice(1), pa.array([None, b"y" * 16], DIGEST)]
        ),
    ]
    assert joined([*sliced]) == joined([*fresh])


@pytest.mark.postgres
def test_the_server_reads_what_was_meant(postgres_url: str) -> None:
    """Text of any script, bytes, nulls, integers and constants of each type arrive as they were sent."""
    moment = datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC)
    texts = ["", "日本 \"'\\\n\t", None, "x" * 100_000]
    digests = [bytes(range(16)), None, b"\0" * 16, b"\xff" * 16]
    columns = [
        pa.array(texts),
        "const é",
        pa.array(digests, DIGEST),
        -(2**63),
        moment,
        pa.array([0, 1, -1, 2**63 - 1]),
    ]
    url = make_url(postgres_url)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as db:
        db.execute("CREATE TABLE t (a text, b text, c bytea, d bigint, e timestamptz, f bigint)")
        with db.cursor().copy("COPY t FROM STDIN (FORMAT BINARY)") as copy:
            for piece in binary_copy(columns):
                copy.write(piece)
        found = db.execute("SELECT * FROM t ORDER BY f").fetchall()
    expected = [
        (texts[n], "const é", digests[n], -(2**63), moment, f)
        for n, f in enumerate([0, 1, -1, 2**63 - 1])
    ]
    assert found == sorted(expected, key=lambda row: row[-1])
