"""Which attributes changed: for whole chunks fast, for one entity in words.

:func:`changed_fields` names the top-level attributes that differ, a few microseconds an entity, and runs only over
rows whose digests differ. :func:`explain` asks deepdiff what changed inside one entity, some thousand times dearer,
and runs only when a person asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

_MISSING = object()


def changed_fields(
    before: pa.ChunkedArray | pa.Array, after: pa.ChunkedArray | pa.Array
) -> pa.Array:
    """Return, per row, the sorted names of the attributes that differ, as ``list<string>``.

    ``before`` and ``after`` are canonical texts of the same entities, in the same order. Values are compared as
    text means them: 1 is not 1.0, null is not absent.
    """
    loads = orjson.loads
    names = [
        _changed_names(loads(a), loads(b))
        for a, b in zip(before.to_pylist(), after.to_pylist(), strict=True)
    ]
    return pa.array(names, pa.list_(pa.string()))


def _changed_names(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    missing = _MISSING
    changed = [
        name
        for name, value in after.items()
        if (old := before.get(name, missing)) != value or type(old) is not type(value)
    ]
    if len(before) != len(after) or changed:
        changed += [name for name in before if name not in after]
    if not changed:  # they differ deep inside, in type only: [1] against [1.0]
        changed = [
            name for name in after if orjson.dumps(before[name]) != orjson.dumps(after[name])
        ]
    return sorted(_plain(name) for name in changed)


def _plain(name: str) -> str:
    return name[1:] if name.startswith("$$") else name


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldChange:
    """One difference inside one entity."""

    path: str
    """Where, e.g. ``columns[2].type``."""
    change: str
    """``added``, ``removed``, ``changed`` or ``changed type``."""
    before: Any
    after: Any


def explain(before: dict[str, Any], after: dict[str, Any]) -> list[FieldChange]:
    """Return what changed inside one entity, by path, with the values on both sides."""
    from deepdiff import DeepDiff  # noqa: PLC0415  dear to import, and only a person's question needs it

    found = DeepDiff(before, after, ignore_nan_inequality=True, verbose_level=2, view="tree")
    return sorted(_field_changes(found), key=lambda change: (change.path, change.change))


_CHANGES = {
    "values_changed": "changed",
    "type_changes": "changed type",
    "dictionary_item_added": "added",
    "dictionary_item_removed": "removed",
    "iterable_item_added": "added",
    "iterable_item_removed": "removed",
    "iterable_item_moved": "changed",
}


def _field_changes(found: Any) -> Iterable[FieldChange]:
    for report, items in found.items():
        for item in items:
            yield FieldChange(
                path=_path(item.path(output_format="list")),
                change=_CHANGES.get(report, report),
                before=_present(item.t1),
                after=_present(item.t2),
            )


def _path(steps: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _present(value: Any) -> Any:
    return None if type(value).__name__ == "NotPresent" else value
