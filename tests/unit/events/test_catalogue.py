"""The catalogue has every event, and what travels is as it says, in both directions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import pytest

from control_plane.event_pages import event_files
from penstock.errors import BadEvent
from penstock.events.catalogue import (
    CATALOGUE,
    HEARD,
    TOLD,
    checked,
    example,
    heard,
    schema_of,
)
from penstock.events.examples import EXAMPLES
from penstock.events.facts import fact_id
from penstock.identity.ids import TenantId

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def test_the_files_are_as_the_catalogue_has_them() -> None:
    """The page and the JSON Schemas are what the code generates, and none is left of an event that is gone."""
    files = event_files()
    assert {name: (REFERENCE / name).read_text() for name in files} == files
    there = {f"events/{file.name}" for file in (REFERENCE / "events").iterdir()}
    assert there == set(files) - {"control_events.md"}


def test_each_type_is_told_or_heard() -> None:
    """Every event has an example and a direction; a worker's status goes both ways."""
    assert set(EXAMPLES) == set(CATALOGUE) == set(TOLD) | set(HEARD)
    assert set(TOLD) & set(HEARD) == {"worker_status_changed"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_the_model_takes_the_schema_takes(name: str) -> None:
    """An example, and what the model writes of it, are valid by the published JSON Schema; an unknown field is not."""
    validator = jsonschema_rs.validator_for(schema_of(name), validate_formats=True)
    data = checked(name, example(name))
    assert validator.is_valid(example(name))
    assert validator.is_valid(json.loads(json.dumps(data.as_json())))
    assert not validator.is_valid({**example(name), "surplus": 1})
    with pytest.raises(BadEvent, match="surplus"):
        checked(name, {**example(name), "surplus": 1})


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_event_is_about_something(name: str) -> None:
    """Every event has a subject, and the same fact makes the same event."""
    event = checked(name, example(name)).as_event(
        tenant_id=TenantId("default"), time=datetime(2026, 1, 1, tzinfo=UTC), fact=("a", 1)
    )
    assert event.subject
    assert event.event_id == fact_id(name, "a", 1) != fact_id(name, "a1")


@pytest.mark.parametrize("name", HEARD)
def test_what_is_heard_is_checked(name: str) -> None:
    """An event that comes in becomes its model; one that lacks a field, or is no object, is refused by name."""
    assert name == heard(name, example(name)).TYPE
    for bad in ({}, [], None, "text"):
        with pytest.raises(BadEvent, match=name):
            heard(name, bad)


def test_what_is_only_told_is_not_heard() -> None:
    """An event of a type that Penstock tells, or of none, is refused when it comes in."""
    for name in ("batch_published", "nonsense"):
        with pytest.raises(BadEvent, match="not heard here"):
            heard(name, {})
