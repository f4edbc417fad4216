"""When each batch's turn comes: the queue played forward with the workers that there are.

Every lane is one after the other, oldest first; across lanes a free worker takes the batch with the highest score.
Scores grow alike with time, so the order of today is the order of later. What lands meanwhile is not known: it is part
of how far forecasts are off, which their quantiles are measured on.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist
from typing import TypeAlias

from penstock.forecast.lane_model import LaneId
from penstock.identity.ids import BatchId, TargetId

JobId: TypeAlias = tuple[BatchId, TargetId]

WORK_SPREAD = 0.6
"""Standard deviation of the log of a publish's time, for what remains of one under way."""
MOST_OVERTAKING = 0.8
"""Share of the workers beyond which others are not believed to keep a batch waiting."""
_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A batch that a worker has."""

    job: JobId
    lane: LaneId
    remaining_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A batch in the queue."""

    job: JobId
    lane: LaneId
    score: float
    """Across lanes the highest goes first."""
    work_s: float
    not_before_s: float = 0.0
    """Seconds from now until its retry is due, or its target is called again."""
    overtaking: float = 0.0
    """How many workers are kept busy by lanes whose new batches go before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """When a batch is expected to be begun and to be through, in seconds from now."""

    begins_s: float
    ends_s: float


def remaining_s(work_s: float, elapsed_s: float) -> float:
    """Return the median of what remains of a publish that takes ``work_s`` at the median and is under way.

    For a log-normal time T with median m and log deviation s, the median of ``T - e`` given ``T > e`` is
    ``m * exp(s * z) - e`` where z is the normal quantile at ``1 - S(e) / 2`` and S(e) the share that takes longer.
    """
    if elapsed_s <= 0:
        return work_s
    longer = 1.0 - _NORMAL.cdf(log(elapsed_s / work_s) / WORK_SPREAD)
    if longer < 1e-9:
        return elapsed_s / 4  # far beyond what such a distribution knows of
    return work_s * exp(WORK_SPREAD * _NORMAL.inv_cdf(1.0 - longer / 2)) - elapsed_s


def stretch(overtaking: float, workers: int) -> float:
    """Return how much longer a wait is for what lands meanwhile and goes first: ``1 / (1 - overtaking / workers)``.

    As in a queue with priorities: only what the others leave of the workers is there for it.
    """
    return 1.0 / (1.0 - min(MOST_OVERTAKING, overtaking / max(1, workers)))


def play(
    running: Sequence[Running], waiting: Sequence[Waiting], *, workers: int
) -> dict[JobId, Turn]:
    """Return the turn of everything running and waiting; ``waiting`` has each lane in its own order."""
    turns = {each.job: Turn(begins_s=0.0, ends_s=each.remaining_s) for each in running}
    free = [each.remaining_s for each in running] + [0.0] * max(0, workers - len(running))
    heapq.heapify(free)
    open_at = {each.lane: each.remaining_s for each in running}
    lanes: dict[LaneId, deque[Waiting]] = {}
    for each in waiting:
        lanes.setdefault(each.lane, deque()).append(each)
    later = [
        (max(open_at.get(lane, 0.0), jobs[0].not_before_s), number, lane)
        for number, (lane, jobs) in enumerate(lanes.items())
    ]
    heapq.heapify(later)
    ready: list[tuple[float, int, LaneId]] = []
    while later or ready:
        at = heapq.heappop(free)
        if not ready and later[0][0] > at:
            at = later[0][0]
        while later and later[0][0] <= at:
            _, number, lane = heapq.heappop(later)
            heapq.heappush(ready, (-lanes[lane][0].score, number, lane))
        _, number, lane = heapq.heappop(ready)
        job = lanes[lane].popleft()
        begins_s = at * stretch(job.overtaking, workers)
        turns[job.job] = Turn(begins_s=begins_s, ends_s=begins_s + job.work_s)
        heapq.heappush(free, at + job.work_s)
        if lanes[lane]:
            opens = max(at + job.work_s, lanes[lane][0].not_before_s)
            heapq.heappush(later, (opens, number, lane))
    return turns
