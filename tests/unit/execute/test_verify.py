"""Verification: what a target says that it applied is held against what it holds."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from penstock.execute.chunks import Applier
from penstock.execute.verify import ALL, lost_operations
from penstock.ports.target import Applied, ApplyContext, ApplyOutcome, OperationFailure, Outcome
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import Bench, ModelTarget, person
from tests.unit.execute.test_chunks import CONTEXT, applier
from tests.unit.plan.test_plan_parts import creates

KEYS = [f"crm/{n}" for n in range(40)]


def lost(made: Applier, *, sample: int, looks: int = 1) -> list[str]:
    operations = creates(KEYS)
    made.apply(operations, CONTEXT)
    found = lost_operations(made, CONTEXT.source_id, operations, [], sample=sample, looks=looks)
    return sorted(found["key"].to_pylist())


def test_all_that_was_dropped_is_found_where_all_is_looked_at(clock: FixedClock) -> None:
    """With every operation read back, no dropped write gets through, and nothing else is named."""
    dropped = set(KEYS[::7])
    assert lost(applier(ModelTarget(dropped=dropped), clock), sample=ALL) == sorted(dropped)


def test_nothing_is_read_where_nothing_is_asked_for(clock: FixedClock) -> None:
    """A sample of none costs no call."""
    target = ModelTarget(dropped=set(KEYS))
    assert lost(applier(target, clock), sample=0) == []
    assert target.reads == 0


def test_a_sample_is_of_its_size_and_always_the_same(clock: FixedClock) -> None:
    """The operations with the lowest ids are looked at, so that a resumed chunk has the same sample."""
    first = lost(applier(ModelTarget(dropped=set(KEYS)), clock), sample=5)
    assert len(first) == 5
    assert lost(applier(ModelTarget(dropped=set(KEYS)), clock), sample=5) == first


def test_a_target_may_take_a_moment_to_show_what_it_wrote(clock: FixedClock) -> None:
    """What is missing is looked for again, after the delays of tier 1, before it counts as lost."""
    target = ModelTarget(lag=2)
    start = clock.now()
    assert lost(applier(target, clock), sample=ALL, looks=4) == []
    assert target.reads == 3
    assert (clock.now() - start).total_seconds() == pytest.approx(0.5 + 1)
    assert len(lost(applier(ModelTarget(lag=2), clock), sample=ALL, looks=2)) == len(KEYS)


class Muddled(ModelTarget):
    """A target whose answers do not add up."""

    def answer(self, applied: Applied) -> Applied:
        raise NotImplementedError

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        outcome = super().apply(operations, context)
        assert isinstance(outcome, Applied)
        return self.answer(outcome)


class SaysLess(Muddled):
    def answer(self, applied: Applied) -> Applied:
        return replace(applied, applied=applied.applied - 1)


class SaysMore(Muddled):
    def answer(self, applied: Applied) -> Applied:
        return replace(applied, already_applied=5)


class BlamesAStranger(Muddled):
    def answer(self, applied: Applied) -> Applied:
        stranger = OperationFailure(
            operation_id=b"?" * 16, outcome=Outcome.REJECTED, code="bad", message="whose?"
        )
        return replace(applied, applied=applied.applied - 1, failures=(stranger,))


class BlamesTwice(Muddled):
    def answer(self, applied: Applied) -> Applied:
        failure = OperationFailure(
            operation_id=next(iter(self.receipts)),
            outcome=Outcome.REJECTED,
            code="bad",
            message="bad",
        )
        return replace(applied, applied=applied.applied - 2, failures=(failure, failure))


@pytest.mark.parametrize("muddled", [SaysLess, SaysMore, BlamesAStranger, BlamesTwice])
def test_answers_that_do_not_add_up_are_looked_into(
    muddled: type[Muddled], bench: Bench, clock: FixedClock
) -> None:
    """Without any sampling, a target whose counts are not of what it was sent has all of it read back."""
    keys = ["crm/1", "crm/2", "crm/3"]
    target = muddled(dropped=set(keys))
    object.__setattr__(bench.platform, "targets", {target.target_id: target})
    object.__setattr__(bench.platform, "verify_sample", 0)
    bench.land([person(key) for key in keys])
    report = bench.publish()
    (row,) = report.ledger
    assert row.lost == (2 if muddled is BlamesTwice else 3)
    assert row.created == 0
    assert not row.balanced
