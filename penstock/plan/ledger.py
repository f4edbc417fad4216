"""The conservation ledger: per batch and type, everything that came in is accounted for.

::

    extracted + filtered + inferred deletes
        = created + updated + deleted + unchanged + filtered + held + blocked + superseded + dead-lettered
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from penstock.batch.rows import Kind


class LedgerRow(BaseModel):
    """The account of one type of one batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    type_name: str
    extracted: int = Field(default=0, ge=0)
    """Rows that the batch holds, tombstones included."""
    filtered: int = Field(default=0, ge=0)
    """Rows that the transform left out on purpose; they stand on both sides."""
    inferred_deletes: int = Field(default=0, ge=0)
    """Absences inside complete scopes."""
    created: int = Field(default=0, ge=0)
    updated: int = Field(default=0, ge=0)
    deleted: int = Field(default=0, ge=0)
    unchanged: int = Field(default=0, ge=0)
    held: int = Field(default=0, ge=0)
    """Kept back by a guard."""
    blocked: int = Field(default=0, ge=0)
    """Kept back because what they depend on did not take effect."""
    superseded: int = Field(default=0, ge=0)
    """Held, and left out of the release: a newer batch decided about it, or about something that it contains."""
    dead_lettered: int = Field(default=0, ge=0)
    """Refused by validation or by the target."""
    lost: int = Field(default=0, ge=0)
    """The target said that they took effect, and they did not: they stand on neither side, so that it shows."""

    @property
    def came_in(self) -> int:
        """The left side of the balance."""
        return self.extracted + self.filtered + self.inferred_deletes

    @property
    def accounted_for(self) -> int:
        """The right side of the balance."""
        took_effect = self.created + self.updated + self.deleted + self.unchanged
        kept_back = self.held + self.blocked + self.superseded
        return took_effect + self.filtered + kept_back + self.dead_lettered

    @property
    def balanced(self) -> bool:
        """Whether nothing is lost in silence."""
        return self.came_in == self.accounted_for
