"""The registry's log is read in the order of commits, and published operations and commands share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Queue

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.registry import ABSENT, Appended, Search, Unreferenced, VersionConflict
from penstock.ports.target import Applied
from penstock.registry.events import Cursor, EventAction, RecordedEvent, StreamId, StreamKind
from penstock.registry.upcasting import EventTooNew, Form, Upcasters
from resources.control_db.engine import open_engine
from resources.registry.appending import append_in
from resources.registry.log import RegistryLog
from resources.registry.store import SqlRegistryStore
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
from tests.unit.targets.chunks import CONTEXT, Change, chunk, created

START = Cursor()


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
    ready = threading.Event()

    def follow() -> None:
        stream = RegistryLog(store.engine).follow(START, poll_s=poll_s)
        count = 0
        for some in stream:
            ready.set()
            for event in some:
                seen.put(event.stream.key)
            count += len(some)
            if count >= events:
                break
        stream.close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=follow)
    thread.start()
    ready.wait(10)
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
    """The server ends the listening session; events are seen all the same."""
    thread, seen = followed(postgres, 1, poll_s=0.2)
    with postgres.engine.connect() as admin:
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        assert admin.scalar(text(query)) == 1
    create(postgres, entity("a"))
    assert seen.get(timeout=60) == "a"
    thread.join(20)


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
