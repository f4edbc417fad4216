"""Whatever rows a schema is read off, each is valid under it; and whatever is exported reads the same."""

from __future__ import annotations

from random import Random
from typing import Any

import jsonschema_rs
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.registry.inference import infer
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_export import exported
from penstock.registry.schema_validation import compiled
from tests.property.registry_schemas import a_document, a_value

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.sampled_from(["on", "2026-11-21", "https://a.b/c"])
    | st.text(max_size=5)
)
names = st.sampled_from("abc") | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(names, v, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80)
@given(rows=st.lists(st.dictionaries(names, values, max_size=4), max_size=8), often=st.booleans())
def test_every_row_is_valid_under_what_was_read_off(
    rows: list[dict[str, Any]], often: bool
) -> None:
    """A proposal is a schema that the registry takes, and takes every row it was read off."""
    repeated = rows * 60 if often else rows
    document = infer(repeated, "Anything").document
    assert problems_of(document) == []
    validator = compiled(document)
    for row in rows:
        assert validator.violations(row) == []


@settings(max_examples=60)
@given(rnd=st.randoms(use_true_random=False))
def test_an_export_reads_as_the_schema_does(rnd: Random) -> None:
    """A plain validator of the export agrees with the registry on every value."""
    document = a_document(rnd)
    if problems_of(document):
        return
    ours = compiled(document)
    plain = jsonschema_rs.Draft202012Validator(
        exported(document), validate_formats=True, offline=True
    )
    for _ in range(30):
        value = a_value(rnd, document, document)
        assert plain.is_valid(value) == ours.is_valid(value)
