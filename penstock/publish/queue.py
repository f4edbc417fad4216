"""Queue order: which lane goes next, and why, as arithmetic that a person can follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from penstock.batch.source import SourceSpec
from penstock.publish.state import PublishState


class QueuePolicy(BaseModel):
    """The weights of the score. All are configurable; the defaults favour age within an hour's reach."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    age_weight: float = Field(default=1.0, ge=0)
    """Points per ``age_unit_s`` that a batch has waited, so that nothing waits for ever."""
    age_unit_s: float = Field(default=3600.0, gt=0)
    importance_weight: float = Field(default=2.0, ge=0)
    """Points for importance 1; a source of importance 0 gets none."""
    complexity_weight: float = Field(default=0.5, ge=0)
    """Points taken off for complexity 1."""
    boost_weight: float = Field(default=1.0, ge=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The parts of a score; ``total`` is their sum."""

    age: float
    importance: float
    complexity: float
    boost: float

    @property
    def total(self) -> float:
        """The number that lanes are ordered by, highest first."""
        return self.age + self.importance + self.complexity + self.boost


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePlace:
    """One waiting batch, its place, and how that came about."""

    place: int
    """1 is next."""
    state: PublishState
    score: Score
    waits_for: str | None
    """Why it cannot be claimed now: an older batch of its lane, a lease, a retry's due time; or None."""


def score(spec: SourceSpec, state: PublishState, policy: QueuePolicy, now: datetime) -> Score:
    """Score one batch: ``w_age * age/unit + w_imp * importance - w_cplx * complexity + w_boost * boost``."""
    age_s = max(0.0, (now - state.enqueued_at).total_seconds())
    return Score(
        age=policy.age_weight * age_s / policy.age_unit_s,
        importance=policy.importance_weight * spec.importance,
        complexity=-policy.complexity_weight * spec.complexity,
        boost=policy.boost_weight * state.priority_boost,
    )
