"""Attributes as the API speaks of them: plain JSON, for reading, patching and validating alike.

A published entity may hold values that JSON has no word for (dates, decimals, bytes). Readers see the nearest JSON
value, and schemas speak of that. :func:`typed_as` finds the way back, so that what a client read and sent again
unchanged is unchanged.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

_EXACT_INTEGER = 2**53


def plain(value: Any) -> Any:
    """Return the plain JSON of a value of the value model.

    Dates and times are ISO 8601 texts (aware moments in UTC), bytes are base64, decimals are numbers, NaN and the
    infinities are the texts ``NaN``, ``Infinity`` and ``-Infinity``.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _not_finite(value)
        case Mapping():
            return {name: plain(inner) for name, inner in value.items()}
        case Decimal():
            return _number(value)
        case datetime():
            return _moment(value)
        case date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case Sequence():
            return [plain(inner) for inner in value]
        case _:
            raise TypeError(f"{type(value).__name__} is not a value of attributes")


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _number(value: Decimal) -> int | float:
    if value == value.to_integral_value() and abs(value) < _EXACT_INTEGER:
        return int(value)
    return float(value)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def typed_as(value: Any, before: Any) -> Any:
    """Return plain JSON with the types that ``before`` has wherever both say the same."""
    if isinstance(value, dict) and isinstance(before, Mapping):
        return {
            name: typed_as(inner, before[name]) if name in before else inner
            for name, inner in value.items()
        }
    if isinstance(value, list) and isinstance(before, Sequence) and not isinstance(before, str):
        kept = min(len(value), len(before))
        return [typed_as(value[n], before[n]) for n in range(kept)] + value[kept:]
    if isinstance(before, Decimal | date | time | bytes | float) and _same(value, plain(before)):
        return before
    return value


def _same(value: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
