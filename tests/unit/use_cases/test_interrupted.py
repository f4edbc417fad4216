"""Plans that were given up half-way: what took effect is found out before the lane goes on."""

from __future__ import annotations

import pytest

from penstock.batch.manifest import Manifest
from penstock.ports.target import Unavailable
from penstock.publish.retry import RetryPolicy
from penstock.publish.state import Intent, PublishState, PublishStatus
from penstock.use_cases.publish import PublishOptions, publish_next
from tests.fixtures.memory import SOURCE, TARGET, Bench, ModelTarget, person

AWAY = Unavailable(message="away")
ONE_TRY = RetryPolicy(immediate_tries=0, delayed_tries=0, scheduled_tries=0)
KEYS = [f"crm/{n}" for n in range(10)]


def publish(bench: Bench) -> PublishState:
    options = PublishOptions(retry_policy=ONE_TRY, jitter=lambda: 0.0)
    report = publish_next(bench.platform, "worker", options=options)
    assert report is not None
    assert all(row.balanced for row in report.ledger)
    return report.state


def people(version: int, keys: list[str] = KEYS) -> list:
    return [person(key, v=version) for key in keys]


def fails_after(bench: Bench, manifest: Manifest, calls: int, *, silent: int | None = None) -> None:
    """Let the target go away after some calls, its last one perhaps taking effect in part without an answer."""
    target, before = bench.target, bench.target.calls

    def apply(self: ModelTarget, operations: object, context: object) -> object:
        if self.calls - before < calls:
            return ModelTarget.apply(self, operations, context)  # type: ignore[arg-type]
        if silent is not None and self.calls - before == calls:
            self.silent, self.blind = [silent], [AWAY]
            return ModelTarget.apply(self, operations, context)  # type: ignore[arg-type]
        return AWAY

    target.apply = apply.__get__(target)  # type: ignore[method-assign]
    state = publish(bench)
    del target.apply
    target.blind = []
    assert (state.batch_id, state.status) == (manifest.batch_id, PublishStatus.FAILED)


def held(bench: Bench) -> dict[str, str]:
    return {key: text for (_, key), text in bench.target.entities.items()}


def conflicts(bench: Bench, state: PublishState) -> int:
    return len(bench.control.list_exceptions(state.batch_id, TARGET))


@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("silent", [None, 0, 1, 3])
def test_the_next_batch_runs_into_no_conflict(bench: Bench, calls: int, silent: int | None) -> None:
    """A full batch after one that failed half-way plans against what really took effect, answered or not."""
    bench.land(people(1))
    publish(bench)
    fails_after(bench, bench.land(people(2)), calls, silent=silent)
    bench.land(people(3))
    state = publish(bench)
    assert state.status is PublishStatus.COMPLETE
    assert conflicts(bench, state) == 0
    assert held(bench) == dict.fromkeys(KEYS, '{"v":3}')
    assert bench.control.begun_executions(SOURCE, TARGET) == []


def test_it_is_told_how_far_the_batch_came(bench: Bench) -> None:
    """The execution that was given up is kept, with its counts and the snapshot that followed from it."""
    bench.land(people(1))
    publish(bench)
    second = bench.land(people(2))
    fails_after(bench, second, 2)
    (begun,) = bench.control.begun_executions(SOURCE, TARGET)
    assert (begun.batch_id, begun.snapshot_before, begun.operations) == (second.batch_id, 1, 10)
    bench.land(people(3))
    publish(bench)
    (ended,) = bench.control.list_executions(second.batch_id, TARGET)
    assert (ended.applied, ended.snapshot_before, ended.snapshot_after) == (8, 1, 2)


def test_the_same_batch_goes_on_where_it_stood(bench: Bench) -> None:
    """Requeued, a batch that failed half-way has the same plan, and no operation takes effect twice."""
    second = bench.land(people(1))
    fails_after(bench, second, 2)
    bench.control.requeue(second.batch_id, TARGET, now=bench.clock.now(), intent=Intent.PUBLISH)
    state = publish(bench)
    assert state.status is PublishStatus.COMPLETE
    assert sorted(bench.target.applied_keys) == sorted(KEYS)
    (ended,) = bench.control.list_executions(second.batch_id, TARGET)
    assert (ended.applied, ended.snapshot_before, ended.snapshot_after) == (10, 0, 1)


def test_a_plan_by_other_rules_starts_from_what_took_effect(bench: Bench) -> None:
    """Where the same batch is planned otherwise the second time, what the first plan did is not done again."""
    batch = bench.land(people(1))
    fails_after(bench, batch, 2)
    object.__setattr__(bench.platform, "chunk_operations", 3)
    bench.control.requeue(batch.batch_id, TARGET, now=bench.clock.now(), intent=Intent.PUBLISH)
    state = publish(bench)
    assert (state.status, conflicts(bench, state)) == (PublishStatus.COMPLETE, 0)
    assert sorted(bench.target.applied_keys) == sorted(KEYS)
    assert state.metrics.entities_created == 2


def test_what_failed_counts_as_not_published(bench: Bench) -> None:
    """The newest published batch stays what it was: an older one that comes late is not shut out by a failed one."""
    fails_after(bench, bench.land(people(2), at=bench.clock.now()), 2)
    older = bench.clock.now().replace(year=2020)
    late = bench.land(people(1), at=older)
    state = publish(bench)
    assert (state.batch_id, state.status) == (late.batch_id, PublishStatus.COMPLETE)
    head = bench.control.snapshot_head(SOURCE, TARGET)
    assert head is not None
    assert (head.version, head.source_timestamp) == (2, older)
    assert held(bench) == dict.fromkeys(KEYS, '{"v":1}')


def test_a_plan_that_cannot_be_read_any_more_stops_nothing(bench: Bench) -> None:
    """Without the stored plan nobody can tell what took effect: the lane goes on, and lists the conflicts."""
    bench.land(people(1))
    publish(bench)
    second = bench.land(people(2))
    fails_after(bench, second, 2)
    path = bench.control.get_state(second.batch_id, TARGET).execution_plan_path
    assert path is not None
    bench.platform.objects.put(path, b"{}")
    bench.land(people(3))
    state = publish(bench)
    assert state.status is PublishStatus.COMPLETE
    assert conflicts(bench, state) == 8
    assert bench.control.begun_executions(SOURCE, TARGET) == []


def test_a_target_that_is_away_cannot_be_asked(bench: Bench) -> None:
    """The next batch waits until the target tells what took effect; nothing is guessed."""
    bench.land(people(1))
    publish(bench)
    fails_after(bench, bench.land(people(2)), 1, silent=2)
    third = bench.land(people(3))
    bench.target.blind = [AWAY]
    options = PublishOptions(
        retry_policy=ONE_TRY.model_copy(update={"delayed_tries": 1}), jitter=lambda: 0.0
    )
    report = publish_next(bench.platform, "worker", options=options)
    assert report is not None
    assert report.state.status is PublishStatus.RETRYING
    assert report.state.retry_due_at is not None
    bench.clock.moment = report.state.retry_due_at
    state = publish(bench)
    assert (state.batch_id, state.status) == (third.batch_id, PublishStatus.COMPLETE)
    assert conflicts(bench, state) == 0


def test_what_was_refused_before_is_still_not_there(bench: Bench) -> None:
    """Operations that the target had refused before the batch failed are no part of what took effect."""
    bench.target.poison = {"crm/3"}
    first = bench.land(people(1))
    fails_after(bench, first, 6)
    (refused,) = bench.control.list_exceptions(first.batch_id, TARGET)
    assert refused.key == "crm/3"
    bench.target.poison = set()
    bench.land(people(2))
    state = publish(bench)
    assert conflicts(bench, state) == 0
    assert held(bench) == dict.fromkeys(KEYS, '{"v":2}')
