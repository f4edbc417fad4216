"""Typed Arrow columns as canonical attributes text, a column at a time.

The same text as ``reference_text`` gives for the rows as Python objects (a property test holds them equal), at some
tens of nanoseconds a value for text, numbers, booleans, dates and timestamps; kinds of values that are rare in
metadata go through Python once per distinct value. A null is ``null``: Arrow has no word for a missing field.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import NotCanonical
from penstock.identity.canonical import MAX_DEPTH, canonical_text_of, escaped_key

TEXT = pa.large_string()
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_FIRST_DAY, _LAST_DAY = np.datetime64("0001-01-01"), np.datetime64("9999-12-31")


def attributes_text(columns: Mapping[str, pa.Array]) -> pa.Array:
    """Return one canonical object per row, as ``large_string``; columns are of one length and at least one.

    Raises :class:`NotCanonical`, naming the column, for types without a canonical encoding.
    """
    return _objects(dict(columns), 1)


def _objects(columns: dict[str, pa.Array], depth: int) -> pa.Array:
    if depth > MAX_DEPTH:
        raise NotCanonical(f"columns are nested deeper than {MAX_DEPTH} levels: flatten them")
    pieces: list[pa.Array | pa.Scalar] = []
    opening = "{"
    for name in sorted(columns, key=lambda name: escaped_key(name).encode()):
        try:
            values = value_texts(columns[name], depth)
        except NotCanonical as error:
            raise NotCanonical(f"column {name!r}: {error}") from error
        key = orjson.dumps(escaped_key(name)).decode()
        pieces += [pa.scalar(f"{opening}{key}:", TEXT), values]
        opening = ","
    if not pieces:
        raise NotCanonical("a struct without fields has no rows to speak of: leave it out")
    return pc.binary_join_element_wise(*pieces, pa.scalar("}", TEXT), pa.scalar("", TEXT))


def value_texts(values: pa.Array, depth: int = 0) -> pa.Array:
    """Return the canonical text of each value, as ``large_string`` without nulls."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray) and not _is_uuid(values.type):
        values = values.storage
    if not len(values):
        return pa.array([], TEXT)
    if values.null_count == len(values):
        return pa.array(["null"] * len(values), TEXT)
    texts = _texts(values, depth)
    return pc.fill_null(_masked(texts, values), "null") if values.null_count else texts


def _masked(texts: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(values.is_valid(), texts, pa.scalar(None, TEXT))


def _is_uuid(kind: pa.DataType) -> bool:
    return getattr(kind, "extension_name", "") == "arrow.uuid"


def _texts(values: pa.Array, depth: int) -> pa.Array:  # noqa: PLR0911, PLR0912  one line for each kind of type
    kind, is_ = values.type, pa.types
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return _strings(pc.cast(values, TEXT))
    if is_.is_integer(kind):
        return pc.cast(values, TEXT)
    if is_.is_floating(kind):
        return _floats(values)
    if is_.is_boolean(kind):
        return pc.if_else(values, pa.scalar("true", TEXT), pa.scalar("false", TEXT))
    if is_.is_date(kind):
        return _dates(values)
    if is_.is_timestamp(kind):
        return _timestamps(values)
    if is_.is_struct(kind):
        return _structs(values, depth)
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return _lists(values, depth)
    if is_.is_dictionary(kind):
        return pc.take(value_texts(values.dictionary, depth), values.indices)
    if is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_fixed_size_binary(kind):
        return _bytes(values)
    if is_.is_decimal(kind) or is_.is_time(kind):
        return _each_distinct(values)
    if is_.is_map(kind):
        return _maps(values, depth)
    if _is_uuid(kind):
        return pa.array([_text_of(v) for v in values.to_pylist()], TEXT)
    raise NotCanonical(f"type {kind} has no canonical encoding: cast it to text or a number")


def _text_of(value: Any) -> str:
    return canonical_text_of(value).decode()


def _python(values: pa.Array) -> list[Any]:
    found: list[Any] = values.to_pylist()
    return found


def _each_distinct(values: pa.Array) -> pa.Array:
    encoded = pc.dictionary_encode(values)
    texts = pa.array([_text_of(value) for value in _python(encoded.dictionary)], TEXT)
    return pc.take(texts, encoded.indices)


def _strings(values: pa.Array) -> pa.Array:
    quote = pa.scalar('"', TEXT)
    texts = pc.binary_join_element_wise(quote, values, quote, pa.scalar("", TEXT))
    escapes = pc.fill_null(pc.match_substring_regex(values, _NEEDS_ESCAPE), False)
    if not escapes.true_count:
        return texts
    escaped = [orjson.dumps(value).decode() for value in _python(values.filter(escapes))]
    return pc.replace_with_mask(texts, escapes, pa.array(escaped, TEXT))


def _floats(values: pa.Array) -> pa.Array:
    numbers = np.asarray(pc.fill_null(pc.cast(values, pa.float64()), 0.0))
    finite = np.isfinite(numbers)
    # Adding zero makes -0.0 into 0.0.
    plain = np.ascontiguousarray(np.where(finite, numbers, 0.0) + 0.0)
    written = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)
    texts = pa.array(written[1:-1].decode().split(","), TEXT)
    if finite.all():
        return texts
    special = [_text_of(value) for value in numbers[~finite].tolist()]
    return pc.replace_with_mask(texts, pa.array(~finite), pa.array(special, TEXT))


def _dates(values: pa.Array) -> pa.Array:
    days = np.asarray(pc.fill_null(pc.cast(values, pa.date32(), safe=False).cast(pa.int32()), 0))
    moments = days.astype("datetime64[D]")
    _check_years(moments)
    return _tagged("date", np.datetime_as_string(moments))


def _timestamps(values: pa.Array) -> pa.Array:
    kind = values.type
    counts = np.asarray(pc.fill_null(values.cast(pa.int64()), 0))
    moments = counts.astype(f"datetime64[{kind.unit}]")
    _check_years(moments.astype("datetime64[D]"))
    texts = pa.array(np.datetime_as_string(moments), TEXT)
    if kind.unit != "s":
        texts = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    if kind.tz is None:
        return _tagged("datetime", texts)
    return _tagged("timestamp", texts, "Z")


def _check_years(days: np.ndarray) -> None:
    outside = (days < _FIRST_DAY) | (days > _LAST_DAY)
    if outside.any():
        raise NotCanonical(
            f"{days[int(np.argmax(outside))]} lies outside the years 1 to 9999: pass it as text"
        )


def _tagged(tag: str, texts: Any, tail: str = "") -> pa.Array:
    opening, closing = pa.scalar(f'{{"${tag}":"', TEXT), pa.scalar(f'{tail}"}}', TEXT)
    joined = pa.array(texts, TEXT)
    return pc.binary_join_element_wise(opening, joined, closing, pa.scalar("", TEXT))


def _bytes(values: pa.Array) -> pa.Array:
    encode = binascii.b2a_base64
    texts = [encode(v or b"", newline=False).decode() for v in _python(values)]
    return _tagged("bytes", texts)


def _structs(values: pa.Array, depth: int) -> pa.Array:
    kind = values.type
    names = [kind.field(n).name for n in range(kind.num_fields)]
    if len(set(names)) != len(names):
        raise NotCanonical(f"a struct names a field twice: {sorted(names)}")
    if not names:
        return pa.array(["{}"] * len(values), TEXT)
    return _objects(dict(zip(names, values.flatten(), strict=True)), depth + 1)


def _lists(values: pa.Array, depth: int) -> pa.Array:
    if depth >= MAX_DEPTH:
        raise NotCanonical(f"columns are nested deeper than {MAX_DEPTH} levels: flatten them")
    inner = value_texts(values.flatten(), depth + 1)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    texts = pa.LargeListArray.from_arrays(offsets, inner)
    opening, closing = pa.scalar("[", TEXT), pa.scalar("]", TEXT)
    joined = pc.binary_join(texts, pa.scalar(",", TEXT))
    return pc.binary_join_element_wise(opening, joined, closing, pa.scalar("", TEXT))


def _maps(values: pa.Array, depth: int) -> pa.Array:
    if depth >= MAX_DEPTH:
        raise NotCanonical(f"columns are nested deeper than {MAX_DEPTH} levels: flatten them")
    offsets = values.offsets.to_pylist()
    first, stop = offsets[0], offsets[-1]
    keys = _python(values.keys.slice(first, stop - first))
    items = _python(value_texts(values.items.slice(first, stop - first), depth + 1))
    texts = []
    for a, b in pairwise(offsets):
        texts.append(_map_text(keys[a - first : b - first], items[a - first : b - first]))
    return pa.array(texts, TEXT)


def _map_text(keys: list[Any], items: list[str]) -> str:
    if len(set(keys)) != len(keys) or not all(isinstance(key, str) for key in keys):
        raise NotCanonical(f"a map has keys that are not distinct texts: {keys[:10]}")
    pairs = sorted(
        zip(map(escaped_key, keys), items, strict=True), key=lambda pair: pair[0].encode()
    )
    return "{" + ",".join(f"{orjson.dumps(key).decode()}:{text}" for key, text in pairs) + "}"
