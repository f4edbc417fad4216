"""What people changed in a target, and what becomes of it: verified, counted, listed by field, and foreseen."""

from __future__ import annotations

import pytest

from penstock.batch.rows import Kind
from penstock.batch.source import SourceSpec
from penstock.identity.digest import entity_digest
from penstock.ports.target import TargetDown, Unavailable
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.dry_run import dry_run
from penstock.use_cases.explain_entity import explain_entity
from penstock.use_cases.publish_reports import recorded_report
from penstock.use_cases.queries import plan_overview
from tests.fixtures.memory import SOURCE, TARGET, Bench, person


@pytest.fixture
def owned(bench: Bench) -> Bench:
    """A bench that has published five people with notes, which people own."""
    spec = SourceSpec(
        source_id=SOURCE,
        targets=(TARGET,),
        ownership={"person": {"notes": "human", "tags": "human"}},  # type: ignore[dict-item]
    )
    bench.control.sync_sources([spec])
    bench.land([person(f"crm/{n}", v=1, notes="") for n in range(5)])
    bench.publish()
    return bench


def edit(bench: Bench, key: str, text: str, *, noticed: bool = True) -> None:
    """Change what the target holds; a target that notices it has another digest then."""
    bench.target.entities["person", key] = text
    if noticed:
        bench.target.digests["person", key] = entity_digest("person", key, text.encode())


def publish(bench: Bench, v: int, notes: str = "") -> PublishState:
    """Land and publish a new version of all five."""
    bench.land([person(f"crm/{n}", v=v, notes=notes) for n in range(5)])
    return bench.publish().state


@pytest.mark.parametrize("noticed", [True, False])
def test_decisions_are_counted_and_listed_by_field(owned: Bench, noticed: bool) -> None:
    """Kept, kept against the source, and put back: with the batch, its plan, the entity, and where it is read again."""
    edit(owned, "crm/1", '{"notes":"call","v":1}', noticed=noticed)
    edit(owned, "crm/2", '{"notes":"","tags":["vip"],"v":99}', noticed=noticed)
    edit(owned, "crm/3", '{"notes":"","v":77}', noticed=noticed)
    owned.land([person(f"crm/{n}", v=2, notes="new") for n in range(5)])
    report = owned.publish()
    assert (report.state.status, report.state.exceptions) == (PublishStatus.COMPLETE, 0)
    assert (report.merged, report.conflicts) == (3, 1)
    again = recorded_report(owned.platform, report.state)
    assert (again.merged, again.conflicts) == (3, 1)
    batch = report.state.batch_id
    listed = plan_overview(owned.platform, batch).merges
    assert (listed.operations, listed.conflicts) == (3, 1)
    decided = {row.key: (row.kept, row.conflicts, row.restored) for row in listed.rows}
    assert decided == {
        "crm/1": (("notes",), ("notes",), ()),
        "crm/2": (("tags",), (), ("v",)),
        "crm/3": ((), (), ("v",)),
    }
    assert listed.rows[0].key == "crm/1"
    (explained,) = explain_entity(owned.platform, batch, "crm/1")
    assert explained.merged is not None
    assert explained.merged.conflicts == ("notes",)
    (untouched,) = explain_entity(owned.platform, batch, "crm/0")
    assert untouched.merged is None
    assert owned.target.entities["person", "crm/2"] == '{"notes":"new","tags":["vip"],"v":2}'


def test_a_dry_run_foresees_what_is_decided(owned: Bench) -> None:
    """The same decisions before anything is sent, and the deletes that would not take effect; nothing is written."""
    edit(owned, "crm/1", '{"notes":"call","v":1}')
    edit(owned, "crm/4", '{"notes":"keep me","v":1}')
    manifest = owned.land([person(f"crm/{n}", v=2, notes="new") for n in range(4)])
    before = dict(owned.target.entities)
    foreseen = dry_run(owned.platform, manifest.batch_id).merges
    assert owned.target.entities == before
    assert [(row.key, row.conflicts) for row in foreseen.rows] == [("crm/1", ("notes",))]
    (refused,) = foreseen.refused
    assert "crm/4 was changed" in refused
    state = owned.publish().state
    assert state.exceptions == 1
    assert plan_overview(owned.platform, manifest.batch_id).merges.rows == foreseen.rows


def test_a_dry_run_says_when_the_target_cannot_be_asked(owned: Bench) -> None:
    """It plans all the same, and names the target."""
    manifest = owned.land([person(f"crm/{n}", v=2, notes="new") for n in range(5)])
    owned.target.blind.append(Unavailable(message="no route"))
    found = dry_run(owned.platform, manifest.batch_id)
    assert found.document.operations == 5
    assert found.merges.trouble == f"target '{TARGET}' cannot be asked: no route"


def test_a_merge_that_the_target_dropped_is_lost(owned: Bench) -> None:
    """What is merged is looked at like everything else: a target that drops it in silence is caught."""
    edit(owned, "crm/1", '{"notes":"call","v":1}')
    owned.target.dropped.add("crm/1")
    report_state = publish(owned, 2)
    assert report_state.exceptions == 1
    (lost,) = owned.control.list_exceptions(report_state.batch_id, TARGET)
    assert (lost.key, lost.outcome) == ("crm/1", "lost")
    assert plan_overview(owned.platform, report_state.batch_id).merges.operations == 0


def test_what_is_sent_again_is_decided_alike(owned: Bench) -> None:
    """A worker that dies after the target took the merge leaves no other decisions than one that lives."""
    edit(owned, "crm/1", '{"notes":"call","v":1}')
    owned.land([person(f"crm/{n}", v=2, notes="new") for n in range(5)])
    control = owned.platform.control
    finish = control.finish_chunk

    def dies(*_args: object, **_fields: object) -> None:
        raise TargetDown(Unavailable(message="killed"))

    control.finish_chunk = dies  # type: ignore[method-assign]
    assert owned.publish().state.status is PublishStatus.RETRYING
    control.finish_chunk = finish  # type: ignore[method-assign]
    owned.clock.sleep(3600)
    report = owned.publish()
    assert (report.state.exceptions, report.merged, report.conflicts) == (0, 1, 1)
    assert owned.target.entities["person", "crm/1"] == '{"notes":"call","v":2}'


def test_both_sides_saying_the_same_is_no_conflict(owned: Bench) -> None:
    """Where people wrote what the source says now, nothing has to be decided."""
    edit(owned, "crm/1", '{"notes":"new","v":1}')
    state = publish(owned, 2, "new")
    assert plan_overview(owned.platform, state.batch_id).merges.operations == 0
    assert owned.target.entities["person", "crm/1"] == '{"notes":"new","v":2}'


def test_what_people_made_themselves_is_merged_into(owned: Bench) -> None:
    """A person whom somebody entered by hand keeps their notes when the source creates them."""
    edit(owned, "crm/9", '{"notes":"met at the fair","v":0}')
    owned.land([person(f"crm/{n}", v=1, notes="") for n in (*range(5), 9)])
    report = owned.publish()
    assert (report.state.exceptions, report.merged, report.conflicts) == (0, 1, 1)
    assert owned.target.entities["person", "crm/9"] == '{"notes":"met at the fair","v":1}'
    (row,) = plan_overview(owned.platform, report.state.batch_id).merges.rows
    assert (row.kind, row.action) == (Kind.ENTITY, "create")
