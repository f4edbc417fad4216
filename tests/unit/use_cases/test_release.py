"""Releases: a plan of what guards held, in the words of the plan that was approved."""

from __future__ import annotations

import pyarrow as pa
import pytest

from penstock.batch.manifest import Mode
from penstock.batch.rows import Kind
from penstock.errors import PlanChanged
from penstock.plan.operations import Verdict
from penstock.publish.state import Intent, Move, PublishState
from penstock.use_cases.release import plan_release
from penstock.use_cases.stored_plans import open_plan, plan_chunks
from tests.fixtures.memory import TARGET, Bench, person


def asked(bench: Bench) -> PublishState:
    """The state of a batch that lost most of its rows, with its release asked for."""
    bench.land([person(f"crm/{n}", v=1) for n in range(100)])
    bench.publish()
    batch = bench.land([person(f"crm/{n}", v=1 if n else 2) for n in range(40)]).batch_id
    assert bench.publish().state.exceptions == 60
    return bench.control.requeue(batch, TARGET, now=bench.clock.now(), intent=Intent.RELEASE)


def operations(bench: Bench, path: str) -> pa.Table:
    plan = open_plan(bench.platform.objects, path, expected_digest=None)
    return pa.concat_tables(plan_chunks(bench.platform.objects, plan))


def test_a_release_holds_just_what_was_held(bench: Bench) -> None:
    """The held operations come back with their ids and contents, to be sent; what went on then is not among them."""
    state = asked(bench)
    assert state.execution_plan_path is not None
    held = operations(bench, state.execution_plan_path)
    held = held.filter(pa.compute.equal(held["verdict"], Verdict.HELD.value))
    release = plan_release(bench.platform, state)
    found = operations(bench, release.plan.path)
    judgement = ["verdict", "reason", "guard", "blocked_by"]
    assert found.drop(judgement).equals(held.drop(judgement))
    assert set(found["verdict"].to_pylist()) == {"planned"}
    assert release.superseded == 0
    assert release.plan.document.derived_from is not None
    assert release.plan.document.derived_from.plan_digest == state.plan_digest
    (row,) = release.plan.document.ledger
    assert (row.kind, row.deleted, row.held, row.updated, row.balanced) == (
        Kind.ENTITY,
        60,
        0,
        1,
        True,
    )


def test_planning_a_release_again_gives_the_same_bytes(bench: Bench) -> None:
    """Two workers that plan the same release store the same plan at the same place."""
    state = asked(bench)
    first, second = (plan_release(bench.platform, state).plan for _ in range(2))
    assert (first.path, first.document.digest) == (second.path, second.document.digest)


def test_what_changed_since_is_left_out(bench: Bench) -> None:
    """An entity that a newer delta touched is no longer what was approved: its operation is superseded."""
    state = asked(bench)
    claim = bench.control.claim(
        "other", now=bench.clock.now(), lease_s=60, policy=bench.platform.queue_policy
    )
    assert claim is not None
    bench.control.advance(claim, Move.WITHDRAW, now=bench.clock.now())
    bench.land([person("crm/50", v=9), person("crm/60", deleted=True)], mode=Mode.DELTA)
    bench.publish()
    release = plan_release(bench.platform, state)
    assert release.superseded == 2
    keys = operations(bench, release.plan.path)["key"].to_pylist()
    assert len(keys) == 58
    assert not {"crm/50", "crm/60"} & set(keys)
    (row,) = release.plan.document.ledger
    assert (row.deleted, row.held, row.superseded, row.balanced) == (58, 0, 2, True)


def test_a_plan_that_was_edited_is_not_released(bench: Bench) -> None:
    """One byte of the approved plan changed on the store, and nothing of it is planned."""
    state = asked(bench)
    assert state.execution_plan_path is not None
    data = bench.platform.objects.get(state.execution_plan_path)
    bench.platform.objects.put(
        state.execution_plan_path, data.replace(b'"held": 60', b'"held": 61')
    )
    with pytest.raises(PlanChanged, match="was changed after it was made"):
        plan_release(bench.platform, state)
