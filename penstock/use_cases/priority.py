"""What a changed policy would do to what waits: each place before and after, with its arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.identity.ids import TenantId
from penstock.publish.queue import QueuePlace, QueuePolicy
from penstock.use_cases.platform import Platform
from penstock.use_cases.work import Workshop
from penstock.workflow.allotment import Place, allot
from penstock.workflow.priority import WorkflowPolicy


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One place, and how it came about."""

    place: int
    points: float
    parts: Mapping[str, float]
    """By name; they add up to the points."""
    waits_for: str | None


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What waits, where it stands, and where it would stand."""

    subject: str
    """A batch and its target, or a task."""
    tenant_id: TenantId
    source_id: str
    about: str
    """What it is, for people."""
    before: Standing
    after: Standing

    @property
    def forward(self) -> int:
        """Places that it would gain; fewer than none for what it would lose."""
        return self.before.place - self.after.place


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The effect of a changed policy on a queue as it stands, in the new order."""

    shifts: tuple[Shift, ...]

    @property
    def moved(self) -> int:
        """How many would stand elsewhere."""
        return sum(shift.forward != 0 for shift in self.shifts)


def preview_queue(
    platform: Platform, policy: QueuePolicy, *, tenant: TenantId | None = None
) -> Preview:
    """Compare the publish queue's order with that which another policy would give it.

    Places are those of the whole queue; of a tenant only its own batches are shown.
    """
    now = platform.clock.now()
    before = platform.control.explain_queue(now=now, policy=platform.queue_policy)
    after = platform.control.explain_queue(now=now, policy=policy)
    old = {_queue_key(place): place for place in before}
    return Preview(
        shifts=tuple(
            Shift(
                subject=_queue_key(place),
                tenant_id=place.state.tenant_id,
                source_id=place.state.source_id,
                about=f"{place.state.intent} to {place.state.target_id}",
                before=_of_batch(old[_queue_key(place)]),
                after=_of_batch(place),
            )
            for place in after
            if _queue_key(place) in old and tenant in (None, place.state.tenant_id)
        )
    )


def preview_tasks(
    workshop: Workshop, priorities: WorkflowPolicy, *, tenant: TenantId | None = None
) -> Preview:
    """Compare the order of the tasks that are ready with that which another policy would give them."""
    now, standing = workshop.clock.now(), workshop.work.standing()
    before = allot(standing, workshop.policy, workshop.priorities, now)
    after = allot(standing, workshop.policy, priorities, now)
    old = {place.task.task_id: place for place in before}
    return Preview(
        shifts=tuple(
            Shift(
                subject=place.task.task_id,
                tenant_id=place.task.tenant_id,
                source_id=place.task.source_id,
                about=f"{place.task.capability} of {place.task.source_id}",
                before=standing_of_task(old[place.task.task_id]),
                after=standing_of_task(place),
            )
            for place in after
            if tenant in (None, place.task.tenant_id)
        )
    )


def _queue_key(place: QueuePlace) -> str:
    return f"{place.state.batch_id} -> {place.state.target_id}"


def _of_batch(place: QueuePlace) -> Standing:
    score = place.score
    parts = {
        "age": score.age,
        "importance": score.importance,
        "complexity": score.complexity,
        "boost": score.boost,
        "deadline": score.deadline,
        **_named(score.rules),
    }
    return Standing(place=place.place, points=score.total, parts=parts, waits_for=place.waits_for)


def standing_of_task(place: Place) -> Standing:
    """Return a task's place with its arithmetic."""
    score = place.score
    parts = {
        "age": score.age,
        "priority": score.priority,
        "importance": score.importance,
        "deadline": score.deadline,
        **_named(score.boosts),
    }
    waits = place.waits_for or (place.went_first and f"nothing: {place.went_first}")
    return Standing(place=place.place, points=score.total, parts=parts, waits_for=waits)


def _named(rules: Sequence[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, points in rules:
        found[f"rule {name}"] = found.get(f"rule {name}", 0.0) + points
    return found
