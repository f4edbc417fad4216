"""A schema as one document that any validator of 2020-12 reads as the registry does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penstock.registry.bisimilar import renamed
from penstock.registry.content_model import NormalSchema, normal_form
from penstock.registry.dialect import Dialect
from penstock.registry.schema_references import Resolve, nothing

_OTHER = re.compile(r"[^A-Za-z0-9_]+")


def exported(
    document: Mapping[str, Any],
    resolve: Resolve = nothing,
    *,
    pins: Mapping[str, int] | None = None,
    itself: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Return a document with all that it refers to under ``$defs``, and with what is closed said.

    Definitions are named by where they were written: ``address`` for ``#/$defs/address``, ``person_2`` for version 2 of
    the schema ``person``.
    """
    normal = normal_form(document, resolve, pins=pins, itself=itself)
    names = _names(normal)
    root = renamed(normal.root, names, notes=True)
    whole = dict(root) if isinstance(root, Mapping) else {"allOf": [root]}
    definitions = {
        names[name]: renamed(schema, names, notes=True)
        for name, schema in normal.definitions.items()
    }
    said: dict[str, Any] = {"$schema": Dialect.DRAFT_2020_12.value, **whole}
    return {**said, "$defs": definitions} if definitions else said


def _names(normal: NormalSchema) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, origin in normal.origins.items():
        home, _, place = origin.partition("#")
        words = [home.removeprefix("penstock:"), *place.removeprefix("/$defs").split("/")]
        plain = _OTHER.sub("_", "_".join(filter(None, words))).strip("_") or "whole"
        taken = set(names.values())
        names[name] = next(
            each
            for each in (plain, *(f"{plain}_{n}" for n in range(2, len(normal.origins) + 3)))
            if each not in taken
        )
    return names
