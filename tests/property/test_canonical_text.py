"""The canonical text: one value, one text, whichever implementation writes it."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import NotCanonical
from penstock.identity.canonical import (
    MAX_DEPTH,
    MAX_TEXT_BYTES,
    canonical_json,
    canonical_text,
    reference_text,
    value_of,
)
from tests.property.canonical_values import YEAR_2, YEAR_9998, attributes, numbers, texts, values

EXAMPLES = settings(max_examples=400, deadline=None, derandomize=True, database=None)


def shuffled(value: Any, seed: int) -> Any:
    """Return an equal value whose objects have their keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        np.random.default_rng(seed).shuffle(keys)
        return {key: shuffled(value[key], seed + 1) for key in keys}
    if isinstance(value, list | tuple):
        return [shuffled(item, seed + 1) for item in value]
    return value


@given(attributes)
@EXAMPLES
def test_both_implementations_write_one_text(value: dict[str, Any]) -> None:
    """The fast path gives what the specification gives, for every value of the model."""
    assert canonical_text(value) == reference_text(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(EXAMPLES, max_examples=3000)
def test_floats_are_their_shortest_digits(value: float) -> None:
    """Both implementations agree on every float, and the text reads back as the same float."""
    text = canonical_text({"x": value})
    assert text == reference_text({"x": value})
    assert value_of(text)["x"] == value


@given(attributes, st.integers(0, 2**32))
@EXAMPLES
def test_the_order_of_keys_is_irrelevant(value: dict[str, Any], seed: int) -> None:
    """Equal objects have one text, however they were put together."""
    assert canonical_text(shuffled(value, seed)) == canonical_text(value)


@given(attributes)
@EXAMPLES
def test_a_text_reads_back_as_its_value(value: dict[str, Any]) -> None:
    """What a canonical text stands for has that text."""
    text = canonical_text(value)
    assert canonical_text(value_of(text)) == text
    assert canonical_json(text) == text


@given(attributes, st.integers(0, 2**32))
@EXAMPLES
def test_any_json_of_a_value_has_its_canonical_form(value: dict[str, Any], seed: int) -> None:
    """White space, escapes and the order of keys are the writer's own; the canonical form is not."""
    text = canonical_text(value)
    theirs = json.dumps(shuffled(json.loads(text), seed), indent=2, ensure_ascii=True)
    assert canonical_json(theirs.encode()) == text


@given(numbers | texts, numbers | texts)
@EXAMPLES
def test_different_values_have_different_texts(a: Any, b: Any) -> None:
    """Values that compare unequal, and values of different kinds, never share a text."""
    same = canonical_text({"x": a}) == canonical_text({"x": b})
    kinds = (type(a) is type(b)) or (isinstance(a, str) and isinstance(b, str))
    equal = a == b or all(isinstance(v, float | Decimal) and math.isnan(v) for v in (a, b))
    assert same == (kinds and equal)


@given(st.datetimes(YEAR_2, YEAR_9998), st.integers(-840, 840))
@EXAMPLES
def test_one_instant_has_one_text_in_every_zone(moment: datetime, offset_min: int) -> None:
    """A zone is a way to write an instant, not part of it."""
    utc = moment.replace(tzinfo=UTC)
    there = utc.astimezone(timezone(timedelta(minutes=offset_min)))
    assert canonical_text({"t": there}) == canonical_text({"t": utc})
    assert canonical_text({"t": moment}) != canonical_text({"t": utc})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ({"b": 1, "a": None}, '{"a":null,"b":1}'),
        ({"x": 2**53 + 1}, '{"x":9007199254740993}'),
        ({"x": 2**64 - 1}, '{"x":18446744073709551615}'),
        ({"x": 2**64}, '{"x":{"$int":"18446744073709551616"}}'),
        ({"x": float("nan")}, '{"x":{"$float":"nan"}}'),
        ({"x": -0.0}, '{"x":0.0}'),
        ({"x": 1.0}, '{"x":1.0}'),
        ({"x": 1}, '{"x":1}'),
        ({"x": True}, '{"x":true}'),
        ({"x": Decimal("1.50")}, '{"x":{"$decimal":"1.5"}}'),
        ({"x": Decimal("-0.00")}, '{"x":{"$decimal":"0"}}'),
        ({"x": date(2026, 11, 20)}, '{"x":{"$date":"2026-11-20"}}'),
        ({"x": time(1, 2, 3, 500)}, '{"x":{"$time":"01:02:03.0005"}}'),
        ({"x": b"\x00\xff"}, '{"x":{"$bytes":"AP8="}}'),
        ({"$date": "2026"}, '{"$$date":"2026"}'),
        ({"$": {"$$": 1}}, '{"$$":{"$$$":1}}'),
        ({"é": "e\u0301"}, '{"é":"e\u0301"}'),
        ({"x": '\x1f\x7f\n"\\/'}, '{"x":"\\u001f\x7f\\n\\"\\\\/"}'),
        ({"\uffee": 1, "\U0001f600": 2}, '{"\uffee":1,"\U0001f600":2}'),
        ({"x": np.float32(0.1)}, '{"x":0.10000000149011612}'),
        ({"x": np.int64(7), "y": np.bool_(True)}, '{"x":7,"y":true}'),
        (
            {"x": pd.Timestamp("2026-01-01T00:00:00.123456789Z")},
            '{"x":{"$timestamp":"2026-01-01T00:00:00.123456789Z"}}',
        ),
    ],
)
def test_the_specification_by_example(value: dict[str, Any], text: str) -> None:
    """Each example of the reference page has the text that the page says."""
    assert canonical_text(value).decode() == text
    assert reference_text(value).decode() == text
    assert canonical_json(text.encode()).decode() == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": {"b": [1, {2}]}}, r"\$\.a\.b\[1\] is a set"),
        ({"a": object()}, r"\$\.a is a object"),
        ({1: 2}, "has the key 1"),
        ({"a": {None: 2}}, r"\$\.a has the key None"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        ({"a": Decimal("sNaN")}, "signalling NaN"),
        ({"a": time(1, tzinfo=UTC)}, "with a zone"),
        ({"a": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "outside the years"),
        ({"a": pd.NaT}, "NaT"),
        ({"a": pd.NA}, "NAType"),
        ({"a": timedelta(1)}, "timedelta"),
        ({"a": 1j}, "complex"),
        ([("a", 1)], "are a list"),
    ],
)
def test_what_has_no_text_is_refused(value: Any, problem: str) -> None:
    """The error names the path of the value and what to pass in its place."""
    with pytest.raises(NotCanonical, match=problem):
        canonical_text(value)


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return {"x": value}


def test_nesting_is_limited() -> None:
    """Sixty-four levels are taken and the next one is not."""
    assert canonical_text(nested(MAX_DEPTH)) == reference_text(nested(MAX_DEPTH))
    with pytest.raises(NotCanonical, match="nested deeper"):
        canonical_text(nested(MAX_DEPTH + 1))
    with pytest.raises(NotCanonical):
        canonical_json(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_size_is_limited_and_the_field_named() -> None:
    """A text over the limit is refused with the name and size of its largest field."""
    with pytest.raises(NotCanonical, match="the field 'big' alone takes 16,777,21"):
        canonical_text({"small": 1, "big": "x" * MAX_TEXT_BYTES})


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"1", b"{", b'{"a":NaN}', b'{"a":1e400}', b'{"a":"\\ud800"}', b'{"a":"\xff"}',
     b'{"a":{"$date":"yesterday"}}', b'{"a":{"$decimal":"x"}}', b'{"a":{"$int":"1.5"}}', b'{"a":-Infinity}',
     b'{"a":{"$bytes":"?"}}', b'{"a":1}{', b"{'a':1}", b'{"a":{"$timestamp":"2026"}, "n":12345678901234567890'],
)  # fmt: skip
def test_text_that_is_no_json_object_is_refused(text: bytes) -> None:
    """What others wrote is read strictly."""
    with pytest.raises(NotCanonical):
        canonical_json(text)


def test_integers_of_others_are_kept_whole() -> None:
    """An integer beyond 64 bits in somebody's JSON does not become a float on the way."""
    assert canonical_json(b'{"a": 18446744073709551616, "b": 0.1234567890123456789}') == (
        b'{"a":{"$int":"18446744073709551616"},"b":0.12345678901234568}'
    )


@given(values)
@EXAMPLES
def test_lists_keep_their_order(value: Any) -> None:
    """A list is a list: its order counts."""
    pair = [value, {"other": 1}]
    assert canonical_text({"x": pair}) != canonical_text({"x": pair[::-1]})
