"""Publishing, from a landed batch to the target, the snapshot and the recorded state."""

from __future__ import annotations

import pytest

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode, RelationshipType
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness, Scope
from penstock.ports.target import Unavailable
from penstock.publish.state import PublishStatus
from penstock.use_cases.plan_batch import plan_batch
from penstock.use_cases.publish import publish_next, republish
from resources.object_store.local import LocalObjectStore
from tests.fixtures.memory import TARGET, Bench, knows, person

ANYTHING = GuardPolicy(always_allowed_deletes=10**6)


def names(bench: Bench) -> set[str]:
    return {key for _, key in bench.target.entities}


def test_a_first_batch_creates_everything(bench: Bench) -> None:
    """Publishing into an empty target creates every row and completes with a balanced ledger."""
    bench.land([person("crm/a", n=1), person("crm/b"), knows("crm/a", "crm/b")])
    report = bench.publish()
    assert report.state.status is PublishStatus.COMPLETE
    assert bench.target.entities == {("person", "crm/a"): '{"n":1}', ("person", "crm/b"): "{}"}
    assert bench.target.relationships == {("knows", "crm/a", "crm/b"): "{}"}
    assert report.state.metrics.entities_created == 2
    assert report.state.metrics.relationships_created == 1
    assert all(row.balanced for row in report.ledger)


def test_the_next_batch_changes_only_what_differs(bench: Bench) -> None:
    """A second batch updates, creates and deletes what differs, and fetches no unchanged row."""
    bench.land([person(f"crm/{n}", v=1) for n in range(100)])
    bench.publish()
    bench.batches.taken.clear()
    changed = [person(f"crm/{n}", v=2 if n == 7 else 1) for n in range(99)]
    bench.land([*changed, person("crm/new")])
    report = bench.publish()
    metrics = report.state.metrics
    assert (metrics.entities_created, metrics.entities_updated, metrics.entities_deleted) == (
        1,
        1,
        1,
    )
    assert sum(bench.batches.taken) == 4
    assert bench.target.entities["person", "crm/7"] == '{"v":2}'
    assert "crm/99" not in names(bench)


def test_an_absence_outside_a_complete_scope_deletes_nothing(bench: Bench) -> None:
    """A failed scope keeps what it did not see; a complete one beside it deletes."""
    bench.land([person("crm/eu/a"), person("crm/us/a"), person("crm/us_x/a")])
    bench.publish()
    scopes = [
        Scope(type_name="person", key_prefix="crm/us", completeness=Completeness.COMPLETE),
        Scope(type_name="person", key_prefix="crm/eu", completeness=Completeness.FAILED),
    ]
    bench.land([person("crm/us/b")], scopes=scopes)
    report = bench.publish()
    assert names(bench) == {"crm/eu/a", "crm/us/b", "crm/us_x/a"}
    assert report.state.metrics.entities_deleted == 1
    assert all(row.balanced for row in report.ledger)


def test_a_delta_deletes_by_tombstone_alone(bench: Bench) -> None:
    """In a delta batch absence means nothing, a tombstone deletes, and one for the unknown is no change."""
    bench.land([person("crm/a"), person("crm/b")])
    bench.publish()
    rows = [person("crm/b", deleted=True), person("crm/none", deleted=True), person("crm/c")]
    bench.land(rows, mode=Mode.DELTA, scopes=[])
    report = bench.publish()
    assert names(bench) == {"crm/a", "crm/c"}
    (row,) = report.ledger
    assert (row.extracted, row.created, row.deleted, row.unchanged) == (3, 1, 1, 1)
    assert row.balanced


def test_a_relationship_to_nothing_is_refused_by_name(bench: Bench) -> None:
    """A relationship whose end will not exist is an error of that operation alone, naming the entity."""
    bench.land([person("crm/a"), person("crm/b"), knows("crm/a", "crm/b"), knows("crm/a", "crm/x")])
    report = bench.publish()
    assert report.state.status is PublishStatus.COMPLETE
    assert report.state.exceptions == 1
    (exception,) = bench.control.list_exceptions(report.state.batch_id, TARGET)
    assert exception.outcome == "refused"
    assert "'crm/x' does not exist" in exception.message
    assert set(bench.target.relationships) == {("knows", "crm/a", "crm/b")}
    assert all(row.balanced for row in report.ledger)


def test_an_entity_that_is_still_referred_to_is_not_deleted(bench: Bench) -> None:
    """Deleting an entity is refused while a relationship that stays ends at it."""
    rows = [person("crm/a"), person("crm/b"), knows("crm/a", "crm/b")]
    bench.land(rows)
    bench.publish()
    people = [Scope(type_name="person", completeness=Completeness.COMPLETE)]
    bench.land([person("crm/a")], scopes=people)
    report = bench.publish()
    assert report.state.exceptions == 1
    (exception,) = bench.control.list_exceptions(report.state.batch_id, TARGET)
    assert "(crm/a, knows, crm/b) still refers to it" in exception.message
    assert names(bench) == {"crm/a", "crm/b"}


def test_what_is_unknown_stays_planned_until_it_took_effect(bench: Bench) -> None:
    """What the target refused is planned again by the next batch, because the snapshot does not claim it."""
    bench.target.poison = {"crm/3"}
    bench.land([person(f"crm/{n}") for n in range(10)])
    report = bench.publish()
    assert report.state.exceptions == 1
    assert names(bench) == {f"crm/{n}" for n in range(10)} - {"crm/3"}
    bench.target.poison = set()
    bench.land([person(f"crm/{n}") for n in range(10)])
    report = bench.publish()
    assert report.state.metrics.entities_created == 1
    assert names(bench) == {f"crm/{n}" for n in range(10)}


def test_a_rejected_chunk_is_bisected(bench: Bench) -> None:
    """One poison operation costs itself, in a number of calls that grows with the logarithm of the chunk."""
    bench.target.poison = {"crm/3"}
    object.__setattr__(bench.platform, "chunk_operations", 1000)
    bench.land([person(f"crm/{n}") for n in range(512)])
    report = bench.publish()
    assert report.applied == 511
    assert bench.target.calls <= 2 * 10


def test_what_depends_on_a_failure_is_blocked(bench: Bench) -> None:
    """Entities below a failed one and relationships that end at it are blocked by it, and nothing else is."""
    bench.target.poison = {"crm/bad"}
    rows = [person("crm/bad"), person("crm/bad/child"), person("crm/ok"), person("crm/ok2")]
    bench.land([*rows, knows("crm/ok", "crm/bad"), knows("crm/ok", "crm/ok2")])
    report = bench.publish()
    assert names(bench) == {"crm/ok", "crm/ok2"}
    assert set(bench.target.relationships) == {("knows", "crm/ok", "crm/ok2")}
    outcomes = {
        (e.key, e.to_key): e.outcome
        for e in bench.control.list_exceptions(report.state.batch_id, TARGET)
    }
    assert outcomes == {
        ("crm/bad", None): "rejected",
        ("crm/bad/child", None): "blocked",
        ("crm/ok", "crm/bad"): "blocked",
    }
    assert sum(row.blocked for row in report.ledger) == 2
    assert all(row.balanced for row in report.ledger)


def test_a_target_that_comes_back_is_waited_for(bench: Bench) -> None:
    """Tier 1 tries again within the run, after the delays that the policy gives."""
    bench.target.away = [Unavailable(message="restarting"), Unavailable(message="restarting")]
    before = bench.clock.now()
    bench.land([person("crm/a")])
    assert bench.publish().state.status is PublishStatus.COMPLETE
    assert (bench.clock.now() - before).total_seconds() == pytest.approx(1.5)


def test_a_target_that_stays_away_sends_the_batch_back(bench: Bench) -> None:
    """When tier 1 is used up the batch is RETRYING with a due time, and completes with the same plan then."""
    bench.land([person(f"crm/{n}") for n in range(10)])
    bench.target.away = [Unavailable(message="down")] * 3
    report = bench.publish()
    state = report.state
    assert state.status is PublishStatus.RETRYING
    assert state.failure_details is not None
    assert state.failure_details.error_code == "target_unavailable"
    assert state.retry_due_at is not None
    assert publish_next(bench.platform, "worker") is None
    bench.clock.moment = state.retry_due_at
    again = bench.publish()
    assert again.state.status is PublishStatus.COMPLETE
    assert again.state.plan_digest == state.plan_digest
    assert len(bench.target.applied_keys) == 10


def test_a_crashed_worker_is_taken_over_without_a_second_effect(bench: Bench) -> None:
    """After a crash in mid-execution another worker finishes the same plan; no operation takes effect twice."""
    bench.land([person(f"crm/{n}") for n in range(10)])

    class Crash(BaseException):
        pass

    def crash(step: str, done: int, total: int) -> None:
        if step == "execute" and done >= 4:
            raise Crash

    with pytest.raises(Crash):
        publish_next(bench.platform, "first", progress=crash)
    assert publish_next(bench.platform, "second") is None
    bench.clock.sleep(61)
    report = publish_next(bench.platform, "second")
    assert report is not None
    assert report.state.status is PublishStatus.COMPLETE
    assert sorted(bench.target.applied_keys) == sorted(f"crm/{n}" for n in range(10))


def test_what_failed_before_a_crash_still_blocks(bench: Bench) -> None:
    """What depends on a failed operation is blocked by it after a crash too, whatever characters its key has."""
    bench.target.poison = {"crm/bad\0"}
    bench.land([person("crm/bad\0"), person("crm/bad\0/child")])

    class Crash(BaseException):
        pass

    def crash(step: str, done: int, total: int) -> None:
        if step == "execute":
            raise Crash

    with pytest.raises(Crash):
        publish_next(bench.platform, "first", progress=crash)
    bench.clock.sleep(61)
    report = publish_next(bench.platform, "second")
    assert report is not None
    found = bench.control.list_exceptions(report.state.batch_id, TARGET)
    assert sorted(e.outcome for e in found) == ["blocked", "rejected"]


def test_the_same_inputs_give_the_same_plan(bench: Bench) -> None:
    """Planning twice stores byte-identical files under the same keys with the same digest."""
    manifest = bench.land([person(f"crm/{n}", v=n) for n in range(20)])
    first = plan_batch(bench.platform, manifest, TARGET)
    objects = bench.platform.objects
    files = {info.key: objects.get(info.key) for info in objects.list(first.prefix)}
    second = plan_batch(bench.platform, manifest, TARGET)
    assert first == second
    assert {info.key: objects.get(info.key) for info in objects.list(second.prefix)} == files


def test_a_mass_delete_is_held_and_the_rest_goes_on(bench: Bench) -> None:
    """Deletes beyond the limit are held; creates of the same batch take effect; a sane batch goes through."""
    everyone = [person(f"crm/{n}") for n in range(100)]
    bench.land(everyone)
    bench.publish()
    bench.land([*everyone[:50], person("crm/new")])
    report = bench.publish()
    assert {v.guard for v in report.guards if not v.passed} == {"delete_share"}
    assert report.state.metrics.entities_deleted == 0
    assert report.state.metrics.entities_created == 1
    assert len(names(bench)) == 101
    (row,) = [row for row in report.ledger if row.held]
    assert row.held == 50
    assert row.balanced
    bench.land([*everyone[:50], person("crm/new")])
    assert bench.publish(guard_policy=ANYTHING).state.metrics.entities_deleted == 50


def test_an_empty_extract_deletes_nothing(bench: Bench) -> None:
    """A batch without any row holds all deletes, however it declares its scopes."""
    bench.land([person(f"crm/{n}") for n in range(30)])
    bench.publish()
    bench.land([])
    report = bench.publish()
    assert len(names(bench)) == 30
    assert sum(row.held for row in report.ledger) == 30


def test_republishing_takes_the_target_back(bench: Bench) -> None:
    """Republishing an older batch makes the target what that batch says, and the newer one forward again."""
    first = bench.land([person("crm/a", v=1), person("crm/b")])
    bench.publish()
    second = bench.land([person("crm/a", v=2), person("crm/c")])
    bench.publish()
    republish(bench.platform, first.batch_id, TARGET)
    assert bench.publish().state.status is PublishStatus.COMPLETE
    assert bench.target.entities == {("person", "crm/a"): '{"v":1}', ("person", "crm/b"): "{}"}
    republish(bench.platform, second.batch_id, TARGET)
    bench.publish()
    assert bench.target.entities == {("person", "crm/a"): '{"v":2}', ("person", "crm/c"): "{}"}


def test_a_cycle_of_containment_is_refused(bench: Bench) -> None:
    """Containment edges that close a cycle are refused, naming it; other edges of the batch are created."""
    rows = [person(key) for key in ("crm/a", "crm/b", "crm/c", "crm/d")]
    edges = [("crm/a", "crm/b"), ("crm/b", "crm/c"), ("crm/c", "crm/a"), ("crm/c", "crm/d")]
    contains = [knows(*edge, type_name="contains") for edge in edges]
    types = [RelationshipType(name="contains", containment=True)]
    bench.land([*rows, *contains], relationship_types=types)
    report = bench.publish()
    exceptions = bench.control.list_exceptions(report.state.batch_id, TARGET)
    assert len(exceptions) == 3
    assert all("crm/a, crm/b, crm/c" in e.message for e in exceptions)
    assert set(bench.target.relationships) == {("contains", "crm/c", "crm/d")}


def test_containers_come_first_and_go_last(bench: Bench) -> None:
    """What contains is created before what it contains, and deleted after it."""
    bench.land([person("a/b/c"), person("a/b"), person("a")])
    bench.publish()
    assert bench.target.applied_keys == ["a", "a/b", "a/b/c"]
    bench.target.applied_keys.clear()
    bench.land([person("z")])
    bench.publish(guard_policy=ANYTHING)
    assert bench.target.applied_keys == ["z", "a/b/c", "a/b", "a"]


def test_a_conflict_is_recorded_and_not_counted_as_done(bench: Bench) -> None:
    """An operation whose precondition fails is dead-lettered in the ledger, with the reason in its exception."""
    bench.target.conflicting = {"crm/a"}
    bench.land([person("crm/a"), person("crm/b")])
    report = bench.publish()
    (exception,) = bench.control.list_exceptions(report.state.batch_id, TARGET)
    assert (exception.outcome, exception.code) == ("conflict", "precondition_failed")
    assert report.state.metrics.entities_created == 1
    assert sum(row.dead_lettered for row in report.ledger) == 1


def test_a_changed_plan_is_not_executed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operation files that were altered after planning fail the batch before anything is applied."""
    bench.land([person("crm/a")])
    original = LocalObjectStore.put

    def put(store: LocalObjectStore, key: str, data: bytes) -> None:
        original(store, key, data + b"x" if key.endswith(".parquet") else data)

    monkeypatch.setattr(LocalObjectStore, "put", put)
    report = bench.publish()
    assert report.state.status is PublishStatus.FAILED
    assert report.state.failure_details is not None
    assert report.state.failure_details.error_code == "plan_changed"
    assert bench.target.entities == {}
    assert [letter.code for letter in bench.control.list_dead_letters()] == ["plan_changed"]


def test_filtered_rows_stand_on_both_sides_of_the_ledger(bench: Bench) -> None:
    """What a transform left out is accounted for."""
    bench.land([person("crm/a")], filtered={"person": 4})
    (row,) = bench.publish().ledger
    assert (row.kind, row.filtered, row.created) == (Kind.ENTITY, 4, 1)
    assert row.balanced
