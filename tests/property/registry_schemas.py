"""Schemas, changes of schemas and values for properties of the registry's rules: small, and near to each other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any

NAMES = ("a", "b", "c", "x1")
TEXTS = ("", "a", "ab", "abc", "b", "x1", "2026-11-21", "2026-11-21T10:00:00Z")
NUMBERS = (-2, -1, 0, 1, 2, 3, 4, 6, 0.5, 1.5, 2.0)
SCALARS: tuple[Any, ...] = (None, True, False, *NUMBERS, *TEXTS)
PATTERNS = ("^a", "b$", "^x[0-9]$", "")
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


def a_schema(rnd: Random, depth: int = 3, *, refer: bool = True) -> Any:
    """Return a schema without definitions; references are to ``#/$defs/d`` and ``#/$defs/e``."""
    if rnd.random() < 0.06:
        return rnd.random() < 0.7
    makers = [_scalar, _scalar, _string, _number]
    if depth > 0:
        makers += [_object, _object, _object, _array, _composed, _composed]
    schema = rnd.choice(makers)(rnd, depth, refer)
    if refer and depth < 3 and rnd.random() < 0.1:
        schema = {"$ref": rnd.choice(("#/$defs/d", "#/$defs/e"))}
    return schema


def a_document(rnd: Random) -> dict[str, Any]:
    """Return a whole schema, with definitions that refer to each other only through properties and items."""
    root = a_schema(rnd)
    document = root if isinstance(root, dict) else {"type": "object"}
    definitions = {
        "d": {"type": "object", "properties": {"a": a_schema(rnd, 1), "b": {"$ref": "#/$defs/e"}}},
        "e": {"type": ["array", "null"], "items": a_schema(rnd, 1)},
    }
    text = repr((document, definitions["d"])) if "#/$defs/d" in repr(document) else repr(document)
    used = {name: each for name, each in definitions.items() if f"#/$defs/{name}" in text}
    return {**document, "$defs": used} if used else document


def _scalar(rnd: Random, depth: int, refer: bool) -> dict[str, Any]:
    match rnd.randrange(4):
        case 0:
            return {"enum": rnd.sample(SCALARS, rnd.randint(1, 4))}
        case 1:
            return {"const": rnd.choice((*SCALARS, {"a": 1}, [1]))}
        case 2:
            return {"type": rnd.choice(TYPES)}
        case _:
            return {"type": rnd.sample(TYPES, rnd.randint(1, 3))}


def _string(rnd: Random, depth: int, refer: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} if rnd.random() < 0.8 else {}
    _maybe(rnd, schema, "minLength", lambda: rnd.randint(0, 3))
    _maybe(rnd, schema, "maxLength", lambda: rnd.randint(0, 4))
    _maybe(rnd, schema, "pattern", lambda: rnd.choice(PATTERNS))
    _maybe(rnd, schema, "format", lambda: rnd.choice(("date", "date-time", "uri")), 0.1)
    return schema


def _number(rnd: Random, depth: int, refer: bool) -> dict[str, Any]:
    schema: dict[str, Any] = (
        {"type": rnd.choice(("integer", "number"))} if rnd.random() < 0.8 else {}
    )
    for keyword in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        _maybe(rnd, schema, keyword, lambda: rnd.choice(NUMBERS), 0.25)
    _maybe(rnd, schema, "multipleOf", lambda: rnd.choice((1, 2, 3, 0.5)), 0.2)
    return schema


def _object(rnd: Random, depth: int, refer: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"} if rnd.random() < 0.8 else {}
    named = rnd.sample(NAMES, rnd.randint(0, 3))
    if named:
        schema["properties"] = {name: a_schema(rnd, depth - 1, refer=refer) for name in named}
    _maybe(rnd, schema, "required", lambda: rnd.sample(NAMES, rnd.randint(0, 2)))
    _maybe(rnd, schema, "additionalProperties", lambda: a_schema(rnd, 0, refer=False), 0.3)
    _maybe(rnd, schema, "unevaluatedProperties", lambda: rnd.random() < 0.5, 0.1)
    _maybe(
        rnd,
        schema,
        "patternProperties",
        lambda: {rnd.choice(PATTERNS): a_schema(rnd, 0, refer=False)},
        0.15,
    )
    _maybe(rnd, schema, "propertyNames", lambda: _string(rnd, 0, False), 0.1)
    _maybe(rnd, schema, "minProperties", lambda: rnd.randint(0, 2), 0.1)
    _maybe(rnd, schema, "maxProperties", lambda: rnd.randint(0, 3), 0.1)
    _maybe(rnd, schema, "dependentRequired", lambda: {rnd.choice(NAMES): [rnd.choice(NAMES)]}, 0.1)
    _maybe(
        rnd,
        schema,
        "dependentSchemas",
        lambda: {rnd.choice(NAMES): a_schema(rnd, depth - 1, refer=False)},
        0.07,
    )
    return schema


def _array(rnd: Random, depth: int, refer: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"} if rnd.random() < 0.8 else {}
    _maybe(rnd, schema, "items", lambda: a_schema(rnd, depth - 1, refer=refer), 0.6)
    _maybe(
        rnd,
        schema,
        "prefixItems",
        lambda: [a_schema(rnd, 0, refer=refer) for _ in range(rnd.randint(1, 2))],
        0.25,
    )
    _maybe(rnd, schema, "minItems", lambda: rnd.randint(0, 2), 0.2)
    _maybe(rnd, schema, "maxItems", lambda: rnd.randint(0, 3), 0.2)
    _maybe(rnd, schema, "uniqueItems", lambda: rnd.random() < 0.8, 0.2)
    _maybe(rnd, schema, "contains", lambda: a_schema(rnd, 0, refer=False), 0.12)
    _maybe(rnd, schema, "minContains", lambda: rnd.randint(0, 2), 0.05)
    _maybe(rnd, schema, "maxContains", lambda: rnd.randint(0, 2), 0.05)
    _maybe(rnd, schema, "unevaluatedItems", lambda: a_schema(rnd, 0, refer=False), 0.07)
    return schema


def _composed(rnd: Random, depth: int, refer: bool) -> dict[str, Any]:
    schema = _object(rnd, depth - 1, refer) if rnd.random() < 0.4 else {}
    match rnd.choice(("allOf", "anyOf", "anyOf", "oneOf", "oneOf", "not", "if")):
        case "not":
            schema["not"] = a_schema(rnd, 0, refer=False)
        case "if":
            schema["if"] = a_schema(rnd, depth - 1, refer=False)
            _maybe(rnd, schema, "then", lambda: a_schema(rnd, depth - 1, refer=False), 0.8)
            _maybe(rnd, schema, "else", lambda: a_schema(rnd, depth - 1, refer=False), 0.6)
        case keyword:
            schema[keyword] = [
                a_schema(rnd, depth - 1, refer=refer) for _ in range(rnd.randint(1, 3))
            ]
    return schema


def _maybe(
    rnd: Random, schema: dict[str, Any], keyword: str, make: Callable[[], Any], share: float = 0.35
) -> None:
    if rnd.random() < share:
        schema[keyword] = make()


def changed(rnd: Random, document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with one to three small changes."""
    new = copy.deepcopy(document)
    for _ in range(rnd.randint(1, 3)):
        before = copy.deepcopy(new)
        for _ in range(10):
            _change(rnd, rnd.choice(_schemas(new)))
            if new != before:
                break
    return new


def _schemas(schema: Any) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    found = [schema]
    for keyword, value in schema.items():
        if keyword in {"properties", "patternProperties", "dependentSchemas", "$defs"}:
            inner = list(value.values())
        elif keyword in {"allOf", "anyOf", "oneOf", "prefixItems"}:
            inner = value
        elif keyword in {"const", "enum", "dependentRequired"}:
            inner = []
        else:
            inner = [value]
        for each in inner:
            found += _schemas(each)
    return found


def _change(rnd: Random, schema: dict[str, Any]) -> None:
    keyword = rnd.choice([*schema, "+"])
    value = schema.get(keyword)
    if keyword == "+" or keyword in {"$ref", "$defs"}:
        made = rnd.choice((_string, _number, _object, _array, _composed))(rnd, 1, False)
        for key in list(made)[:1]:
            schema.setdefault(key, made[key])
    elif rnd.random() < 0.3:
        del schema[keyword]
    elif keyword == "type":
        schema["type"] = sorted(
            {*([value] if isinstance(value, str) else value), rnd.choice(TYPES)}
        )
    elif keyword == "required":
        schema["required"] = (
            sorted({*value, rnd.choice(NAMES)}) if rnd.random() < 0.5 else value[1:]
        )
    elif keyword == "enum":
        schema["enum"] = [*value, "new"] if rnd.random() < 0.5 else (value[1:] or value)
    elif keyword in {"properties", "patternProperties"} and value:
        del value[rnd.choice(list(value))]
    elif keyword == "properties":
        value[rnd.choice(NAMES)] = a_schema(rnd, 1, refer=False)
    elif isinstance(value, bool):
        schema[keyword] = not value
    elif isinstance(value, int | float) and keyword != "const":
        schema[keyword] = abs(value + rnd.choice((-1, 1))) or 1
    elif keyword in {"anyOf", "oneOf", "allOf"}:
        value.append(a_schema(rnd, 1, refer=False))


def a_value(rnd: Random, schema: Any, document: dict[str, Any], depth: int = 4) -> Any:
    """Return a value that is likely to be valid under a schema of ``document``."""
    if not isinstance(schema, dict) or depth <= 0 or rnd.random() < 0.06:
        return _anything(rnd, min(depth, 2))
    if "$ref" in schema:
        return a_value(rnd, document["$defs"][schema["$ref"].rpartition("/")[2]], document, depth)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rnd.choice(schema["enum"])
    sides = [
        each
        for key in ("allOf", "anyOf", "oneOf")
        for each in rnd.sample(schema.get(key, []), len(schema.get(key, [])))
    ]
    sides += [schema[key] for key in ("if", "then", "else") if key in schema]
    sides += list(schema.get("dependentSchemas", {}).values())
    kind = _kind(rnd, schema)
    if kind is None and sides:
        return a_value(rnd, sides[0], document, depth)
    if kind == "object":
        return _an_object(
            rnd, [schema, *(each for each in sides if isinstance(each, dict))], document, depth
        )
    if kind == "array":
        prefix = [a_value(rnd, each, document, depth - 1) for each in schema.get("prefixItems", [])]
        count = rnd.randint(schema.get("minItems", 0), schema.get("minItems", 0) + 2)
        more = [a_value(rnd, schema.get("items", True), document, depth - 1) for _ in range(count)]
        return prefix[: rnd.randint(0, len(prefix))] if not more else prefix + more
    pool = {
        "string": TEXTS,
        "number": NUMBERS,
        "integer": NUMBERS,
        "boolean": (True, False),
        "null": (None,),
    }
    return rnd.choice(pool.get(kind or "", SCALARS))


def _an_object(
    rnd: Random, schemas: list[dict[str, Any]], document: dict[str, Any], depth: int
) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for each in schemas:
        name = each.get("$ref", "").rpartition("/")[2]
        schema = document["$defs"][name] if name else each
        for name, inner in schema.get("properties", {}).items():
            if name in schema.get("required", ()) or rnd.random() < 0.5:
                value[name] = a_value(rnd, inner, document, depth - 1)
        for name in schema.get("required", ()):
            value.setdefault(name, _anything(rnd, 1))
    if rnd.random() < 0.2:
        value[rnd.choice(NAMES)] = _anything(rnd, 1)
    return value


def _kind(rnd: Random, schema: dict[str, Any]) -> str | None:
    declared = schema.get("type")
    if declared is not None:
        return str(rnd.choice([declared] if isinstance(declared, str) else declared or ["null"]))
    if not {"properties", "required", "additionalProperties", "patternProperties"}.isdisjoint(
        schema
    ):
        return "object"
    if not {"items", "prefixItems", "contains"}.isdisjoint(schema):
        return "array"
    return None


def _anything(rnd: Random, depth: int) -> Any:
    chance = rnd.random()
    if depth <= 0 or chance < 0.6:
        return rnd.choice(SCALARS)
    if chance < 0.8:
        return [_anything(rnd, depth - 1) for _ in range(rnd.randint(0, 3))]
    return {name: _anything(rnd, depth - 1) for name in rnd.sample(NAMES, rnd.randint(0, 3))}
