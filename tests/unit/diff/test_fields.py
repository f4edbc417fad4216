"""Which attributes changed, in bulk and in words."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.diff.fields import changed_fields, explain
from penstock.identity.canonical import canonical_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "$c", "d"]), VALUES, max_size=4)


def text(value: dict[str, Any]) -> str:
    return canonical_text(value).decode()


@settings(deadline=None)  # the first example imports deepdiff
@given(OBJECTS, OBJECTS)
def test_a_field_is_named_exactly_when_its_text_differs(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The changed fields are those whose canonical text differs or that only one side has."""
    named = changed_fields(pa.array([text(before)]), pa.array([text(after)])).to_pylist()[0]
    missing = object()
    expected = sorted(
        key
        for key in before.keys() | after.keys()
        if text({"x": before.get(key)}) != text({"x": after.get(key)})
        or before.get(key, missing) is missing
        or after.get(key, missing) is missing
    )
    assert named == expected


def test_null_is_not_absent_and_one_is_not_one_point_zero() -> None:
    """A null that appears, and a number that changes its type, are changes."""
    before, after = (
        pa.array(["{}", '{"n":1}', '{"n":[1]}']),
        pa.array(['{"n":null}', '{"n":1.0}', '{"n":[1.0]}']),
    )
    assert changed_fields(before, after).to_pylist() == [["n"], ["n"], ["n"]]


def test_an_explanation_names_the_path() -> None:
    """deepdiff's findings come as path, kind of change and both values; NaN is equal to itself."""
    before = {"columns": [{"type": "int"}], "gone": 1, "same": float("nan")}
    after = {"columns": [{"type": "text"}], "new": None, "same": float("nan")}
    changes = [(c.path, c.change, c.before, c.after) for c in explain(before, after)]
    assert changes == [
        ("columns[0].type", "changed", "int", "text"),
        ("gone", "removed", 1, None),
        ("new", "added", None, None),
    ]
