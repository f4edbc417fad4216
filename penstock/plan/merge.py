"""Merging three ways: what was last published, what the target holds, and what the source says now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from penstock.batch.ownership import Owner
from penstock.errors import NotCanonical
from penstock.identity.canonical import canonical_json, value_of

_ABSENT = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """What comes of a merge."""

    attributes: Mapping[str, Any]
    kept: tuple[str, ...] = ()
    """Fields that stay as the target has them, because people or others own and changed them."""
    conflicts: tuple[str, ...] = ()
    """Of these, fields that the source changed as well: what it says is not written."""
    restored: tuple[str, ...] = ()
    """Fields that the source owns and somebody changed: they go back to what the source says."""


def merge_three(
    base: Mapping[str, Any],
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    owners: Mapping[str, Owner],
) -> Merge:
    """Merge by field. ``base`` is what was last published, ``theirs`` what is held, ``ours`` what the source says.

    A field of people, or of others, that differs from ``base`` in ``theirs`` stays; everything else becomes ``ours``.
    Where both say the same, nothing has to be decided.
    """
    merged: dict[str, Any] = {}
    kept, conflicts, restored = [], [], []
    for name in sorted({*base, *theirs, *ours}):
        was, held, said = (side.get(name, _ABSENT) for side in (base, theirs, ours))
        changed_there = not _same(held, was) and not _same(held, said)
        value = said
        if changed_there and owners.get(name, Owner.SOURCE) is not Owner.SOURCE:
            value = held
            kept.append(name)
            if not _same(said, was):
                conflicts.append(name)
        elif changed_there:
            restored.append(name)
        if value is not _ABSENT:
            merged[name] = value
    return Merge(
        attributes=merged,
        kept=tuple(kept),
        conflicts=tuple(conflicts),
        restored=tuple(restored),
    )


class MergedRow(BaseModel):
    """What became of the fields of one entity or relationship that somebody changed in a target, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    operation_id: str
    """Of the operation as planned, 32 hex digits."""
    action: str
    kind: str
    type_name: str
    key: str
    to_key: str | None = None
    kept: tuple[str, ...] = ()
    """Fields that stay as the target has them."""
    conflicts: tuple[str, ...] = ()
    """Of these, fields that the source changed as well: what it says is not written."""
    restored: tuple[str, ...] = ()
    """Fields that go back to what the source says."""

    @property
    def decides(self) -> bool:
        """Whether anything had to be decided."""
        return bool(self.kept or self.restored)


def merged_row(operation: Mapping[str, Any], merge: Merge) -> MergedRow:
    """Return what a merge decides about the fields of one operation's row."""
    names = ("action", "kind", "type_name", "key", "to_key")
    return MergedRow(
        operation_id=operation["operation_id"].hex(),
        kept=merge.kept,
        conflicts=merge.conflicts,
        restored=merge.restored,
        **{name: operation[name] for name in names},
    )


def fields_of(text: str | None) -> dict[str, Any] | None:
    """Return the fields of what a target holds; None where it keeps no text, or somebody left what cannot be read."""
    if text is None:
        return None
    try:
        return value_of(canonical_json(text.encode()))
    except (NotCanonical, UnicodeEncodeError):
        return None


def mend(published: str, held: str | None, owners: Mapping[str, Owner]) -> Merge | None:
    """Return what a target should hold where it differs from what was published; None where it is to be left as it is.

    It is left where only people's or others' fields differ, and where some are theirs and cannot be told.
    """
    ours, theirs = value_of(published), fields_of(held)
    if theirs is None:
        return None if owners else Merge(attributes=ours)
    merge = merge_three(ours, theirs, ours, owners)
    return None if merge.kept and not merge.restored else merge


def _same(left: Any, right: Any) -> bool:
    """Say whether two values are one: 1, 1.0 and true are three; a NaN is itself."""
    if left is _ABSENT or right is _ABSENT:
        return left is right
    return type(left) is type(right) and repr(left) == repr(right)
