"""What follows when publishing fails: tries in three tiers, by a history that is kept, never past an open breaker."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from penstock.identity.ids import BatchId, TargetId
from penstock.ports.target import Unavailable
from penstock.publish.breaker import BreakerPolicy, BreakerStatus
from penstock.publish.retry import RetryPolicy, Tier
from penstock.publish.state import Intent, PublishState, PublishStatus
from penstock.use_cases.publish import PublishOptions, publish_next
from penstock.use_cases.reports import PublishReport
from tests.fixtures.memory import TARGET, Bench, ModelTarget, person

DOWN = Unavailable(message="refused")
POLICY = RetryPolicy(immediate_tries=0, delayed_tries=2, scheduled_tries=2, jitter_share=0)


def publish(bench: Bench, policy: RetryPolicy = POLICY) -> PublishReport | None:
    options = PublishOptions(retry_policy=policy, jitter=lambda: 0.0)
    return publish_next(bench.platform, "worker", options=options)


def must_publish(bench: Bench, policy: RetryPolicy = POLICY) -> PublishState:
    report = publish(bench, policy)
    assert report is not None
    return report.state


def wait(bench: Bench, state: PublishState) -> None:
    assert state.retry_due_at is not None
    bench.clock.moment = state.retry_due_at


def fail_for_good(bench: Bench, batch: BatchId) -> PublishState:
    """Fail until nothing is left to try."""
    while True:
        bench.target.away = [DOWN]
        state = must_publish(bench)
        assert state.batch_id == batch
        if state.status is PublishStatus.FAILED:
            return state
        wait(bench, state)


def set_up(bench: Bench, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(bench.platform, name, value)


def tiers(bench: Bench, batch: BatchId) -> list[tuple[Tier, str, Tier | None]]:
    found = bench.control.list_attempts(batch, TARGET)
    return [(attempt.tier, attempt.code, attempt.retry_tier) for attempt in found]


def test_three_tiers_follow_one_another_and_then_it_is_a_dead_letter(bench: Bench) -> None:
    """Delayed tries come first, then the target's windows with delayed ones after each, then the dead-letter queue."""
    window = timedelta(days=1)

    def next_window(_target: TargetId, now: datetime) -> datetime:
        return now + window

    set_up(bench, next_window=next_window)
    batch = bench.land([person("crm/a")]).batch_id
    state = fail_for_good(bench, batch)
    down, first, delayed, scheduled = "target_unavailable", Tier.FIRST, Tier.DELAYED, Tier.SCHEDULED
    round_of_delays = [(delayed, down, delayed), (delayed, down, scheduled)]
    assert tiers(bench, batch) == [
        (first, down, delayed),
        *round_of_delays,
        (scheduled, down, delayed),
        *round_of_delays,
        (scheduled, down, delayed),
        (delayed, down, delayed),
        (delayed, down, None),
    ]
    attempts = bench.control.list_attempts(batch, TARGET)
    assert attempts[3].started_at >= attempts[2].failed_at + window
    assert state.failure_details is not None
    assert state.failure_details.retry_count == 8
    (letter,) = bench.control.list_dead_letters()
    assert (letter.subject, letter.code, letter.where) == (batch, down, "execute")


def test_without_a_window_there_is_no_third_tier(bench: Bench) -> None:
    """A target that has no maintenance windows is given up after the delayed tries."""
    batch = bench.land([person("crm/a")]).batch_id
    fail_for_good(bench, batch)
    assert [tier for tier, _, _ in tiers(bench, batch)] == [Tier.FIRST, Tier.DELAYED, Tier.DELAYED]


def test_what_a_target_asks_for_is_waited_for(bench: Bench) -> None:
    """A Retry-After beyond the delay of the policy is when the batch is due."""
    bench.land([person("crm/a")])
    bench.target.away = [Unavailable(message="busy", retry_after_s=7200)]
    state = must_publish(bench)
    assert state.retry_due_at == bench.clock.now() + timedelta(hours=2)
    assert publish(bench) is None
    wait(bench, state)
    assert must_publish(bench).status is PublishStatus.COMPLETE


def test_a_requeue_starts_the_history_anew_and_keeps_the_old(bench: Bench) -> None:
    """After a requeue all tries are there again; earlier attempts stay, in order."""
    batch = bench.land([person("crm/a")]).batch_id
    fail_for_good(bench, batch)
    bench.control.requeue(batch, TARGET, now=bench.clock.now(), intent=Intent.PUBLISH)
    state = fail_for_good(bench, batch)
    one_life = [Tier.FIRST, Tier.DELAYED, Tier.DELAYED]
    assert [tier for tier, _, _ in tiers(bench, batch)] == one_life * 2
    assert state.failure_details is not None
    assert state.failure_details.retry_count == 2


def test_the_clock_of_whoever_requeued_does_not_matter(bench: Bench) -> None:
    """A requeue from a machine whose clock is ahead gives no endless tries."""
    batch = bench.land([person("crm/a")]).batch_id
    fail_for_good(bench, batch)
    ahead = bench.clock.now() + timedelta(days=3)
    bench.control.requeue(batch, TARGET, now=ahead, intent=Intent.PUBLISH)
    fail_for_good(bench, batch)
    assert len(tiers(bench, batch)) == 6


def test_an_attempt_that_the_breaker_cut_short_is_made_again(bench: Bench) -> None:
    """It is put off to when the breaker lets a probe through, and burns no retry."""
    set_up(bench, breaker_policy=BreakerPolicy(min_calls=2, open_s=30))
    policy = POLICY.model_copy(update={"immediate_tries": 5})
    batch = bench.land([person("crm/a")]).batch_id
    bench.target.away = [DOWN] * 2
    state = must_publish(bench, policy)
    assert state.status is PublishStatus.RETRYING
    assert state.retry_due_at == bench.clock.now() + timedelta(seconds=30)
    assert state.failure_details is not None
    assert state.failure_details.retry_count == 0
    assert tiers(bench, batch) == [(Tier.FIRST, "breaker_open", Tier.FIRST)]
    assert bench.target.calls == 2
    wait(bench, state)
    assert must_publish(bench, policy).status is PublishStatus.COMPLETE
    assert bench.control.get_breaker(TARGET, now=bench.clock.now()).status is BreakerStatus.CLOSED


def test_a_target_that_stays_down_is_given_up_in_the_end(bench: Bench) -> None:
    """Probes that fail are tries: between them the breaker waits longer and longer, and then there are none left."""
    set_up(bench, breaker_policy=BreakerPolicy(min_calls=2, open_s=3600, max_open_s=10_000))
    policy = POLICY.model_copy(update={"immediate_tries": 5})
    batch = bench.land([person("crm/a")]).batch_id
    bench.target.away = [DOWN] * 100
    state, due = must_publish(bench, policy), []
    while state.status is PublishStatus.RETRYING:
        assert state.retry_due_at is not None
        due.append((state.retry_due_at - bench.clock.now()).total_seconds())
        wait(bench, state)
        state = must_publish(bench, policy)
    assert due == [3600, 7200, 10_000]
    assert state.status is PublishStatus.FAILED
    assert [code for _, code, _ in tiers(bench, batch)][:1] == ["breaker_open"]
    assert bench.target.calls == 2 + 3


def test_a_batch_that_breaks_its_contract_burns_no_retry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no retry mends is a dead letter at once, with its one attempt."""
    batch = bench.land([person("crm/a")]).batch_id
    set_up(bench, targets={})
    assert must_publish(bench).status is PublishStatus.FAILED
    assert tiers(bench, batch) == [(Tier.FIRST, "penstock_error", None)]
    (letter,) = bench.control.list_dead_letters()
    assert (letter.subject, letter.where) == (batch, "plan")
    set_up(bench, targets={TARGET: bench.target})


def test_a_defect_is_tried_again_and_kept_with_its_trace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a target raises is recorded, and may have passed by the next try."""
    batch = bench.land([person("crm/a")]).batch_id

    def apply(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    with monkeypatch.context() as patch:
        patch.setattr(ModelTarget, "apply", apply)
        state = must_publish(bench)
    assert state.failure_details is not None
    assert "ZeroDivisionError: by nothing" in (state.failure_details.stack_trace or "")
    assert tiers(bench, batch) == [(Tier.FIRST, "unexpected_error", Tier.DELAYED)]
    wait(bench, state)
    assert must_publish(bench).status is PublishStatus.COMPLETE
