"""What is remembered of a lane to forecast it: its last publishes, and how far forecasts of it were off.

A model is small (some tens of numbers) and is brought up to date as publishes end, so that a forecast reads one row per
lane and no history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from math import log
from typing import Any, TypeAlias

from penstock.identity.ids import SourceId, TargetId

LaneId: TypeAlias = tuple[SourceId, TargetId]

MOST_PUBLISHES = 24
"""Newest publishes of a lane that its rates are measured on."""
MOST_SCORES = 40
"""Newest scores of a lane and stage that its quantiles are taken from."""
SCORE_SHIFT_S = 5.0
"""Added to both sides of a score's ratio, so that what takes a second is not judged by its milliseconds."""


class Stage(StrEnum):
    """Where a batch stands when it is forecast: errors are alike within one, and not between them."""

    NEXT = "next"
    """It waits, and is expected to be begun at once."""
    QUEUED = "queued"
    """It waits for its turn."""
    IN_HAND = "in_hand"
    """A worker has it."""
    RETRYING = "retrying"
    """It waits for a retry, or its target does not answer."""
    NEW = "new"
    """Its lane has hardly any history, wherever it stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PastPublish:
    """One publish that ended well at the first attempt."""

    ended_at: datetime
    work_s: float
    """From claim to COMPLETE."""
    rows: int | None
    """Of the manifest."""
    operations: int | None
    """Of the plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How far one forecast was off, known since ``at``."""

    at: datetime
    value: float
    """``log((actual_s + SCORE_SHIFT_S) / (point_s + SCORE_SHIFT_S))``: 0 is exact, above 0 is late."""
    missed: bool
    """It came after the p90 that was told."""


def score_value(*, actual_s: float, point_s: float) -> float:
    """Return the score of a point forecast, both in seconds from the moment that it was made."""
    return log((max(0.0, actual_s) + SCORE_SHIFT_S) / (max(0.0, point_s) + SCORE_SHIFT_S))


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneModel:
    """What is remembered of one lane, newest last."""

    source_id: SourceId
    target_id: TargetId
    publishes: tuple[PastPublish, ...] = ()
    scores: Mapping[Stage, tuple[Score, ...]] = field(default_factory=dict)

    @property
    def lane_id(self) -> LaneId:
        """Return whose it is."""
        return (self.source_id, self.target_id)

    def with_publishes(self, ended: Iterable[PastPublish]) -> LaneModel:
        """Return the model with more publishes; the oldest are forgotten."""
        known = sorted({*self.publishes, *ended}, key=lambda each: each.ended_at)
        return replace(self, publishes=tuple(known[-MOST_PUBLISHES:]))

    def with_score(self, stage: Stage, score: Score) -> LaneModel:
        """Return the model with one more score; the oldest of its stage is forgotten."""
        return self.with_scores(stage, [score])

    def with_scores(self, stage: Stage, scores: Sequence[Score]) -> LaneModel:
        """Return the model with more scores of one stage; its oldest are forgotten."""
        of_stage = (*self.scores.get(stage, ()), *scores[-MOST_SCORES:])[-MOST_SCORES:]
        return replace(self, scores={**self.scores, stage: of_stage})

    def to_document(self) -> dict[str, Any]:
        """Return what is remembered as JSON."""
        return {
            "publishes": [
                [each.ended_at.isoformat(), each.work_s, each.rows, each.operations]
                for each in self.publishes
            ],
            "scores": {
                str(stage): [[each.at.isoformat(), each.value, each.missed] for each in scores]
                for stage, scores in self.scores.items()
            },
        }

    @classmethod
    def from_document(
        cls, source: SourceId, target: TargetId, document: Mapping[str, Any]
    ) -> LaneModel:
        """Read what :meth:`to_document` wrote."""
        return cls(
            source_id=source,
            target_id=target,
            publishes=tuple(
                PastPublish(
                    ended_at=datetime.fromisoformat(at), work_s=work_s, rows=rows, operations=done
                )
                for at, work_s, rows, done in document["publishes"]
            ),
            scores={
                Stage(stage): tuple(
                    Score(at=datetime.fromisoformat(at), value=value, missed=missed)
                    for at, value, missed in scores
                )
                for stage, scores in document["scores"].items()
            },
        )
