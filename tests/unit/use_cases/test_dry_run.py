"""Planning without executing, and comparing plans: nothing is written, and nothing is left out."""

from __future__ import annotations

import pytest

from penstock.errors import NotFound
from penstock.publish.state import PublishStatus
from penstock.use_cases.dry_run import compare_plans, dry_run
from penstock.use_cases.queries import plan_overview
from tests.fixtures.memory import TARGET, Bench, knows, person


def objects(bench: Bench) -> set[str]:
    return {info.key for info in bench.platform.objects.list("")}


def test_a_dry_run_says_what_publishing_will_do(bench: Bench) -> None:
    """It has the digest, counts and operations of the plan that is made later, in the same order."""
    bench.land([person(f"crm/{n}", v=1) for n in range(30)])
    bench.publish()
    rows = [person(f"crm/{n}", v=2 if n < 5 else 1) for n in range(25)]
    batch = bench.land([*rows, person("crm/x/y"), person("crm/x"), knows("crm/x", "crm/1")])
    before = objects(bench)
    tried = dry_run(bench.platform, batch.batch_id, operations=100)
    assert objects(bench) == before
    state = bench.control.get_state(batch.batch_id, TARGET)
    assert (state.status, state.plan_digest) == (PublishStatus.PENDING, None)
    bench.publish()
    made = plan_overview(bench.platform, batch.batch_id, operations=100)
    assert (tried.digest, tried.counts) == (made.digest, made.counts)
    assert tried.operations == made.operations
    assert tried.document == made.document
    assert [o.action for o in tried.operations].count("delete") == 5


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_only_the_first_operations_are_kept(bench: Bench, limit: int) -> None:
    """However many files the plan would have, the first in the order of execution are shown."""
    object.__setattr__(bench.platform, "chunk_operations", 1)
    batch = bench.land([person(f"crm/{n}/x") for n in range(30)] + [person("crm")])
    tried = dry_run(bench.platform, batch.batch_id, operations=limit)
    bench.publish()
    made = plan_overview(bench.platform, batch.batch_id, operations=limit)
    assert tried.operations == made.operations
    assert len(tried.operations) == limit


def test_a_dry_run_shows_what_would_be_held(bench: Bench) -> None:
    """A mass delete is held in it, with a sample, before anybody published anything."""
    bench.land([person(f"crm/{n}") for n in range(100)])
    bench.publish()
    batch = bench.land([person(f"crm/{n}") for n in range(10)])
    tried = dry_run(bench.platform, batch.batch_id)
    assert [(c.action, c.verdict, c.operations) for c in tried.counts] == [("delete", "held", 90)]
    assert sum(hold.operations for hold in tried.document.holds) == 90


def test_a_batch_that_never_landed_cannot_be_tried(bench: Bench) -> None:
    """It is an error that names it."""
    bench.land([person("crm/a")])
    with pytest.raises(NotFound):
        dry_run(bench.platform, "crm@2020-01-01T00-00-00.000000Z")  # type: ignore[arg-type]


def test_plans_are_compared_by_what_they_do(bench: Bench) -> None:
    """Each entity and relationship is in one plan, in both alike, or in both otherwise."""
    first = bench.land(
        [person("crm/a", v=1), person("crm/b"), person("crm/c"), knows("crm/a", "crm/b")]
    )
    second = bench.land([person("crm/a", v=2), person("crm/c"), person("crm/d")])
    found = compare_plans(bench.platform, first.batch_id, second.batch_id)
    assert (found.first.stored, found.second.stored) == (False, False)
    assert (found.first.operations, found.second.operations) == (4, 3)
    people, edges = found.types
    assert (people.type_name, edges.type_name) == ("person", "knows")
    assert (people.only_first, people.only_second, people.differ, people.same) == (1, 1, 1, 1)
    assert (edges.only_first, edges.same) == (1, 0)
    assert [(d.key, d.to_key, d.first, d.second) for d in found.differences] == [
        ("crm/a", None, "create, planned", "create, planned"),
        ("crm/b", None, "create, planned", None),
        ("crm/d", None, None, "create, planned"),
        ("crm/a", "crm/b", "create, planned", None),
    ]
    assert objects(bench) == set()


def test_a_stored_plan_is_taken_as_it_is(bench: Bench) -> None:
    """What was published is compared as it was planned then, what waits as it would be planned now."""
    first = bench.land([person("crm/a", v=1), person("crm/b")])
    bench.publish()
    second = bench.land([person("crm/a", v=1)])
    found = compare_plans(bench.platform, first.batch_id, second.batch_id)
    assert (found.first.stored, found.second.stored) == (True, False)
    assert [(d.key, d.first, d.second) for d in found.differences] == [
        ("crm/a", "create, planned", None),
        ("crm/b", "create, planned", "delete, planned"),
    ]


def test_a_plan_equals_itself(bench: Bench) -> None:
    """There is no difference between a plan and itself, and none between two that do nothing."""
    batch = bench.land([person("crm/a"), person("crm/b"), knows("crm/a", "crm/b")])
    found = compare_plans(bench.platform, batch.batch_id, batch.batch_id)
    assert found.differences == ()
    assert sum(each.same for each in found.types) == 3
    bench.publish()
    again = bench.land([person("crm/a"), person("crm/b"), knows("crm/a", "crm/b")])
    assert compare_plans(bench.platform, again.batch_id, again.batch_id).types == ()
