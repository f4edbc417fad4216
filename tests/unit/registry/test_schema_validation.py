"""What is said of values that are not valid."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_validation import FORMATS, compiled

SECRET = "hunter2-hunter2"


def messages(document: dict[str, Any], value: Any) -> list[str]:
    """Return the messages of all violations."""
    return [each.message for each in compiled(document).violations(value)]


def test_every_violation_is_said_at_once() -> None:
    """Each broken rule of an object has its own violation with path, rule, place in the schema and type."""
    document = {
        "properties": {
            "a": {"type": "string"},
            "b/c": {"minimum": 3},
            "d": {"items": {"maxLength": 1}},
        },
        "required": ["a", "e"],
    }
    found = compiled(document).violations({"b/c": 1, "d": ["x", "yy"], "z": None})
    assert [(each.path, each.rule, each.schema_path, each.value_type) for each in found] == [
        ("", "required", "#/required", "object"),
        ("", "required", "#/required", "object"),
        ("/b~1c", "minimum", "#/properties/b~1c/minimum", "integer"),
        ("/d/1", "maxLength", "#/properties/d/items/maxLength", "string"),
        ("/z", "additionalProperties", "#/additionalProperties", "null"),
    ]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": ["integer", "null"]}, "has to be integer or null"),
        ({"enum": ["x", 1]}, 'has to be one of "x", 1'),
        ({"const": {"k": 1}}, 'has to be {"k":1}'),
        ({"pattern": "^x"}, "does not match the pattern '^x'"),
        ({"format": "uuid"}, "is not of the format uuid"),
        ({"minLength": 99}, "is shorter than 99 characters"),
        ({"maxLength": 3}, "is longer than 3 characters"),
        ({"not": {"type": "string"}}, "is of a kind that 'not' excludes"),
        (False, "has to be left out: nothing is taken here"),
        (
            {"anyOf": [{"type": "integer"}, {"minLength": 99}]},
            "is valid under none of 2 alternatives; the closest (number 2) says: is shorter than 99 characters",
        ),
        (
            {"oneOf": [{"type": "string"}, {"minLength": 1}]},
            "is valid under more than one alternative of 'oneOf', and has to be under one only",
        ),
    ],
)
def test_no_message_shows_the_value(schema: Any, says: str) -> None:
    """Whatever rule a text breaks, what is said is the rule and never the text."""
    (violation,) = compiled({"properties": {"p": schema}}).violations({"p": SECRET})
    assert violation.message == says
    assert SECRET not in repr(violation)


def test_no_message_shows_a_value_inside() -> None:
    """Rules of containers show no value of what they hold; numbers are not shown either."""
    document = {
        "items": {"anyOf": [{"properties": {"k": {"const": 1}}}, {"type": "array", "maxItems": 1}]},
        "uniqueItems": True,
        "contains": {"const": "needle"},
    }
    value = [{"k": SECRET}, {"k": SECRET}, [SECRET, 4711]]
    found = compiled(document).violations(value)
    assert {each.rule for each in found} == {"anyOf", "uniqueItems", "contains"}
    assert SECRET not in repr(found)
    assert "4711" not in repr(found)


def test_a_long_enum_is_cut() -> None:
    """A message lists twenty of the values that are allowed and says how many are left."""
    (message,) = messages({"enum": list(range(25))}, "x")
    assert message.endswith("18, 19 and 5 more")


def test_an_alternative_that_fails_does_not_make_all_names_unknown() -> None:
    """Names are not called undeclared only because no alternative that declares them holds."""
    document = {
        "oneOf": [
            {
                "properties": {"kind": {"const": kind}, kind: {"type": "integer"}},
                "required": ["kind"],
            }
            for kind in ("circle", "square")
        ]
    }
    (violation,) = compiled(document).violations({"kind": "square", "square": "big"})
    assert violation.rule == "oneOf"
    assert "the closest (number 2) says of /square: has to be integer" in violation.message


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats_are_asserted(name: str) -> None:
    """Every format that a schema may name refuses a text that is not of it."""
    assert not compiled({"format": name}).is_valid("% not [ one\\")


def test_numbers_are_compared_as_numbers() -> None:
    """1.0 is an integer and equal to 1; a boolean is no number; Decimals are numbers; NaN is none."""
    integer = compiled({"type": "integer"})
    assert integer.is_valid(1.0)
    assert not integer.is_valid(True)
    assert compiled({"const": 1}).is_valid(1.0)
    assert compiled({"type": "number", "minimum": 1}).is_valid(Decimal("1.5"))
    assert not compiled({"type": "number"}).is_valid(float("nan"))


def test_a_pattern_that_would_backtrack_is_matched_in_linear_time() -> None:
    """A pattern that takes a backtracking engine for ever on this text is answered at once."""
    document = {"pattern": "^(a+)+$"}
    assert problems_of(document) == []
    assert not compiled(document).is_valid("a" * 100_000 + "!")


def test_violations_are_limited() -> None:
    """No more violations are returned than were asked for."""
    found = compiled({"items": {"type": "string"}}).violations(list(range(5000)), limit=7)
    assert len(found) == 7


def test_deep_values_under_alternatives_that_lead_back_are_refused_as_a_whole() -> None:
    """Where explaining each alternative of each level would double with each level, one violation says so."""
    branch = {
        "properties": {"arg": {"$ref": "#/$defs/n"}, "op": {"enum": ["a"]}},
        "required": ["op"],
    }
    document = {
        "$ref": "#/$defs/n",
        "$defs": {"n": {"anyOf": [branch, {**branch, "minProperties": 1}]}},
    }
    validator = compiled(document)
    assert validator.branches_into_itself
    value: dict[str, Any] = {"op": "z"}
    for _ in range(4):
        value = {"op": "a", "arg": value}
    assert [each.rule for each in validator.violations(value)] == ["anyOf"]
    for _ in range(40):
        value = {"op": "a", "arg": value}
    value["op"] = "z"
    assert [each.rule for each in validator.violations(value)] == ["nesting"]


def test_compiling_the_same_schema_again_compiles_nothing() -> None:
    """Two validators of equal documents share what was compiled, and have one digest."""
    document = {"properties": {"a": {"type": "string"}}}
    first, second = compiled(document), compiled({"properties": {"a": {"type": "string"}}})
    assert first._compiled is second._compiled
    assert first.digest == second.digest


def test_references_to_entities_are_collected() -> None:
    """Text values that x-references applies to are returned with their place and the type that they refer to."""
    document = {
        "properties": {
            "owner": {"type": "string", "x-references": "person"},
            "columns": {"items": {"$ref": "#/$defs/column"}},
        },
        "$defs": {"column": {"type": ["string", "null"], "x-references": "column"}},
    }
    validator = compiled(document)
    assert validator.refers
    assert validator.references({"owner": "p/1", "columns": ["c/1", None, "c/2"]}) == [
        ("/columns/0", "column", "c/1"),
        ("/columns/2", "column", "c/2"),
        ("/owner", "person", "p/1"),
    ]
    assert not compiled({"type": "object"}).refers
