"""The OpenAPI 3.1 description, made once from the routes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from control_plane.registry.documents import ErrorDocument, ProblemDocument

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
_LINKED = {
    "create_entity": ("read_entity", "patch_entity", "delete_entity", "read_entity_history"),
    "create_relationship": ("read_relationship", "patch_relationship", "delete_relationship"),
    "define_schema": ("read_schema", "validate_schema", "activate_schema"),
}
"""Operations, and those that go on with what they made: links of OpenAPI."""
_PARAMETERS = {
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


def described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the description, and returns the same one ever after."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    return describe


def _described(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Penstock registry",
        version=metadata.version("penstock"),
        openapi_version="3.1.0",
        description=ABOUT,
        routes=app.routes,
        tags=TAGS,
    )
    schemas = document["components"]["schemas"]
    template = "#/components/schemas/{model}"
    for model in (ProblemDocument, ErrorDocument):
        made = model.model_json_schema(ref_template=template)
        made.pop("$defs", None)
        schemas[model.__name__] = made
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    operations = {each["operationId"]: each for each in _operations(document)}
    for operation in operations.values():
        _without_nulls(operation)
        _without_fastapis_own(operation)
    _link(operations)
    return document


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _without_fastapis_own(operation: dict[str, Any]) -> None:
    """Take out the validation errors that FastAPI declares and that are answered as problems of 400 here."""
    declared = operation["responses"].get("422", {})
    if "HTTPValidationError" in str(declared.get("content")):
        del operation["responses"]["422"]


def _without_nulls(operation: dict[str, Any]) -> None:
    """Take null out of parameters that may be left out: in an address or a header there is no such value."""
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        kept = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
        if len(kept) == 1:
            del schema["anyOf"]
            parameter["schema"] = {**kept[0], **schema}


def _link(operations: dict[str, dict[str, Any]]) -> None:
    for name, others in _LINKED.items():
        if name not in operations:
            continue
        links = operations[name]["responses"]["201"].setdefault("links", {})
        for other in others:
            taken = {each["name"] for each in operations[other].get("parameters", [])}
            links[other] = {
                "operationId": other,
                "parameters": {
                    parameter: value
                    for parameter, value in _PARAMETERS[name].items()
                    if parameter.rpartition(".")[2] in taken
                },
            }
