"""Files of a batch from the object store, believed only when they are what the manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.batch.encode import KEY_COLUMNS, contract_rows, plain_text
from penstock.batch.manifest import DataFile, IndexFileEntry, Manifest, batch_prefix
from penstock.batch.rows import SCHEMAS, Kind
from penstock.batch.validate import check_rows, check_sizes
from penstock.errors import BadFile, ObjectMissing
from penstock.ports.object_store import ObjectStore

_COPY_BYTES = 4 * 1024 * 1024
_READ_ROWS = 8_192
_PIECE_BYTES = 32 * 1024 * 1024
_DICTIONARY = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}
MAX_COLUMN_BYTES = 1024 * 1024 * 1024
"""Of one column in one row group, decoded: what a reader may have to hold at once."""


def download(
    objects: ObjectStore, manifest: Manifest, file: DataFile | IndexFileEntry, to: Path
) -> str:
    """Copy one file of a batch, checking size and digest on the way; return its address.

    Raises :class:`BadFile` for a file that is missing, longer, shorter or another than the manifest says.
    """
    key = batch_prefix(manifest.batch_id) + file.path
    where = objects.url(key)
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with objects.open(key) as source, to.open("wb") as sink:
            while data := source.read(_COPY_BYTES):
                size_bytes += len(data)
                if size_bytes > file.size_bytes:
                    break
                digest.update(data)
                sink.write(data)
    except ObjectMissing as error:
        raise BadFile(
            f"{where} is named in the manifest and is not there: land the batch again, under a new timestamp"
        ) from error
    if size_bytes != file.size_bytes:
        verb = "more than" if size_bytes > file.size_bytes else f"{size_bytes:,} of"
        raise BadFile(
            f"{where} has {verb} the {file.size_bytes:,} bytes that the manifest says: it was cut short or "
            "changed after landing; land the batch again, under a new timestamp"
        )
    if digest.hexdigest() != file.sha256:
        raise BadFile(
            f"{where} has the SHA-256 {digest.hexdigest()}, and the manifest says {file.sha256}: the file was "
            "changed after landing; land the batch again, under a new timestamp"
        )
    return where


def read_part(
    path: Path, where: str, manifest: Manifest, kind: Kind, part: DataFile
) -> Iterator[pa.Table]:
    """Yield the rows of a downloaded Parquet file with the columns of ``SCHEMAS[kind]``, checked.

    Attributes are made canonical unless the batch brings an index: then they are taken at their word, and the index
    has to agree with them. Raises :class:`BadFile` and :class:`BadRow`, which name the file and the row.
    """
    try:
        with _open(path) as file:
            _check_metadata(file, where, kind, part)
            first = 0
            for rows in _batches(file, kind, where):
                yield from _checked(rows, where, manifest, kind, first)
                first += len(rows)
    except (pa.ArrowException, OSError) as error:
        raise BadFile(
            f"{where} cannot be read as Parquet ({_one_line(error)}): it is truncated or damaged; write it again"
        ) from error


def _open(path: Path) -> pq.ParquetFile:
    """Open a file so that what is dictionary-encoded stays so: decoded, one value may be there a million times."""
    metadata = pq.read_metadata(path)
    encoded: set[str] = set()
    for group in range(metadata.num_row_groups):
        for n in range(metadata.num_columns):
            column = metadata.row_group(group).column(n)
            if column.physical_type == "BYTE_ARRAY" and _DICTIONARY & set(column.encodings):
                encoded.add(column.path_in_schema)
    return pq.ParquetFile(path, read_dictionary=sorted(encoded), buffer_size=1024 * 1024)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _check_metadata(file: pq.ParquetFile, where: str, kind: Kind, part: DataFile) -> None:
    metadata = file.metadata
    names = file.schema_arrow.names
    for name in [*KEY_COLUMNS[kind], "attributes"]:
        if name not in names:
            raise BadFile(
                f"{where} has no column {name}; its columns are {names}: the contract is "
                "docs/reference/batch_layout.md"
            )
    for name in [name for name in SCHEMAS[kind].names if name in names]:
        found = file.schema_arrow.field(name).type
        if not _fits(found, SCHEMAS[kind].field(name).type):
            raise BadFile(
                f"{where}: column {name} is {found}, not {SCHEMAS[kind].field(name).type}: cast it and land the "
                "batch again, under a new timestamp"
            )
    if metadata.num_rows != part.rows:
        raise BadFile(
            f"{where} holds {metadata.num_rows:,} rows and the manifest says {part.rows:,}: correct the manifest's "
            "parts and land the batch again, under a new timestamp"
        )
    for group in range(metadata.num_row_groups):
        _check_group(metadata.row_group(group), group, where)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_null(found) or found == wanted:
        return True
    is_text: bool = pa.types.is_large_string(found) or pa.types.is_string_view(found)
    wants_text: bool = pa.types.is_string(wanted)
    return is_text and wants_text


def _check_group(group: pq.RowGroupMetaData, n: int, where: str) -> None:
    for column in range(group.num_columns):
        chunk = group.column(column)
        if chunk.total_uncompressed_size > MAX_COLUMN_BYTES:
            raise BadFile(
                f"{where}: column {chunk.path_in_schema} of row group {n} takes "
                f"{chunk.total_uncompressed_size:,} bytes, over the limit of {MAX_COLUMN_BYTES:,}: write "
                "smaller row groups"
            )


def _batches(file: pq.ParquetFile, kind: Kind, where: str) -> Iterator[pa.Table]:
    names = [name for name in SCHEMAS[kind].names if name in file.schema_arrow.names]
    for batch in file.iter_batches(_READ_ROWS, columns=names, use_threads=False):
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise BadFile(
                f"{where} holds text that is not UTF-8 ({_one_line(error)}): write text columns as UTF-8"
            ) from error
        yield pa.Table.from_batches([batch])


def _decoded_in_pieces(rows: pa.Table) -> Iterator[pa.Table]:
    """Cut rows so that no piece takes much memory once its dictionaries are decoded, which can multiply them."""
    sizes = sum(_decoded_sizes(rows[name]) for name in rows.schema.names)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(rows):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _PIECE_BYTES, "right")), start + 1)
        yield rows.slice(start, stop - start)
        start = stop


def _decoded_sizes(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        return np.zeros(len(column), np.int64)  # decoded already
    chunks = [
        np.asarray(pc.fill_null(pc.take(pc.binary_length(chunk.dictionary), chunk.indices), 0))
        for chunk in column.chunks
    ]
    return np.concatenate([*chunks, np.empty(0)]).astype(np.int64)


def _checked(
    rows: pa.Table, where: str, manifest: Manifest, kind: Kind, first: int
) -> Iterator[pa.Table]:
    indexed = manifest.files(kind).index is not None
    for piece in _decoded_in_pieces(rows):
        name = _row_namer(where, first)
        texts = plain_text(piece["attributes"])
        check_sizes(texts, name)
        known = pc.fill_null(texts, "{}") if indexed else None
        canonical = contract_rows(kind, piece, known, where=name)
        check_rows(kind, canonical, manifest.mode, name)
        yield canonical
        first += len(piece)


def _row_namer(where: str, first: int) -> Callable[[int], str]:
    return lambda n: f"{where}, row {first + n}"
