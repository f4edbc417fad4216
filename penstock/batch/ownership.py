"""Ownership: who decides about which field once an entity is in a target.

What a source owns always follows the source. What people own, or some other system, is written when the entity is
created, and from then on stays as they leave it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from penstock.errors import PenstockError
from penstock.identity import ids


class Owner(StrEnum):
    """Who decides about a field in the target."""

    SOURCE = "source"
    HUMAN = "human"
    OTHER = "other"
    """Another system that writes into the target."""


Ownership = Mapping[str, Mapping[str, Owner]]
"""By entity type and top-level field; what is not named is the source's."""


def checked_ownership(given: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Owner]]:
    """Return a declaration with its types and owners checked, or raise ``PenstockError``."""
    owned: dict[str, dict[str, Owner]] = {}
    for type_name, fields in given.items():
        ids.type_name(type_name)
        for field, owner in fields.items():
            if owner not in set(Owner):
                raise PenstockError(
                    f"ownership of {type_name}.{field} is {owner!r}: give one of {', '.join(Owner)}"
                )
            owned.setdefault(type_name, {})[field] = Owner(owner)
    return owned
