"""What the registry's OpenAPI description says beyond its routes."""

from __future__ import annotations

from control_plane.web.openapi import About

ABOUT = """\
Schemas, entities and relationships, with their whole history.

Every command takes an `Idempotency-Key`; every change of something that is there takes `If-Match` with the ETag that
was seen. Every refusal is a problem document (RFC 9457) that names all that is wrong. What another tenant has is not
found here.
"""
TAGS = [
    {"name": "Entities", "description": "What the registry knows of things."},
    {"name": "Relationships", "description": "What joins them."},
    {"name": "Schemas", "description": "What entities of a type have to look like."},
    {"name": "Relationship types", "description": "What relationships of a type may join."},
    {"name": "Batches", "description": "Many commands at once."},
    {"name": "Ways back", "description": "Restoring and rolling back."},
    {"name": "Stewardship", "description": "Deprecating and vouching."},
    {"name": "History", "description": "What was, and what changed."},
    {"name": "Changes", "description": "Everything that happens, as a feed."},
    {"name": "Overview", "description": "What there is in all."},
    {"name": "Tokens", "description": "Who may ask."},
]
LINKED = {
    "create_entity": ("read_entity", "patch_entity", "delete_entity", "read_entity_history"),
    "create_relationship": ("read_relationship", "patch_relationship", "delete_relationship"),
    "define_schema": ("read_schema", "validate_schema", "activate_schema"),
}
"""Operations, and those that go on with what they made: links of OpenAPI."""
PARAMETERS = {
    "create_entity": {
        "type_name": "$response.body#/type",
        "key": "$response.body#/key",
        "query.source": "$response.body#/source",
        "header.If-Match": "$response.header.ETag",
    },
    "create_relationship": {
        "type_name": "$response.body#/type",
        "from_key": "$response.body#/from_key",
        "to_key": "$response.body#/to_key",
        "query.source": "$response.body#/source",
        "header.If-Match": "$response.header.ETag",
    },
    "define_schema": {
        "schema_id": "$response.body#/schema_id",
        "header.If-Match": "$response.header.ETag",
    },
}
ABOUT_API = About(
    title="Penstock registry", text=ABOUT, tags=TAGS, linked=LINKED, parameters=PARAMETERS
)
