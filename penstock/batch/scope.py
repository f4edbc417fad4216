"""Scopes: what part of a source a batch speaks for, and how completely.

An absence deletes only inside a scope that is ``complete``. Every other completeness says why not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from penstock.batch.rows import Kind
from penstock.identity import ids


class Completeness(StrEnum):
    """How much of a scope was enumerated, and so what an absence inside it means."""

    COMPLETE = "complete"
    """Everything there is was seen: what is absent is gone."""
    PARTIAL = "partial"
    """Some of it was seen: an absence means nothing."""
    FAILED = "failed"
    """Enumerating it broke off: an absence means nothing."""
    FILTERED = "filtered"
    """Rows were left out on purpose: an absence means nothing."""
    NON_AUTHORITATIVE = "non_authoritative"
    """This source does not decide whether these exist: an absence means nothing."""


class Scope(BaseModel):
    """One type of one kind, optionally under a key prefix, with its completeness.

    ``key_prefix`` is matched against the entity key, or a relationship's ``from_key``, as whole segments:
    ``db/sales`` covers ``db/sales`` and ``db/sales/...`` but not ``db/sales_eu``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Kind.ENTITY
    type_name: str
    key_prefix: str = Field(default="", max_length=ids.MAX_KEY_BYTES)
    completeness: Completeness
    reason: str | None = Field(default=None, max_length=2000)

    @field_validator("type_name")
    @classmethod
    def _valid_type(cls, value: str) -> str:
        return ids.type_name(value)


class ScopeMap:
    """All scopes of a batch, ready to be asked about many keys.

    The longest matching prefix decides. Between scopes of equal prefix the least complete wins: one failed page makes
    the scope failed. A key that no scope covers is ``non_authoritative``.
    """

    def __init__(self, scopes: Iterable[Scope]) -> None:
        self._by_type: dict[tuple[Kind, str], dict[str, Completeness]] = {}
        for scope in scopes:
            prefixes = self._by_type.setdefault((scope.kind, scope.type_name), {})
            prefix = scope.key_prefix.rstrip("/")
            if prefixes.get(prefix, Completeness.COMPLETE) is Completeness.COMPLETE:
                prefixes[prefix] = scope.completeness

    def types(self, kind: Kind) -> list[str]:
        """Return the types that some scope speaks for, sorted."""
        return sorted(type_name for k, type_name in self._by_type if k is kind)

    def any_complete(self, kind: Kind, type_name: str) -> bool:
        """Say whether an absence of this type could be a delete at all."""
        return Completeness.COMPLETE in self._by_type.get((kind, type_name), {}).values()

    def wholly_complete(self, kind: Kind, type_name: str) -> bool:
        """Say whether every absence of this type is a delete, whatever its key."""
        prefixes = self._by_type.get((kind, type_name), {})
        return "" in prefixes and set(prefixes.values()) == {Completeness.COMPLETE}

    def completeness(self, kind: Kind, type_name: str, key: str) -> Completeness:
        """Return the completeness that holds for one key (a relationship's ``from_key``)."""
        prefixes = self._by_type.get((kind, type_name), {})
        prefix = key
        while True:
            if prefix in prefixes:
                return prefixes[prefix]
            if not prefix:
                return Completeness.NON_AUTHORITATIVE
            prefix = prefix.rpartition("/")[0]

    def complete_mask(
        self, kind: Kind, type_name: str, keys: Sequence[str]
    ) -> npt.NDArray[np.bool_]:
        """Return, per key, whether its absence is a delete."""
        if self.wholly_complete(kind, type_name):
            return np.ones(len(keys), bool)
        complete = Completeness.COMPLETE
        return np.array([self.completeness(kind, type_name, key) is complete for key in keys], bool)
