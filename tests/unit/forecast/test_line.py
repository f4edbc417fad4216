"""The queue played forward: whose turn comes when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.forecast.line import Running, Waiting, play, remaining_s, stretch
from penstock.identity.ids import BatchId, SourceId, TargetId

R = TargetId("registry")


def _waiting(name: str, lane: str, work_s: float = 10.0, score: float = 0.0) -> Waiting:
    return Waiting(job=(BatchId(name), R), lane=(SourceId(lane), R), work_s=work_s, score=score)


def _running(name: str, lane: str, remaining: float) -> Running:
    return Running(job=(BatchId(name), R), lane=(SourceId(lane), R), remaining_s=remaining)


def _ends(running: list[Running], waiting: list[Waiting], workers: int) -> dict[str, float]:
    turns = play(running, waiting, workers=workers)
    return {job[0]: turn.ends_s for job, turn in turns.items()}


def test_a_lane_is_one_after_the_other() -> None:
    """However many workers there are, a lane's batches follow one another, after what is in hand of it."""
    ends = _ends([_running("a", "crm", 5)], [_waiting("b", "crm"), _waiting("c", "crm")], 4)
    assert ends == {"a": 5, "b": 15, "c": 25}


def test_a_free_worker_takes_the_highest_score() -> None:
    """Across lanes the score decides, not the order in which lanes are listed."""
    waiting = [_waiting("low", "crm", score=1), _waiting("high", "erp", score=2)]
    assert _ends([], waiting, 1) == {"high": 10, "low": 20}
    assert _ends([], waiting, 2) == {"high": 10, "low": 10}


def test_workers_that_are_busy_are_waited_for() -> None:
    """A batch of a free lane waits until a worker is free."""
    running = [_running("a", "crm", 30), _running("b", "erp", 7)]
    assert _ends(running, [_waiting("c", "hr")], 2)["c"] == 17


def test_a_retry_is_waited_for_while_others_go_on() -> None:
    """What is due later lets others go first, and keeps back its lane."""
    later = replace(_waiting("later", "crm", score=9), not_before_s=100.0)
    ends = _ends([], [later, _waiting("after", "crm"), _waiting("other", "erp")], 1)
    assert ends == {"other": 10, "later": 110, "after": 120}


def test_waits_are_longer_where_others_overtake() -> None:
    """What lands meanwhile and goes first leaves only a part of the workers; the part is never nothing."""
    assert stretch(0.0, 2) == 1.0
    assert stretch(1.0, 2) == 2.0
    assert stretch(50.0, 2) == pytest.approx(5.0)
    slow = replace(_waiting("slow", "erp"), overtaking=0.5)
    assert _ends([_running("a", "crm", 10)], [slow], 1)["slow"] == 30


def test_what_remains_is_never_negative_and_grows_in_the_end() -> None:
    """At the start all of the time remains; past the usual time something still does."""
    assert remaining_s(100, 0) == 100
    assert 50 < remaining_s(100, 50) < 100
    left = [remaining_s(100, elapsed) for elapsed in (100, 200, 400, 1e3, 1e5, 1e9)]
    assert all(each > 0 for each in left)
    assert left[-1] > left[0]
