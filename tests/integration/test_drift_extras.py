"""What nobody published, on real targets: found in rotation, reported, and deleted only where a policy says so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Engine, LargeBinary, bindparam, create_engine, text

from penstock.batch.guard_policy import GuardPolicy, Protected
from penstock.batch.rows import Kind
from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, TargetUnreachable
from penstock.identity.digest import entity_digest
from penstock.identity.ids import SourceId
from penstock.ports.drift import EXTRA, DriftStatus
from penstock.ports.target import HeldName, TargetDown, Unavailable
from penstock.publish.state import PublishStatus
from penstock.use_cases import repair
from penstock.use_cases.acts import By
from penstock.use_cases.drift_audit import (
    DriftReport,
    audit_all,
    audit_lane,
    drift_coverage,
    repair_lane,
)
from penstock.use_cases.queries import plan_overview
from resources.targets.sql_table import SqlTableTarget, open_sql_table
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import SOURCE, TARGET, Bench, knows, open_bench, person

ADA = By(actor="ada", reason="nobody knows these")
PERIOD_S = 1000.0


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for the target."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'down.db'}"


@pytest.fixture
def shared(tmp_path: Path, clock: FixedClock, url: str) -> Iterator[Bench]:
    """A bench that has published five people into a table of a database."""
    with open_bench(tmp_path, clock) as opened:
        target = open_sql_table(url, TARGET)
        opened.platform = replace(opened.platform, targets={TARGET: target})
        opened.land([person(f"crm/{n}", v=n) for n in range(5)])
        assert opened.publish().state.status is PublishStatus.COMPLETE
        yield opened
        target.engine.dispose()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    yield opened
    opened.dispose()


def enter(engine: Engine, key: str, attributes: str = "{}", **fields: Any) -> None:
    """Enter a row by hand under the source's name."""
    digest = entity_digest("person", key, attributes.encode())
    values = {"type_name": "person", "digest": digest, **fields, "key": key, "text": attributes}
    statement = text(
        "INSERT INTO penstock_entities (_penstock_source, type_name, key, attributes, _penstock_digest, "
        "_penstock_operation) VALUES ('crm', :type_name, :key, :text, :digest, :digest)"
    ).bindparams(bindparam("digest", type_=LargeBinary))
    with engine.begin() as connection:
        connection.execute(statement, values)


def keys(engine: Engine) -> set[str]:
    """The keys of all rows."""
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT key FROM penstock_entities")).scalars())


def check(bench: Bench) -> DriftReport:
    """Look at everything."""
    return audit_lane(bench.platform, SOURCE, TARGET, period_s=1, everything=True)


def deleting(bench: Bench, policy: GuardPolicy | None = None) -> None:
    """Have repairs delete what nobody published."""
    policy = policy or GuardPolicy()
    bench.platform = replace(bench.platform, delete_extras=True, guard_policy=policy)


def test_what_nobody_published_is_reported_and_stays(shared: Bench, engine: Engine) -> None:
    """Nothing is configured: it is counted and listed, no repair is asked for, and none takes it away."""
    enter(engine, "crm/hand", '{"v":7}')
    enter(engine, "crm/other", type_name="robot")
    report = check(shared)
    assert (report.listed, report.extra, report.missing, report.differing) == (7, 2, 0, 0)
    found = shared.control.list_drift(finding=EXTRA)
    assert {(each.type_name, each.key, each.status) for each in found} == {
        ("person", "crm/hand", DriftStatus.LEFT),
        ("robot", "crm/other", DriftStatus.LEFT),
    }
    (coverage,) = drift_coverage(shared.platform)
    assert (coverage.open, coverage.left, coverage.extra, coverage.lists) == (0, 2, 2, True)
    audit_all(shared.platform, period_s=1, repair=True)
    with pytest.raises(IllegalMove, match="nothing was found"):
        repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    assert keys(engine) >= {"crm/hand", "crm/other"}


def test_a_repair_of_something_else_leaves_it_alone(shared: Bench, engine: Engine) -> None:
    """A missing row is made again; the extra one beside it stays."""
    enter(engine, "crm/hand")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock_entities WHERE key = 'crm/1'"))
    assert check(shared).missing == 1
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    assert shared.publish().state.exceptions == 0
    assert keys(engine) == {*(f"crm/{n}" for n in range(5)), "crm/hand"}


def test_where_the_policy_says_so_it_is_deleted(shared: Bench, engine: Engine) -> None:
    """By a plan like any other, with its guards; batch, counts and snapshot stand as they stood."""
    deleting(shared)
    before = shared.control.list_states()[0]
    enter(engine, "crm/hand", '{"v":7}')
    enter(engine, "crm/loose", "no json", digest=b"by hand")
    assert check(shared).extra == 2
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    state = shared.publish().state
    assert (state.status, state.exceptions, state.metrics) == (
        PublishStatus.COMPLETE,
        0,
        before.metrics,
    )
    assert keys(engine) == {f"crm/{n}" for n in range(5)}
    assert {each.status for each in shared.control.list_drift()} == {DriftStatus.REPAIRED}
    document = plan_overview(shared.platform, state.batch_id).document
    assert {guard.guard for guard in document.guards} >= {"delete_share", "protected"}
    assert check(shared).extra == 0


def test_guards_keep_what_is_too_much(shared: Bench, engine: Engine) -> None:
    """More than the source's limits let go is left as a whole, and nothing asks for it over and over."""
    deleting(shared)
    for n in range(30):
        enter(engine, f"crm/hand/{n}")
    enter(engine, "crm/robot", type_name="robot")
    assert check(shared).extra == 31
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    state = shared.publish().state
    assert (state.exceptions, state.held) == (0, 0)
    assert len(keys(engine)) == 35
    guards = plan_overview(shared.platform, state.batch_id).document.guards
    (said,) = [guard.message for guard in guards if not guard.passed]
    assert "would lose 30 of 5" in said
    assert shared.control.count_drift(SOURCE, TARGET) == {
        (DriftStatus.LEFT, EXTRA): 30,
        (DriftStatus.REPAIRED, EXTRA): 1,
    }
    with pytest.raises(IllegalMove, match="nothing was found"):
        repair_lane(shared.platform, SOURCE, TARGET, by=ADA)


def test_what_is_protected_is_never_deleted(shared: Bench, engine: Engine) -> None:
    """By its attributes, where nobody can read them, and where something protected lies below."""
    rules = (Protected(entity_type="person", attributes={"keep": True}),)
    deleting(shared, GuardPolicy(protected=rules))
    enter(engine, "crm/kept/below", '{ "keep": true }')
    enter(engine, "crm/kept")
    enter(engine, "crm/unreadable", "no json")
    enter(engine, "crm/goes", '{"keep":false}')
    check(shared)
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    shared.publish()
    stayed = {"crm/kept/below", "crm/kept", "crm/unreadable"}
    assert keys(engine) == {*(f"crm/{n}" for n in range(5)), *stayed}


def test_what_is_settled_elsewhere_is_gone(shared: Bench, engine: Engine) -> None:
    """Deleted by whoever entered it, or published by the source: with the next whole look it is no finding any more."""
    enter(engine, "crm/hand")
    enter(engine, "crm/9", '{"v":9}')
    assert check(shared).extra == 2
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock_entities WHERE key = 'crm/hand'"))
    shared.clock.sleep(1)
    shared.land([person(f"crm/{n}", v=n) for n in (*range(5), 9)])
    assert shared.publish().state.exceptions == 0
    shared.clock.sleep(1)
    assert check(shared).extra == 0
    assert {each.status for each in shared.control.list_drift()} == {DriftStatus.GONE}


def test_deleted_by_hand_before_the_repair_it_is_gone(shared: Bench, engine: Engine) -> None:
    """The repair looks once more, finds nothing to do, and leaves the batch as it stood."""
    deleting(shared)
    enter(engine, "crm/hand")
    check(shared)
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock_entities WHERE key = 'crm/hand'"))
    assert shared.publish().state.status is PublishStatus.COMPLETE
    (finding,) = shared.control.list_drift()
    assert finding.status is DriftStatus.GONE


def test_relationships_are_looked_for_too(shared: Bench, engine: Engine) -> None:
    """A relationship that nobody published is found by both its ends, and deleted where the policy says so."""
    deleting(shared)
    shared.land([*(person(f"crm/{n}", v=n) for n in range(5)), knows("crm/1", "crm/2")])
    shared.publish()
    statement = text(
        "INSERT INTO penstock_relationships SELECT _penstock_source, type_name, key, 'crm/3', attributes, "
        "_penstock_digest, _penstock_operation FROM penstock_relationships"
    )
    with engine.begin() as connection:
        connection.execute(statement)
    assert check(shared).extra == 1
    (finding,) = shared.control.list_drift(finding=EXTRA)
    assert (finding.key, finding.to_key) == ("crm/1", "crm/3")
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    shared.publish()
    with engine.connect() as connection:
        ends = connection.execute(text("SELECT to_key FROM penstock_relationships")).scalars()
        assert set(ends) == {"crm/2"}


def test_a_row_that_the_source_lets_go_is_no_finding(shared: Bench, engine: Engine) -> None:
    """What was missing and is deleted at the source, the last of its type too, has nobody to wait for."""
    shared.land([*(person(f"crm/{n}", v=n) for n in range(5)), knows("crm/1", "crm/2")])
    shared.publish()
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock_entities WHERE key = 'crm/4'"))
        connection.execute(text("DELETE FROM penstock_relationships"))
    assert check(shared).missing == 2
    shared.clock.sleep(1)
    shared.land([person(f"crm/{n}", v=n) for n in range(4)])
    assert shared.publish().state.exceptions == 0
    for _ in range(2):
        shared.clock.sleep(1)
        check(shared)
    assert {each.status for each in shared.control.list_drift()} == {DriftStatus.GONE}


def test_all_that_is_held_is_listed_within_the_period(shared: Bench, engine: Engine) -> None:
    """However the looks fall, a tenth of the period apart at most, an extra row is found in time."""
    for n in range(40):
        enter(engine, f"crm/hand/{n:02}")
    target = shared.platform.targets[TARGET]
    assert isinstance(target, SqlTableTarget)
    seen: dict[str, float] = {}
    oldest = 0.0
    draw = random.Random(7)
    list_held = target.list_held

    def noting(source: SourceId, kind: Kind, *, after: HeldName | None, limit: int) -> pa.Table:
        nonlocal oldest
        page = list_held(source, kind, after=after, limit=limit)
        for key in page["key"].to_pylist():
            oldest = max(oldest, now - seen.get(key, began))
            seen[key] = now
        return page

    target.list_held = noting  # type: ignore[method-assign]
    began = now = shared.clock.now().timestamp()
    for _ in range(100):
        audit_lane(shared.platform, SOURCE, TARGET, period_s=PERIOD_S)
        shared.clock.sleep(draw.uniform(1, PERIOD_S / 10))
        now = shared.clock.now().timestamp()
    assert len(seen) == 45
    assert oldest <= 2 * PERIOD_S  # the first turn does not know how many there are
    (coverage,) = drift_coverage(shared.platform)
    assert coverage.oldest_listing_finished_at is not None
    assert now - coverage.oldest_listing_finished_at.timestamp() <= 2 * PERIOD_S


def test_a_target_that_cannot_list_says_so(bench: Bench) -> None:
    """The report has no count, and coverage says that nobody knows."""
    bench.land([person("crm/a")])
    bench.publish()
    report = check(bench)
    assert (report.checked, report.listed, report.extra) == (1, None, 0)
    (coverage,) = drift_coverage(bench.platform)
    assert (coverage.lists, coverage.oldest_listing_finished_at) == (False, None)


def test_a_target_that_goes_down_while_it_lists(shared: Bench) -> None:
    """What was looked at stays recorded, and the error is in words."""

    def gone(*_asked: object, **_fields: object) -> pa.Table:
        raise TargetDown(Unavailable(message="no route"))

    shared.platform.targets[TARGET].list_held = gone  # type: ignore[attr-defined]
    with pytest.raises(TargetUnreachable, match="no route"):
        check(shared)
    (coverage,) = drift_coverage(shared.platform)
    assert coverage.oldest_turn_finished_at is not None
    assert coverage.oldest_listing_finished_at is None


def test_many_findings_go_in_several_repairs(
    shared: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One repair takes so many; each look asks for the next one, until nothing is left."""
    monkeypatch.setattr(repair, "MOST_AT_ONCE", 2)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock_entities"))
    repairs = 0
    while audit_all(shared.platform, period_s=1, repair=True)[0].missing:
        assert shared.publish().state.exceptions == 0
        shared.clock.sleep(900)
        repairs += 1
    assert repairs == 3
    assert len(keys(engine)) == 5


def test_a_repair_that_was_killed_goes_on(shared: Bench, engine: Engine) -> None:
    """After the target took it all and nobody recorded so, the next worker finishes it, and the lane is free."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM penstock_entities WHERE key <> 'crm/1'"))
    check(shared)
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    complete = shared.control.complete

    def dies(*_args: object, **_fields: object) -> None:
        raise TargetDown(Unavailable(message="killed"))

    shared.control.complete = dies  # type: ignore[method-assign]
    assert shared.publish().state.status is PublishStatus.RETRYING
    shared.control.complete = complete  # type: ignore[method-assign]
    shared.clock.sleep(3600)
    assert shared.publish().state.status is PublishStatus.COMPLETE
    assert {each.status for each in shared.control.list_drift()} == {DriftStatus.REPAIRED}
    assert shared.control.begun_executions(SOURCE, TARGET) == []
    assert check(shared).missing == 0


def test_ownership_does_not_keep_what_nobody_published(shared: Bench, engine: Engine) -> None:
    """People own fields of what the source publishes; a row of their own goes with the policy, too."""
    spec = SourceSpec(
        source_id=SOURCE,
        targets=(TARGET,),
        ownership={"person": {"notes": "human"}},  # type: ignore[dict-item]
    )
    shared.control.sync_sources([spec])
    deleting(shared)
    enter(engine, "crm/hand", '{"notes":"mine","v":1}')
    check(shared)
    repair_lane(shared.platform, SOURCE, TARGET, by=ADA)
    assert shared.publish().state.exceptions == 0
    assert "crm/hand" not in keys(engine)
