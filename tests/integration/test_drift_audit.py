"""The drift audit on real targets: what was edited by hand is found and put right, what people own stays."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Engine, create_engine, text

from penstock.batch.rows import Kind
from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, LaneBusy, TargetUnreachable
from penstock.identity.ids import SourceId, TargetId
from penstock.ports.drift import DriftStatus
from penstock.ports.target import TargetDown, Unavailable
from penstock.publish.state import PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.drift_audit import audit_all, audit_lane, drift_coverage, repair_lane
from penstock.use_cases.queries import plan_overview
from resources.targets.sql_table import open_sql_table
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import SOURCE, Bench, open_bench, person

DOWN = TargetId("down")
ADA = By(actor="ada", reason="somebody edited it")
PERIOD_S = 1000.0


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for the target."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'down.db'}"


@pytest.fixture
def bench(tmp_path: Path, clock: FixedClock, url: str) -> Iterator[Bench]:
    """A bench whose one target is a table of a database."""
    with open_bench(tmp_path, clock) as opened:
        target = open_sql_table(url, opened.target.target_id)
        targets = {opened.target.target_id: target}
        opened.platform = replace(opened.platform, targets=targets)
        spec = SourceSpec(
            source_id=SOURCE,
            targets=(opened.target.target_id,),
            ownership={"person": {"notes": "human"}},  # type: ignore[dict-item]
        )
        opened.control.sync_sources([spec])
        yield opened
        target.engine.dispose()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    yield opened
    opened.dispose()


def edit(engine: Engine, key: str, attributes: str | None) -> None:
    """Change a row of the target by hand, as a person with a SQL shell does; None deletes it."""
    with engine.begin() as connection:
        if attributes is None:
            statement = "DELETE FROM penstock_entities WHERE key = :key"
        else:
            statement = "UPDATE penstock_entities SET attributes = :text WHERE key = :key"
        done = connection.execute(text(statement), {"key": key, "text": attributes})
        assert done.rowcount == 1


def test_an_edit_is_found_and_repaired(bench: Bench, engine: Engine) -> None:
    """A changed row and a missing one come back as published; the batch stands as it stood."""
    target = bench.target.target_id
    bench.land([person(f"crm/{n}", v=n) for n in range(20)])
    before = bench.publish().state
    assert before.status is PublishStatus.COMPLETE
    assert audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True).checked == 20
    edit(engine, "crm/3", '{"v":99}')
    edit(engine, "crm/4", None)
    report = audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True)
    assert (report.missing, report.differing, report.left) == (1, 1, 0)
    repair_lane(bench.platform, SOURCE, target, by=ADA)
    after = bench.publish().state
    assert after.status is PublishStatus.COMPLETE
    assert (after.metrics, after.exceptions) == (before.metrics, 0)
    assert audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True).differing == 0
    assert {d.status for d in bench.control.list_drift()} <= {
        DriftStatus.REPAIRED,
        DriftStatus.GONE,
    }
    with pytest.raises(IllegalMove, match="nothing was found"):
        repair_lane(bench.platform, SOURCE, target, by=ADA)
    bench.land([person(f"crm/{n}", v=n + 1) for n in range(20)])
    assert bench.publish().state.exceptions == 0


def test_every_row_is_looked_at_within_the_period(bench: Bench) -> None:
    """Looks at any distance add up to a whole turn before the period is over."""
    target = bench.target.target_id
    bench.land([person(f"crm/{n}", v=n) for n in range(50)])
    bench.publish()
    checked = 0
    began = bench.clock.now()
    audit_lane(bench.platform, SOURCE, target, period_s=PERIOD_S)
    for wait_s in [70, 130, 10, 400, 90, 150, 50, 100]:
        bench.clock.sleep(wait_s)
        (report,) = audit_all(bench.platform, period_s=PERIOD_S, repair=False)
        checked += report.checked
    assert checked >= 50
    (coverage,) = drift_coverage(bench.platform)
    assert coverage.oldest_turn_finished_at is not None
    assert coverage.oldest_turn_finished_at >= began


def test_a_busy_lane_is_passed_over(bench: Bench) -> None:
    """What a worker is about to write is no drift."""
    target = bench.target.target_id
    bench.land([person("crm/a")])
    bench.publish()
    bench.land([person("crm/b")])
    bench.control.claim("w", now=bench.clock.now(), lease_s=60, policy=bench.platform.queue_policy)
    with pytest.raises(LaneBusy):
        audit_lane(bench.platform, SOURCE, target, period_s=1)
    assert audit_all(bench.platform, period_s=1, repair=True) == []


def test_what_was_repaired_while_it_was_looked_at_is_not_found_again(
    bench: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair does not move the snapshot: a look that began before it is dropped all the same."""
    target = bench.target.target_id
    bench.land([person("crm/a", v=1)])
    bench.publish()
    edit(engine, "crm/a", '{"v":99}')
    record = bench.control.record_look

    def overtaken(*arguments: Any, **named: Any) -> None:
        monkeypatch.undo()
        audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True)
        repair_lane(bench.platform, SOURCE, target, by=ADA)
        bench.publish()
        record(*arguments, **named)

    monkeypatch.setattr(bench.control, "record_look", overtaken)
    with pytest.raises(LaneBusy, match="Look again"):
        audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True)
    assert [each.status for each in bench.control.list_drift()] == [DriftStatus.REPAIRED]
    with pytest.raises(IllegalMove):
        repair_lane(bench.platform, SOURCE, target, by=ADA)
    assert len(bench.control.list_acts()) == 1


def test_what_people_own_stays_and_what_the_source_owns_does_not(
    bench: Bench, engine: Engine
) -> None:
    """A human's notes survive audits, repairs and updates of the source; a changed source field goes back."""
    target = bench.target.target_id
    bench.land([person("crm/a", v=1, notes=""), person("crm/b", v=1, notes="")])
    bench.publish()
    edit(engine, "crm/a", '{"notes":"call back","v":1}')
    edit(engine, "crm/b", '{"notes":"vip","v":77}')
    report = audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True)
    assert (report.differing, report.left) == (1, 1)
    (finding,) = bench.control.list_drift(status=DriftStatus.OPEN)
    assert {each["name"]: each["is"] for each in finding.fields} == {
        "v": "restored",
        "notes": "kept",
    }
    repair_lane(bench.platform, SOURCE, target, by=ADA)
    state = bench.publish().state
    assert state.exceptions == 0
    (decided,) = plan_overview(bench.platform, state.batch_id).document.merges
    assert (decided.key, decided.kept, decided.restored) == ("crm/b", ("notes",), ("v",))
    assert held(bench, "crm/b") == '{"notes":"vip","v":1}'
    bench.land([person("crm/a", v=2, notes=""), person("crm/b", v=2, notes="from the source")])
    assert bench.publish().state.exceptions == 0
    assert held(bench, "crm/a") == '{"notes":"call back","v":2}'
    assert held(bench, "crm/b") == '{"notes":"vip","v":2}'
    bench.land([person("crm/a", v=3, notes=""), person("crm/b", v=3, notes="from the source")])
    assert bench.publish().state.exceptions == 0
    assert held(bench, "crm/a") == '{"notes":"call back","v":3}'


def test_no_row_is_left_for_longer_than_the_period(bench: Bench) -> None:
    """However the looks fall, a tenth of the period apart at most, each row is seen again in time."""
    bench.land([person(f"crm/{n}", v=n) for n in range(37)])
    bench.publish()
    target = bench.platform.targets[bench.target.target_id]
    seen: dict[str, float] = {}
    oldest = 0.0
    draw = random.Random(7)
    read_back = target.read_back

    def noting(source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        nonlocal oldest
        for key in keys["key"].to_pylist():
            oldest = max(oldest, now - seen.get(key, began))
            seen[key] = now
        return read_back(source, kind, keys)

    target.read_back = noting  # type: ignore[method-assign]
    began = now = bench.clock.now().timestamp()
    for _ in range(200):
        audit_lane(bench.platform, SOURCE, bench.target.target_id, period_s=PERIOD_S)
        bench.clock.sleep(draw.uniform(1, PERIOD_S / 10))
        now = bench.clock.now().timestamp()
    assert len(seen) == 37
    assert oldest <= PERIOD_S


def test_what_people_changed_is_not_deleted(bench: Bench, engine: Engine) -> None:
    """A delete that would take a person's note away is a conflict that is listed; the others go on."""
    bench.land([person(f"crm/{n}", v=n, notes="") for n in range(20)])
    bench.publish()
    edit(engine, "crm/3", '{"notes":"call back","v":3}')
    bench.land([person(f"crm/{n}", v=n, notes="") for n in range(20) if n not in {3, 4}])
    state = bench.publish().state
    assert state.exceptions == 1
    (listed,) = bench.control.list_exceptions(state.batch_id, state.target_id)
    assert (listed.key, listed.code) == ("crm/3", "owned_by_others")
    assert held(bench, "crm/3") == '{"notes":"call back","v":3}'


def test_an_edit_between_look_and_write_is_kept(bench: Bench, engine: Engine) -> None:
    """However often people write while an update is on its way, it merges what they wrote last, and loses nothing."""
    bench.land([person("crm/a", v=1, notes=""), person("crm/b", v=1, notes="")])
    bench.publish()
    notes = ["first", "second"]
    editing_after_looks(bench, engine, ["crm/a"], notes)
    bench.land([person("crm/a", v=2, notes=""), person("crm/b", v=2, notes="")])
    report = bench.publish()
    assert (report.state.exceptions, report.merged, notes) == (0, 1, [])
    assert held(bench, "crm/a") == '{"notes":"second","v":2}'
    assert held(bench, "crm/b") == '{"notes":"","v":2}'


def test_who_never_stops_editing_has_a_conflict(bench: Bench, engine: Engine) -> None:
    """After some looks the operation is a conflict that is listed: the edit stays, and the other rows are written."""
    bench.land([person("crm/a", v=1, notes=""), person("crm/b", v=1, notes="")])
    bench.publish()
    editing_after_looks(bench, engine, ["crm/a"], [f"note {n}" for n in range(20)])
    bench.land([person("crm/a", v=2, notes=""), person("crm/b", v=2, notes="")])
    state = bench.publish().state
    assert (state.status, state.exceptions) == (PublishStatus.COMPLETE, 1)
    (listed,) = bench.control.list_exceptions(state.batch_id, state.target_id)
    assert (listed.key, listed.code) == ("crm/a", "edited_meanwhile")
    assert held(bench, "crm/a").endswith('"v":1}')
    assert held(bench, "crm/b") == '{"notes":"","v":2}'


def test_a_delete_does_not_take_an_edit_with_it(bench: Bench, engine: Engine) -> None:
    """A note that is written between the look and the delete stays with its row, which is listed."""
    bench.land([person(f"crm/{n}", v=n, notes="") for n in range(20)])
    bench.publish()
    editing_after_looks(bench, engine, ["crm/3"], ["call back"])
    bench.land([person(f"crm/{n}", v=n, notes="") for n in range(20) if n not in {3, 4}])
    state = bench.publish().state
    (listed,) = bench.control.list_exceptions(state.batch_id, state.target_id)
    assert (listed.key, listed.code) == ("crm/3", "owned_by_others")
    assert held(bench, "crm/3") == '{"notes":"call back","v":1}'
    assert held(bench, "crm/4") == "None"


def editing_after_looks(bench: Bench, engine: Engine, keys: list[str], notes: list[str]) -> None:
    """Have somebody write the next note into a row after each look at it."""
    target = bench.platform.targets[bench.target.target_id]
    read_back = target.read_back

    def edited_at_once(source: SourceId, kind: Kind, names: pa.Table) -> pa.Table:
        answer = read_back(source, kind, names)
        if notes and set(keys) & set(names["key"].to_pylist()):
            for key in keys:
                edit(engine, key, json.dumps({"notes": notes[0], "v": 1}, separators=(",", ":")))
            del notes[0]
        return answer

    target.read_back = edited_at_once  # type: ignore[method-assign]


@pytest.mark.parametrize("text", ["not json", "[1]", "null"])
def test_what_cannot_be_read_costs_only_itself(bench: Bench, engine: Engine, text: str) -> None:
    """Broken text in one row is left to people, is not written over, and stops neither audit nor publish."""
    target = bench.target.target_id
    bench.land([person("crm/a", v=1, notes=""), person("crm/b", v=1, notes="")])
    bench.publish()
    edit(engine, "crm/a", text)
    report = audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True)
    assert (report.checked, report.differing, report.left) == (2, 0, 1)
    bench.land([person("crm/a", v=2, notes=""), person("crm/b", v=2, notes="")])
    state = bench.publish().state
    assert (state.status, state.exceptions) == (PublishStatus.COMPLETE, 1)
    assert held(bench, "crm/a") == text
    assert held(bench, "crm/b") == '{"notes":"","v":2}'


def test_without_owners_broken_text_is_put_right(bench: Bench, engine: Engine) -> None:
    """Where all fields are the source's, what cannot be read, or is only written otherwise, comes back."""
    target = bench.target.target_id
    bench.control.sync_sources([SourceSpec(source_id=SOURCE, targets=(target,))])
    bench.land([person("crm/a", v=1), person("crm/b", v=1)])
    bench.publish()
    edit(engine, "crm/a", "not json")
    edit(engine, "crm/b", '{ "v": 1 }')
    report = audit_lane(bench.platform, SOURCE, target, period_s=1, everything=True)
    assert report.differing == 2
    repair_lane(bench.platform, SOURCE, target, by=ADA)
    assert bench.publish().state.exceptions == 0
    assert (held(bench, "crm/a"), held(bench, "crm/b")) == ('{"v":1}', '{"v":1}')
    assert {each.status for each in bench.control.list_drift()} == {DriftStatus.REPAIRED}


def test_a_target_that_is_down_is_passed_over(bench: Bench) -> None:
    """The look is reported as come to nothing, and asked for by name it is an error in words."""
    target = bench.target.target_id
    bench.land([person("crm/a", v=1)])
    bench.publish()

    def gone(source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        raise TargetDown(Unavailable(message="no route"))

    bench.platform.targets[target].read_back = gone  # type: ignore[method-assign]
    (report,) = audit_all(bench.platform, period_s=1, repair=True)
    assert report.checked == 0
    assert "no route" in (report.trouble or "")
    with pytest.raises(TargetUnreachable, match="no route"):
        audit_lane(bench.platform, SOURCE, target, period_s=1)


def held(bench: Bench, key: str) -> str:
    """The attributes that the target holds of a person."""
    names = pa.table({"type_name": ["person"], "key": [key], "to_key": pa.nulls(1, pa.string())})
    target = bench.platform.targets[bench.target.target_id]
    return str(target.read_back(SOURCE, Kind.ENTITY, names)["attributes"][0].as_py())
