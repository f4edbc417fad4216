"""Holds in plans: what guards keep back, what depends on it, and that all else goes on."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from penstock.batch.guard_policy import GuardPolicy, Protected
from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity, Kind
from penstock.plan.guards import Hold
from penstock.use_cases.plan_batch import plan_batch
from penstock.use_cases.reports import PublishReport
from penstock.use_cases.stored_plans import open_plan, plan_chunks
from tests.fixtures.memory import TARGET, Bench, knows, person

STRICT = GuardPolicy(always_allowed_deletes=0, max_delete_share=0.3, min_extract_share=0)


def team(key: str) -> Entity:
    return Entity(entity_type="team", entity_key=key)


def operations(bench: Bench, report: PublishReport) -> dict[tuple[str, str | None], dict[str, Any]]:
    assert report.state.execution_plan_path is not None
    plan = open_plan(bench.platform.objects, report.state.execution_plan_path, expected_digest=None)
    rows = pa.concat_tables(plan_chunks(bench.platform.objects, plan)).to_pylist()
    return {(row["key"], row["to_key"]): row for row in rows}


def holds(bench: Bench, report: PublishReport) -> tuple[Hold, ...]:
    assert report.state.execution_plan_path is not None
    path = report.state.execution_plan_path
    return open_plan(bench.platform.objects, path, expected_digest=None).document.holds


def test_safe_changes_go_on_beside_a_hold(bench: Bench) -> None:
    """Creates and updates of the same batch take effect; the batch says what it holds."""
    bench.land([person(f"crm/{n}", v=1) for n in range(10)])
    bench.publish(guard_policy=STRICT)
    bench.land([person("crm/0", v=2), person("crm/new")])
    report = bench.publish(guard_policy=STRICT)
    state = report.state
    assert (state.held, state.blocked, state.rejected, state.exceptions) == (9, 0, 0, 9)
    assert (state.metrics.entities_created, state.metrics.entities_updated) == (1, 1)
    assert all(row.balanced for row in report.ledger)
    (hold,) = holds(bench, report)
    assert (hold.guard, hold.type_name, hold.action, hold.operations) == (
        "delete_share",
        "person",
        "delete",
        9,
    )
    assert sorted(hold.sample) == [f"crm/{n}" for n in range(1, 10)]
    assert hold.releasable


def test_a_container_stays_as_long_as_something_in_it_is_held(bench: Bench) -> None:
    """The delete of a team whose persons are held is blocked, by the id of a held operation."""
    rows = [team("crm/a"), *(person(f"crm/a/{n}") for n in range(5))]
    bench.land(rows)
    bench.publish(guard_policy=STRICT)
    bench.land([person("crm/b")])
    policy = GuardPolicy(
        always_allowed_deletes=3, min_extract_share=0, types={"team": {"max_delete_share": 1.0}}
    )
    report = bench.publish(guard_policy=policy)
    found = operations(bench, report)
    blocked = found["crm/a", None]
    culprits = {row["operation_id"] for row in found.values() if row["verdict"] == "held"}
    assert blocked["verdict"] == "blocked"
    assert blocked["blocked_by"] in culprits
    assert (report.state.held, report.state.blocked) == (5, 1)
    assert ("team", "crm/a") in bench.target.entities


def test_the_ends_of_a_held_relationship_stay(bench: Bench) -> None:
    """A person is not deleted while the delete of a relationship of theirs is held; it is blocked, not refused."""
    people = [person(f"crm/{n}") for n in range(20)]
    ties = [knows("crm/0", f"crm/{n}") for n in range(1, 10)]
    bench.land([*people, *ties])
    bench.publish(guard_policy=STRICT)
    bench.land(people[1:])
    policy = GuardPolicy(always_allowed_deletes=1, min_extract_share=0)
    report = bench.publish(guard_policy=policy)
    found = operations(bench, report)
    assert found["crm/0", None]["verdict"] == "blocked"
    held = {row["operation_id"] for row in found.values() if row["verdict"] == "held"}
    assert found["crm/0", None]["blocked_by"] in held
    assert (report.state.held, report.state.blocked) == (9, 1)
    assert all(row.balanced for row in report.ledger)


def test_tombstones_are_guarded_like_absences(bench: Bench) -> None:
    """A delta that says that nearly all is gone is held too."""
    bench.land([person(f"crm/{n}") for n in range(10)])
    bench.publish(guard_policy=STRICT)
    bench.land([person(f"crm/{n}", deleted=True) for n in range(8)], mode=Mode.DELTA)
    assert bench.publish(guard_policy=STRICT).state.held == 8
    assert len(bench.target.entities) == 10


def test_updates_are_held_too(bench: Bench) -> None:
    """A batch that changes more than it may leaves the target as it was."""
    bench.land([person(f"crm/{n}", v=1) for n in range(10)])
    bench.publish()
    bench.land([person(f"crm/{n}", v=2) for n in range(10)])
    report = bench.publish(guard_policy=GuardPolicy(max_updates=5))
    assert report.state.held == 10
    assert set(bench.target.entities.values()) == {'{"v":1}'}


def test_what_is_protected_is_never_deleted(bench: Bench) -> None:
    """A protected entity stays while the others of its type go, and no approval can release it."""
    bench.land([person("crm/vip"), person("crm/gold", tier="gold"), person("crm/x")])
    bench.publish()
    bench.land([person("crm/y")])
    policy = GuardPolicy(
        protected=(Protected(entity_key="*/vip"), Protected(attributes={"tier": "gold"}))
    )
    report = bench.publish(guard_policy=policy)
    assert {key for _, key in bench.target.entities} == {"crm/vip", "crm/gold", "crm/y"}
    (hold,) = holds(bench, report)
    assert (hold.guard, hold.operations, hold.releasable) == ("protected", 2, False)


def test_the_blast_radius_counts_what_stands_behind_a_hold(bench: Bench) -> None:
    """Entities below, and relationships at, what is held are counted in the snapshot."""
    below = [person(f"crm/a/{n}") for n in range(3)]
    bench.land([team("crm/a"), *below, person("crm/z"), knows("crm/z", "crm/a")])
    bench.publish()
    bench.land([*below, person("crm/z")])
    policy = GuardPolicy(protected=(Protected(entity_type="team"),))
    (hold,) = holds(bench, bench.publish(guard_policy=policy))
    assert (hold.entities_behind, hold.relationships_behind) == (3, 1)


def test_a_source_may_have_limits_of_its_own(bench: Bench) -> None:
    """What a source declares stands in place of the platform's policy."""
    from penstock.batch.source import SourceSpec
    from tests.fixtures.memory import SOURCE

    bench.land([person(f"crm/{n}") for n in range(100)])
    bench.publish()
    manifest = bench.land([person(f"crm/{n}") for n in range(40)])
    assert plan_batch(bench.platform, manifest, TARGET, store=False).document.ledger[0].held == 60
    loose = GuardPolicy(max_delete_share=1.0, min_extract_share=0)
    bench.control.sync_sources([SourceSpec(source_id=SOURCE, guard_policy=loose)])
    (row,) = plan_batch(bench.platform, manifest, TARGET, store=False).document.ledger
    assert (row.kind, row.held, row.deleted) == (Kind.ENTITY, 0, 60)
