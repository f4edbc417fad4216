"""Whether every value that is valid under one schema is valid under another: proven, or doubted with a reason."""

from __future__ import annotations

from dataclasses import dataclass

import jsonschema_rs

from penstock.registry.content_model import NormalSchema
from penstock.registry.schema_validation import PATTERNS

CANNOT_BE_PROVEN = "cannot be proven"


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A place where a value may be valid under the narrower schema and not under the wider one."""

    path: str
    rule: str
    message: str
    remedy: str


def doubts(narrow: NormalSchema, wide: NormalSchema) -> list[Doubt]:
    """Return where a value that is valid under ``narrow`` may not be under ``wide``; empty if none can be."""
    first, second = (
        jsonschema_rs.canonicalize(
            each.document(), validate_formats=True, pattern_options=PATTERNS, offline=True
        )
        for each in (narrow, wide)
    )
    if narrow.digest() == wide.digest() or second.covers(first).value == "yes":
        return []
    return [
        Doubt(
            path="",
            rule=CANNOT_BE_PROVEN,
            message="it cannot be proven that what was valid stays valid",
            remedy="change less at once, or set the compatibility to none",
        )
    ]
