"""The two dialects of JSON Schema that a schema may be written in, and one way to walk both.

2020-12 is what everything else in this package works on. A document of draft 7 says so by ``$schema``; each of its
subschemas is rewritten, one level at a time, into what means the same in 2020-12:

=====================================  ====================================================
draft 7                                2020-12
=====================================  ====================================================
``items`` as a list                    ``prefixItems``
``additionalItems`` beside such a list ``items``; without one it says nothing and goes
``dependencies`` with a list           ``dependentRequired``
``dependencies`` with a schema         ``dependentSchemas``
what stands beside ``$ref``            goes: draft 7 ignores it
=====================================  ====================================================

Keywords that only 2020-12 has are refused in a document of draft 7, where they would silently mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Schema = bool | Mapping[str, Any]
"""A JSON Schema: ``True`` takes anything, ``False`` nothing."""

Tokens = tuple[str, ...]
"""The unescaped parts of a JSON pointer."""


class Dialect(StrEnum):
    """What ``$schema`` may say, without an empty fragment."""

    DRAFT_7 = "http://json-schema.org/draft-07/schema"
    DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"


SINGLE: Final = frozenset(
    {
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "items",
        "unevaluatedItems",
        "contains",
        "not",
        "if",
        "then",
        "else",
    }
)
"""Keywords of 2020-12 that hold one schema."""
LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords that hold a list of schemas."""
MAPS: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
)
"""Keywords that hold schemas by name."""
IN_PLACE: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"}
)
"""Keywords whose schemas speak of the same value as the schema that they stand in."""
STORES: Final = frozenset({"$defs", "definitions"})
"""Keywords that only keep schemas for others to refer to."""

_ONLY_2020: Final = frozenset(
    {
        "unevaluatedProperties",
        "unevaluatedItems",
        "prefixItems",
        "dependentRequired",
        "dependentSchemas",
        "minContains",
        "maxContains",
    }
)
_ASSERTIONS: Final = frozenset(
    {
        "type",
        "enum",
        "const",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxContains",
        "minContains",
        "maxProperties",
        "minProperties",
        "required",
        "dependentRequired",
        "format",
    }
)
_ANNOTATIONS: Final = frozenset(
    {
        "$schema",
        "$id",
        "$ref",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    }
)
REFUSED: Final = {
    "$anchor": "refer to '#/$defs/<name>' instead",
    "$dynamicAnchor": "refer to '#/$defs/<name>' instead",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "$recursiveAnchor": "use $ref",
    "$vocabulary": "leave it out: it belongs into meta-schemas",
}
"""Keywords that are not taken, each with what to do instead."""


@dataclass(frozen=True, slots=True)
class Part:
    """A schema inside a schema."""

    keyword: str
    tokens: Tokens
    """Where it stands below the schema around it."""
    schema: Schema

    @property
    def in_place(self) -> bool:
        """Whether it speaks of the same value as the schema around it."""
        return self.keyword in IN_PLACE


def dialect_of(document: Mapping[str, Any]) -> Dialect | None:
    """Return the dialect that a document is written in, or None for one that is not taken."""
    declared = document.get("$schema", Dialect.DRAFT_2020_12)
    if not isinstance(declared, str):
        return None
    text = declared.removesuffix("#").replace(
        "https://json-schema.org/draft-07", "http://json-schema.org/draft-07"
    )
    return Dialect(text) if text in set(Dialect) else None


def keywords(dialect: Dialect) -> frozenset[str]:
    """Return the keywords that a dialect has."""
    known = SINGLE | LISTS | MAPS | _ASSERTIONS | _ANNOTATIONS
    if dialect is Dialect.DRAFT_7:
        return (known - _ONLY_2020) | {"additionalItems", "dependencies"}
    return known


def asserting(keyword: str) -> bool:
    """Say whether a keyword can refuse a value, so that a slip of the pen in its name would be costly."""
    return keyword in _ASSERTIONS | SINGLE | LISTS | MAPS | {"$ref"}


def parts(schema: Schema, dialect: Dialect = Dialect.DRAFT_2020_12) -> Iterator[Part]:
    """Yield the schemas directly inside one, in the order of their keywords; what has no right form is passed over."""
    if isinstance(schema, bool):
        return
    for keyword, value in schema.items():
        if isinstance(value, list) and (
            keyword in LISTS or (keyword == "items" and dialect is Dialect.DRAFT_7)
        ):
            for n, each in enumerate(value):
                yield from _part(keyword, (keyword, str(n)), each)
        elif isinstance(value, Mapping) and (
            keyword in MAPS or (keyword == "dependencies" and dialect is Dialect.DRAFT_7)
        ):
            for name, each in value.items():
                yield from _part(keyword, (keyword, name), each)
        elif keyword in SINGLE or (keyword == "additionalItems" and dialect is Dialect.DRAFT_7):
            yield from _part(keyword, (keyword,), value)


def _part(keyword: str, tokens: Tokens, schema: Any) -> Iterator[Part]:
    if isinstance(schema, bool | Mapping):
        yield Part(keyword, tokens, schema)


def subschemas(document: Schema, dialect: Dialect) -> Iterator[tuple[Tokens, Schema]]:
    """Yield every schema of a document with where it stands, the document itself first."""
    waiting: list[tuple[Tokens, Schema]] = [((), document)]
    while waiting:
        at, schema = waiting.pop()
        yield at, schema
        waiting.extend((at + part.tokens, part.schema) for part in parts(schema, dialect))


def upgraded(schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return one schema as 2020-12 says it; the schemas inside are left as they are."""
    if dialect is Dialect.DRAFT_2020_12:
        return dict(schema)
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    new = {
        key: value
        for key, value in schema.items()
        if key not in {"dependencies", "additionalItems"}
    }
    if isinstance(schema.get("items"), list):
        new["prefixItems"] = new.pop("items")
        if "additionalItems" in schema:
            new["items"] = schema["additionalItems"]
    for name, needed in schema.get("dependencies", {}).items():
        keyword = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
        new[keyword] = {**new.get(keyword, {}), name: needed}
    return new


def pointer(tokens: Tokens | list[str | int]) -> str:
    """Return tokens as a JSON pointer: ``""`` for the whole."""
    return "".join("/" + str(each).replace("~", "~0").replace("/", "~1") for each in tokens)


def pointer_tokens(text: str) -> Tokens:
    """Return the tokens of a JSON pointer."""
    return tuple(each.replace("~1", "/").replace("~0", "~") for each in text.split("/")[1:])
