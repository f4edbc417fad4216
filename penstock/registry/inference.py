"""A schema that is read off rows: a proposal, for a person to edit before anything is held to it.

Rows are looked at one at a time and forgotten: what is kept is one summary for each place that values stand at, so
that memory follows the shape of rows and not their number. Every row that a proposal was read off is valid under it.

What is proposed: types, with ``null`` where it occurs; ``required`` for names that every object has; ``format`` where
each text is a date-time, a date, a UUID or a URI; ``enum`` where a text takes at most 20 values, and each ten times on
average. An object with very many names is left open. Bounds are left out: what has been is no promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import jsonschema_rs
import orjson
import pyarrow as pa

from penstock.registry.dialect import Dialect, pointer
from penstock.registry.violations import type_of

MAX_ENUM: Final = 20
ENOUGH_FOR_ENUM: Final = 50
"""Texts that have to be seen before few different ones mean anything."""
MAX_ENUM_TEXT: Final = 100
MAX_NAMES: Final = 200
"""Names of one object beyond which they are taken for data, and nothing is said of them."""
MAX_PLACES: Final = 1_500
MAX_DEPTH: Final = 24
_FORMATS: Final = ("date-time", "date", "uuid", "uri")


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """What was seen at one place."""

    seen: int
    """Values."""
    share: float
    """Of the objects or arrays around it that have one, from 0 to 1."""
    kinds: Mapping[str, int]
    """Values by JSON type."""
    distinct: int | None
    """Different texts; None where there are more than are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A schema that somebody may edit and define."""

    document: Mapping[str, Any]
    """Marked by ``x-proposal``."""
    rows: int
    statistics: Mapping[str, Statistic]
    """By JSON pointer into values; ``*`` stands for any item or name."""


@dataclass(slots=True)
class _Place:
    """What was seen at one place of rows."""

    kinds: dict[str, int] = field(default_factory=dict)
    texts: dict[str, None] | None = field(default_factory=dict)
    """Different texts, until there are too many."""
    formats: tuple[str, ...] = _FORMATS
    """Those that every text has had."""
    anything: bool = False
    """It holds what is no JSON, or is nested too deep: nothing is said of it."""
    names: dict[str, _Place] | None = field(default_factory=dict)
    """By name; None once there were too many."""
    values: _Place | None = None
    """All items."""

    def count(self, kind: str) -> int:
        """Return how many values of a kind there were."""
        return self.kinds.get(kind, 0)


class Inference:
    """Reads rows one at a time."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.rows = 0
        self._root = _Place()
        self._places = 1

    def add(self, row: Mapping[str, Any]) -> None:
        """Look at one row of plain JSON values."""
        self.rows += 1
        self._look(self._root, row, 0)

    def add_texts(self, column: pa.Array | pa.ChunkedArray) -> None:
        """Look at rows that are JSON objects as text; nulls are passed over."""
        for scalar in column:
            text = scalar.as_py()
            if text is not None:
                self.add(orjson.loads(text))

    def proposal(self, title: str) -> Proposal:
        """Return what the rows so far have in common."""
        root = self._schema(self._root)
        document = {
            "$schema": Dialect.DRAFT_2020_12.value,
            "title": title,
            **(root if isinstance(root, dict) and root else {"type": "object"}),
            "x-proposal": {"rows": self.rows},
        }
        statistics = dict(_statistics(self._root, (), max(self.rows, 1)))
        return Proposal(document=document, rows=self.rows, statistics=statistics)

    def _look(self, place: _Place, value: Any, depth: int) -> None:
        kind = type_of(value)
        place.kinds[kind] = place.kinds.get(kind, 0) + 1
        if not _is_json(value, kind) or (depth >= MAX_DEPTH and kind in {"object", "array"}):
            place.anything = True
        elif kind == "string":
            _look_at_text(place, value)
        elif kind == "array":
            for each in value:
                if place.values is None:
                    place.values = self._new()
                self._look(place.values, each, depth + 1)
        elif kind == "object":
            self._look_at_object(place, value, depth)

    def _look_at_object(self, place: _Place, value: Mapping[str, Any], depth: int) -> None:
        for name, each in value.items():
            if place.names is None:
                return
            if name not in place.names:
                if len(place.names) >= MAX_NAMES or self._places >= MAX_PLACES:
                    place.names = None
                    return
                place.names[name] = self._new()
            self._look(place.names[name], each, depth + 1)

    def _new(self) -> _Place:
        self._places += 1
        return _Place(anything=self._places > MAX_PLACES)

    def _schema(self, place: _Place) -> dict[str, Any] | bool:
        if place.anything or not place.kinds:
            return True
        kinds = set(place.kinds) - ({"integer"} if place.count("number") else set())
        schema: dict[str, Any] = {"type": sorted(kinds) if len(kinds) > 1 else next(iter(kinds))}
        if "string" in kinds:
            schema |= _of_texts(place, kinds)
        if "array" in kinds and place.values is not None:
            schema["items"] = self._schema(place.values)
        if "object" in kinds:
            schema |= self._of_objects(place)
        return schema

    def _of_objects(self, place: _Place) -> dict[str, Any]:
        if place.names is None:
            return {"additionalProperties": True}
        objects = place.count("object")
        required = [
            name for name, inner in place.names.items() if sum(inner.kinds.values()) == objects
        ]
        said: dict[str, Any] = {
            "properties": {name: self._schema(place.names[name]) for name in sorted(place.names)}
        }
        return {**said, "required": sorted(required)} if required else said


def infer(rows: Iterable[Mapping[str, Any]], title: str) -> Proposal:
    """Return a schema that every one of ``rows`` is valid under."""
    inference = Inference()
    for row in rows:
        inference.add(row)
    return inference.proposal(title)


def _is_json(value: Any, kind: str) -> bool:
    if kind == "number":
        return math.isfinite(value)
    return kind != "object" or (
        isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    )


def _look_at_text(place: _Place, text: str) -> None:
    if place.formats:
        place.formats = tuple(each for each in place.formats if _is_of(each, text))
    if place.texts is not None and text not in place.texts:
        place.texts[text] = None
        if len(place.texts) > MAX_ENUM or len(text) > MAX_ENUM_TEXT:
            place.texts = None


def _is_of(name: str, text: str) -> bool:
    if name == "uri" and "://" not in text:
        return False  # "a:b" is a URI by the letter, and most often none
    return _format(name).is_valid(text)


@cache
def _format(name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True, offline=True)


def _of_texts(place: _Place, kinds: set[str]) -> dict[str, Any]:
    if place.formats:
        return {"format": place.formats[0]}
    seen = place.count("string")
    if place.texts is None or kinds - {"string", "null"} or seen < ENOUGH_FOR_ENUM:
        return {}
    if seen < 10 * len(place.texts):
        return {}
    return {"enum": sorted(place.texts) + [None] * ("null" in kinds)}


def _statistics(place: _Place, at: tuple[str, ...], around: int) -> Iterator[tuple[str, Statistic]]:
    seen = sum(place.kinds.values())
    yield (
        pointer(at),
        Statistic(
            seen=seen,
            share=min(seen / around, 1.0),
            kinds=dict(place.kinds),
            distinct=None if place.texts is None else len(place.texts),
        ),
    )
    for name, inner in sorted((place.names or {}).items()):
        yield from _statistics(inner, (*at, name), max(place.count("object"), 1))
    if place.values is not None:
        yield from _statistics(place.values, (*at, "*"), max(place.count("array"), 1))
