"""What is closed by default, and what says that it is open."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.registry.content_model import normal_form
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_references import Referent
from penstock.registry.schema_validation import compiled

TEXT = {"type": "string"}
A = {"properties": {"a": TEXT}}
B = {"properties": {"b": TEXT}}


@pytest.mark.parametrize(
    ("document", "value", "valid"),
    [
        (A, {"a": "x"}, True),
        (A, {"a": "x", "b": "y"}, False),
        ({**A, "additionalProperties": True}, {"b": 1}, True),
        ({**A, "unevaluatedProperties": TEXT}, {"b": "y"}, True),
        ({**A, "unevaluatedProperties": TEXT}, {"b": 1}, False),
        ({"type": "object"}, {"a": 1}, False),
        ({"type": ["object", "null"]}, {}, True),
        ({}, {"a": 1}, True),
        ({"type": "string"}, "x", True),
        ({"patternProperties": {"^x": TEXT}}, {"x1": "t"}, True),
        ({"patternProperties": {"^x": TEXT}}, {"y1": "t"}, False),
        ({"properties": {"in": A}}, {"in": {"b": "y"}}, False),
        ({"items": A}, [{"a": "x"}, {"b": "y"}], False),
        ({"prefixItems": [A], "items": B}, [{"a": "x"}, {"b": "y"}], True),
        ({"prefixItems": [A], "items": B}, [{"a": "x"}, {"a": "y"}], False),
        ({"additionalProperties": A}, {"n": {"b": 1}}, False),
        ({"allOf": [A, B]}, {"a": "x", "b": "y"}, True),
        ({"allOf": [A, B]}, {"a": "x", "c": "y"}, False),
        ({"allOf": [A, {**B, "additionalProperties": True}]}, {"a": "x", "c": "y"}, True),
        ({"anyOf": [A, B]}, {"c": 1}, False),
        ({"anyOf": [A, B]}, {"b": "y"}, True),
        ({"anyOf": [A, B]}, {"a": "x", "b": "y"}, False),
        ({"anyOf": [A, B], "properties": {"c": {}}}, {"a": "x", "b": "y", "c": 1}, True),
        ({"oneOf": [A, B], "type": "object"}, {"a": "x"}, True),
        ({"oneOf": [A, {}]}, {"z": 1}, True),
        ({"anyOf": [{"type": "string"}, A]}, "x", True),
        ({"anyOf": [{"type": "string"}, A]}, {"c": 1}, False),
        ({"anyOf": [{"const": {"z": 1}}, A]}, {"z": 1}, True),
        ({"anyOf": [{"const": {"z": 1}}, A]}, {"y": 1}, False),
        ({"enum": [{"z": 1}]}, {"z": 1}, True),
        ({"not": {"required": ["a"]}}, {"b": 1}, True),
        ({**A, "if": {"required": ["a"]}, "then": B}, {"a": "x", "b": "y"}, True),
        ({**A, "if": {"required": ["a"]}, "then": B}, {"b": "y"}, False),
        ({"dependentSchemas": {"a": B}, **A}, {"a": "x", "b": "y"}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}, **B}, {"a": "x", "b": "y"}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}, **B}, {"a": "x", "c": "y"}, False),
        ({"contains": {"properties": {"a": {"const": 1}}}}, [{"a": 1, "b": 2}], True),
    ],
)
def test_names_that_are_not_declared_are_refused(document: Any, value: Any, valid: bool) -> None:
    """What describes an object takes the names that it declares, composed or not, and others only if it says so."""
    assert problems_of(document) == []
    assert compiled(document).is_valid(value) is valid


def test_a_test_looks_at_a_part_only() -> None:
    """Nothing is closed inside if, at any depth, whether it stands there or is referred to."""
    place = {"properties": {"land": TEXT, "town": TEXT}}
    german = {"properties": {"place": {"properties": {"land": {"const": "de"}}}}}
    for test in (german, {"$ref": "#/$defs/german"}):
        document = {
            "properties": {"place": place, "zip": TEXT},
            "if": test,
            "then": {"required": ["zip"]},
            "$defs": {"german": german},
        }
        validator = compiled(document)
        assert not validator.is_valid({"place": {"land": "de", "town": "Ulm"}})
        assert validator.is_valid({"place": {"land": "de", "town": "Ulm"}, "zip": "89073"})


def test_a_property_can_be_refined_in_a_composition() -> None:
    """A property that is declared beside alternatives is closed by that declaration, not by the alternatives."""
    document = {
        "properties": {"meta": {"properties": {"kind": TEXT, "name": TEXT}}},
        "oneOf": [
            {"properties": {"meta": {"properties": {"kind": {"const": kind}}}}} for kind in "ab"
        ],
    }
    validator = compiled(document)
    assert validator.is_valid({"meta": {"kind": "a", "name": "n"}})
    assert not validator.is_valid({"meta": {"kind": "a", "other": "n"}})
    assert not validator.is_valid({"meta": {"kind": "c"}})


def test_another_schema_can_be_extended() -> None:
    """A reference to a closed schema of the registry takes its names and those beside it, on each level as declared."""
    base = {"properties": {"a": TEXT, "in": A}}

    def resolve(schema_id: str, version: int | None) -> Referent | None:
        return Referent(schema_id=schema_id, version=version or 3, document=base)

    validator = compiled({"allOf": [{"$ref": "penstock:base"}, B]}, resolve)
    assert validator.is_valid({"a": "x", "b": "y", "in": {"a": "x"}})
    assert not validator.is_valid({"a": "x", "b": "y", "in": {"b": "x"}})
    assert not validator.is_valid({"c": "x"})
    (violation,) = validator.violations({"a": 1, "in": {}})
    assert violation.schema_path == "penstock:base@3#/properties/a/type"


def test_recursion_is_closed_on_every_level() -> None:
    """A schema that refers to itself as a whole is closed at each level that it describes."""
    validator = compiled({"properties": {"next": {"$ref": "#"}, "v": {"type": "integer"}}})
    assert validator.is_valid({"next": {"next": {"v": 1}}})
    assert [each.path for each in validator.violations({"next": {"next": {"w": 1}}})] == [
        "/next/next/w"
    ]


def test_draft_7_means_what_it_says() -> None:
    """Tuples, dependencies and what stands beside a reference mean in the normal form what they mean in draft 7."""
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"type": "integer"}},
        "properties": {
            "pair": {
                "items": [{"$ref": "#/definitions/n", "minimum": 5}],
                "additionalItems": False,
            },
            "a": {},
            "b": {},
        },
        "dependencies": {"a": ["b"], "b": {"required": ["a"]}},
    }
    validator = compiled(document)
    assert validator.is_valid({"pair": [1]})
    assert not validator.is_valid({"pair": [1, 2]})
    assert not validator.is_valid({"pair": ["x"]})
    assert not validator.is_valid({"a": 1})
    assert not validator.is_valid({"b": 1})
    assert validator.is_valid({"a": 1, "b": 1})


def test_references_into_draft_7_keep_their_place() -> None:
    """A pointer into a tuple of draft 7 leads where its author pointed, though the normal form calls it otherwise."""
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {
            "pair": {"items": [{"type": "integer"}]},
            "n": {"$ref": "#/properties/pair/items/0"},
        },
    }
    assert compiled(document).is_valid({"n": 1})
    assert not compiled(document).is_valid({"n": "x"})


def test_the_normal_form_stands_alone() -> None:
    """Only references to its own definitions are left, and what is not used is left out."""
    document = {
        "$id": "urn:x",
        "$defs": {"used": A, "unused": B},
        "properties": {"p": {"$ref": "#/$defs/used"}},
    }
    assert normal_form(document).document() == {
        "properties": {"p": {"$ref": "#/$defs/s1"}},
        "additionalProperties": False,
        "$defs": {"s1": {**A, "additionalProperties": False}},
    }


def test_a_document_is_left_as_it_was() -> None:
    """Building the normal form changes nothing in the document that it is built from."""
    document: dict[str, Any] = {"properties": {"a": {"type": "object"}}, "anyOf": [{"items": A}]}
    before = repr(document)
    normal_form(document)
    assert repr(document) == before


def test_what_is_missing_is_listed() -> None:
    """References that lead nowhere are listed once each, and take anything until somebody resolves them."""
    normal = normal_form({"properties": {n: {"$ref": "penstock:gone#/$defs/x"} for n in "ab"}})
    assert [str(each) for each in normal.missing] == ["penstock:gone#/$defs/x"]
