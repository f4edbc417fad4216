"""What a new version may change under each promise, and what is said of what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.registry.compatibility import Compatibility, check, compatible
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_references import Referent

BACKWARD, FORWARD, FULL = Compatibility.BACKWARD, Compatibility.FORWARD, Compatibility.FULL
TEXT: dict[str, Any] = {"type": "string"}
INT: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}


def of(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object."""
    return {"type": "object", "properties": properties}


def kind(name: str, **properties: Any) -> dict[str, Any]:
    """Return one alternative of a union that a name tells apart."""
    return {**of(kind={"const": name}, **properties), "required": ["kind"]}


NODE = {"$ref": "#/$defs/n", "$defs": {"n": of(next={"$ref": "#/$defs/n"}, v=INT)}}
WIDER_NODE = {"$ref": "#/$defs/m", "$defs": {"m": of(next={"$ref": "#/$defs/m"}, v=NUMBER, w=TEXT)}}


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (of(a=TEXT), of(a=TEXT, b=INT)),
        ({**of(a=TEXT), "required": ["a"]}, of(a=TEXT)),
        (of(a=TEXT), {**of(a=TEXT), "additionalProperties": True}),
        (INT, NUMBER),
        (TEXT, {"type": ["string", "null"]}),
        ({"type": ["null", "string"]}, {"anyOf": [TEXT, {"type": "null"}]}),
        ({"anyOf": [TEXT, {"type": "null"}]}, {"type": ["null", "string"]}),
        ({"enum": ["a", "b"]}, {"enum": ["b", "c", "a"]}),
        ({"enum": ["a", "b"]}, TEXT),
        ({"const": 3}, {**INT, "minimum": 3}),
        ({"type": "boolean"}, {"enum": [True, False, None]}),
        ({**INT, "minimum": 2, "maximum": 5}, {**INT, "exclusiveMinimum": 1, "exclusiveMaximum": 6}),
        ({**INT, "multipleOf": 6}, {**NUMBER, "multipleOf": 1.5}),
        ({**TEXT, "minLength": 2, "maxLength": 3}, {**TEXT, "minLength": 1, "maxLength": 9}),
        ({**TEXT, "pattern": "^a", "format": "uri"}, {**TEXT, "pattern": "^a"}),
        ({"type": "array", "items": INT, "maxItems": 3}, {"type": "array", "items": NUMBER}),
        ({"prefixItems": [TEXT], "items": False, "type": "array"}, {"type": "array", "items": TEXT, "maxItems": 1}),
        ({"type": "array", "maxItems": 1}, {"type": "array", "uniqueItems": True}),
        ({"type": "array", "contains": INT}, {"type": "array", "contains": INT}),
        ({**of(a=TEXT), "required": ["a"]}, {**of(a=TEXT), "minProperties": 1}),
        (of(a=TEXT), {**of(a=TEXT), "maxProperties": 1}),
        (of(ab=TEXT), {"type": "object", "patternProperties": {"^a": TEXT}}),
        (of(ab=TEXT), {**of(ab=TEXT), "propertyNames": {"maxLength": 2}}),
        ({**of(a=INT, b=INT), "required": ["b"]}, {**of(a=INT, b=INT), "dependentRequired": {"a": ["b"]}}),
        ({"allOf": [of(a=TEXT), of(b=INT)]}, of(a=TEXT, b=INT)),
        (of(a=TEXT, b=INT), {"allOf": [of(a=TEXT), of(b=INT)]}),
        ({"oneOf": [kind("x", a=INT), kind("y")]}, {"oneOf": [kind("x", a=NUMBER), kind("y"), kind("z")]}),
        (kind("x", a=INT), {"oneOf": [kind("x", a=INT), kind("y", a=TEXT)]}),
        ({"oneOf": [kind("x", a=INT), kind("y", b=TEXT)]}, of(kind=TEXT, a=INT, b=TEXT)),
        (INT, {"not": TEXT}),
        (
            {**of(a=TEXT, b=INT), "if": {"required": ["a"]}, "then": {"required": ["b"]}},
            {**of(a=TEXT, b=NUMBER), "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        ),
        ({**of(a=INT), "dependentSchemas": {"a": of(b=TEXT)}}, of(a=INT, b=TEXT)),
        (NODE, WIDER_NODE),
        (NODE, {"$ref": "#/$defs/renamed", "$defs": {"renamed": of(next={"$ref": "#/$defs/renamed"}, v=INT)}}),
        ({**of(a=TEXT), "description": "old", "title": "T"}, {**of(a=TEXT), "description": "new"}),
        (False, TEXT),
        (TEXT, True),
    ],
)  # fmt: skip
def test_what_only_takes_more_is_backward_compatible(narrow: Any, wide: Any) -> None:
    """Data of the narrower stay valid under the wider, and so the other way round for those who read."""
    old, new = ({"properties": {"v": each}, **_lifted(each)} for each in (narrow, wide))
    assert problems_of(old) == problems_of(new) == []
    assert compatible(BACKWARD, new, old) == []
    assert compatible(FORWARD, old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "path", "rule"),
    [
        (of(a=TEXT), {**of(a=TEXT), "required": ["a"]}, "/v/a", "required"),
        (of(a=TEXT, b=INT), of(a=TEXT), "/v/b", "additionalProperties"),
        ({**of(a=TEXT), "additionalProperties": True}, of(a=TEXT), "/v/*", "additionalProperties"),
        ({**of(), "additionalProperties": True}, {**of(b=TEXT), "additionalProperties": True}, "/v/b", "type"),
        (NUMBER, INT, "/v", "type"),
        ({"type": ["string", "null"]}, TEXT, "/v", "type"),
        (TEXT, {"enum": ["a"]}, "/v", "enum"),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, "/v", "enum"),
        (TEXT, {"const": "a"}, "/v", "const"),
        (INT, {**INT, "minimum": 1}, "/v", "minimum"),
        ({**INT, "maximum": 9}, {**INT, "maximum": 8}, "/v", "maximum"),
        ({**NUMBER, "minimum": 1}, {**NUMBER, "exclusiveMinimum": 1}, "/v", "exclusiveMinimum"),
        ({**NUMBER, "maximum": 1}, {**NUMBER, "exclusiveMaximum": 1}, "/v", "exclusiveMaximum"),
        (INT, {**INT, "multipleOf": 2}, "/v", "multipleOf"),
        (TEXT, {**TEXT, "minLength": 1}, "/v", "minLength"),
        (TEXT, {**TEXT, "maxLength": 1}, "/v", "maxLength"),
        (TEXT, {**TEXT, "pattern": "^a"}, "/v", "pattern"),
        ({**TEXT, "pattern": "^ab"}, {**TEXT, "pattern": "^a"}, "/v", "pattern"),
        (TEXT, {**TEXT, "format": "uuid"}, "/v", "format"),
        ({"items": NUMBER, "type": "array"}, {"items": INT, "type": "array"}, "/v/*", "type"),
        ({"items": INT, "type": "array"}, {"prefixItems": [TEXT], "items": INT, "type": "array"}, "/v/0", "type"),
        ({"type": "array"}, {"type": "array", "minItems": 1}, "/v", "minItems"),
        ({"type": "array"}, {"type": "array", "maxItems": 1}, "/v", "maxItems"),
        ({"type": "array"}, {"type": "array", "uniqueItems": True}, "/v", "uniqueItems"),
        ({"type": "array"}, {"type": "array", "contains": INT}, "/v", "contains"),
        (of(a=TEXT), {**of(a=TEXT), "minProperties": 1}, "/v", "minProperties"),
        (of(a=TEXT, b=TEXT), {**of(a=TEXT, b=TEXT), "maxProperties": 1}, "/v", "maxProperties"),
        (of(a=TEXT), {**of(a=TEXT), "propertyNames": {"minLength": 2}}, "/v/a", "propertyNames"),
        (of(a=TEXT, b=INT), {**of(a=TEXT, b=INT), "dependentRequired": {"a": ["b"]}}, "/v/b", "dependentRequired"),
        (of(ab=INT), {"type": "object", "patternProperties": {"^a": TEXT}}, "/v/ab", "type"),
        (TEXT, {"not": {"const": "x"}}, "/v", "cannot be proven"),
        (of(a=TEXT), {**of(a=TEXT, b=INT), "if": {"required": ["a"]}, "then": {"required": ["b"]}}, "/v/b", "required"),
        (of(a=INT), {**of(a=INT), "dependentSchemas": {"a": {"required": ["b"]}}}, "/v/b", "required"),
        ({"oneOf": [kind("x", a=INT), kind("y")]}, {"oneOf": [kind("x", a=TEXT), kind("y")]}, "/v/a", "type"),
        ({"oneOf": [kind("x"), kind("y")]}, kind("x"), "/v/kind", "const"),
        (INT, {"oneOf": [INT, NUMBER]}, "/v", "cannot be proven"),
        ({"allOf": [of(a=TEXT), of(b=INT)]}, of(a=TEXT), "/v/b", "additionalProperties"),
        (of(a=TEXT, b=INT), {"allOf": [of(a=TEXT), {"description": "nothing"}]}, "/v/b", "unevaluatedProperties"),
        (TEXT, False, "/v", "additionalProperties"),
        (True, TEXT, "/v", "type"),
        ({"enum": [1]}, {"enum": [True]}, "/v", "enum"),
        (WIDER_NODE, NODE, "/v/v", "type"),
    ],
)  # fmt: skip
def test_what_takes_less_is_refused_with_its_place(
    old: Any, new: Any, path: str, rule: str
) -> None:
    """Each restriction is named by the path of the values, the rule, and a remedy."""
    before, after = ({"properties": {"v": each}, **_lifted(each)} for each in (old, new))
    assert problems_of(before) == problems_of(after) == []
    found = compatible(BACKWARD, after, before)
    assert (path, rule) in {(each.path, each.rule) for each in found}
    assert all(each.message and each.remedy for each in found)


def _lifted(schema: Any) -> dict[str, Any]:
    """Return definitions at the root, where references look for them."""
    return {"$defs": schema["$defs"]} if isinstance(schema, dict) and "$defs" in schema else {}


def test_a_doubt_names_the_versions_and_what_to_write() -> None:
    """The message says which version takes what, and the remedy is about the version that can still change."""
    narrow, wide = {**of(a=TEXT), "required": ["a"]}, of(a=TEXT)
    (backward,) = compatible(BACKWARD, narrow, wide)
    assert backward.message == "version 2 requires the name 'a', and version 1 may lack it"
    assert backward.remedy == "make the name optional in the new version"
    (forward,) = compatible(FORWARD, wide, narrow)
    assert forward.message == "version 1 requires the name 'a', and version 2 may lack it"
    assert forward.remedy == "require the name in the new version, too"
    assert (backward.direction, forward.direction) == (BACKWARD, FORWARD)


def test_every_place_is_named_at_once() -> None:
    """Several restrictions are all in the answer."""
    found = compatible(BACKWARD, of(a=INT, b={**TEXT, "maxLength": 3}), of(a=TEXT, b=TEXT, c=TEXT))
    assert {(each.path, each.rule) for each in found} == {
        ("/a", "type"),
        ("/b", "maxLength"),
        ("/c", "additionalProperties"),
    }


@pytest.mark.parametrize("mode", Compatibility)
def test_modes_promise_to_whom_they_say(mode: Compatibility) -> None:
    """A mode checks one or both directions, against the version that is replaced or all of them."""
    versions = [
        Referent(schema_id="s", version=n, document=document)
        for n, document in enumerate((of(a=TEXT), of(a=TEXT, b=TEXT), of(a=TEXT, b=TEXT)), 1)
    ]
    found = {
        (each.direction, each.against_version) for each in check(mode, versions[2], versions[:2])
    }
    expected = {(FORWARD, 1)} if mode.forward and mode.transitive else set()
    assert found == expected
    lost = Referent(schema_id="s", version=4, document=of(b=TEXT))
    found = {(each.direction, each.against_version) for each in check(mode, lost, versions[:2])}
    against = {1, 2} if mode.transitive else {2}
    expected = {(BACKWARD, n) for n in against} if mode.backward else set()
    if mode.forward and mode.transitive:
        expected |= {(FORWARD, 1)}
    assert found == expected


def test_a_first_version_promises_nothing() -> None:
    """Without an earlier version there is nothing to break."""
    assert check(FULL, Referent(schema_id="s", version=1, document=of()), []) == []


def test_referenced_schemas_are_compared_by_what_they_are_pinned_to() -> None:
    """A version whose reference is pinned to a wider version of another schema is compared through it."""
    people = {1: of(name=TEXT), 2: of(name=TEXT, age=INT)}

    def resolve(schema_id: str, version: int | None) -> Referent | None:
        assert version is not None
        return Referent(schema_id=schema_id, version=version, document=people[version])

    first, second = (
        Referent(
            schema_id="team",
            version=n,
            document={"properties": {"lead": {"$ref": "penstock:person"}}},
            pins={"person": n},
        )
        for n in (1, 2)
    )
    assert check(BACKWARD, second, [first], resolve) == []
    (found,) = check(FORWARD, second, [first], resolve)
    assert (found.path, found.rule) == ("/lead/age", "additionalProperties")


def test_a_comparison_that_would_not_end_is_given_up() -> None:
    """Schemas that make too many cases are answered with a doubt, in bounded time."""

    def tangled(n: int) -> dict[str, Any]:
        branch = {"properties": {f"p{n}{k}": {"$ref": f"#/$defs/d{k}"} for k in range(6)}}
        return {"anyOf": [branch, {"properties": {f"q{n}": INT}, "required": [f"q{n}"]}]}

    def document(number: dict[str, Any]) -> dict[str, Any]:
        leaf = {"anyOf": [number, {"$ref": "#/$defs/d0"}]}
        return {
            "$ref": "#/$defs/d0",
            "$defs": {f"d{n}": {**tangled(n), "properties": {"leaf": leaf}} for n in range(6)},
        }

    found = compatible(BACKWARD, document({**INT, "minimum": 2}), document(INT))
    assert found != []
