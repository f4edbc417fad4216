"""Values from outside are taken as they were written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from control_plane.web.bodies import Instant
from penstock.publish.priority_rules import Stretch, Weight
from penstock.publish.queue import QueuePolicy
from penstock.strict import Flag, Number, Whole


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Whole, "3"),
        (Whole, True),
        (Whole, 3.5),
        (Number, "1"),
        (Number, False),
        (Number, float("inf")),
        (Flag, 0),
        (Flag, "true"),
        (Instant, 0),
        (Instant, "0.5"),
        (Instant, "2026-11-20"),
        (Instant, "2026-11-20T19:24:14"),
        (Instant, "0001-01-01T00:00:00+01:00"),
        (Weight, 1e7),
        (Stretch, 5e-324),
    ],
)
def test_nothing_is_read_into_what_was_written(kind: Any, value: Any) -> None:
    """A text is no number, a number no flag and no moment, and what would lead to infinity is refused."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (Whole, 3.0, 3),
        (Number, 3, 3.0),
        (Flag, False, False),
        (Instant, "2026-11-20T19:24:14+01:00", datetime(2026, 11, 20, 18, 24, 14, tzinfo=UTC)),
    ],
)
def test_what_is_right_is_taken(kind: Any, value: Any, read: Any) -> None:
    """A number without a fraction is whole, a whole one is a number, and a moment is told in UTC."""
    assert TypeAdapter(kind).validate_python(value) == read


def test_bounds_are_told_to_those_who_ask_for_the_schema() -> None:
    """What is refused by a bound has it in its JSON Schema, for those that may be left out, too."""
    fields = QueuePolicy.model_json_schema()["properties"]
    assert fields["most_lanes_per_target"]["anyOf"][0]["minimum"] == 1
    assert fields["age_weight"]["maximum"] == 1e6
    assert fields["age_unit_s"]["minimum"] == 1e-3
