"""One schema as its page shows it: each version as lines that are told apart from those of the one before."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control_plane.web.frame import shown_json
from penstock.registry.schemas import Schema, SchemaStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a document."""

    kind: str
    """``+`` for new, ``-`` for gone, a space for as it was."""
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownVersion:
    """One version."""

    version: int
    created_at: datetime
    created_by: str
    reason: str
    lines: tuple[Line, ...]


def shown_schema(schema: Schema) -> dict[str, Any]:
    """Return what the page of a schema shows, the newest version first."""
    active = schema.active
    drafted = active is None or schema.document != active.document
    return {
        "schema": schema,
        "problems": schema.problems if schema.status is SchemaStatus.INVALID else (),
        "draft": shown_json(schema.document, indent=2) if drafted else None,
        "versions": list(_versions(schema))[::-1],
    }


def _versions(schema: Schema) -> Iterator[ShownVersion]:
    before: list[str] | None = None
    for version in schema.versions:
        text = shown_json(version.document, indent=2).splitlines()
        yield ShownVersion(
            version=version.number,
            created_at=version.created_at,
            created_by=version.created_by,
            reason=version.reason,
            lines=tuple(_lines(before, text)),
        )
        before = text


def _lines(before: list[str] | None, text: list[str]) -> Iterator[Line]:
    if before is None:
        yield from (Line(kind=" ", text=line) for line in text)
        return
    for line in difflib.ndiff(before, text):
        if line[0] != "?":
            yield Line(kind=line[0], text=line[2:])
