"""Names for definitions by what they mean, so that two schemas that say the same refer to the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from penstock.registry.content_model import NormalSchema
from penstock.registry.dialect import LISTS, MAPS, SINGLE, Schema

_PREFIX: Final = "#/$defs/"


def relabelled(
    *normals: NormalSchema,
) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the roots of schemas over one set of definitions, in which those that mean the same are one.

    Two definitions are one if they are written the same but for references, and those lead to definitions that are one:
    found by refining a first guess, that all are, until it stands.
    """
    written = {
        (n, name): schema
        for n, normal in enumerate(normals)
        for name, schema in normal.definitions.items()
    }
    labels = dict.fromkeys(written, "")
    while True:
        refined = {
            (n, name): _label(
                renamed(schema, {each: labels[n, each] for each in normals[n].definitions})
            )
            for (n, name), schema in written.items()
        }
        stands = len(set(refined.values())) == len(set(labels.values()))
        labels = refined
        if stands:
            break
    roots = [
        renamed(normal.root, {name: labels[n, name] for name in normal.definitions})
        for n, normal in enumerate(normals)
    ]
    definitions = {
        labels[n, name]: renamed(schema, {each: labels[n, each] for each in normals[n].definitions})
        for (n, name), schema in written.items()
    }
    return roots, definitions


def renamed(schema: Schema, new_names: Mapping[str, str], *, notes: bool = False) -> Schema:
    """Return a copy of a schema whose references lead to definitions by new names; ``notes`` are kept or not."""
    if isinstance(schema, bool):
        return schema
    new: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "$ref":
            new[keyword] = _PREFIX + new_names[value.removeprefix(_PREFIX)]
        elif keyword in SINGLE:
            new[keyword] = renamed(value, new_names, notes=notes)
        elif keyword in LISTS:
            new[keyword] = [renamed(each, new_names, notes=notes) for each in value]
        elif keyword in MAPS:
            new[keyword] = {
                name: renamed(each, new_names, notes=notes) for name, each in value.items()
            }
        elif notes or keyword not in _NOTES:
            new[keyword] = value
    return new


def _label(schema: Schema) -> str:
    return hashlib.sha256(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


_NOTES: Final = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
    }
)
"""Keywords that say nothing about which values are valid."""
