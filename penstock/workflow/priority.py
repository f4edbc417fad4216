"""Which task goes first: the weights of age, priority, importance and deadline, boosts by rule, and the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from penstock.identity.ids import SourceId, TenantId
from penstock.publish.priority_rules import (
    BoostRule,
    DeadlineRule,
    Due,
    Matter,
    Stretch,
    Weight,
    boosts,
    closeness,
    earliest,
)
from penstock.workflow.status import WorkflowKind


class WorkflowPolicy(BaseModel):
    """The weights of a task's score, and the rules that change it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    age_weight: Weight = 1.0
    """Points for each ``age_unit_s`` that a task has been ready."""
    age_unit_s: Stretch = 3600.0
    priority_weight: Weight = 1.0
    """Points for each point of its workflow's priority."""
    importance_weight: Weight = 2.0
    """Points for importance 1; a source of importance 0 gets none."""
    deadline_weight: Weight = 4.0
    """Points as a deadline passes; none while it is further off than ``deadline_horizon_s``, evenly more in between."""
    deadline_horizon_s: Stretch = 3600.0
    boosts: tuple[BoostRule, ...] = ()
    """All that match add up."""
    deadlines: tuple[DeadlineRule, ...] = ()
    """Counted from when a task became ready. The earliest counts, the workflow's own among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyTask:
    """A task that somebody may have, as far as it matters who."""

    task_id: str
    workflow_id: str
    tenant_id: TenantId
    source_id: SourceId
    kind: WorkflowKind
    capability: str
    """What a worker has to be able to do."""
    priority: float = 0.0
    """The workflow's."""
    importance: float = 0.5
    """The source's, 0 to 1."""
    ready_at: datetime
    due_at: datetime
    """Not to be had before: a retry's time."""
    deadline_at: datetime | None = None
    """The workflow's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskScore:
    """The parts of a task's score; ``total`` is their sum."""

    age: float
    priority: float
    importance: float
    deadline: float
    boosts: tuple[tuple[str, float], ...] = ()
    """Each rule that matches, by name, and its points."""
    due: Due | None = None
    """The deadline that counts."""

    @property
    def boost(self) -> float:
        """The points of all rules together."""
        return sum(points for _, points in self.boosts)

    @property
    def total(self) -> float:
        """The number that tasks are ordered by, highest first."""
        return self.age + self.priority + self.importance + self.deadline + self.boost


def score_task(task: ReadyTask, policy: WorkflowPolicy, now: datetime) -> TaskScore:
    """Score one task.

    ``w_age * age/unit + w_prio * priority + w_imp * importance + w_dead * closeness + the points of rules``.
    """
    matter = Matter(tenant=task.tenant_id, source=task.source_id, kind=task.kind, now=now)
    own = (Due(at=task.deadline_at, why="its workflow"),) if task.deadline_at else ()
    due = earliest(policy.deadlines, matter, task.ready_at, own=own)
    age_s = max(0.0, (now - task.ready_at).total_seconds())
    return TaskScore(
        age=policy.age_weight * age_s / policy.age_unit_s,
        priority=policy.priority_weight * task.priority,
        importance=policy.importance_weight * task.importance,
        deadline=policy.deadline_weight * closeness(due, policy.deadline_horizon_s, now),
        boosts=boosts(policy.boosts, matter),
        due=due,
    )


def task_rank(score: TaskScore, task: ReadyTask) -> tuple[float, datetime, str]:
    """Return the sort key of a task among others: highest score first, then the oldest."""
    return (-score.total, task.ready_at, task.task_id)


def ranked(
    tasks: Sequence[ReadyTask], policy: WorkflowPolicy, now: datetime
) -> list[tuple[ReadyTask, TaskScore]]:
    """Return tasks with their scores, best first."""
    scored = [(task, score_task(task, policy, now)) for task in tasks]
    return sorted(scored, key=lambda pair: task_rank(pair[1], pair[0]))
