"""Typed Arrow columns: the same text as the same rows in Python have."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.typed import attributes_text
from penstock.errors import NotCanonical
from penstock.identity.canonical import reference_text
from tests.property.canonical_values import YEAR_2, YEAR_9998, texts
from tests.property.test_canonical_text import EXAMPLES

_MOMENTS = st.datetimes(YEAR_2, YEAR_9998)
_LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), texts),
    (pa.large_string(), texts),
    (pa.string_view(), texts),
    (pa.dictionary(pa.int8(), pa.string()), texts),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.floats() | st.sampled_from([-0.0, 1e16, 1e-5])),
    (pa.float32(), st.floats(width=32)),
    (pa.float16(), st.floats(width=16)),
    (pa.bool_(), st.booleans()),
    (pa.binary(), st.binary(max_size=6)),
    (pa.large_binary(), st.binary(max_size=6)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.timestamp("us"), _MOMENTS),
    (pa.timestamp("s"), _MOMENTS.map(lambda m: m.replace(microsecond=0))),
    (pa.timestamp("us", "Europe/Berlin"), _MOMENTS),
    (pa.timestamp("ns", "UTC"), _MOMENTS.map(lambda m: m.replace(year=2000 + m.year % 100, day=1))),
    (pa.time64("us"), st.times()),
    (pa.time32("s"), st.times().map(lambda t: t.replace(microsecond=0))),
    (pa.decimal128(38, 6), st.decimals(-(10**20), 10**20, places=6)),
    (pa.decimal256(50, 0), st.integers(-(10**40), 10**40).map(Decimal)),
    (pa.null(), st.none()),
]
Typed = tuple[pa.DataType, st.SearchStrategy[Any]]


def _nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    lists = inner.map(lambda t: (pa.list_(t[0]), st.lists(st.none() | t[1], max_size=3)))
    large = inner.map(lambda t: (pa.large_list(t[0]), st.lists(t[1], max_size=3)))
    fixed = inner.map(lambda t: (pa.list_(t[0], 2), st.lists(t[1], min_size=2, max_size=2)))
    structs = st.dictionaries(texts, inner, min_size=1, max_size=3).map(
        lambda fields: (
            pa.struct([(name, kind) for name, (kind, _) in fields.items()]),
            st.fixed_dictionaries({name: st.none() | v for name, (_, v) in fields.items()}),
        )
    )
    maps = inner.map(
        lambda t: (pa.map_(pa.string(), t[0]), st.dictionaries(texts, t[1], max_size=3))
    )
    return lists | large | fixed | structs | maps


typed = st.recursive(st.sampled_from(_LEAVES), _nested, max_leaves=4)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.dictionaries(texts, typed, min_size=1, max_size=4))
    rows = draw(st.integers(0, 6))
    columns = {
        name: pa.array(draw(st.lists(st.none() | v, min_size=rows, max_size=rows)), kind)
        for name, (kind, v) in kinds.items()
    }
    table = pa.table(columns)
    return table.slice(draw(st.integers(0, rows)))


def _as_python(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_map(kind):
        return {key: _as_python(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {
            kind.field(n).name: _as_python(value[kind.field(n).name], kind.field(n).type)
            for n in range(kind.num_fields)
        }
    if hasattr(kind, "value_type") and not pa.types.is_dictionary(kind):
        return [_as_python(item, kind.value_type) for item in value]
    return value


@given(tables())
@EXAMPLES
def test_columns_and_values_have_one_text(table: pa.Table) -> None:
    """Whatever types the columns have and however they nest, each row has its reference text."""
    columns = {name: table[name].combine_chunks() for name in table.schema.names}
    made = attributes_text(columns).to_pylist()
    for row, text in zip(table.to_pylist(), made, strict=True):
        value = {name: _as_python(row[name], columns[name].type) for name in columns}
        assert text.encode() == reference_text(value)


def test_nanoseconds_are_kept() -> None:
    """A timestamp finer than Python's own has all its digits."""
    moments = pa.array([1, 1_500_000_000, 1_000_000_000], pa.timestamp("ns", "UTC"))
    assert attributes_text({"t": moments}).to_pylist() == [
        '{"t":{"$timestamp":"1970-01-01T00:00:00.000000001Z"}}',
        '{"t":{"$timestamp":"1970-01-01T00:00:01.5Z"}}',
        '{"t":{"$timestamp":"1970-01-01T00:00:01Z"}}',
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1], pa.duration("s")),
        pa.array([10**17], pa.timestamp("s")),
        pa.array([-(10**7)], pa.date32()),
        pa.array([[{"a": 10**17}]], pa.list_(pa.struct([("a", pa.timestamp("s"))]))),
    ],
)
def test_what_has_no_text_is_refused_with_its_column(column: pa.Array) -> None:
    """The error names the column."""
    with pytest.raises(NotCanonical, match="column 'when'"):
        attributes_text({"when": column})
