"""Which documents are taken as schemas, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.registry.schema_documents import MAX_BYTES, problems_of
from penstock.registry.schema_references import Referent

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "x-searchable": True},
        "address": {"$ref": "#/$defs/address"},
        "manager": {"$ref": "penstock:person"},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name"],
    "$defs": {
        "address": {"type": "object", "properties": {"zip": {"pattern": "^[0-9]{5}$"}}},
    },
}


def found(document: object) -> set[tuple[str, str]]:
    """Return path and rule of each problem."""
    return {(each.path, each.rule) for each in problems_of(document)}


def nested(depth: int) -> dict[str, Any]:
    """Return a schema with properties within properties."""
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"properties": {"a": document}}
    return document


def test_a_right_schema_has_no_problems() -> None:
    """A schema with references, formats, patterns and notes of its own is taken."""
    assert problems_of(PERSON) == []


def test_all_that_breaks_the_meta_schema_is_said_at_once() -> None:
    """Several faults in different places are each named with their place and rule, each once."""
    document = {
        "type": "strin",
        "properties": {"a": {"minimum": "x", "required": 3}},
        "$defs": {"z": 5},
    }
    assert [(each.path, each.rule) for each in problems_of(document)] == [
        ("/$defs/z", "type"),
        ("/properties/a/minimum", "type"),
        ("/properties/a/required", "type"),
        ("/type", "anyOf"),
    ]


@pytest.mark.parametrize(
    ("document", "path", "rule"),
    [
        (True, "", "type"),
        ([], "", "type"),
        ({1: 2}, "", "json"),
        (nested(40), "", "depth"),
        ({"description": "x" * MAX_BYTES}, "", "size"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "/$schema", "$schema"),
        ({"$schema": 7}, "/$schema", "$schema"),
        ({"$anchor": "here"}, "/$anchor", "$anchor"),
        ({"$dynamicRef": "#here"}, "/$dynamicRef", "$dynamicRef"),
        ({"properties": {"a": {"$id": "urn:a"}}}, "/properties/a/$id", "$id"),
        ({"$ref": "https://example.com/x.json"}, "/$ref", "$ref"),
        ({"$ref": "file:///etc/passwd"}, "/$ref", "$ref"),
        ({"$ref": "penstock:Not An Id"}, "/$ref", "$ref"),
        ({"$ref": "penstock:person@0"}, "/$ref", "$ref"),
        ({"$ref": "#anchor"}, "/$ref", "$ref"),
        ({"$ref": "#/$defs/nobody"}, "/$ref", "$ref"),
        ({"$ref": "#"}, "", "$ref"),
        ({"format": "shoe-size"}, "/format", "format"),
        ({"pattern": "(?=a)b"}, "/pattern", "pattern"),
        ({"pattern": r"(a)\1"}, "/pattern", "pattern"),
        ({"pattern": r"(\d{1,1000}){1,1000}"}, "/pattern", "pattern"),
        ({"pattern": "a" * 1001}, "/pattern", "pattern"),
        ({"patternProperties": {"(": {}}}, "/patternProperties/(", "pattern"),
        ({"requird": ["a"]}, "/requird", "keyword"),
        ({"minlength": 3}, "/minlength", "keyword"),
        ({"additionalItems": False}, "/additionalItems", "additionalItems"),
        ({"$schema": DRAFT_7, "prefixItems": []}, "/prefixItems", "prefixItems"),
        ({"anyOf": [{"type": "string"}] * 2001}, "", "subschemas"),
    ],
)
def test_what_is_not_taken_is_named(document: object, path: str, rule: str) -> None:
    """Each kind of document that is refused has a problem with its place and its rule."""
    assert (path, rule) in found(document)


def test_every_message_says_what_to_do() -> None:
    """A reference to the outside says where to put what it names; nothing is fetched for it."""
    (problem,) = problems_of({"$ref": "https://example.com/x.json"})
    assert "nothing is fetched" in problem.message
    assert "#/$defs/<name>" in problem.message


def test_notes_are_no_slips() -> None:
    """Keywords that are far from any of JSON Schema, or begin with x-, are taken as notes."""
    assert problems_of({"x-requird": 1, "discriminator": {}, "examples": [1], "owner": "me"}) == []


def test_names_of_properties_are_no_keywords() -> None:
    """A property may be called as one likes, as a keyword is too."""
    assert problems_of({"properties": {"requird": {}, "$ref": {}, "pattern": {}, "$id": {}}}) == []


def test_a_circle_that_stays_at_one_value_is_refused() -> None:
    """Definitions that lead to each other without a property between them are a problem, others are not."""
    document = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}}}
    assert ("/$defs/a", "$ref") in found(
        {**document, "$defs": {**document["$defs"], "b": {"$ref": "#/$defs/a"}}}
    )  # type: ignore[dict-item]
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert problems_of(tree) == []


def test_references_that_multiply_are_refused() -> None:
    """Twenty definitions that each refer twice to the next are a million subschemas, and are refused at once."""
    definitions: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(20)
    }
    document = {"$ref": "#/$defs/d0", "$defs": {**definitions, "d20": {"type": "string"}}}
    assert found(document) == {("", "subschemas")}


def test_a_circle_through_another_schema_is_refused() -> None:
    """A reference to another schema that leads straight back is a circle, too."""

    def resolve(schema_id: str, version: int | None) -> Referent | None:
        assert schema_id == "other"
        return Referent(schema_id="other", version=1, document={"$ref": "penstock:other@1"})

    (problem,) = problems_of({"$ref": "penstock:other"}, resolve)
    assert problem.rule == "$ref"
    assert "penstock:other@1" in problem.message


def test_a_tangle_that_would_take_for_ever_to_compile_is_refused() -> None:
    """Definitions that all extend each other are refused before the engine is asked; a few are taken."""

    def tangle(size: int) -> dict[str, Any]:
        def node(n: int) -> dict[str, Any]:
            others = {
                f"p{n}{k}": {"$ref": f"#/$defs/d{k}", "properties": {"more": {}}}
                for k in range(size)
            }
            return {"anyOf": [{"properties": others}, {"required": ["q"]}]}

        return {"$ref": "#/$defs/d0", "$defs": {f"d{n}": node(n) for n in range(size)}}

    assert problems_of(tangle(3)) == []
    assert found(tangle(7)) == {("", "unevaluatedProperties")}


def test_draft_7_is_taken_as_it_is_meant() -> None:
    """A schema of draft 7 with its own keywords and definitions is taken."""
    document = {
        "$schema": DRAFT_7,
        "definitions": {"code": {"type": "string"}},
        "properties": {
            "pair": {"items": [{"$ref": "#/definitions/code"}], "additionalItems": False}
        },
        "dependencies": {"a": ["b"], "c": {"required": ["d"]}},
    }
    assert problems_of(document) == []
