"""Schemas and relationship types over HTTP: their life, what they refuse, and trying one out."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.registry.client import RegistryClient
from control_plane.registry.client_problems import (
    Forbidden,
    InTheWay,
    NotThere,
    NotValid,
)
from tests.fixtures.registry_server import Registry

TABLE: dict[str, Any] = {
    "title": "Table",
    "type": "object",
    "properties": {"owner": {"type": "string"}, "rows": {"type": "integer", "minimum": 0}},
    "required": ["owner"],
}


def active(client: RegistryClient, document: dict[str, Any]) -> str:
    """Bring a new schema to its first version and return its id."""
    made = client.schemas.define(document)
    client.schemas.act("validate", made.schema_id)
    return client.schemas.act("activate", made.schema_id).schema_id


def with_property(name: str, **schema: Any) -> dict[str, Any]:
    """The table's schema with one more property."""
    return {**TABLE, "properties": {**TABLE["properties"], name: schema}}


def test_a_schema_goes_from_a_draft_to_a_version(registry: Registry) -> None:
    """Defined, validated, activated: each step says where it stands, and the version never changes."""
    client = registry.client("schema_admin")
    made = client.schemas.define(TABLE, reason="first")
    assert (made.schema_id, made.status, made.active_version) == ("table", "draft", None)
    assert client.schemas.act("validate", "table").status == "valid"
    done = client.schemas.act("activate", "table", reason="agreed")
    assert (done.status, done.active_version, done.versions) == ("active", 1, 1)
    (version,) = client.schemas.versions("table")
    assert (version.document, version.reason, version.created_by) == (TABLE, "agreed", "ada")
    assert client.schemas.export("table", 1) == TABLE
    bundled = client.schemas.export("table", 1, bundled=True)
    assert (bundled["title"], bundled["required"]) == ("Table", ["owner"])
    assert next(event.action for event in client.schemas.history("table")) == "create"
    assert [schema.schema_id for schema in client.schemas.list(status="active")] == ["table"]
    for whole in (False, True):
        with pytest.raises(NotThere, match="no version 2"):
            client.schemas.export("table", 2, bundled=whole)
    with pytest.raises(InTheWay, match="illegal_step"):
        client.schemas.act("activate", "table")


def test_a_draft_that_is_no_schema_says_why(registry: Registry) -> None:
    """What is wrong with a draft is kept with it, by path."""
    client = registry.client("schema_admin")
    client.schemas.define({**TABLE, "properties": {"owner": {"type": "strnig"}}})
    looked_at = client.schemas.act("validate", "table")
    assert looked_at.status == "invalid"
    assert looked_at.problems[0].path.startswith("/properties/owner")
    with pytest.raises(NotValid, match="invalid_schema"):
        client.schemas.define({"type": "object"})


def test_entities_are_held_to_the_active_version(registry: Registry) -> None:
    """Everything that is wrong with attributes is said at once, and what is right keeps the version's number."""
    admin, writer = registry.client("schema_admin"), registry.client()
    type_name = active(admin, TABLE)
    with pytest.raises(NotValid) as refused:
        writer.create_entity(type_name, "orders", {"rows": -1, "colour": "red"})
    errors = {(error.path, error.rule) for error in refused.value.problem.errors}
    assert {path for path, _ in errors} >= {"", "/rows"} or len(errors) == 3
    assert len(errors) == 3
    assert writer.create_entity(type_name, "orders", {"owner": "ada"}).schema_version == 1


def test_a_schema_evolves_as_its_mode_allows(registry: Registry) -> None:
    """A change that breaks what is there is refused with a remedy, on trial and in earnest; another goes through."""
    client = registry.client("schema_admin")
    active(client, TABLE)
    stricter = {**with_property("steward", type="string"), "required": ["owner", "steward"]}
    trial = client.schemas.try_out("table", stricter)
    assert (trial.compatible, trial.mode) == (False, "backward")
    assert trial.incompatibilities[0].remedy
    assert client.schemas.try_out("table", stricter, compatibility="none").compatible
    renamed = client.schemas.try_out("table", {**TABLE, "title": "Other"})
    assert renamed.problems[0].path == "/title"
    client.schemas.act("revise", "table")
    client.schemas.edit("table", stricter, etag="*")
    client.schemas.act("validate", "table")
    with pytest.raises(InTheWay, match="incompatible_schema"):
        client.schemas.act("activate", "table")
    client.schemas.act("revise", "table")
    client.schemas.edit("table", with_property("steward", type="string"), etag="*")
    client.schemas.act("validate", "table")
    assert client.schemas.act("activate", "table").active_version == 2
    client.schemas.configure("table", "none")
    assert client.schemas.to_version("point", "table", 1).active_version == 1
    client.schemas.act("deactivate", "table")
    assert client.schemas.to_version("reactivate", "table", None).status == "active"
    client.schemas.act("deactivate", "table")
    assert client.schemas.act("mark-for-deletion", "table").status == "marked_for_deletion"
    assert client.schemas.act("restore", "table").status == "draft"


def test_relationship_types_are_declared(registry: Registry) -> None:
    """A declared type holds for what is written, and is replaced and taken away by its ETag."""
    admin, writer = registry.client("schema_admin"), registry.client()
    declared = {"from_types": ["table"], "to_types": ["person"], "cardinality": "many_to_one"}
    made = admin.relationship_types.declare("owned_by", declared)
    assert (made.cardinality, made.from_types) == ("many_to_one", ["table"])
    for type_name, key in (("table", "t"), ("person", "p"), ("person", "q")):
        writer.create_entity(type_name, key, {})
    writer.create_relationship("owned_by", "t", "p")
    with pytest.raises(NotValid, match="relationship_violation"):
        writer.create_relationship("owned_by", "t", "q")
    with pytest.raises(NotValid, match="relationship_violation"):
        writer.create_relationship("owned_by", "p", "q")
    with pytest.raises(InTheWay):
        admin.relationship_types.remove("owned_by")
    writer.delete_relationship("owned_by", "t", "p")
    anew = admin.relationship_types.declare("owned_by", {}, etag=made.etag)
    assert anew.cardinality == "many_to_many"
    assert [each.name for each in admin.relationship_types.list()] == ["owned_by"]
    assert admin.relationship_types.remove("owned_by").deleted["key"] == "owned_by"
    with pytest.raises(NotThere):
        admin.relationship_types.read("owned_by")


def test_writers_do_not_change_schemas(registry: Registry) -> None:
    """Schemas and relationship types take their own role; reading them takes none but a reader's."""
    writer, reader = registry.client("writer"), registry.client("reader")
    with pytest.raises(Forbidden, match="takes the role schema_admin"):
        writer.schemas.define(TABLE)
    with pytest.raises(Forbidden):
        writer.relationship_types.declare("owned_by", {})
    active(registry.client("schema_admin"), TABLE)
    assert reader.schemas.read("table").active_version == 1
    assert reader.schemas.try_out("table", TABLE).compatible


def test_a_schema_is_read_off_rows(registry: Registry) -> None:
    """Every row is valid under what is proposed, and it can be defined as it is, once it is a draft."""
    client = registry.client("schema_admin")
    rows = [{"owner": "ada", "rows": 3}, {"owner": "bob"}]
    proposal = client.schemas.propose("Table", rows)
    assert (proposal.rows, proposal.document["title"]) == (2, "Table")
    assert proposal.document["required"] == ["owner"]
    assert proposal.statistics["/rows"].seen == 1
    assert list(client.schemas.list()) == []
    type_name = active(client, proposal.document)
    for number, row in enumerate(rows):
        assert client.create_entity(type_name, f"t{number}", row).schema_version == 1
