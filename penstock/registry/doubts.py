"""Where a value may be valid under one schema and not under another, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CANNOT_BE_PROVEN: Final = "cannot be proven"


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A place where a value may be valid under the narrower schema and not under the wider one."""

    path: str
    """JSON pointer into values; ``*`` stands for any name or item."""
    rule: str
    """The keyword of the wider schema, or :data:`CANNOT_BE_PROVEN`."""
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """How two schemas that are compared are called, and which of them can still be changed."""

    narrow: str = "the narrower schema"
    wide: str = "the wider schema"
    wide_is_new: bool = True

    def doubt(self, path: str, rule: str, says: str) -> Doubt:
        """Return a doubt; ``says`` may speak of ``{narrow}`` and ``{wide}``."""
        message = says.replace("{narrow}", self.narrow).replace("{wide}", self.wide)
        pair = _REMEDIES.get(rule, _RESTATE)
        return Doubt(
            path=path, rule=rule, message=message, remedy=pair[0 if self.wide_is_new else 1]
        )


_BOUND: Final = (
    "keep the bound, widen it or drop it in the new version",
    "give the new version a bound that is as narrow as the earlier one's, or narrower",
)
_SAME: Final = (
    "keep it as it was, or drop it, in the new version",
    "say the same in the new version",
)
_RESTATE: Final = (
    "restate the new version nearer to the earlier one: keep what it says and only add alternatives or optional names",
    "restate the new version nearer to the earlier one: keep what it says and only add restrictions",
)
_REMEDIES: Final = {
    "required": (
        "make the name optional in the new version",
        "require the name in the new version, too",
    ),
    "type": (
        "have the new version take every type that the earlier one does",
        "have the new version take no type that the earlier one does not",
    ),
    "enum": (
        "keep every value that the earlier version allows",
        "allow only values that the earlier version does",
    ),
    "additionalProperties": (
        'declare the name in the new version, or leave that open by "additionalProperties": true',
        "leave the name out of the new version",
    ),
    "const": ("keep the value, or drop the rule", "give the new version the same value"),
    **dict.fromkeys(
        (
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "minContains",
            "maxContains",
        ),
        _BOUND,
    ),
    **dict.fromkeys(
        (
            "pattern",
            "format",
            "uniqueItems",
            "multipleOf",
            "propertyNames",
            "dependentRequired",
            "contains",
        ),
        _SAME,
    ),
}
_REMEDIES["unevaluatedProperties"] = _REMEDIES["additionalProperties"]
