"""Whether a document is a schema that the registry takes, and whether a value is valid under it.

Both answer with everything that is wrong at once. What is said of a value never shows the value, which may be a secret:
it says where, which rule, and of what type the value is.

- Formats are asserted, in both dialects: those of :data:`FORMATS`. Another is refused in the schema,
  rather than ignored in the data.
- ``pattern`` is a regular expression without look-around and back-references, which are what could keep a worker busy
  for ever: matching takes time linear in the text.
- Numbers are compared as numbers: ``1.0`` is an integer, and ``{"const": 1}`` takes it. Nothing that is not a number in
  JSON (NaN, infinities) is valid under anything but ``true``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import orjson

from penstock.registry.content_model import NormalSchema, normal_form
from penstock.registry.dialect import Schema, parts, pointer, pointer_tokens
from penstock.registry.schema_references import Resolve, nothing
from penstock.registry.violations import Violation, described, type_of

MAX_BRANCHING_DEPTH: Final = 16
"""How deep a value may be nested for each alternative of a schema that branches into itself to be explained."""
MAX_VIOLATIONS: Final = 1000
FORMATS: Final = frozenset(
    {
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uri-template",
        "uuid",
        "json-pointer",
        "relative-json-pointer",
    }
)
"""The formats that are asserted."""
REFERENCES: Final = "x-references"
"""The keyword that names the type of the entities whose keys are the values it stands beside."""
PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
"""Rust's regex engine: no backtracking; a pattern that compiles to more than 1 MB is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validator:
    """A compiled schema. May be shared between threads."""

    normal: NormalSchema
    digest: bytes
    """Of the normal form; 16 bytes."""
    branches_into_itself: bool
    refers: bool
    """Whether the keyword ``x-references`` occurs in it."""
    _compiled: jsonschema_rs.Validator

    def is_valid(self, value: Any) -> bool:
        """Say whether a JSON value (of dicts, lists, text, numbers, booleans and None) is valid."""
        return self._compiled.is_valid(value)

    def violations(self, value: Any, *, limit: int = MAX_VIOLATIONS) -> list[Violation]:
        """Return all that is wrong with a JSON value, at most ``limit``, ordered by path; empty if it is valid."""
        if self._compiled.is_valid(value):
            return []
        if self.branches_into_itself and _deeper_than(value, MAX_BRANCHING_DEPTH):
            return [_unexplained(value)]
        found: dict[Violation, None] = {}
        undeclared: dict[Violation, None] = {}
        for error in self._compiled.iter_errors(value):
            for each in described(error, self._place):
                doubtful = each.rule == "unevaluatedProperties" and self._declares(error, each.path)
                (undeclared if doubtful else found)[each] = None
            if len(found) >= limit:
                break
        ordered = sorted(found or undeclared, key=lambda each: (each.path, each.rule, each.message))
        return ordered[:limit]

    def _declares(self, error: jsonschema_rs.ValidationError, path: str) -> bool:
        """Say whether a name is declared after all, by a part that does not hold for another reason, said elsewhere."""
        return self.normal.declares(error.schema_path[:-1], pointer_tokens(path)[-1])

    def references(self, value: Any) -> list[tuple[str, str, str]]:
        """Return the text values that ``x-references`` applies to: pointer, type referred to, and the text itself."""
        if not self.refers:
            return []
        found: dict[tuple[str, str, str], None] = {}
        for place, notes in _notes(self._compiled.evaluate(value)):
            type_name = notes.get(REFERENCES) if isinstance(notes, dict) else None
            key = _at(value, place) if isinstance(type_name, str) else None
            if isinstance(type_name, str) and isinstance(key, str):
                found[place, type_name, key] = None
        return sorted(found)

    def _place(self, schema_path: list[str | int]) -> str:
        """Return where in the author's document a place of the normal form comes from."""
        if len(schema_path) > 1 and schema_path[0] == "$defs":
            origin = self.normal.origins[str(schema_path[1])]
            return origin + pointer(schema_path[2:])
        return "#" + pointer(schema_path)


def _notes(evaluation: jsonschema_rs.Evaluation) -> Iterator[tuple[str, Any]]:
    """Yield where a keyword that only annotates applies, in a value that is not valid too."""
    if evaluation.valid:
        for note in evaluation.annotations():
            yield note["instanceLocation"], note["annotations"]
        return
    for unit in evaluation.list()["details"]:
        for name in ("annotations", "droppedAnnotations"):
            yield unit["instanceLocation"], unit.get(name)


def compiled(
    document: Mapping[str, Any],
    resolve: Resolve = nothing,
    *,
    pins: Mapping[str, int] | None = None,
    itself: tuple[str, int] | None = None,
) -> Validator:
    """Return the validator of a document in which :func:`problems_of` finds nothing.

    Compiling is cached by the content of the normal form. Building that takes some milliseconds for a large schema, so
    keep the validator of a version, which never changes, under its tenant, schema id and version.
    """
    return of_normal(normal_form(document, resolve, pins=pins, itself=itself))


def of_normal(normal: NormalSchema) -> Validator:
    """Return the validator of a schema in normal form."""
    text = orjson.dumps(normal.document())
    return Validator(
        normal=normal,
        digest=normal.digest(),
        refers=b'"' + REFERENCES.encode() + b'":' in text,
        branches_into_itself=_branches_into_itself(normal),
        _compiled=_compile(text),
    )


@lru_cache(maxsize=1024)
def _compile(text: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        orjson.loads(text),
        validate_formats=True,
        ignore_unknown_formats=False,
        pattern_options=PATTERNS,
        offline=True,
    )


def _branches_into_itself(normal: NormalSchema) -> bool:
    """Say whether a definition leads back to itself through alternatives, so that each level doubles what is tried."""
    return any(
        normal.reaches(branch, name)
        for name, definition in normal.definitions.items()
        for branch in _alternatives(definition)
    )


def _alternatives(schema: Schema) -> Iterator[Schema]:
    waiting = [schema]
    while waiting:
        for part in parts(waiting.pop()):
            if part.keyword in {"anyOf", "oneOf"}:
                yield part.schema
            waiting.append(part.schema)


def _at(value: Any, where: str) -> Any:
    for token in pointer_tokens(where):
        value = value[int(token)] if isinstance(value, list | tuple) else value[token]
    return value


def _deeper_than(value: Any, depth: int) -> bool:
    level: Iterable[Any] = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, dict | list) for each in level)


def _unexplained(value: Any) -> Violation:
    return Violation(
        path="",
        rule="nesting",
        schema_path="#",
        message=f"is not valid, and nested more than {MAX_BRANCHING_DEPTH} levels deep under a schema whose "
        "alternatives lead back to itself, so that naming each place would take too long: flatten it, or "
        "validate its parts one by one",
        value_type=type_of(value),
    )
