"""Calls without an answer: the target is asked what it holds, and nothing is guessed."""

from __future__ import annotations

import pytest

from penstock.execute.chunks import Applier, TargetDown
from penstock.identity.digest import entity_digest
from penstock.ports.target import Outcome, Unavailable
from penstock.publish.retry import RetryPolicy
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import ModelTarget
from tests.unit.execute.test_chunks import CONTEXT, applier
from tests.unit.plan.test_plan_parts import creates

KEYS = [f"crm/{n}" for n in range(10)]


@pytest.mark.parametrize("took_effect", [0, 1, 9, 10])
def test_what_took_effect_is_not_sent_again(took_effect: int, clock: FixedClock) -> None:
    """After silence only what the target does not hold is sent, and each operation takes effect once."""
    target = ModelTarget(silent=[took_effect])
    result = applier(target, clock).apply(creates(KEYS), CONTEXT)
    assert (result.applied, result.already_applied) == (10 - took_effect, took_effect)
    assert result.failures == []
    assert sorted(target.applied_keys) == sorted(KEYS)
    assert target.calls == (2 if took_effect < 10 else 1)


def test_what_is_neither_before_nor_after_is_a_conflict(clock: FixedClock) -> None:
    """Something else has changed an entity meanwhile: it is not written over."""
    target = ModelTarget(silent=[0])
    target.entities["person", "crm/3"] = '{"by":"someone"}'
    target.digests["person", "crm/3"] = entity_digest("person", "crm/3", b'{"by":"someone"}')
    result = applier(target, clock).apply(creates(KEYS), CONTEXT)
    (failure,) = result.failures
    assert (failure.outcome, failure.code) == (Outcome.CONFLICT, "precondition_failed")
    assert (result.applied, result.already_applied) == (9, 0)
    assert target.entities["person", "crm/3"] == '{"by":"someone"}'


def test_a_target_that_cannot_be_read_either_is_asked_again(clock: FixedClock) -> None:
    """Nothing is sent before a look has succeeded; looks are tries of tier 1, with its delays."""
    target = ModelTarget(silent=[4], blind=[Unavailable(message="still away")] * 2)
    start = clock.now()
    result = applier(target, clock).apply(creates(KEYS), CONTEXT)
    assert (result.applied, result.already_applied) == (6, 4)
    assert (target.calls, target.reads) == (2, 3)
    assert (clock.now() - start).total_seconds() == pytest.approx(0.5 + 1 + 2)


def test_silence_that_does_not_end_gives_the_lane_back(clock: FixedClock) -> None:
    """When tier 1 is used up the target counts as down, with the last thing that was heard of it."""
    target = ModelTarget(silent=[4], blind=[Unavailable(message="still away")] * 9)
    with pytest.raises(TargetDown, match="still away"):
        applier(target, clock).apply(creates(KEYS), CONTEXT)
    assert target.calls == 1


def test_silence_again_and_again_ends_at_what_is_left(clock: FixedClock) -> None:
    """Each silent call leaves less to send, and the last answer is about that alone."""
    target = ModelTarget(silent=[3, 3, 3])
    result = applier(target, clock).apply(creates(KEYS), CONTEXT)
    assert (result.applied, result.already_applied) == (1, 9)
    assert len(target.applied_keys) == 10


def test_without_another_try_a_look_still_settles(clock: FixedClock) -> None:
    """A policy without immediate tries asks once: if all took effect there is nothing to try again."""
    policy = RetryPolicy(immediate_tries=0)

    def make(target: ModelTarget) -> Applier:
        return Applier(target=target, clock=clock, retry_policy=policy, jitter=lambda: 0.0)

    assert make(ModelTarget(silent=[10])).apply(creates(KEYS), CONTEXT).already_applied == 10
    with pytest.raises(TargetDown, match="no answer came: the line went dead"):
        make(ModelTarget(silent=[9])).apply(creates(KEYS), CONTEXT)


def test_silence_inside_a_bisection_is_settled_there(clock: FixedClock) -> None:
    """A culprit is still found where calls on the way to it are not answered."""
    target = ModelTarget(poison={"crm/7"}, silent=[2])
    result = applier(target, clock).apply(creates(KEYS), CONTEXT)
    assert [f.outcome for f in result.failures] == [Outcome.REJECTED]
    assert result.applied + result.already_applied == 9
    assert len(target.applied_keys) == 9
