"""Refusals as values."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from penstock.identity.ids import TenantId
from penstock.registry.dialect import pointer
from penstock.registry.events import StreamId, StreamKind
from penstock.registry.identifiers import (
    address,
    entity_stream,
    named,
    relationship_stream,
    schema_stream,
)
from penstock.registry.problems import (
    Problem,
    ProblemError,
    ProblemKind,
    json_type,
    summary,
)

ACME = TenantId("acme")


def test_a_problem_is_written_down_with_the_members_of_its_standard() -> None:
    """Type, title, status, detail and errors are there, further members beside them, and all of it is JSON."""
    error = ProblemError(path="/a", rule="type", message="has to be text", value_type="integer")
    problem = Problem(
        kind=ProblemKind.SCHEMA_VIOLATION,
        detail="two things",
        errors=(error,),
        more={"schema_version": 3},
    )
    assert json.loads(json.dumps(problem.members())) == {
        "type": "urn:penstock:problem:schema_violation",
        "title": "The attributes break the schema",
        "status": 422,
        "detail": "two things",
        "code": "schema_violation",
        "errors": [
            {
                "path": "/a",
                "rule": "type",
                "message": "has to be text",
                "value_type": "integer",
            }
        ],
        "schema_version": 3,
    }
    assert problem.title == "The attributes break the schema"
    assert problem.status == 422


def test_kinds_have_codes_of_their_own() -> None:
    """No two kinds share a code, and every status is an error of HTTP's."""
    codes = [kind.code for kind in ProblemKind]
    assert len(set(codes)) == len(codes)
    assert all(400 <= kind.status < 600 for kind in ProblemKind)


def test_many_errors_are_one_text_that_says_how_many_it_leaves_out() -> None:
    """A summary lists paths, rules and messages, and counts those over its limit."""
    errors = [ProblemError(path=f"/{n}", rule="r", message="m") for n in range(5)]
    assert summary(errors, most=2) == "/0 (r): m; /1 (r): m; and 3 more"
    assert summary([ProblemError(path="", rule="r", message="m")]) == "/ (r): m"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "integer"),
        (1.5, "number"),
        (Decimal(1), "number"),
        ("", "string"),
        ([], "array"),
        ((), "array"),
        ({}, "object"),
    ],
)
def test_json_types_have_their_names(value: object, name: str) -> None:
    """Each kind of value has the name that JSON Schema gives it."""
    assert json_type(value) == name


def test_pointers_escape_what_they_have_to() -> None:
    """A slash and a tilde in a name are written as pointers write them."""
    assert pointer(["a/b", "~", 0]) == "/a~1b/~0/0"
    assert pointer([]) == ""


def test_a_name_is_refused_with_everything_that_is_wrong_with_it() -> None:
    """Bad source, type and key are all said at once."""
    refused = entity_stream(ACME, "1table", "", source="No Source")
    assert isinstance(refused, Problem)
    assert refused.status == 400
    assert [error.path for error in refused.errors] == ["/source", "/type", "/key"]


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("", "required"),
        ("x" * 4097, "maxLength"),
        ("é" * 2049, "maxLength"),
        ("a\nb", "pattern"),
        ("a\0", "pattern"),
        ("\x85", "pattern"),
        ("\ud800", "pattern"),
    ],
)
def test_a_key_has_a_length_and_no_control_characters(key: str, rule: str) -> None:
    """Keys are counted in bytes of UTF-8, and hold nothing that no eye sees."""
    refused = relationship_stream(ACME, "reads", "a", key)
    assert isinstance(refused, Problem)
    assert [(error.path, error.rule) for error in refused.errors] == [("/to_key", rule)]


def test_a_key_may_be_nearly_anything_else() -> None:
    """Slashes, spaces, quotes and any script are fine, up to the limit."""
    for key in ("a/b", "a b", "'\"%?#", "表", "x" * 4096):
        stream = entity_stream(ACME, "table", key)
        assert isinstance(stream, StreamId)
        assert (stream.key, stream.source_id) == (key, "api")


def test_streams_have_names_in_messages_and_in_json() -> None:
    """A stream is named by kind where that is not plain, type, key, and source unless it is the API's."""
    entity = entity_stream(ACME, "table", "a", source="crm")
    edge = relationship_stream(ACME, "reads", "a", "b")
    assert isinstance(entity, StreamId)
    assert isinstance(edge, StreamId)
    assert named(entity) == "table 'a' of source crm"
    assert named(edge) == "relationship reads 'a' -> 'b'"
    assert named(schema_stream(ACME, "table")) == "schema 'table'"
    assert address(entity) == {"kind": "entity", "source": "crm", "type": "table", "key": "a"}
    assert address(edge)["to_key"] == "b"
    assert schema_stream(ACME, "table").kind is StreamKind.SCHEMA
