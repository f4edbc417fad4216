"""The frame of a server's pages: templates, style sheet, headers, and what is around every page.

Pages are answers that a browser may show and nothing else: rendered on the server, nothing from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from control_plane.web.calling import current_caller
from control_plane.web.csrf import Csrf

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What the pages of one server have in common."""

    root: str
    """Where they are mounted."""
    folder: Path
    """With ``templates`` and ``static``; what is not there is taken from beside this module."""
    title: str
    menu: Sequence[tuple[str, str]]
    """Labels, and paths below the root."""
    styles: str
    """The style sheet's name: ``<styles>.css``, after what all pages have."""
    csrf: Csrf
    session_cookie: str
    cookie_path: str
    token_command: str
    """What makes a token, for who has none."""
    script: str | None = None
    """The one script that the pages load; they work without."""

    @property
    def headers(self) -> dict[str, str]:
        """Where pages are stricter, or other, than what the gate puts on every response."""
        with_script = "; script-src 'self'; connect-src 'self'" if self.script else ""
        return {
            "Content-Security-Policy": _POLICY + with_script,
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    @cached_property
    def environment(self) -> Environment:
        """The templates; everything that goes into one is escaped, and a name that is missing is an error."""
        found = Environment(
            loader=FileSystemLoader([self.folder / "templates", _HERE / "templates"]),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        found.filters["json"] = shown_json
        return found

    def page(self, name: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
        """Render a template."""
        text = self.environment.get_template(name).render(frame=self, root=self.root, **values)
        return HTMLResponse(text, status_code=status, headers=self.headers)

    def around(self, request: Request, section: str) -> dict[str, Any]:
        """Return what every page shows: who has signed in, where we are, and the value for its forms."""
        return {
            "principal": current_caller(request),
            "section": section,
            "csrf": self.csrf.value_of(request),
        }

    def style_sheet(self) -> Response:
        """Return the style sheet; it may be kept for an hour."""
        files = (_HERE / "static" / "frame.css", self.folder / "static" / f"{self.styles}.css")
        return self.kept(b"\n".join(file.read_bytes() for file in files), "text/css")

    def kept(self, body: bytes, media: str) -> Response:
        """Return a file of the pages, which a browser may keep for an hour."""
        headers = {**self.headers, "Cache-Control": "public, max-age=3600"}
        return Response(body, media_type=f"{media}; charset=utf-8", headers=headers)


def shown_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON that a person reads."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, default=str)
