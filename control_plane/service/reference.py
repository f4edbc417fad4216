"""The page ``docs/reference/control_api.md``, as it follows from the control plane's OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def api_page() -> str:
    """Return the page on the control plane's API as Markdown."""
    from control_plane.service.app import described_api

    return "\n".join(_lines(described_api())) + "\n"


def _lines(api: dict[str, Any]) -> Iterator[str]:
    yield "# The control plane's API"
    yield ""
    yield "<!-- Generated from control_plane/service by control_plane/reference.py. -->"
    yield ""
    yield "Every operation, by what it is about. A served control plane has bodies, answers and examples at"
    yield "`/docs`, and all of it as OpenAPI 3.1 at `/openapi.json`. For tokens and roles see"
    yield "[how to use it](../howto/use_the_control_plane.md)."
    yield ""
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in api["tags"]:
        mine = [each for each in operations if tag["name"] in each.get("tags", [])]
        if mine:
            yield from _group(tag, mine)


def _group(tag: dict[str, str], operations: list[dict[str, Any]]) -> Iterator[str]:
    yield f"## {tag['name']}"
    yield ""
    yield tag["description"]
    yield ""
    yield "| operation | parameters | what it does |"
    yield "|---|---|---|"
    for each in operations:
        named = ", ".join(f"`{p['name']}`" for p in each.get("parameters", []) if p["in"] != "path")
        body = "a body" if "requestBody" in each else ""
        taken = ", ".join(filter(None, [named, body]))
        said = " ".join(each["description"].split()).replace("|", "\\|")
        yield f"| `{each['method']} {each['path']}` | {taken} | {said} |"
    yield ""
