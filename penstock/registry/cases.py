"""What is known of every value that is valid under a schema: the facts that comparing schemas reasons from.

A schema with alternatives is split into cases; in each, every value is valid under each of its facts, which are plain
schemas read one keyword at a time. Where splitting would make too many cases, alternatives are left unsplit, and then
tell nothing: less is known, and nothing wrong is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import orjson

from penstock.registry.dialect import Schema, parts
from penstock.registry.schema_validation import PATTERNS

Fact = Mapping[str, Any]
KINDS: Final = ("null", "boolean", "number", "string", "array", "object")
"""Types of values; an integer is a number without a fraction."""
MAX_CASES: Final = 64
_INFINITE: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Case:
    """Some of the values that are valid under a schema; together, the cases of a schema are all of them."""

    facts: tuple[Fact, ...] = ()
    """Schemas under which each value of the case is valid."""
    excluded: frozenset[int] = frozenset()
    """``id`` of parts of facts under which no value of the case is valid."""

    def also(self, *facts: Fact) -> Case:
        """Return the case with more known."""
        return Case(self.facts + facts, self.excluded)

    def joined(self, other: Case) -> Case:
        """Return the values that are in both."""
        return Case(self.facts + other.facts, self.excluded | other.excluded)

    def values_of(self, keyword: str) -> list[Any]:
        """Return what each fact that has a keyword says by it."""
        return [fact[keyword] for fact in self.facts if keyword in fact]

    def kinds(self) -> set[str]:
        """Return the kinds that values can be of."""
        left = set(KINDS)
        for declared in self.values_of("type"):
            left &= {"number" if name == "integer" else name for name in _listed(declared)}
        return left

    @property
    def integral(self) -> bool:
        """Whether numbers have no fraction."""
        typed = any("number" not in _listed(each) for each in self.values_of("type"))
        return typed or any(
            Fraction(str(each)).denominator == 1 for each in self.values_of("multipleOf")
        )

    def constants(self) -> list[Any] | None:
        """Return all values that there can be, and perhaps others; None if they are not known one by one."""
        for fact in self.facts:
            if "const" in fact:
                return [fact["const"]]
            if "enum" in fact:
                return list(fact["enum"])
        kinds = self.kinds()
        if not kinds <= {"null", "boolean"}:
            return None
        return [None] * ("null" in kinds) + [True, False] * ("boolean" in kinds)

    def least(self, keyword: str) -> Any:
        """Return the strongest of what facts say by ``minLength`` and the like; 0 if they are silent."""
        return max(self.values_of(keyword), default=0)

    def most(self, keyword: str) -> Any:
        """Return the strongest of what facts say by ``maxLength`` and the like; infinity if they are silent."""
        return min(self.values_of(keyword), default=_INFINITE)

    def lower(self) -> tuple[Any, bool]:
        """Return the lower bound of numbers, and whether it is excluded itself."""
        bounds = [(n, False) for n in self.values_of("minimum")]
        bounds += [(n, True) for n in self.values_of("exclusiveMinimum")]
        low, out = max(bounds, default=(-_INFINITE, False))
        if self.integral and low != -_INFINITE:
            return (math.floor(low) + 1 if out else math.ceil(low)), False
        return low, out

    def upper(self) -> tuple[Any, bool]:
        """Return the upper bound of numbers, and whether it is excluded itself."""
        bounds = [(n, False) for n in self.values_of("maximum")]
        bounds += [(n, True) for n in self.values_of("exclusiveMaximum")]
        high, out = min(
            bounds, key=lambda bound: (bound[0], not bound[1]), default=(_INFINITE, False)
        )
        if self.integral and high != _INFINITE:
            return (math.ceil(high) - 1 if out else math.floor(high)), False
        return high, out

    def required(self) -> set[str]:
        """Return the names that every object has."""
        return {name for names in self.values_of("required") for name in names}

    def most_items(self) -> float:
        """Return how many items an array can have."""
        closed = [len(f.get("prefixItems", ())) for f in self.facts if f.get("items") is False]
        return float(min([self.most("maxItems"), *closed]))


def cases(schemas: Sequence[Schema], definitions: Mapping[str, Schema]) -> list[Case]:
    """Return the cases of the values that are valid under all of some schemas."""
    return list(_expanded(list(schemas), (), frozenset(), [], definitions, 1))


def _expanded(
    waiting: list[Schema],
    facts: tuple[Fact, ...],
    excluded: frozenset[int],
    splits: list[list[tuple[list[Schema], list[Schema]]]],
    definitions: Mapping[str, Schema],
    width: int,
) -> Iterator[Case]:
    waiting, splits = list(waiting), list(splits)
    while waiting:
        schema = waiting.pop()
        if schema is False:
            return
        if schema is True or any(schema is fact for fact in facts):
            continue
        assert isinstance(schema, Mapping)
        facts += (schema,)
        waiting.extend(schema.get("allOf", ()))
        if "$ref" in schema:
            waiting.append(target(schema["$ref"], definitions))
        splits += _splits(schema)
    while splits and width * len(splits[0]) > MAX_CASES:
        splits.pop(0)
    if not splits:
        yield Case(facts, excluded)
        return
    first, *rest = splits
    for known, impossible in first:
        out = excluded | {id(each) for each in impossible if not isinstance(each, bool)}
        yield from _expanded(known, facts, out, rest, definitions, width * len(first))


def _splits(schema: Fact) -> Iterator[list[tuple[list[Schema], list[Schema]]]]:
    """Yield each set of alternatives of a schema: what holds in it, and what does not."""
    if "anyOf" in schema:
        yield [([branch], []) for branch in schema["anyOf"]]
    if "oneOf" in schema:
        branches = schema["oneOf"]
        yield [
            ([branch, *({"not": other} for other in others)], others)
            for n, branch in enumerate(branches)
            for others in [branches[:n] + branches[n + 1 :]]
        ]
    if "if" in schema:
        test, then, other = schema["if"], schema.get("then", True), schema.get("else", True)
        yield [([test, then], [other]), ([{"not": test}, other], [test, then])]
    for name, inner in schema.get("dependentSchemas", {}).items():
        there: Schema = {"type": "object", "required": [name]}
        yield [([there, inner], []), ([{"properties": {name: False}}], [inner])]


def target(reference: str, definitions: Mapping[str, Schema]) -> Schema:
    """Return what a reference of a normal form leads to."""
    return definitions[reference.rpartition("/")[2]]


def child(case: Case, name: str, definitions: Mapping[str, Schema]) -> Schema:
    """Return a schema that whatever an object has under a name is valid under; False if it cannot have it."""
    known: list[Schema] = []
    for fact in case.facts:
        if "propertyNames" in fact and not holds(fact["propertyNames"], name, definitions):
            return False
        found = _own(fact, name)
        known += found
        if not found:
            known.append(fact.get("additionalProperties", True))
        beside = "unevaluatedProperties" in fact and "additionalProperties" not in fact
        if beside and not found and not _evaluated(fact, case, name, definitions):
            known.append(fact["unevaluatedProperties"])
    return conjunction(known)


def other_child(case: Case, pattern: str | None, definitions: Mapping[str, Schema]) -> Schema:
    """Return what an object has under names that no fact lists, and that match a pattern, or for None any or none."""
    known: list[Schema] = []
    for fact in case.facts:
        patterns = fact.get("patternProperties", {})
        if pattern in patterns:
            known.append(patterns[pattern])
            continue
        rest: Schema = fact.get("additionalProperties", True)
        beside = "unevaluatedProperties" in fact and "additionalProperties" not in fact
        if beside and not _evaluated(fact, case, None, definitions):
            rest = fact["unevaluatedProperties"]
        known.append(
            {"anyOf": [rest, *patterns.values()]} if patterns and rest is not True else rest
        )
    return conjunction(known)


def _own(fact: Fact, name: str) -> list[Schema]:
    found = [fact["properties"][name]] if name in fact.get("properties", ()) else []
    inner = fact.get("patternProperties", {})
    return found + [schema for pattern, schema in inner.items() if matches(pattern, name)]


def _evaluated(fact: Fact, case: Case, name: str | None, definitions: Mapping[str, Schema]) -> bool:
    """Say whether a part of a fact may have evaluated a name, or one that nothing lists."""
    for each in composed_into(fact, case, definitions):
        if each is fact:
            continue
        if "additionalProperties" in each or "unevaluatedProperties" in each:
            return True
        if _own(each, name) if name is not None else "patternProperties" in each:
            return True
    return False


def composed_into(schema: Fact, case: Case, definitions: Mapping[str, Schema]) -> Iterator[Fact]:
    """Yield a schema and whatever in it may speak of the same object, tests as well, but for what is excluded."""
    waiting: list[Schema] = [schema]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, bool) or id(each) in seen or id(each) in case.excluded:
            continue
        seen.add(id(each))
        yield each
        waiting += [part.schema for part in parts(each) if part.in_place and part.keyword != "not"]
        if "$ref" in each:
            waiting.append(target(each["$ref"], definitions))


def names(case: Case, definitions: Mapping[str, Schema]) -> set[str]:
    """Return the names that facts list, in whatever part."""
    found = case.required()
    for fact in case.facts:
        for each in composed_into(fact, case, definitions):
            found |= set(each.get("properties", ()))
    return found


def item(case: Case, n: int) -> Schema:
    """Return a schema that the n-th item of an array is valid under, from 0; False if it cannot have it."""
    if n >= case.most_items():
        return False
    known: list[Schema] = []
    for fact in case.facts:
        prefix = fact.get("prefixItems", ())
        rest = fact.get("items", True)
        if "items" not in fact and "unevaluatedItems" in fact and _COMPOSING.isdisjoint(fact):
            rest = fact["unevaluatedItems"]
        known.append(prefix[n] if n < len(prefix) else rest)
    return conjunction(known)


_COMPOSING: Final = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "contains", "dependentSchemas"}
)


def conjunction(schemas: Iterable[Schema]) -> Schema:
    """Return one schema for several that all hold."""
    left: dict[bytes, Schema] = {}
    for schema in schemas:
        if schema is False:
            return False
        if schema is not True:
            left.setdefault(text_of(schema), schema)
    if not left:
        return True
    return next(iter(left.values())) if len(left) == 1 else {"allOf": list(left.values())}


def text_of(schema: Schema) -> bytes:
    """Return a text that is equal for equal schemas, and in which ``1`` and ``true`` are two things."""
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)


def holds(schema: Schema, value: Any, definitions: Mapping[str, Schema]) -> bool:
    """Say whether one value is valid under a schema."""
    return validator(schema, definitions).is_valid(value)


def validator(schema: Schema, definitions: Mapping[str, Schema]) -> jsonschema_rs.Validator:
    """Compile a schema that refers to definitions."""
    return _compiled(text_of({"allOf": [schema], "$defs": _needed(schema, definitions)}))


@lru_cache(maxsize=4096)
def _compiled(text: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        orjson.loads(text), validate_formats=True, pattern_options=PATTERNS, offline=True
    )


def _needed(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    needed: dict[str, Schema] = {}
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        waiting += [part.schema for part in parts(each)]
        name = "" if isinstance(each, bool) else each.get("$ref", "").rpartition("/")[2]
        if name and name not in needed:
            needed[name] = definitions[name]
            waiting.append(needed[name])
    return needed


def matches(pattern: str, text: str) -> bool:
    """Say whether a text matches a pattern, by the engine that validates."""
    return _pattern(pattern).is_valid(text)


@lru_cache(maxsize=1024)
def _pattern(text: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        {"pattern": text}, pattern_options=PATTERNS, offline=True
    )


def _listed(declared: str | list[str]) -> list[str]:
    return [declared] if isinstance(declared, str) else declared
