"""Guard policy: how much of a target one batch may change before a person has to look.

A policy stands for the platform; a source may bring its own, and each may say otherwise for single types. Whatever is
over a limit is held, not refused. The defaults are safe with nothing configured.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_CONFIG = ConfigDict(frozen=True, extra="forbid")


class Protected(BaseModel):
    """Entities that no plan deletes, whoever approves it."""

    model_config = _CONFIG
    entity_type: str = "*"
    """A shell pattern, matched with case."""
    entity_key: str = "*"
    """A shell pattern over the whole key; ``*`` matches ``/`` too."""
    attributes: dict[str, Any] = Field(default_factory=dict)
    """Attributes that have to equal these."""

    def names(self, entity_type: str, entity_key: str) -> bool:
        """Say whether type and key are meant, whatever the attributes."""
        return fnmatchcase(entity_type, self.entity_type) and fnmatchcase(
            entity_key, self.entity_key
        )


class Limits(BaseModel):
    """Limits of one type; a share is of the type's known rows."""

    model_config = _CONFIG
    max_deletes: int | None = Field(default=None, ge=0)
    """Most rows that one batch may delete; None for no such limit."""
    max_delete_share: float = Field(default=0.3, ge=0, le=1)
    always_allowed_deletes: int = Field(default=20, ge=0)
    """So many deletes of a type pass whatever their share."""
    max_updates: int | None = Field(default=None, ge=0)
    max_update_share: float = Field(default=1.0, ge=0, le=1)
    always_allowed_updates: int = Field(default=1000, ge=0)
    history_factor: float | None = Field(default=10.0, ge=1)
    """Deletes, or updates, may be so many times the most of the batches before; None for no such limit."""
    min_extract_share: float = Field(default=0.5, ge=0, le=1)
    """A full batch that brings less than this share of the known rows deletes nothing by itself."""


class GuardPolicy(Limits):
    """Limits for all types, with what differs for single ones."""

    history_batches: int = Field(default=20, ge=1, le=1000)
    """How many of the source's last batches make its history."""
    history_min_batches: int = Field(default=5, ge=1)
    """With fewer, there is no history to speak of."""
    types: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By entity or relationship type: the limits that differ."""
    protected: tuple[Protected, ...] = ()

    @model_validator(mode="after")
    def _types_are_limits(self) -> Self:
        for name, limits in self.types.items():
            unknown = sorted(set(limits) - set(Limits.model_fields))
            if unknown:
                raise ValueError(
                    f"types.{name}: {unknown[0]} is no limit; these are: {', '.join(Limits.model_fields)}"
                )
            self.limits(name)
        return self

    def limits(self, type_name: str) -> Limits:
        """Return the limits that hold for one type."""
        values = {name: getattr(self, name) for name in Limits.model_fields}
        return Limits.model_validate(values | self.types.get(type_name, {}))
