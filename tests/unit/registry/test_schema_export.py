"""A schema leaves the registry as one document that others read as the registry does."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_export import exported
from penstock.registry.schema_references import Referent
from penstock.registry.schema_validation import compiled

PERSON: dict[str, Any] = {
    "title": "Person",
    "properties": {"name": {"type": "string", "description": "as one is called"}},
}
TEAM: dict[str, Any] = {
    "title": "Team",
    "properties": {"lead": {"$ref": "penstock:person"}, "place": {"$ref": "#/$defs/place"}},
    "$defs": {"place": {"type": "object", "properties": {"town": {"type": "string"}}}},
}


def resolve(schema_id: str, version: int | None) -> Referent | None:
    """Know one schema."""
    return Referent(schema_id="person", version=2, document=PERSON)


def test_references_are_bundled_under_names_that_tell() -> None:
    """Definitions are named after where they were written, and notes are kept."""
    document = exported(TEAM, resolve)
    assert document["properties"] == {
        "lead": {"$ref": "#/$defs/person_2"},
        "place": {"$ref": "#/$defs/place"},
    }
    assert document["$defs"]["person_2"]["properties"] == PERSON["properties"]
    assert document["title"] == "Team"


def test_others_read_it_as_the_registry_does() -> None:
    """A plain validator that knows nothing of the registry agrees on what is valid, closed names included."""
    document = exported(TEAM, resolve)
    assert problems_of(document) == []
    plain = jsonschema_rs.Draft202012Validator(document, offline=True)
    ours = compiled(TEAM, resolve)
    for value in (
        {"lead": {"name": "a"}},
        {"lead": {"nme": "a"}},
        {"other": 1},
        {"place": {"x": 1}},
    ):
        assert plain.is_valid(value) == ours.is_valid(value)


def test_exporting_what_was_exported_changes_nothing() -> None:
    """An export is a schema of its own, and exports as itself."""
    document = exported(TEAM, resolve)
    assert exported(document) == document
