"""Attributes as the API speaks of them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.identity.canonical import canonical_text, value_of
from penstock.registry.attributes import plain, typed_as

EAST = timezone(timedelta(hours=2))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3)
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.times()
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=EAST), "2026-01-02T01:00:00Z"),
        (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),  # noqa: DTZ001  a naive one, on purpose
        (time(3, 4), "03:04:00"),
        (Decimal("1.5"), 1.5),
        (Decimal("2"), 2),
        (Decimal("1e30"), 1e30),
        (b"\0\xff", "AP8="),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        ({"a": [date(2026, 1, 2)]}, {"a": ["2026-01-02"]}),
        ((1, 2), [1, 2]),
    ],
)
def test_what_json_has_no_word_for_is_read_as_its_nearest(value: Any, shown: Any) -> None:
    """Dates, decimals, bytes and numbers that are none come out as plain JSON."""
    assert plain(value) == shown
    assert type(plain(value)) is type(shown)


def test_what_is_no_value_is_refused() -> None:
    """An object that attributes cannot hold has no plain JSON."""
    with pytest.raises(TypeError, match="object is not a value"):
        plain(object())


@given(value=st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
def test_what_was_read_and_sent_again_is_what_there_was(value: dict[str, Any]) -> None:
    """Any attributes, read as plain JSON text and sent back unchanged, keep their canonical text."""
    before = value_of(canonical_text(value))
    sent = json.loads(json.dumps(plain(before), allow_nan=False))
    assert canonical_text(typed_as(sent, before)) == canonical_text(before)


def test_only_what_is_the_same_keeps_its_type() -> None:
    """A value that was changed is what was sent, and what stands beside it keeps its type."""
    before = {"on": date(2026, 1, 2), "off": date(2026, 1, 3), "flag": Decimal(1)}
    sent = {"on": "2026-01-02", "off": "later", "flag": True, "new": "2026-01-02"}
    assert typed_as(sent, before) == {
        "on": date(2026, 1, 2),
        "off": "later",
        "flag": True,
        "new": "2026-01-02",
    }
    assert typed_as(True, Decimal(1)) is True
    assert typed_as(["2026-01-02", "x"], [date(2026, 1, 2)]) == [date(2026, 1, 2), "x"]
