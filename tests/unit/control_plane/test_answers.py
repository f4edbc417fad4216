"""Values as JSON: what ``--json`` prints."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from control_plane.answers import manifest_schema, plain, to_json, versions
from penstock.batch.rows import Kind
from penstock.plan.ledger import LedgerRow
from penstock.publish.queue import Score


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-02T01:04:05Z",
        ),
        (datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC), "2026-01-02T03:04:05.600000Z"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00"),  # noqa: DTZ001  a naive moment is a value of its own
        (date(2026, 1, 2), "2026-01-02"),
        (b"\x00\xff", "AP8="),
        (Decimal("1.50"), "1.50"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1.5, 1.5),
        (True, True),
        (2**70, 2**70),
        (None, None),
        (Kind.ENTITY, "entities"),
        ((1, ("a",)), [1, ["a"]]),
        ({Kind.ENTITY: {"x": b""}}, {"entities": {"x": ""}}),
    ],
)
def test_every_kind_of_value_has_a_json_form(value: Any, expected: Any) -> None:
    """Moments are UTC, bytes base64, numbers that JSON lacks are text; everything else is itself."""
    assert plain(value) == expected
    assert json.loads(to_json({"value": value})) == {"value": expected}


def test_values_of_the_domain_are_objects() -> None:
    """Dataclasses become objects by field; a ledger row says whether it balances."""
    score = Score(age=1.0, importance=2.0, complexity=-0.5, boost=0.0)
    parts = {"age": 1.0, "importance": 2.0, "complexity": -0.5, "boost": 0.0}
    assert plain(score) == {**parts, "deadline": 0.0, "rules": []}
    row = LedgerRow(kind=Kind.ENTITY, type_name="person", extracted=2, created=1)
    assert plain(row)["balanced"] is False


def test_text_of_any_script_stays_readable() -> None:
    """Non-ASCII text is not escaped."""
    assert "Übergröße 東京" in to_json({"name": "Übergröße 東京"})


def test_the_schema_of_a_manifest_demands_what_a_manifest_must_have() -> None:
    """The published schema is that of the model, required fields and all."""
    schema = manifest_schema()
    assert schema["additionalProperties"] is False
    assert {"source_id", "source_timestamp", "processing_timestamp", "mode"} <= set(
        schema["required"]
    )


def test_versions_name_everything_that_stored_forms_follow() -> None:
    """The version answer has the package's and those of manifest, canonical encoding and index."""
    assert set(versions()) == {
        "penstock",
        "python",
        "manifest_schema",
        "canonical_encoding",
        "index_format",
    }
