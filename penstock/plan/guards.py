"""Guards: checks on a plan that hold back what looks like an accident.

A guard sees counts, never rows, so that guards run before any operation is written. What a guard holds stays in the
plan with the verdict ``held`` and is never sent; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from penstock.batch.rows import Kind

NEVER_RELEASED = frozenset({"protected"})
"""Guards whose holds no approval releases."""


class GuardPolicy(BaseModel):
    """Limits; the defaults are safe with nothing configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_delete_share: float = Field(default=0.3, ge=0, le=1)
    """Most of a type's known rows that one batch may delete by absence."""
    always_allowed_deletes: int = Field(default=20, ge=0)
    """So many inferred deletes of a type pass whatever their share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeCounts:
    """What a plan would do to one type."""

    known: int
    """Rows in the snapshot."""
    landed: int
    """Rows in the batch, tombstones included."""
    created: int = 0
    updated: int = 0
    inferred_deletes: int = 0
    tombstoned: int = 0


class Verdict(BaseModel):
    """What one guard said."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    guard: str
    passed: bool
    message: str
    held_deletes: tuple[tuple[Kind, str], ...] = ()
    """Types whose inferred deletes are held."""


Counts = Mapping[tuple[Kind, str], TypeCounts]


def run_guards(policy: GuardPolicy, counts: Counts) -> tuple[Verdict, ...]:
    """Return the verdict of every guard, in a fixed order."""
    return (_delete_share(policy, counts), _empty_extract(policy, counts))


def _delete_share(policy: GuardPolicy, counts: Counts) -> Verdict:
    over = [
        (key, c)
        for key, c in sorted(counts.items())
        if c.inferred_deletes > policy.always_allowed_deletes
        and c.inferred_deletes > policy.max_delete_share * c.known
    ]
    limit = f"{policy.max_delete_share:.0%} of its rows"
    if not over:
        return Verdict(
            guard="delete_share", passed=True, message=f"no type loses more than {limit}"
        )
    said = "; ".join(
        f"{type_name} ({kind}) would lose {c.inferred_deletes:,} of {c.known:,}"
        for (kind, type_name), c in over
    )
    return Verdict(
        guard="delete_share",
        passed=False,
        message=f"{said}: more than {limit}, so these deletes are held",
        held_deletes=tuple(key for key, _ in over),
    )


def _empty_extract(policy: GuardPolicy, counts: Counts) -> Verdict:
    """Nothing landed at all, yet much is known: far likelier an outage than an empty source."""
    landed = sum(c.landed for c in counts.values())
    known = sum(c.known for c in counts.values())
    deletes = sum(c.inferred_deletes for c in counts.values())
    if landed or deletes <= policy.always_allowed_deletes:
        return Verdict(guard="empty_extract", passed=True, message=f"{landed:,} rows landed")
    return Verdict(
        guard="empty_extract",
        passed=False,
        message=f"nothing landed while {known:,} rows are known, so all {deletes:,} deletes are held",
        held_deletes=tuple(key for key, c in sorted(counts.items()) if c.inferred_deletes),
    )


def held_types(verdicts: Sequence[Verdict]) -> dict[tuple[Kind, str], str]:
    """Return, per type whose inferred deletes are held, the guard and its message."""
    held: dict[tuple[Kind, str], str] = {}
    for verdict in verdicts:
        for key in verdict.held_deletes:
            held.setdefault(key, f"{verdict.guard}: {verdict.message}")
    return held
