"""Projections get each event once and in order and are made anew beside themselves; the seal finds what was changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Row, inspect, text

from penstock.errors import NotFound
from penstock.ports.registry import Search
from penstock.registry.events import Cursor, StreamKind
from resources.control_db.engine import open_engine
from resources.registry.projections import NotRebuildable, ProjectionRunner, Tracking
from resources.registry.seals import Seal, SealVerifier
from resources.registry.search_index import SearchIndex
from resources.registry.store import SqlRegistryStore
from resources.registry.tallies import Activity, Counts
from tests.contracts.registry_values import (
    ACME,
    NOW,
    OTHER,
    SettledStore,
    create,
    edge,
    entity,
    keys,
    put,
    settled,
    write,
)
from tests.fixtures.clock import FixedClock
from tests.unit.targets.chunks import CONTEXT, chunk, created


@pytest.fixture
def store(control_url: str) -> Iterator[SqlRegistryStore]:
    made = SettledStore(open_engine(control_url))
    yield made
    made.close()


@dataclass
class Diary:
    """A projection that writes down every event, and can be made to fail."""

    name: str = "diary"
    rebuildable: bool = True
    fails_at: str | None = None
    hook: Callable[[], object] = field(default=lambda: None)

    def create(self, connection: Connection, generation: int) -> None:
        connection.execute(text(f"CREATE TABLE diary_{generation} (line integer, key text)"))

    def drop(self, connection: Connection, generation: int) -> None:
        connection.execute(text(f"DROP TABLE diary_{generation}"))

    def prepare(self, events: Sequence[Row[Any]]) -> list[str]:
        self.hook()
        return [event.key for event in events]

    def write(self, connection: Connection, generation: int, prepared: list[str], /) -> None:
        for key in prepared:
            line = (
                f"INSERT INTO diary_{generation} SELECT count(*) + 1, :key FROM diary_{generation}"
            )
            connection.execute(text(line), {"key": key})
            if key == self.fails_at:
                raise RuntimeError(key)


def diary_of(store: SqlRegistryStore, generation: int = 1) -> list[str]:
    with store.engine.connect() as connection:
        return list(connection.scalars(text(f"SELECT key FROM diary_{generation} ORDER BY line")))


def runner_of(store: SqlRegistryStore, *projections: Any, at_once: int = 3) -> ProjectionRunner:
    clock = FixedClock(NOW)
    return ProjectionRunner(store.engine, projections, clock, at_once=at_once)


def fill(store: SqlRegistryStore, count: int, first: int = 0) -> list[str]:
    names = [f"k{n:03d}" for n in range(first, first + count)]
    for name in names:
        create(store, entity(name), {"name": name})
    return names


# Once and in order --------------------------------------------------------------------------------------------


def test_a_projection_gets_every_event_once_and_in_order(store: SqlRegistryStore) -> None:
    """In steps of any size, from where it was, and its place is kept with what it wrote."""
    runner = runner_of(store, Diary())
    assert runner.step("diary") == 0
    names = fill(store, 7)
    assert [runner.step("diary") for _ in range(4)] == [3, 3, 1, 0]
    names += fill(store, 2, first=7)
    assert runner_of(store, Diary()).catch_up("diary") in {0, 2}  # the other's lease may hold
    runner.catch_up("diary")
    assert diary_of(store) == names
    (tracking,) = runner.tracking()
    last = store.read_log(Cursor(), limit=100)[-1].cursor
    assert tracking == Tracking(name="diary", generation=1, live=True, cursor=last, events=9)


def test_a_step_that_fails_has_done_nothing(store: SqlRegistryStore) -> None:
    """What it wrote and its place go back together, and the next step begins where it began."""
    names = fill(store, 5)
    broken = Diary(fails_at="k001")
    runner = runner_of(store, broken)
    with pytest.raises(RuntimeError):
        runner.step("diary")
    assert diary_of(store) == []
    broken.fails_at = None
    runner.catch_up("diary")
    assert diary_of(store) == names


def test_one_runner_works_on_a_projection_at_a_time(store: SqlRegistryStore) -> None:
    """While one is at it the other is told so at once; a lease that ran out is taken over."""
    names = fill(store, 3)
    seen: list[int | None] = []
    other = runner_of(store, Diary())
    mine = runner_of(store, Diary(hook=lambda: seen.append(other.step("diary"))))
    assert mine.step("diary") == 3
    assert seen == [None]
    late = FixedClock(NOW + timedelta(minutes=5))
    heir = ProjectionRunner(store.engine, [Diary()], late)
    names += fill(store, 1, first=3)
    assert heir.step("diary") == 1
    assert diary_of(store) == names


def test_a_step_that_was_overtaken_takes_itself_back(store: SqlRegistryStore) -> None:
    """A runner that slept through its lock finds the place moved, and writes nothing."""
    names = fill(store, 3)
    table = "registry_projection"

    def overtake() -> None:
        with store.engine.begin() as connection:
            connection.execute(text(f"UPDATE {table} SET position = position + 1"))

    runner = runner_of(store, Diary(hook=overtake))
    assert runner.step("diary") is None
    assert diary_of(store) == []
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET position = 0"))
    runner_of(store, Diary(), at_once=9)
    calm = runner_of(store, Diary(), at_once=9)
    runner.release()
    assert calm.step("diary") == 3
    assert diary_of(store) == names


def test_a_running_runner_follows_the_log(store: SqlRegistryStore) -> None:
    """It projects what is appended while it runs, and gives its leases back when it is stopped."""
    stop = threading.Event()
    runner = runner_of(store, Diary(), Counts())
    thread = threading.Thread(target=runner.run, args=(stop,), kwargs={"poll_s": 0.2})
    thread.start()
    names = fill(store, 5)
    while len(_events(runner, "diary")) == 0 or _events(runner, "counts") != [5]:
        pass
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    runner_of(store, Diary()).catch_up("diary")
    assert diary_of(store) == names


def _events(runner: ProjectionRunner, name: str) -> list[int]:
    return [tracking.events for tracking in runner.tracking() if tracking.name == name]


def test_an_unknown_projection_is_an_error(store: SqlRegistryStore) -> None:
    """It names those that there are."""
    with pytest.raises(NotFound, match="choose one of diary"):
        runner_of(store, Diary()).step("diry")


# Rebuilding ---------------------------------------------------------------------------------------------------


def test_a_rebuild_takes_over_in_one_moment(store: SqlRegistryStore) -> None:
    """The new tables are filled beside the live ones, which go on; then they are the live ones, the old are gone."""
    names = fill(store, 5)
    runner = runner_of(store, Diary())
    runner.catch_up("diary")
    more: list[str] = []

    def write_on(done: int) -> None:
        if not more:
            more.extend(fill(store, 4, first=5))
            assert runner.catch_up("diary") == 4
            assert diary_of(store) == names + more

    rebuilt = runner.rebuild("diary", on_progress=write_on)
    assert (rebuilt.generation, rebuilt.events) == (2, 9)
    assert diary_of(store, 2) == names + more
    assert not inspect(store.engine).has_table("diary_1")
    assert [(t.generation, t.live) for t in runner.tracking()] == [(2, True)]
    assert runner.step("diary") == 0


def test_an_interrupted_rebuild_is_begun_anew(store: SqlRegistryStore) -> None:
    """What it left behind is dropped, and the live tables never noticed."""
    names = fill(store, 5)
    runner = runner_of(store, Diary())
    runner.catch_up("diary")
    with pytest.raises(RuntimeError):
        runner_of(store, Diary(fails_at="k004")).rebuild("diary")
    assert [(t.generation, t.live) for t in runner.tracking()] == [(1, True), (2, False)]
    assert runner.rebuild("diary").generation == 3
    assert diary_of(store, 3) == names
    tables = inspect(store.engine).get_table_names()
    assert [table for table in tables if table.startswith("diary")] == ["diary_3"]


def test_search_and_counts_are_right_while_and_after_they_are_rebuilt(
    store: SqlRegistryStore,
) -> None:
    """Readers see the old tables until the switch, and the new ones from then on."""
    fill(store, 10)
    runner = runner_of(store, SearchIndex(), Counts())
    for name in runner.names:
        runner.catch_up(name)

    def look(_: int = 0) -> None:
        found = store.search(Search(tenant_id=ACME, words="k004"))
        assert keys([held.stream for held in found.items]) == ["k004"]
        assert store.count_by_type(ACME) == {(StreamKind.ENTITY, "person"): 10}

    for name in runner.names:
        runner.rebuild(name, on_progress=look)
        look()


# What is projected --------------------------------------------------------------------------------------------


def test_the_index_forgets_what_is_no_longer_said(store: SqlRegistryStore) -> None:
    """Terms of rows that changed or went are taken out; a search finds rows by what they say now."""
    runner = runner_of(store, SearchIndex(), at_once=50)
    create(store, entity("a"), {"doc": "red green", "n": 1, "tags": ["x", "y"]})
    create(store, entity("b"), {"doc": "green"})
    create(store, edge("a", "b"), {"doc": "green"})
    runner.catch_up("search")
    put(store, write(entity("a"), {"doc": "green blue", "n": 2, "tags": ["y"]}))
    put(store, write(entity("b"), None))
    runner.catch_up("search")
    with store.engine.connect() as connection:
        terms = connection.scalar(text("SELECT count(*) FROM registry_search_term_1"))
        rows = connection.scalar(text("SELECT count(*) FROM registry_search_row_1"))
    # a: its key (3 words with "a", doc, tag), three equalities; the edge: two keys' word, its doc and equality.
    assert rows == 2
    assert terms is not None

    def found(**asked: Any) -> list[str]:
        page = store.search(Search(tenant_id=ACME, **asked))
        return keys([held.stream for held in page.items])

    assert found(words="red") == []
    assert found(words="green") == ["a"]
    assert found(equals={"n": 2, "tags": "y"}, words="bl") == ["a"]
    assert found(equals={"tags": "x"}) == []
    with store.engine.begin() as connection:
        # Whatever the index says, what is found is checked against the row.
        connection.execute(text("UPDATE registry_search_row_1 SET key = 'b' WHERE kind = 'entity'"))
    assert found(words="green") == []


def test_counts_and_activity_are_kept_by_tenant(store: SqlRegistryStore) -> None:
    """Streams that hold something by type, and events by day and action; operations without effect count as events."""
    from resources.targets.registry import open_registry

    runner = runner_of(store, Counts(), Activity())
    fill(store, 3)
    create(store, entity("z", tenant=OTHER))
    put(store, write(entity("k000"), None), write(entity("k001"), {"n": 2}), minute=24 * 60)
    target = open_registry(store.engine)
    target.apply(chunk([created("p", n=1)]), CONTEXT)
    target.apply(chunk([created("p", n=1), created("q", n=1)], version=4), CONTEXT)
    settled(store)
    for name in runner.names:
        runner.catch_up(name)
    one, two = date(2026, 1, 1), date(2026, 1, 2)
    assert store.count_by_type(ACME) == {(StreamKind.ENTITY, "person"): 2}
    assert store.count_by_type(CONTEXT.tenant_id) == {(StreamKind.ENTITY, "person"): 2}
    assert store.activity(ACME, since=one) == {
        (one, "create"): 3,
        (two, "delete"): 1,
        (two, "update"): 1,
    }
    assert store.activity(ACME, since=two) == {(two, "delete"): 1, (two, "update"): 1}
    assert store.activity(CONTEXT.tenant_id, since=one) == {(one, "create"): 3}


# The seal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(store: SqlRegistryStore) -> SqlRegistryStore:
    """Ten events in four blocks, and two that are not sealed yet."""
    fill(store, 10)
    runner_of(store, Seal(FixedClock(NOW))).catch_up("seal")
    fill(store, 2, first=10)
    return store


def test_a_log_as_it_was_sealed_is_verified(sealed: SqlRegistryStore) -> None:
    """Every block follows from the one before and from its events; what is not sealed yet is counted."""
    verified = SealVerifier(sealed.engine).verify()
    assert (verified.blocks, verified.events, verified.unsealed) == (4, 10, 2)
    assert verified.broken is None
    runner = runner_of(sealed, Seal(FixedClock(NOW)))
    runner.catch_up("seal")
    again = SealVerifier(sealed.engine).verify()
    assert again.blocks in {4, 5}  # another runner may still hold the lease
    assert len(again.last_hash) == 32


TAMPERED = {
    "another state": (
        "UPDATE registry_event SET attributes = '{}' WHERE position = :p",
        "is not as it was sealed",
    ),
    "another actor": (
        "UPDATE registry_event SET actor = 'eve' WHERE position = :p",
        "is not as it was sealed",
    ),
    "another moment": (
        "UPDATE registry_event SET recorded_at = '2020-01-01 00:00:00.000000' WHERE position = :p",
        "is not as it was sealed",
    ),
    "an event less": (
        "DELETE FROM registry_event WHERE position = :p",
        "was sealed and is not there",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_whatever_is_changed_is_found(sealed: SqlRegistryStore, how: str) -> None:
    """The first block and event that differ are named; the blocks before hold."""
    statement, said = TAMPERED[how]
    events = sealed.read_log(Cursor(), limit=100)
    position = events[4].cursor.position
    with sealed.engine.begin() as connection:
        connection.execute(text(statement), {"p": position})
    verified = SealVerifier(sealed.engine).verify()
    assert verified.broken is not None
    assert (verified.blocks, verified.broken.block) == (1, 2)
    assert verified.broken.position == position
    assert said in verified.broken.what


def test_an_event_that_is_slipped_in_is_found(store: SqlRegistryStore) -> None:
    """One more between those that were sealed is named as such."""
    fill(store, 10)
    events = store.read_log(Cursor(), limit=100)
    before, missing = events[3].cursor, events[4].cursor.position
    columns = (
        "source_id, tenant_id, kind, type_name, key, action, attributes, recorded_at, event_version"
    )
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM registry_event WHERE position = :p"), {"p": missing})
    runner_of(store, Seal(FixedClock(NOW))).catch_up("seal")
    with store.engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO registry_event (transaction_id, position, operation_id, {columns}) "
                f"SELECT :t, :p, :o, {columns} FROM registry_event WHERE position = :before"
            ),
            {"t": before.transaction, "p": missing, "o": b"0" * 16, "before": before.position},
        )
    broken = SealVerifier(store.engine).verify().broken
    assert broken is not None
    assert (broken.block, broken.position) == (2, missing)
    assert "was not when its neighbours were sealed" in broken.what


def test_a_changed_chain_is_found(sealed: SqlRegistryStore) -> None:
    """A block that is missing, or is not what its hash says, breaks the chain there."""
    with sealed.engine.begin() as connection:
        connection.execute(
            text("UPDATE registry_seal SET leaves = :l WHERE block = 3"), {"l": b"x"}
        )
    broken = SealVerifier(sealed.engine).verify().broken
    assert broken is not None
    assert (broken.block, broken.position) == (3, None)
    with sealed.engine.begin() as connection:
        connection.execute(text("DELETE FROM registry_seal WHERE block = 2"))
    broken = SealVerifier(sealed.engine).verify().broken
    assert broken is not None
    assert broken.block == 2
    assert "does not follow" in broken.what


def test_a_seal_is_not_made_anew(sealed: SqlRegistryStore) -> None:
    """It would say whatever the log is now: the error points to the check."""
    with pytest.raises(NotRebuildable, match="penstock registry verify"):
        runner_of(sealed, Seal(FixedClock(NOW))).rebuild("seal")
