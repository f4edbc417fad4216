"""Whether a document is a schema that the registry takes: everything that is wrong with it, at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import jsonschema_rs
import orjson

from penstock.registry.content_model import NormalSchema, normal_form
from penstock.registry.dialect import (
    REFUSED,
    Dialect,
    Schema,
    Tokens,
    asserting,
    dialect_of,
    keywords,
    parts,
    pointer,
    pointer_tokens,
    subschemas,
)
from penstock.registry.schema_references import BadReference, Resolve, nothing, parsed
from penstock.registry.schema_validation import FORMATS, PATTERNS, of_normal

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 64
MAX_SUBSCHEMAS: Final = 2_000
MAX_PATTERN: Final = 1_000
"""Characters of one regular expression."""
MAX_EXPANDED: Final = 100_000
"""Subschemas once every reference that does not lead back to itself is written out."""
MAX_WAYS: Final = 5_000
"""Ways through definitions that a composition that is closed as one may lead to."""
_LONGEST: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Problem:
    """Why a document is not taken as a schema."""

    path: str
    """JSON pointer into the document; ``""`` for the whole."""
    rule: str
    message: str
    """What is wrong and what to do about it."""

    def to_state(self) -> dict[str, str]:
        """Return it as plain JSON."""
        return asdict(self)


def problems_of(document: object, resolve: Resolve = nothing) -> list[Problem]:
    """Return everything that is wrong with a document as a schema, ordered by path; empty if it is taken.

    References to other schemas are followed as far as ``resolve`` knows them; one that leads nowhere is no problem of
    the document, but of activating it.
    """
    found = list(_outer_problems(document))
    if found or not isinstance(document, Mapping):
        return found
    dialect = dialect_of(document)
    assert dialect is not None
    found = [*_meta_problems(document, dialect)]
    if not found:
        places = dict(subschemas(document, dialect))
        for tokens, schema in places.items():
            found += _inner_problems(tokens, schema, dialect, places)
    if not found:
        found = [*_whole_problems(normal_form(document, resolve))]
    return sorted(set(found))


def _outer_problems(document: object) -> Iterator[Problem]:
    """What has to be right before a document is looked into."""
    if not isinstance(document, Mapping):
        yield _problem(
            "", "type", 'a schema is a JSON object: say {"type": "object", "properties": {...}}'
        )
    elif _too_deep(document):
        yield _problem(
            "",
            "depth",
            f"is nested deeper than {MAX_DEPTH} levels: move parts to $defs and refer to them",
        )
    else:
        try:
            size = len(orjson.dumps(document))
        except (TypeError, ValueError) as error:
            yield _problem(
                "",
                "json",
                f"cannot be written as JSON ({error}): use text keys, and JSON values",
            )
            return
        if size > MAX_BYTES:
            message = f"has {size} bytes, and {MAX_BYTES} are allowed: split it into schemas that refer to each other"
            yield _problem("", "size", message)
        elif dialect_of(document) is None:
            takes = " or ".join(f"{each.value!r}" for each in Dialect)
            yield _problem(
                "/$schema",
                "$schema",
                f"is not taken: say {takes}, or leave it out for 2020-12",
            )


def _too_deep(document: object) -> bool:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, Mapping) else each)
            if isinstance(inner, Mapping | list | tuple)
        ]
    return bool(level)


def _meta_problems(document: Mapping[str, Any], dialect: Dialect) -> Iterator[Problem]:
    """What the dialect's own schema says."""
    for error in _META[dialect].iter_errors(document):
        where = pointer(error.instance_path)
        yield _problem(where, error.kind.name, _meta_message(error))


def _meta_message(error: jsonschema_rs.ValidationError) -> str:
    name = str(error.instance_path[-1]) if error.instance_path else "the schema"
    text = (
        error.message
        if len(error.message) <= 2 * _LONGEST
        else error.message[: 2 * _LONGEST] + "..."
    )
    if name == "type" and error.kind.name == "anyOf":
        text = "is none of array, boolean, integer, null, number, object and string, nor a list of them"
    elif error.kind.name == "type" and isinstance(
        error.kind, jsonschema_rs.ValidationErrorKind.Type
    ):
        text = f"has to be {' or '.join(sorted(error.kind.types))}"
    return f"is not valid JSON Schema: {text}"


def _inner_problems(
    at: Tokens, schema: Schema, dialect: Dialect, places: Mapping[Tokens, Schema]
) -> Iterator[Problem]:
    if isinstance(schema, bool):
        return
    if at == () and len(places) > MAX_SUBSCHEMAS:
        message = f"has {len(places)} subschemas, and {MAX_SUBSCHEMAS} are allowed: split it"
        yield _problem("", "subschemas", message)
    yield from _keyword_problems(at, schema, dialect)
    if "$ref" in schema:
        yield from _reference_problems(at, schema["$ref"], places)
    if "format" in schema and schema["format"] not in FORMATS:
        message = f"is no format that is asserted: use one of {', '.join(sorted(FORMATS))}, or say it by 'pattern'"
        yield _problem(pointer((*at, "format")), "format", message)
    for tokens, text in _patterns(at, schema):
        yield from _pattern_problems(tokens, text)


def _keyword_problems(at: Tokens, schema: Mapping[str, Any], dialect: Dialect) -> Iterator[Problem]:
    known = keywords(dialect)
    for keyword in schema:
        where = pointer((*at, keyword))
        if keyword in known:
            if keyword == "$id" and at:
                yield _problem(
                    where,
                    "$id",
                    "gives a part an address of its own: refer to '#/$defs/<name>' instead",
                )
        elif keyword in REFUSED:
            yield _problem(where, keyword, f"is not taken: {REFUSED[keyword]}")
        elif dialect is Dialect.DRAFT_7 and keyword in keywords(Dialect.DRAFT_2020_12):
            message = f'means nothing in draft 7: say "$schema": {Dialect.DRAFT_2020_12.value!r}, or leave it out'
            yield _problem(where, keyword, message)
        elif dialect is Dialect.DRAFT_2020_12 and keyword in {"dependencies", "additionalItems"}:
            message = "means nothing in 2020-12: use dependentRequired and dependentSchemas, or prefixItems and items"
            yield _problem(where, keyword, message)
        elif meant := _meant(keyword, known):
            message = f"is no keyword: correct it if {meant!r} is meant, or call it 'x-{keyword}' if it is a note"
            yield _problem(where, "keyword", message)


def _meant(keyword: str, known: frozenset[str]) -> str | None:
    """Return the asserting keyword that another is most likely a slip of the pen for."""
    by_case = {each.lower(): each for each in known if asserting(each)}
    if keyword.startswith("x-") or len(keyword) > 40:
        return None
    close = difflib.get_close_matches(keyword.lower(), by_case, n=1, cutoff=0.85)
    return by_case[close[0]] if close else None


def _reference_problems(
    at: Tokens, text: str, places: Mapping[Tokens, Schema]
) -> Iterator[Problem]:
    where = pointer((*at, "$ref"))
    try:
        reference = parsed(text)
    except BadReference as error:
        yield _problem(where, "$ref", str(error))
        return
    if reference.schema_id is None and reference.tokens not in places:
        message = f"leads to {str(reference)[:_LONGEST]!r}, where there is no schema: add it or correct it"
        yield _problem(where, "$ref", message)


def _patterns(at: Tokens, schema: Mapping[str, Any]) -> Iterator[tuple[Tokens, str]]:
    if "pattern" in schema:
        yield (*at, "pattern"), schema["pattern"]
    for text in schema.get("patternProperties", ()):
        yield (*at, "patternProperties", text), text


def _pattern_problems(at: Tokens, text: str) -> Iterator[Problem]:
    if len(text) > MAX_PATTERN:
        message = f"has {len(text)} characters, and {MAX_PATTERN} are allowed: use 'enum', or a simpler pattern"
        yield _problem(pointer(at), "pattern", message)
        return
    try:
        jsonschema_rs.Draft202012Validator(
            {"pattern": text}, pattern_options=PATTERNS, offline=True
        )
    except ValueError:
        message = (
            "is no regular expression that is taken: look-around ((?=, (?!, (?<) and back-references (\\1) are not, "
            "since matching has to be linear in the text; nor are repetitions that multiply to many thousands"
        )
        yield _problem(pointer(at), "pattern", message)


def _whole_problems(normal: NormalSchema) -> Iterator[Problem]:
    """What shows only when references are followed."""
    for name, definition in normal.definitions.items():
        if normal.reaches(definition, name, in_place=True):
            origin = normal.origins[name]
            message = f"leads back to itself ({origin}) without going into a property or an item: break the circle"
            yield _problem(pointer(pointer_tokens(origin.partition("#")[2])), "$ref", message)
            return
    size = _expanded(normal.root, normal, {}, frozenset())
    if size > MAX_EXPANDED:
        message = f"grows to more than {MAX_EXPANDED} subschemas once references are followed: simplify it"
        yield _problem("", "subschemas", message)
        return
    if _tangled(normal):
        message = (
            "has definitions that lead to each other in too many ways under a composition that is closed as one: say "
            '"additionalProperties" in each definition, or compose less'
        )
        yield _problem("", "unevaluatedProperties", message)
        return
    try:
        of_normal(normal)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        yield _problem("", "schema", f"cannot be compiled: {str(error)[: 3 * _LONGEST]}")


def _expanded(
    schema: Schema, normal: NormalSchema, known: dict[str, int], above: frozenset[str]
) -> int:
    """Return how many subschemas there are once references are written out; one that leads back counts as one."""
    if isinstance(schema, bool):
        return 1
    size = 1 + sum(_expanded(part.schema, normal, known, above) for part in parts(schema))
    if "$ref" in schema:
        name = pointer_tokens(schema["$ref"])[-1]
        if name not in known and name not in above:
            known[name] = _expanded(normal.definitions[name], normal, known, above | {name})
        size += known.get(name, 1)
    return size


def _tangled(normal: NormalSchema) -> bool:
    """Say whether there are too many ways from what asks which names were evaluated: the engine compiles each way."""
    led = {name: _targets(schema) for name, schema in normal.definitions.items()}
    waiting = [
        (name, frozenset[str]())
        for schema in (normal.root, *normal.definitions.values())
        if _asks_for_evaluated(schema)
        for name in _targets(schema)
    ]
    ways = 0
    while waiting and ways <= MAX_WAYS:
        ways += 1
        name, behind = waiting.pop()
        waiting += [(each, behind | {name}) for each in led[name] if each not in behind | {name}]
    return ways > MAX_WAYS


def _targets(schema: Schema) -> list[str]:
    found = [name for part in parts(schema) for name in _targets(part.schema)]
    if not isinstance(schema, bool) and "$ref" in schema:
        found.append(pointer_tokens(schema["$ref"])[-1])
    return found


def _asks_for_evaluated(schema: Schema) -> bool:
    if isinstance(schema, bool):
        return False
    asks = not {"unevaluatedProperties", "unevaluatedItems"}.isdisjoint(schema)
    return asks or any(_asks_for_evaluated(part.schema) for part in parts(schema))


def _problem(path: str, rule: str, message: str) -> Problem:
    return Problem(path=path, rule=rule, message=message)


_META: Final = {
    Dialect.DRAFT_2020_12: jsonschema_rs.Draft202012Validator(
        {"$ref": Dialect.DRAFT_2020_12.value}, offline=True
    ),
    Dialect.DRAFT_7: jsonschema_rs.Draft7Validator(
        {"$ref": Dialect.DRAFT_7.value + "#"}, offline=True
    ),
}
