"""Hypothesis strategies for the value model of attributes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

from hypothesis import strategies as st


class Colour(Enum):
    """Enums stand for their values."""

    RED = "red"
    NAN = float("nan")
    ONE = 1


class Word(str):
    """A subclass of text with other ideas about its text."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


YEAR_2, YEAR_9998 = datetime(2, 1, 1), datetime(9998, 1, 1)  # noqa: DTZ001
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "$",
        "$$",
        "$int",
        "$date",
        '"',
        "\\",
        "\x00\x1f\x7f\x80\u2028",
        "é",
        "e\u0301",
        "\U0001f600",
        "-0.0",
        "null",
    ]
)
numbers = (
    st.integers()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from(
        [2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1]
    )
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([0.0, -0.0, 5e-324, 1e15, 1e16, 1e17, 1e-4, 1e-5, 1e-6, 1.5e300, 2.0**53])
    | st.decimals(allow_nan=False)
    | st.sampled_from([Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+50"), Decimal("-0.00")])
)
moments = (
    st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(YEAR_2, YEAR_9998, timezones=_ZONES)
    | st.datetimes(timezones=st.just(UTC))
)
scalars = (
    st.none()
    | st.booleans()
    | numbers
    | texts
    | texts.map(Word)
    | st.binary(max_size=8)
    | st.uuids()
    | moments
    | st.sampled_from(Colour)
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts, inner, max_size=4)
    )


values = st.recursive(scalars, _nested, max_leaves=12)
attributes = st.dictionaries(texts, values, max_size=5)
