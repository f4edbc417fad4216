"""No value falls between two schemas that are found compatible, whatever they are and whatever was changed."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.registry.compatibility import Compatibility, compatible
from penstock.registry.content_model import NormalSchema, normal_form
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_validation import compiled
from penstock.registry.subsets import doubts
from tests.property.registry_schemas import a_document, a_value, changed

VALUES = 25
randoms = st.randoms(use_true_random=False)


def values_of(rnd: Random, *documents: dict[str, Any]) -> list[Any]:
    """Return values that are near to what the documents describe."""
    return [a_value(rnd, document, document) for document in documents for _ in range(VALUES)]


@settings(max_examples=100)
@given(rnd=randoms)
def test_no_value_falls_between_compatible_schemas(rnd: Random) -> None:
    """If a change is BACKWARD compatible, what was valid is valid; if FORWARD, what is valid was."""
    old = a_document(rnd)
    new = changed(rnd, old)
    if problems_of(old) or problems_of(new):
        return
    before, after = compiled(old), compiled(new)
    backward = not compatible(Compatibility.BACKWARD, new, old)
    forward = not compatible(Compatibility.FORWARD, new, old)
    for value in values_of(rnd, old, new):
        was, is_now = before.is_valid(value), after.is_valid(value)
        assert not (backward and was and not is_now), (old, new, value)
        assert not (forward and is_now and not was), (old, new, value)


@settings(max_examples=60)
@given(rnd=randoms)
def test_unrelated_schemas_are_compared_soundly(rnd: Random) -> None:
    """Also between schemas that have nothing to do with each other no value falls, where no doubt is found."""
    one, other = a_document(rnd), a_document(rnd)
    if problems_of(one) or problems_of(other):
        return
    if doubts(normal_form(one), normal_form(other)):
        return
    narrow, wide = compiled(one), compiled(other)
    for value in values_of(rnd, one):
        assert wide.is_valid(value) or not narrow.is_valid(value), (one, other, value)


@settings(max_examples=60)
@given(rnd=randoms)
def test_a_schema_is_compatible_with_itself(rnd: Random) -> None:
    """A copy of a schema, with other notes, breaks no promise; the copy is not looked at by identity."""
    document = a_document(rnd)
    if problems_of(document):
        return
    noted = {**copy.deepcopy(document), "description": "the same"}
    assert compatible(Compatibility.FULL, noted, document) == []


@settings(max_examples=60)
@given(rnd=randoms)
def test_more_alternatives_take_no_less(rnd: Random) -> None:
    """A schema is found to be within the union of itself and another, and what two demand within each of them."""
    one, other = a_document(rnd), a_document(rnd)
    if problems_of(one) or problems_of(other):
        return
    first = normal_form(one, closing=False)
    root, definitions = first.root, first.definitions
    union = NormalSchema(
        root={"anyOf": [root, {"const": "other"}]}, definitions=definitions, origins=first.origins
    )
    both = NormalSchema(
        root={"allOf": [root, {"type": "object"}]}, definitions=definitions, origins=first.origins
    )
    assert doubts(first, union) == []
    assert doubts(both, first) == []
