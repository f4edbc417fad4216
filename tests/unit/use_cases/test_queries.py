"""What the read side answers, over a platform in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.errors import InvalidIdentifier, NotFound, PenstockError, UndeclaredSource
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.publish.state import PublishStatus
from penstock.use_cases.queries import (
    batch_details,
    batch_id_of,
    batch_overviews,
    dead_letters,
    plan_overview,
    publish_states,
    queue_places,
    source_overviews,
    state_of,
)
from tests.fixtures.memory import SOURCE, TARGET, Bench, knows, person

NOBODY = SourceId("nobody")
UNKNOWN = BatchId("crm@2020-01-01T00-00-00.000000Z")


def test_sources_show_their_newest_batch_and_what_waits(bench: Bench) -> None:
    """A source's overview names its newest batch with its states, and counts what is in the queue."""
    (before,) = source_overviews(bench.platform)
    assert (before.newest_batch, before.newest_states, before.waiting) == (None, (), 0)
    bench.land([person("crm/a")])
    newest = bench.land([person("crm/b")])
    (after,) = source_overviews(bench.platform)
    assert after.spec.source_id == SOURCE
    assert after.newest_batch == newest.batch_id
    assert [state.status for state in after.newest_states] == [PublishStatus.PENDING]
    assert after.waiting == 2


def test_batches_come_newest_first_and_by_source(bench: Bench) -> None:
    """Batches are listed newest source timestamp first, as many as are asked for."""
    landed = [bench.land([person("crm/a")]).batch_id for _ in range(3)]
    listed = [each.record.manifest.batch_id for each in batch_overviews(bench.platform)]
    assert listed == landed[::-1]
    (one,) = batch_overviews(bench.platform, source=SOURCE, limit=1)
    assert one.record.manifest.batch_id == landed[-1]
    assert [state.target_id for state in one.states] == [TARGET]


def test_a_source_that_nobody_declared_is_an_error(bench: Bench) -> None:
    """Asking for the batches, states or dead letters of an unknown source raises, and does not answer none."""
    for query in (batch_overviews, publish_states, dead_letters):
        with pytest.raises(UndeclaredSource, match="nobody"):
            query(bench.platform, source=NOBODY)
        assert query(bench.platform, source=SOURCE) == []


def test_an_unknown_batch_is_an_error_everywhere(bench: Bench) -> None:
    """Every query by batch raises NotFound for one that was never admitted."""
    for query in (batch_details, plan_overview):
        with pytest.raises(NotFound, match=UNKNOWN):
            query(bench.platform, UNKNOWN)
    with pytest.raises(NotFound, match=UNKNOWN):
        publish_states(bench.platform, batch=UNKNOWN)


@pytest.mark.parametrize(
    "text", ["crm", "crm@yesterday", "CRM@2020-01-01T00-00-00.000000Z", "../x@"]
)
def test_what_is_not_a_batch_id_is_refused(text: str) -> None:
    """A malformed batch id raises an error that shows the form it should have."""
    with pytest.raises(InvalidIdentifier):
        batch_id_of(text)


def test_a_batch_id_is_itself() -> None:
    """A well-formed batch id is returned as it was given."""
    assert batch_id_of(UNKNOWN) == UNKNOWN


def test_details_hold_the_ledger_and_what_was_not_applied(bench: Bench) -> None:
    """A published batch's details have its ledger and its exceptions, at most so many."""
    bench.target.poison = {"crm/1", "crm/2", "crm/3"}
    manifest = bench.land([person(f"crm/{n}") for n in range(6)])
    (waiting,) = batch_details(bench.platform, manifest.batch_id).targets
    assert (waiting.ledger, waiting.exceptions) == ((), ())
    bench.publish()
    (target,) = batch_details(bench.platform, manifest.batch_id, exceptions=2).targets
    assert target.state.exceptions == 3
    assert len(target.exceptions) == 2
    assert [(row.created, row.dead_lettered) for row in target.ledger] == [(3, 3)]


def test_the_queue_is_scored_at_the_present_moment(bench: Bench) -> None:
    """Places come in the order of claiming, with an age that grows with the clock."""
    first = bench.land([person("crm/a")])
    bench.land([person("crm/b")])
    bench.clock.moment += timedelta(hours=2)
    places = queue_places(bench.platform)
    assert [place.place for place in places] == [1, 2]
    assert places[0].state.batch_id == first.batch_id
    assert places[0].score.age == pytest.approx(2.0)
    assert first.batch_id in (places[1].waits_for or "")


def test_a_plan_is_counted_and_its_first_operations_are_shown(bench: Bench) -> None:
    """A plan's overview counts operations by kind, type, action and verdict, and lists the first of them."""
    people = [person(f"crm/{n}") for n in range(9)]
    manifest = bench.land([*people, knows("crm/0", "crm/1"), knows("crm/0", "crm/nobody")])
    bench.publish()
    overview = plan_overview(bench.platform, manifest.batch_id, operations=5)
    counted = {(c.type_name, c.action, c.verdict): c.operations for c in overview.counts}
    assert counted == {
        ("person", "create", "planned"): 9,
        ("knows", "create", "planned"): 1,
        ("knows", "create", "refused"): 1,
    }
    assert len(overview.operations) == 5
    assert {op.key for op in overview.operations} < {person.entity_key for person in people}
    assert {(op.wave, op.action, op.to_key) for op in overview.operations} == {(1, "create", None)}
    assert overview.document.operations == 11
    state = state_of(bench.platform, manifest.batch_id, None)
    assert state.plan_digest == overview.digest


def test_a_plan_of_many_chunks_is_listed_in_order_of_execution(bench: Bench) -> None:
    """Operations are listed over the bounds of chunks and waves, waves rising."""
    bench.land([person("a"), *[person(f"a/{n}") for n in range(9)], knows("a/1", "a/2")])
    report = bench.publish()
    overview = plan_overview(bench.platform, report.state.batch_id, operations=100)
    waves = [op.wave for op in overview.operations]
    assert len(waves) == 11
    assert waves == sorted(waves)
    assert overview.operations[-1].to_key == "a/2"
    assert plan_overview(bench.platform, report.state.batch_id, operations=0).operations == ()


def test_a_batch_that_waits_has_no_plan_yet(bench: Bench) -> None:
    """Asking for the plan of a PENDING batch says that there is none, and why."""
    manifest = bench.land([person("crm/a")])
    with pytest.raises(NotFound, match="no plan for target 'model': it is PENDING"):
        plan_overview(bench.platform, manifest.batch_id)


def test_a_target_that_the_batch_does_not_go_to_is_an_error(bench: Bench) -> None:
    """Naming another target raises NotFound."""
    manifest = bench.land([person("crm/a")])
    with pytest.raises(NotFound):
        plan_overview(bench.platform, manifest.batch_id, target=TargetId("elsewhere"))


def test_of_several_targets_one_has_to_be_named(bench: Bench) -> None:
    """Without a target, a batch that goes to several raises an error that names them."""
    manifest = bench.land([person("crm/a")])
    record = bench.control.get_batch(manifest.batch_id)
    state = bench.control.get_state(manifest.batch_id, TARGET)
    at = manifest.source_timestamp + timedelta(hours=1)
    other = manifest.model_copy(update={"source_timestamp": at})
    states = [
        state.model_copy(
            update={"batch_id": other.batch_id, "source_timestamp": at, "target_id": target}
        )
        for target in (TARGET, TargetId("mirror"))
    ]
    assert bench.control.admit(
        type(record)(manifest=other, s3_path=record.s3_path, admitted_at=record.admitted_at), states
    )
    with pytest.raises(PenstockError, match="mirror, model"):
        state_of(bench.platform, other.batch_id, None)
    assert state_of(bench.platform, other.batch_id, TARGET).target_id == TARGET
