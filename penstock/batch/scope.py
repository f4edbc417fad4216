"""Scopes: what part of a source a batch speaks for, and how completely.

An absence deletes only inside a scope that is ``complete``. Every other completeness says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

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

    def covers(self, key: str) -> bool:
        """Say whether a key of this scope's type lies inside it."""
        prefix = self.key_prefix.rstrip("/")
        return not prefix or key == prefix or key.startswith(prefix + "/")


def completeness_of(
    scopes: Sequence[Scope], kind: Kind, type_name: str, key: str
) -> Completeness:
    """Return the completeness that holds for one key: the longest matching prefix decides.

    Between scopes of equal prefix, the least complete wins: one failed page makes the scope failed.
    A key that no scope covers is ``non_authoritative``.
    """
    best: tuple[int, int] | None = None
    answer = Completeness.NON_AUTHORITATIVE
    for scope in scopes:
        if scope.kind is not kind or scope.type_name != type_name or not scope.covers(key):
            continue
        rank = (len(scope.key_prefix.rstrip("/")), scope.completeness is not Completeness.COMPLETE)
        if best is None or rank > best:
            best, answer = rank, scope.completeness
    return answer
