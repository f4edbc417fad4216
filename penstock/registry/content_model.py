"""The normal form of a schema: one self-contained document of 2020-12, closed where its author left it unsaid.

**Closed by default.** Where a schema describes an object (it says ``properties``, ``required``, ``patternProperties``,
``"type": "object"`` or the like) and says neither ``additionalProperties`` nor ``unevaluatedProperties``, names that it
does not declare are refused. To leave it open, say ``"additionalProperties": true``, or give the schema of what else
may come. A schema that says nothing about objects (``{}``, ``true``) takes anything.

- The alternatives of a union (``anyOf`` or ``oneOf``, with no names declared beside it) are closed one by one: each
  takes the names that it declares. What a ``$ref`` with nothing beside it leads to is closed there.
- Otherwise what is composed counts as one: names that are declared beside it, in ``allOf``, ``anyOf``, ``oneOf``,
  ``then``, ``else``, ``dependentSchemas`` or behind a ``$ref`` are declared. So a schema can extend another by
  ``allOf`` and ``$ref``: what is referred to is not closed by itself, the place that refers to it is.
- A composed schema that is explicitly open (``additionalProperties: true``) opens what it is composed into.
- Tests are left as they are: nothing is closed inside ``not``, ``if`` and ``contains``.
- A property that is declared beside a composition can be refined in it: in ``{"properties": {"a": ...}, "then":
  {"properties": {"a": ...}}}`` the second ``a`` is not closed, the first is.
- ``enum`` and ``const`` are closed already.

**Self-contained.** Every ``$ref``, to the same document or to another schema of the registry, becomes one to ``$defs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from penstock.identity.digest import TAG_SCHEMA, digest
from penstock.registry.dialect import (
    STORES,
    Dialect,
    Schema,
    Tokens,
    asserting,
    dialect_of,
    parts,
    pointer,
    pointer_tokens,
    subschemas,
    upgraded,
)
from penstock.registry.schema_references import Reference, Referent, Resolve, nothing, parsed

_OF_OBJECTS: Final = frozenset(
    {
        "properties",
        "patternProperties",
        "required",
        "minProperties",
        "maxProperties",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
    }
)
_TESTS: Final = frozenset({"not", "if", "contains"})
_COMPOSING: Final = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"}
)
_DECLARING: Final = frozenset(
    {
        "$ref",
        "allOf",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "properties",
        "patternProperties",
        "additionalProperties",
        "unevaluatedProperties",
    }
)
"""Keywords beside which the alternatives of a union add names, rather than give all of them."""
_PREFIX: Final = "#/$defs/"


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalSchema:
    """A schema in normal form."""

    root: Schema
    definitions: Mapping[str, Schema]
    """What ``{"$ref": "#/$defs/<name>"}`` in ``root`` and in each other means, by name."""
    origins: Mapping[str, str]
    """Where each definition was written: ``#/...`` of the document itself, or ``penstock:<id>@<version>#/...``."""
    missing: tuple[Reference, ...] = ()
    """References that lead nowhere; they stand as ``true``."""

    def reaches(self, schema: Schema, name: str, *, in_place: bool = False) -> bool:
        """Say whether references lead from a schema to a definition; ``in_place`` only where both meet one value."""
        waiting, seen = [schema], set[str]()
        while waiting:
            each = waiting.pop()
            waiting.extend(part.schema for part in parts(each) if part.in_place or not in_place)
            target = None if isinstance(each, bool) else each.get("$ref")
            if target is not None and target not in seen:
                seen.add(target)
                found = pointer_tokens(target)[-1]
                if found == name:
                    return True
                waiting.append(self.definitions[found])
        return False

    def document(self) -> dict[str, Any]:
        """Return it as one JSON Schema of 2020-12."""
        match self.root:
            case True:
                whole: dict[str, Any] = {}
            case False:
                whole = {"not": {}}
            case _:
                whole = dict(self.root)
        return {**whole, "$defs": dict(self.definitions)} if self.definitions else whole

    def declares(self, place: Sequence[str | int], name: str) -> bool:
        """Say whether the schema at a place of :meth:`document` declares a name, itself or composed into it."""
        schema: Any = self.document()
        for token in place:
            schema = schema[int(token) if isinstance(schema, list) else str(token)]
        return any(
            name in each.get("properties", ()) for each in composed(schema, self.definitions)
        )

    def digest(self) -> bytes:
        """Return 16 bytes that are equal for schemas that are written the same in normal form."""
        return digest(TAG_SCHEMA, orjson.dumps(self.document(), option=orjson.OPT_SORT_KEYS))


@dataclass(frozen=True, slots=True)
class _Home:
    """A document that schemas are read from."""

    name: str
    document: Mapping[str, Any]
    dialect: Dialect
    pins: Mapping[str, int]
    places: Mapping[Tokens, Schema]


@dataclass(frozen=True, slots=True)
class _Context:
    """How a schema is read: whose it is, and what is being closed around it."""

    home: _Home
    closing: bool
    declared: frozenset[str] = frozenset()
    """Names that schemas around it declare for the same object."""


def normal_form(
    document: Mapping[str, Any],
    resolve: Resolve = nothing,
    *,
    pins: Mapping[str, int] | None = None,
    itself: tuple[str, int] | None = None,
    closing: bool = True,
) -> NormalSchema:
    """Return the normal form of a document that :func:`~penstock.registry.schema_validation.problems_of` takes.

    ``pins`` are the versions that references without one mean; where it has none, ``resolve`` is asked for the active
    one. ``itself`` is the id and version of the document, for references to itself by id. Without ``closing``, what its
    author left unsaid stays open: for tools, never to validate by.
    """
    builder = _Builder(resolve, itself)
    home = builder.home_of("", document, pins or {})
    root = builder.whole(document, _Context(home, closing))
    builder.define_all()
    builder.close_all()
    return NormalSchema(
        root=root,
        definitions=builder.definitions,
        origins=builder.origins,
        missing=tuple(dict.fromkeys(builder.missing)),
    )


@dataclass(slots=True)
class _Builder:
    resolve: Resolve
    itself: tuple[str, int] | None
    definitions: dict[str, Schema] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    missing: list[Reference] = field(default_factory=list)
    _homes: dict[str, _Home | None] = field(default_factory=dict)
    _names: dict[tuple[str, Tokens, bool, bool], str] = field(default_factory=dict)
    _waiting: list[tuple[str, Schema, _Context, bool]] = field(default_factory=list)
    _to_close: list[MutableMapping[str, Any]] = field(default_factory=list)

    def home_of(self, name: str, document: Mapping[str, Any], pins: Mapping[str, int]) -> _Home:
        """Read a document's places."""
        dialect = dialect_of(document) or Dialect.DRAFT_2020_12
        home = _Home(name, document, dialect, pins, dict(subschemas(document, dialect)))
        self._homes[name] = home
        return home

    def whole(self, schema: Schema, context: _Context) -> Schema:
        """Return the normal form of a schema that a value of its own is held to."""
        context = _Context(context.home, context.closing)
        if isinstance(schema, bool) or not context.closing:
            return self._part(schema, context)
        passed_on = _passing_on(upgraded(schema, context.home.dialect))
        new = self._part(schema, context, passed_on)
        if passed_on is None and isinstance(new, dict):
            self._to_close.append(new)
        return new

    def _part(self, schema: Schema, context: _Context, whole: str | None = None) -> Schema:
        """Return the normal form of a schema, not closed itself; what stands under the keyword ``whole`` is."""
        if isinstance(schema, bool):
            return schema
        plain = upgraded(schema, context.home.dialect)
        new: dict[str, Any] = {
            keyword: copy(value)  # what _put writes into is ours
            for keyword, value in plain.items()
            if keyword not in STORES and keyword not in {"$schema", "$id"}
        }
        if "$ref" in new:
            del new["$ref"]
            name = self._name_of(parsed(plain["$ref"]), context, whole == "$ref")
            if name is not None:
                new["$ref"] = _PREFIX + name
        declared = context.declared | frozenset(plain.get("properties", ()))
        for part in parts(plain):
            if part.keyword not in STORES:
                inner = self._inner(part.keyword, part.tokens, context, declared)
                in_place = part.in_place and part.keyword != whole
                _put(new, part.tokens, (self._part if in_place else self.whole)(part.schema, inner))
        return new

    @staticmethod
    def _inner(
        keyword: str, tokens: Tokens, context: _Context, declared: frozenset[str]
    ) -> _Context:
        closing = context.closing and keyword not in _TESTS
        if keyword == "properties" and tokens[1] in context.declared:
            closing = False  # it refines what is declared, and closed, around it
        return _Context(context.home, closing, declared)

    def _name_of(self, reference: Reference, context: _Context, whole: bool) -> str | None:
        """Return the name under which what a reference leads to is defined, or None if it leads nowhere."""
        home = self._home(reference, context.home)
        target = None if home is None else home.places.get(reference.tokens)
        if home is None or target is None:
            self.missing.append(reference)
            return None
        key = (home.name, reference.tokens, context.closing, whole)
        if key not in self._names:
            name = self._names[key] = f"s{len(self._names) + 1}"
            self.origins[name] = f"{home.name}#{pointer(reference.tokens)}"
            self._waiting.append((name, target, _Context(home, context.closing), whole))
        return self._names[key]

    def _home(self, reference: Reference, here: _Home) -> _Home | None:
        if reference.schema_id is None:
            return here
        version = reference.version or here.pins.get(reference.schema_id)
        own = self.itself is not None and reference.schema_id == self.itself[0]
        if own and self.itself is not None and version in {None, self.itself[1]}:
            return self._homes[""]
        name = f"penstock:{reference.schema_id}@{version or ''}"
        if name not in self._homes:
            found = self.resolve(reference.schema_id, version)
            self._homes[name] = None if found is None else self._read(found)
        return self._homes[name]

    def _read(self, found: Referent) -> _Home:
        name = f"penstock:{found.schema_id}@{found.version}"
        return self._homes.get(name) or self.home_of(name, found.document, found.pins)

    def define_all(self) -> None:
        """Build what has been referred to, and what that refers to."""
        while self._waiting:
            name, schema, context, whole = self._waiting.pop(0)
            self.definitions[name] = (self.whole if whole else self._part)(schema, context)

    def close_all(self) -> None:
        """Close what describes objects and leaves unsaid what else they may hold."""
        for schema in self._to_close:
            if _left_unsaid(schema) and self._describes_objects(schema):
                composed = not _COMPOSING.isdisjoint(schema)
                if composed:
                    self._mark_fixed(schema)
                schema["unevaluatedProperties" if composed else "additionalProperties"] = False

    def _describes_objects(self, schema: Schema) -> bool:
        return any(
            not _OF_OBJECTS.isdisjoint(each) or "object" in _types(each)
            for each in composed(schema, self.definitions)
        )

    def _mark_fixed(self, schema: Schema) -> None:
        """Have composed schemas that give whole objects by ``enum`` or ``const`` count each name as declared."""
        for each in composed(schema, self.definitions):
            values = [*each.get("enum", ()), each.get("const")]
            if any(isinstance(value, Mapping) for value in values) and _left_unsaid(
                each, fixed=False
            ):
                each["additionalProperties"] = True


def composed(
    schema: Schema, definitions: Mapping[str, Schema]
) -> Iterator[MutableMapping[str, Any]]:
    """Yield a schema in normal form and all that are composed into it for the same object, but for tests."""
    waiting, seen = [schema], set[int]()
    while waiting:
        each = waiting.pop()
        if not isinstance(each, dict) or id(each) in seen:
            continue
        seen.add(id(each))
        if "type" in each and "object" not in _types(each):
            continue
        yield each
        waiting.extend(p.schema for p in parts(each) if p.in_place and p.keyword not in _TESTS)
        if "$ref" in each:
            waiting.append(definitions[each["$ref"].removeprefix(_PREFIX)])


def _passing_on(schema: Mapping[str, Any]) -> str | None:
    """Return the keyword behind which the names of a schema that declares none itself are, if there is one."""
    said = {keyword for keyword in schema if asserting(keyword)} - STORES
    if said == {"$ref"}:
        return "$ref"
    unions = sorted(said & {"anyOf", "oneOf"})
    return unions[0] if len(unions) == 1 and said.isdisjoint(_DECLARING) else None


def _left_unsaid(schema: Mapping[str, Any], *, fixed: bool = True) -> bool:
    says = {"additionalProperties", "unevaluatedProperties"} | (
        {"enum", "const"} if fixed else set()
    )
    return says.isdisjoint(schema)


def _types(schema: Mapping[str, Any]) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else found


def _put(schema: dict[str, Any], tokens: Tokens, value: Schema) -> None:
    """Put a rewritten schema where the one was that it was made of."""
    keyword, *rest = tokens
    if not rest:
        schema[keyword] = value
    elif isinstance(schema[keyword], list):
        schema[keyword][int(rest[0])] = value
    else:
        schema[keyword][rest[0]] = value
