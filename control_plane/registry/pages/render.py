"""Turning templates into answers that a browser may show and nothing else: no script, nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

ROOT = "/registry"
"""Where the pages are mounted."""
_HERE = Path(__file__).parent
STYLES = _HERE / "static" / "registry.css"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Where pages are stricter, or other, than what the gate puts on every response."""


@cache
def environment() -> Environment:
    """Return the templates; everything that goes into one is escaped, and a name that is missing is an error."""
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["json"] = shown_json
    return found


def shown_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON that a person reads."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, default=str)


def page(name: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """Render a template."""
    text = environment().get_template(name).render(root=ROOT, **values)
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def styles() -> Response:
    """Return the style sheet; it may be kept for an hour."""
    headers = {**HEADERS, "Cache-Control": "public, max-age=3600"}
    return Response(STYLES.read_bytes(), media_type="text/css; charset=utf-8", headers=headers)
