"""The validating engine's own proof that one schema takes all that another does.

It shows what ours does not, such as bounds that only follow from several alternatives together. It reads
``unevaluatedProperties`` beside ``if`` as if a test evaluated nothing, so it is not asked about schemas that say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import jsonschema_rs

from penstock.registry.dialect import Schema, parts
from penstock.registry.schema_validation import PATTERNS

_MISREAD: Final = frozenset({"unevaluatedProperties", "unevaluatedItems"})


def covers(wide: Schema, narrow: Schema, definitions: Mapping[str, Schema]) -> bool:
    """Say whether the engine proves that what is valid under ``narrow`` is valid under ``wide``."""
    if any(_speaks(schema, _MISREAD) for schema in (narrow, wide, *definitions.values())):
        return False
    try:
        first, second = (
            jsonschema_rs.canonicalize(
                {"allOf": [each], "$defs": dict(definitions)},
                validate_formats=True,
                pattern_options=PATTERNS,
                offline=True,
            )
            for each in (narrow, wide)
        )
        return second.covers(first) == jsonschema_rs.canonical.Containment.YES
    except jsonschema_rs.canonical.CanonicalizationError:
        return False


def _speaks(schema: Schema, keywords: frozenset[str]) -> bool:
    if isinstance(schema, bool):
        return False
    inner = any(_speaks(part.schema, keywords) for part in parts(schema))
    return inner or not keywords.isdisjoint(schema)
