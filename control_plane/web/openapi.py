"""The OpenAPI 3.1 description of a server, made once from its routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from control_plane.web.documents import ErrorDocument, ProblemDocument


@dataclass(frozen=True, kw_only=True)
class About:
    """What a description says beyond the routes."""

    title: str
    text: str
    tags: Sequence[dict[str, str]]
    linked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Operations, and those that go on with what they made: links of OpenAPI."""
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of operations that are linked from: what becomes which parameter of the others."""


def described(app: FastAPI, about: About) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the description, and returns the same one ever after."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, about)
        return app.openapi_schema

    return describe


def _described(app: FastAPI, about: About) -> dict[str, Any]:
    document = get_openapi(
        title=about.title,
        version=metadata.version("penstock"),
        openapi_version="3.1.0",
        description=about.text,
        routes=app.routes,
        tags=list(about.tags),
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
    _link(operations, about)
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


def _link(operations: dict[str, dict[str, Any]], about: About) -> None:
    for name, others in about.linked.items():
        if name not in operations:
            continue
        responses = operations[name]["responses"]
        links = responses["201" if "201" in responses else "200"].setdefault("links", {})
        for other in others:
            taken = {each["name"] for each in operations[other].get("parameters", [])}
            links[other] = {
                "operationId": other,
                "parameters": {
                    parameter: value
                    for parameter, value in about.parameters[name].items()
                    if parameter.rpartition(".")[2] in taken
                },
            }
