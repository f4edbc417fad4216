"""A task's score is arithmetic that a person can follow."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.publish.priority_rules import BoostRule, DeadlineRule, Due
from penstock.workflow.priority import WorkflowPolicy, ranked, score_task
from tests.contracts.control_values import NOW
from tests.unit.workflow.work_values import ready


def test_a_score_is_the_sum_of_its_parts() -> None:
    """Age, priority, importance, deadline and each rule by name."""
    policy = WorkflowPolicy(boosts=(BoostRule(name="vip", points=3, tenants=frozenset({"acme"})),))
    task = ready("a", priority=2.0, importance=0.5, deadline_at=NOW + timedelta(minutes=90))
    score = score_task(task, policy, NOW + timedelta(hours=1))
    assert (score.age, score.priority, score.importance) == (1.0, 2.0, 1.0)
    assert (score.deadline, score.boosts, score.boost) == (2.0, (("vip", 3.0),), 3.0)
    assert score.total == pytest.approx(9.0)


def test_the_deadline_that_counts_is_named() -> None:
    """A rule's, where it is earlier than the workflow's own."""
    policy = WorkflowPolicy(deadlines=(DeadlineRule(name="fresh", within_s=60),))
    score = score_task(ready("a", deadline_at=NOW + timedelta(hours=1)), policy, NOW)
    assert score.due == Due(at=NOW + timedelta(seconds=60), why="rule fresh")


def test_equal_scores_go_to_the_older_and_then_by_id() -> None:
    """So that the order is the same whoever asks."""
    policy = WorkflowPolicy(age_weight=0)
    old, b, a = ready("z", ready_at=NOW - timedelta(seconds=1)), ready("b"), ready("a")
    assert [task.task_id for task, _ in ranked([b, a, old], policy, NOW)] == ["z", "a", "b"]
