"""The registry's log is read in the order of commits, and published operations and commands share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Queue

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import ABSENT, Appended, Search, Unreferenced, VersionConflict
from penstock.ports.target import Applied, Unavailable
from penstock.registry.events import Cursor, EventAction, RecordedEvent, StreamId, StreamKind
from penstock.registry.upcasting import EventTooNew, Form, Upcasters
from resources.clock import SystemClock
from resources.control_db import metric_tables  # noqa: F401  so that its tables are declared
from resources.control_db.engine import open_engine
from resources.control_db.log_order import _LAST, NUMBER
from resources.control_db.schema import upgrade
from resources.control_db.tables import metadata
from resources.registry.appending import append_in
from resources.registry.log import RegistryLog, Waiter
from resources.registry.running import runner_of
from resources.registry.seals import SealVerifier
from resources.registry.store import SqlRegistryStore
from resources.registry.waking import LogWaker
from resources.targets.registry import SourceOfAnother, open_registry
from tests.contracts.registry_values import (
    SettledStore,
    at,
    create,
    entity,
    keys,
    put,
    settled,
    write,
)
from tests.fixtures.outside import eventually
from tests.unit.targets.chunks import CONTEXT, Change, chunk, created

START = Cursor()
LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
END_LISTENERS = f"SELECT count(pg_terminate_backend(pid)) {LISTENERS}"


@pytest.fixture
def store(control_url: str) -> Iterator[SqlRegistryStore]:
    made = SettledStore(open_engine(control_url))
    yield made
    made.close()


@pytest.fixture
def postgres(new_control_url: Callable[[str], str]) -> Iterator[SqlRegistryStore]:
    made = SqlRegistryStore(open_engine(new_control_url("postgres")))
    yield made
    made.close()


def read(store: SqlRegistryStore, after: Cursor = START) -> list[str]:
    return keys([event.stream for event in store.read_log(after, limit=100)])


def person(key: str) -> StreamId:
    return entity(key, tenant=CONTEXT.tenant_id, source=CONTEXT.source_id)


# The order of commits -----------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_what_commits_late_is_not_skipped(postgres: SqlRegistryStore) -> None:
    """Nobody sees what came after a transaction that drew its number first until that one has ended."""
    create(postgres, entity("before"))
    settled(postgres)
    with postgres.engine.connect() as slow:
        slow.begin()
        append_in(slow, [write(entity("slow"), {}, expected=ABSENT)], [], at(0))
        create(postgres, entity("quick"))
        assert read(postgres) == ["before"]
        (last,) = postgres.read_log(START, limit=100)
        # What is now does not wait for anything.
        assert postgres.get(entity("quick")) is not None
        slow.commit()
    settled(postgres)
    assert read(postgres, last.cursor) == ["slow", "quick"]


@pytest.mark.postgres
def test_what_never_commits_is_never_seen(postgres: SqlRegistryStore) -> None:
    """A transaction that is rolled back holds readers up until then, and leaves a gap in positions alone."""
    with postgres.engine.connect() as slow:
        slow.begin()
        append_in(slow, [write(entity("slow"), {}, expected=ABSENT)], [], at(0))
        create(postgres, entity("quick"))
        assert read(postgres) == []
        slow.rollback()
    settled(postgres)
    assert read(postgres) == ["quick"]


@pytest.mark.postgres
def test_transactions_of_other_databases_hold_nobody_up(
    postgres: SqlRegistryStore, new_control_url: Callable[[str], str]
) -> None:
    """One that writes elsewhere on the server may take as long as it likes; one in the same database may not."""
    elsewhere = open_engine(new_control_url("postgres"))
    draw = text("SELECT pg_current_xact_id()")
    with elsewhere.connect() as foreign, postgres.engine.connect() as own:
        foreign.execute(draw)
        create(postgres, entity("a"))
        assert read(postgres) == ["a"]
        own.execute(draw)
        create(postgres, entity("b"))
        assert read(postgres) == ["a"]
        own.rollback()
        assert read(postgres) == ["a", "b"]
    elsewhere.dispose()


@pytest.mark.postgres
def test_positions_of_one_transaction_stay_together(postgres: SqlRegistryStore) -> None:
    """Events of transactions that ran at the same time are not mixed: each one's come as one stretch, in order."""
    with postgres.engine.connect() as one, postgres.engine.connect() as two:
        one.begin()
        two.begin()
        for n, connection in enumerate((one, two, one, two)):
            append_in(connection, [write(entity(f"k{n}"), {}, expected=ABSENT)], [], at(0))
        two.commit()
        one.commit()
    settled(postgres)
    assert read(postgres) == ["k0", "k2", "k1", "k3"]


@pytest.mark.postgres
def test_a_stream_has_one_order_everywhere(postgres: SqlRegistryStore) -> None:
    """A second writer to a stream waits before it draws its number, so that log and history agree with what is now."""
    ann = entity("ann")
    create(postgres, ann)
    with postgres.engine.connect() as first:
        first.begin()
        append_in(first, [write(ann, {"n": 1})], [], at(0))
        second = threading.Thread(target=put, args=(postgres, write(ann, {"n": 2})))
        second.start()
        wait_for_lock(postgres.engine)
        first.commit()
    second.join()
    settled(postgres)
    held = postgres.get(ann)
    assert held is not None
    assert held.state == {"n": 2}
    assert [event.state for event in postgres.history(ann)] == [{}, {"n": 1}, {"n": 2}]
    assert [event.state for event in postgres.read_log(START, limit=9)] == [{}, {"n": 1}, {"n": 2}]


def wait_for_lock(engine: Engine) -> None:
    """Return once a session waits for an advisory lock."""
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while True:
        with engine.connect() as connection:
            if connection.scalar(query):
                return


# Following ----------------------------------------------------------------------------------------------------


def followed(
    store: SqlRegistryStore, events: int, poll_s: float
) -> tuple[threading.Thread, Queue[str]]:
    """Follow the log in a thread until there were so many events."""
    seen: Queue[str] = Queue()

    def follow() -> None:
        stream = RegistryLog(store.engine).follow(START, poll_s=poll_s)
        count = 0
        for some in stream:
            for event in some:
                seen.put(event.stream.key)
            count += len(some)
            if count >= events:
                break
        stream.close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=follow)
    thread.start()
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            eventually(
                lambda: connection.scalar(text(f"SELECT count(*) {LISTENERS}")), "somebody listens"
            )
    return thread, seen


def test_the_log_can_be_followed(store: SqlRegistryStore) -> None:
    """What is there comes at once, what is appended as it is committed, long before the next poll."""
    create(store, entity("old"))
    thread, seen = followed(store, 4, poll_s=60)
    assert seen.get(timeout=60) == "old"
    create(store, entity("new"))
    assert seen.get(timeout=60) == "new"
    target = open_registry(store.engine)
    target.apply(chunk([created("p1"), created("p2")]), CONTEXT)
    assert {seen.get(timeout=60), seen.get(timeout=60)} == {"p1", "p2"}
    thread.join(10)
    assert not thread.is_alive()


def test_silence_is_told_too(store: SqlRegistryStore) -> None:
    """After each poll without events comes an empty sequence, so that whoever follows can do something else."""
    stream = RegistryLog(store.engine).follow(START, poll_s=0.01)
    assert [list(next(stream)) for _ in range(2)] == [[], []]
    create(store, entity("a"))
    assert any(next(stream) for _ in range(50))
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.postgres
def test_a_lost_connection_is_made_anew(postgres: SqlRegistryStore) -> None:
    """The server ends the listening session; events are seen all the same, long before the next poll."""
    thread, seen = followed(postgres, 1, poll_s=60)
    with postgres.engine.connect() as admin:
        assert admin.scalar(text(END_LISTENERS)) == 1
    create(postgres, entity("a"))
    assert seen.get(timeout=60) == "a"
    thread.join(20)


@pytest.mark.postgres
def test_what_had_to_wait_is_told_when_it_can_be_read(postgres: SqlRegistryStore) -> None:
    """An event behind an older transaction comes once that has ended, though it ends without a word."""
    thread, seen = followed(postgres, 1, poll_s=60)
    with postgres.engine.connect() as slow:
        slow.execute(text("SELECT pg_current_xact_id()"))
        create(postgres, entity("a"))
        assert read(postgres) == []
        slow.rollback()
    assert seen.get(timeout=20) == "a"
    thread.join(20)


def test_a_lost_wake_costs_time_and_no_event(store: SqlRegistryStore) -> None:
    """Without anybody to wake it a follower finds what there is when it looks by itself."""

    class Deaf:
        def subscribe(self, wake: Callable[[], object]) -> Callable[[], None]:
            return lambda: None

    create(store, entity("a"))
    with Waiter(store.engine, Deaf()) as waiter:
        assert not waiter.wait(store.read_log(START, limit=1)[0].cursor, timeout_s=0.01)
        create(store, entity("b"))
        assert waiter.wait(store.read_log(START, limit=1)[0].cursor, timeout_s=0.01)


def test_followers_of_a_process_share_a_listener(store: SqlRegistryStore) -> None:
    """However many follow, one session listens, and all of them are woken."""
    waker = LogWaker(store.engine)
    woken = [threading.Event() for _ in range(5)]
    leave = [waker.subscribe(each.set) for each in woken]
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect() as connection:
            assert connection.scalar(text(f"SELECT count(*) {LISTENERS}")) == 1
    leave[0]()
    for each in woken:
        each.clear()
    create(store, entity("a"))
    assert all(each.wait(20) for each in woken[1:])
    assert not woken[0].is_set()
    waker.close()


# Moved to another server -----------------------------------------------------------------------------------------


PLACES = [
    f"{table.name}.{column.name}"
    for table in metadata.sorted_tables
    for column in table.columns
    if column.name.endswith(("transaction", "transaction_id"))
]
"""Wherever the number of a transaction is kept."""


@pytest.mark.parametrize("place", PLACES)
def test_no_place_is_left_out_when_a_log_is_put_in_order(place: str) -> None:
    """What is to come is put behind every number that is kept anywhere: else whoever kept it would not see it."""
    table, column = place.split(".")
    assert f"(SELECT max({column}) FROM {table})" in _LAST


@pytest.mark.postgres
def test_a_place_in_a_log_that_was_emptied_counts(postgres: SqlRegistryStore) -> None:
    """After the move what is added comes behind a place of which no event is left."""
    with postgres.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO loop_place (name, transaction_id, position) VALUES ('x', :at, 1)"),
            {"at": 5_000_000},
        )
    server(postgres, system_identifier=-1)
    upgrade(postgres.engine)
    with postgres.engine.begin() as connection:
        assert connection.scalar(text(f"SELECT {NUMBER}")) > 5_000_000


def server(store: SqlRegistryStore, **values: int) -> None:
    """Change what a database says of the server that it lives in."""
    changes = ", ".join(f"{name} = {name} + {value}" for name, value in values.items())
    with store.engine.begin() as connection:
        connection.execute(text(f"UPDATE log_server SET {changes}"))


@pytest.fixture
def moved(postgres: SqlRegistryStore) -> SqlRegistryStore:
    """A store with one event, restored from the dump of a server that was a million transactions ahead."""
    server(postgres, shift=1_000_000)
    create(postgres, entity("old"))
    settled(postgres)
    runner = runner_of(postgres.engine, SystemClock())
    assert {runner.catch_up(name) for name in runner.names} == {1}
    server(postgres, shift=-1_000_000, system_identifier=-1)
    return postgres


@pytest.mark.postgres
def test_a_log_that_was_moved_goes_on_behind_what_was_there(moved: SqlRegistryStore) -> None:
    """A dump from a server with higher numbers is put in order at start: new events come last, once, for everybody."""
    upgrade(moved.engine)
    (old,) = moved.read_log(START, limit=9)
    create(moved, entity("new"))
    open_registry(moved.engine).apply(chunk([created("p", n=1)]), CONTEXT)
    settled(moved)
    assert read(moved) == ["old", "new", "p"]
    assert read(moved, old.cursor) == ["new", "p"]
    runner = runner_of(moved.engine, SystemClock())
    assert {runner.catch_up(name) for name in runner.names} == {2}
    assert SealVerifier(moved.engine).verify().events == 3
    upgrade(moved.engine)
    create(moved, entity("later"))
    settled(moved)
    assert read(moved)[-1] == "later"


@pytest.mark.postgres
def test_a_log_that_was_moved_is_not_written_to_before_it_is_in_order(
    moved: SqlRegistryStore,
) -> None:
    """A process that was running all along neither appends nor reads, and its error says what to do."""
    for act in (lambda: create(moved, entity("new")), lambda: read(moved)):
        with pytest.raises(DBAPIError, match="comes from another server") as raised:
            act()
        assert "penstock registry verify" in str(raised.value)
    outcome = open_registry(moved.engine).apply(chunk([created("p", n=1)]), CONTEXT)
    assert isinstance(outcome, Unavailable)
    assert "comes from another server" in outcome.message
    with moved.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM registry_event")) == 1


@pytest.mark.postgres
def test_a_clone_of_a_server_is_told_by_its_numbers(moved: SqlRegistryStore) -> None:
    """A copied machine has its original's identity; numbers that are ahead of the server's own give a dump away."""
    server(moved, system_identifier=1)
    upgrade(moved.engine)
    create(moved, entity("new"))
    settled(moved)
    assert read(moved) == ["old", "new"]


# Published operations and commands -----------------------------------------------------------------------------


def test_published_operations_are_rows_and_events_like_all_others(store: SqlRegistryStore) -> None:
    """They are read by key, listed, counted and remembered; their actor is the batch."""
    target = open_registry(store.engine)
    target.apply(chunk([created("a", n=1), created("b", n=1)]), CONTEXT)
    target.apply(chunk([Change("a", {"n": 1}, {"n": 2})], version=1), CONTEXT)
    target.apply(chunk([Change("b", {"n": 1}, None)], version=2), CONTEXT)
    target.apply(chunk([created("b", n=3)], version=3), CONTEXT)
    a, b = person("a"), person("b")
    batch = f"batch:{CONTEXT.batch_id}"
    assert [(h.state, h.version, h.updated_by) for h in store.get_many([a, b]) if h] == [
        ({"n": 2}, 2, batch),
        ({"n": 3}, 3, batch),
    ]
    history = store.history(b)
    assert [(e.action, e.state, e.version, e.actor, e.batch_id) for e in history] == [
        (EventAction.CREATE, {"n": 1}, 1, batch, CONTEXT.batch_id),
        (EventAction.DELETE, None, 2, batch, CONTEXT.batch_id),
        (EventAction.CREATE, {"n": 3}, 3, batch, CONTEXT.batch_id),
    ]
    settled(store)
    page = store.search(Search(tenant_id=CONTEXT.tenant_id, equals={"n": 3}))
    assert keys([held.stream for held in page.items]) == ["b"]
    assert store.count_by_type(CONTEXT.tenant_id) == {(StreamKind.ENTITY, "person"): 2}
    assert len(read(store)) == 5


def test_an_operation_without_effect_is_an_event_of_its_stream(store: SqlRegistryStore) -> None:
    """It counts as a version and becomes the version tag, and the log says that it changed nothing."""
    target = open_registry(store.engine)
    target.apply(chunk([created("a", n=1)]), CONTEXT)
    same = [created("a", n=1), Change("gone", {"n": 1}, None)]
    assert target.apply(chunk(same, version=7), CONTEXT) == Applied(applied=2, already_applied=0)
    held = store.get(person("a"))
    assert held is not None
    first, second = store.history(person("a"))
    assert (held.version, held.version_tag) == (2, second.operation_id)
    assert (first.data, second.data) == ({}, {"unchanged": True})
    put(store, write(person("gone"), {}, expected=ABSENT))
    back = store.get(person("gone"))
    assert back is not None
    assert back.version == 2


def test_publishing_and_commands_meet_on_one_row(store: SqlRegistryStore) -> None:
    """A command's change is a conflict for a plan that did not know of it; a published update ends a review."""
    target = open_registry(store.engine)
    target.apply(chunk([created("a", n=1), created("b", n=1)]), CONTEXT)
    put(store, write(person("a"), {"n": 5}))
    put(store, write(person("b"), {"n": 1}, status="deprecated", review="attested"))
    tag = store.history(person("b"))[-1].operation_id
    updates = [Change("a", {"n": 1}, {"n": 2}), Change("b", {"n": 1}, {"n": 2})]
    outcome = target.apply(chunk(updates, version=1), CONTEXT)
    assert isinstance(outcome, Applied)
    assert (outcome.applied, len(outcome.failures)) == (1, 1)
    held = store.get(person("b"))
    assert held is not None
    assert (held.status, held.review, held.reviewed_by, held.version) == (
        "deprecated",
        None,
        None,
        3,
    )
    late = store.append([write(person("b"), {}, expected=tag)], now=at(9))
    assert isinstance(late, VersionConflict)
    assert late.found == held.version_tag


def test_a_published_delete_takes_its_references_along(store: SqlRegistryStore) -> None:
    """What a published entity named is free once it is gone."""
    target = open_registry(store.engine)
    boss = person("boss")
    target.apply(chunk([created("a", n=1), created("boss", n=1)]), CONTEXT)
    put(store, write(person("a"), {"n": 1}, references=(boss,)))
    assert store.referrers(boss) == [person("a")]
    target.apply(chunk([Change("a", {"n": 1}, None)], version=1), CONTEXT)
    assert store.referrers(boss) == []
    removed = store.append([write(boss, None)], requires=[Unreferenced(stream=boss)], now=at(1))
    assert isinstance(removed, Appended)


def test_a_source_cannot_be_handed_to_another_tenant(store: SqlRegistryStore) -> None:
    """What one tenant sees and has seen stays its own: the error says to declare the source anew."""
    target = open_registry(store.engine)
    target.apply(chunk([created("a", n=1)]), CONTEXT)
    theirs = replace(CONTEXT, tenant_id=TenantId("another"), fencing_token=9)
    with pytest.raises(SourceOfAnother, match="declare it under an id of its own"):
        target.apply(chunk([created("b", n=1)], version=1), theirs)
    other = replace(theirs, source_id=SourceId("own"))
    assert isinstance(target.apply(chunk([created("a", n=2)], version=2), other), Applied)
    assert keys([h.stream for h in store.search(Search(tenant_id=other.tenant_id)).items]) == ["a"]
    held = store.get(person("a"))
    assert held is not None
    assert held.state == {"n": 1}


def test_rows_of_another_tenant_do_not_count_as_published(store: SqlRegistryStore) -> None:
    """Somebody else's entities under a source's id are not seen when the source is read back."""
    target = open_registry(store.engine)
    create(store, entity("a", tenant=TenantId("another"), source=CONTEXT.source_id))
    assert target.apply(chunk([created("a", n=1)]), CONTEXT) == Applied(
        applied=1, already_applied=0
    )
    asked = pa.table({"type_name": ["person"], "key": ["a"]})
    answer = target.read_back(CONTEXT.source_id, Kind.ENTITY, asked)
    assert answer["attributes"].to_pylist() == ['{"n":1}']


# Old forms ----------------------------------------------------------------------------------------------------


def rename(form: Form) -> Form:
    state = None if form.state is None else {"name": form.state["title"]}
    return Form(state, {**form.data, "renamed": True})


def test_old_forms_of_events_are_brought_up_to_date_as_they_are_read(
    store: SqlRegistryStore,
) -> None:
    """Each step of an event's kind and action is taken in turn; a newer form than is known is an error."""
    create(store, entity("a"), {"title": "x"})
    steps = {
        (StreamKind.ENTITY, EventAction.CREATE, 1): rename,
        (StreamKind.ENTITY, EventAction.CREATE, 2): lambda form: Form(form.state, {"step": 2}),
    }
    reader = SqlRegistryStore(store.engine, upcasters=Upcasters(steps=steps))

    def seen(event: RecordedEvent | None) -> tuple[object, ...]:
        assert event is not None
        return event.state, event.data, event.event_version

    newest = ({"name": "x"}, {"step": 2}, 3)
    assert seen(reader.history(entity("a"))[0]) == newest
    assert seen(reader.as_of(entity("a"), at(9))) == newest
    assert seen(reader.read_log(START, limit=1)[0]) == newest
    append = write(entity("b"), {}, expected=ABSENT)
    put(store, replace(append, event=replace(append.event, event_version=2)))
    with pytest.raises(EventTooNew, match="upgrade it"):
        store.history(entity("b"))
