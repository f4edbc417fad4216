"""What is read off rows, and what is not."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pytest

from penstock.registry.inference import MAX_DEPTH, MAX_NAMES, MAX_PLACES, Inference, infer
from penstock.registry.schema_commands import define, validate
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_validation import compiled
from penstock.registry.schemas import SchemaStatus
from tests.fixtures.clock import FixedClock


def of(values: list[Any]) -> Any:
    """Return what is proposed for one name that has these values."""
    return infer(({"v": each} for each in values), "T").document["properties"]["v"]


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        (["a", "b"], {"type": "string"}),
        ([1, 2], {"type": "integer"}),
        ([1, 2.5], {"type": "number"}),
        ([1, None], {"type": ["integer", "null"]}),
        ([True, "x"], {"type": ["boolean", "string"]}),
        ([None], {"type": "null"}),
        (["2026-11-21"], {"type": "string", "format": "date"}),
        (["2026-11-21T10:00:00Z"], {"type": "string", "format": "date-time"}),
        (["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], {"type": "string", "format": "uuid"}),
        (["https://example.com/a"], {"type": "string", "format": "uri"}),
        (["table:a"], {"type": "string"}),
        (["2026-11-21", "soon"], {"type": "string"}),
        ([[1], [2.5], []], {"type": "array", "items": {"type": "number"}}),
        ([[]], {"type": "array"}),
        ([float("nan"), 1.0], True),
    ],
)
def test_types_and_formats_are_read_off(values: list[Any], schema: Any) -> None:
    """Types, null, formats and items follow from the values; bounds do not."""
    assert of(values) == schema


def test_few_texts_that_occur_often_are_an_enum() -> None:
    """Twenty different texts or fewer, each seen ten times on average, are listed; seldom ones are not."""
    assert of(["on", "off"] * 25) == {"type": "string", "enum": ["off", "on"]}
    assert of(["on", None] * 50) == {"type": ["null", "string"], "enum": ["on", None]}
    assert of(["on", "off"] * 24) == {"type": "string"}
    assert of([str(n) for n in range(20)] * 9) == {"type": "string"}
    assert of([str(n) for n in range(21)] * 20) == {"type": "string"}


def test_names_of_every_object_are_required() -> None:
    """A name that each row has is required, also within rows; one that is missing somewhere is not."""
    rows = [
        {"a": 1, "in": {"x": 1}},
        {"a": 2, "in": {"x": 2, "y": 3}},
        {"a": 3, "b": 1, "in": {"x": 0}},
    ]
    document = infer(rows, "T").document
    assert document["required"] == ["a", "in"]
    assert document["properties"]["in"]["required"] == ["x"]


def test_a_proposal_says_that_it_is_one_and_what_was_seen() -> None:
    """The document is marked, and statistics tell by place how much was seen of what."""
    proposal = infer([{"a": "x", "tags": ["p", "q"]}, {"tags": []}], "Thing")
    assert (proposal.document["title"], proposal.document["x-proposal"]) == ("Thing", {"rows": 2})
    seen = proposal.statistics
    assert set(seen) == {"", "/a", "/tags", "/tags/*"}
    assert (seen["/a"].seen, seen["/a"].share, seen["/a"].distinct) == (1, 0.5, 1)
    assert seen["/tags/*"].kinds == {"string": 2}


def test_a_proposal_can_be_defined(clock: FixedClock) -> None:
    """What is proposed is a valid schema as it stands."""
    schema = define(infer([{"a": 1}], "Thing").document, by="ada", now=clock.now())
    assert validate(schema, by="ada", now=clock.now()).status is SchemaStatus.VALID


def test_nothing_seen_proposes_an_empty_object() -> None:
    """Without rows, and without names, what is proposed is an object."""
    assert infer([], "T").document["type"] == "object"
    assert problems_of(infer([{}], "T").document) == []


def test_rows_of_a_column_are_read_as_json() -> None:
    """A column of texts, in chunks, with nulls, is read row by row."""
    column = pa.chunked_array([[orjson.dumps({"a": 1}).decode(), None], ['{"a": null}']])
    inference = Inference()
    inference.add_texts(column)
    assert inference.proposal("T").document["properties"] == {"a": {"type": ["integer", "null"]}}


@pytest.mark.parametrize("row", [
    {f"n{n}": n for n in range(MAX_NAMES + 1)},
    {str(a): {str(b): 1 for b in range(100)} for a in range(MAX_PLACES // 50)},
])  # fmt: skip
def test_very_many_names_are_left_open(row: dict[str, Any]) -> None:
    """Names beyond the limit, of one object or of all, are data: the object takes any, and the schema stays small."""
    document = infer([row, {"more": 1}], "T").document
    assert problems_of(document) == []
    assert compiled(document).is_valid(row)


def test_very_deep_rows_are_left_open_below() -> None:
    """Nesting beyond what a schema may have is not described."""
    row: dict[str, Any] = {}
    for _ in range(MAX_DEPTH * 3):
        row = {"a": [row]}
    document = infer([row], "T").document
    assert problems_of(document) == []
    assert compiled(document).is_valid(row)
