"""Every registry store appends whole or not at all, keeps what is now in step, and remembers all that was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from penstock.identity.ids import SourceId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.registry import (
    ABSENT,
    Appended,
    End,
    Present,
    RegistryStore,
    Requirement,
    Search,
    Sole,
    Unchanged,
    Unmet,
    Unreferenced,
    Unused,
    VersionConflict,
)
from penstock.registry.events import Cursor, EventAction, StreamId, StreamKind
from resources.control_db.audit_log import SqlAuditLog
from resources.control_db.engine import open_engine
from tests.contracts.registry_values import (
    ACME,
    OTHER,
    SettledStore,
    at,
    create,
    definition,
    edge,
    entity,
    keys,
    operation,
    put,
    write,
)
from tests.fixtures.registry_memory import MemoryRegistryStore

CRM = SourceId("crm")
START = Cursor()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres), "memory"])
def store(
    request: pytest.FixtureRequest, new_control_url: Callable[[str], str]
) -> Iterator[RegistryStore]:
    """Each store: in memory, on SQLite and on PostgreSQL."""
    if request.param == "memory":
        yield MemoryRegistryStore()
        return
    sql = SettledStore(open_engine(new_control_url(request.param)))
    yield sql
    sql.close()


def log_of(store: RegistryStore, tenant: Any = None) -> list[str]:
    return [event.stream.key for event in store.read_log(START, limit=1000, tenant=tenant)]


def acts_of(store: RegistryStore) -> list[str]:
    """Return what the audit log says was done to, oldest first."""
    if isinstance(store, MemoryRegistryStore):
        return [entry.subject for entry in store.acts]
    assert isinstance(store, SettledStore)
    audit = SqlAuditLog(store.engine.url)
    subjects = [entry.subject for entry in audit.list_acts()]
    audit.close()
    return subjects[::-1]


# Appending ----------------------------------------------------------------------------------------------------


def test_what_is_now_is_what_the_last_event_says(store: RegistryStore) -> None:
    """Reads by key follow every append at once, with who wrote it, when, and under which schema version."""
    ann = entity("ann")
    assert store.get(ann) is None
    first = write(ann, {"n": 1}, expected=ABSENT, action=EventAction.CREATE, schema_version=3)
    appended = put(store, first)
    held = store.get(ann)
    assert held is not None
    assert appended == Appended(held=[held])
    assert (held.stream, held.state, held.version, held.schema_version) == (ann, {"n": 1}, 1, 3)
    assert held.version_tag == first.event.operation_id
    second = write(ann, {"n": 2}, expected=held.version_tag, actor="bob", status="deprecated")
    put(store, second, minute=5)
    held = store.get(ann)
    assert held is not None
    assert (held.state, held.version, held.status) == ({"n": 2}, 2, "deprecated")
    assert (held.updated_by, held.updated_at) == ("bob", at(5))
    assert store.get_many([entity("zoe"), ann, ann]) == [None, held, held]


def test_values_of_the_value_model_come_back(store: RegistryStore) -> None:
    """Decimals, moments, bytes, keys with a dollar and every script are read as they were written."""
    state = {
        "d": Decimal("1.50"),
        "t": datetime(2026, 1, 1, tzinfo=UTC),
        "b": b"\x00\xff",
        "$ref": "#/x",
        "日本": "é\x00'",
        "big": 2**70,
        "list": [1, 2.5, None, True],
    }
    create(store, entity("a"), state)
    held = store.get(entity("a"))
    assert held is not None
    assert held.state == {**state, "d": Decimal("1.5")}
    (event,) = store.history(entity("a"))
    assert event.state == held.state


def test_an_append_that_expects_something_else_changes_nothing(store: RegistryStore) -> None:
    """The first stream that is not as expected is named with what it is at, and nothing of the append is done."""
    ann, bob = entity("ann"), entity("bob")
    tag = create(store, ann)
    for expected in (ABSENT, operation("stale")):
        append = [write(bob, {}, expected=ABSENT), write(ann, {"n": 1}, expected=expected)]
        conflict = store.append(append, now=at(1))
        assert conflict == VersionConflict(stream=ann, expected=expected, found=tag)
    absent = store.append([write(bob, {}, expected=tag)], now=at(1))
    assert absent == VersionConflict(stream=bob, expected=tag, found=ABSENT)
    assert store.get(bob) is None
    assert log_of(store) == ["ann"]


def test_a_repeated_operation_changes_nothing_and_says_so(store: RegistryStore) -> None:
    """The same operation again answers with what is there, even where its expectation no longer holds."""
    ann = entity("ann")
    append = write(ann, {"n": 1}, expected=ABSENT, data={"reason": "new"})
    put(store, append)
    assert store.append([append], now=at(1)) == Appended(held=[store.get(ann)], repeated=True)
    put(store, write(ann, {"n": 2}))
    assert store.append([append], now=at(1)) == Appended(held=[store.get(ann)], repeated=True)
    assert len(store.history(ann)) == 2
    event, unknown = store.operations(ACME, [append.event.operation_id, operation("none")])
    assert unknown is None
    assert event is not None
    assert (event.state, event.data, event.version) == ({"n": 1}, {"reason": "new"}, 1)
    assert store.operations(OTHER, [append.event.operation_id]) == [None]


def test_a_command_that_is_half_known_is_a_conflict(store: RegistryStore) -> None:
    """With some but not all of its operations in the log nothing is done."""
    ann, bob = entity("ann"), entity("bob")
    append = write(ann, {}, expected=ABSENT)
    put(store, append)
    mixed = store.append([write(bob, {}, expected=ABSENT), append], now=at(1))
    tag = append.event.operation_id
    assert mixed == VersionConflict(stream=ann, expected=ABSENT, found=tag)
    assert store.get(bob) is None


def test_what_is_deleted_is_gone_and_remembered(store: RegistryStore) -> None:
    """After a delete a stream expects to be absent; what comes back goes on counting its versions."""
    ann = entity("ann")
    create(store, ann, {"n": 1})
    assert put(store, write(ann, None), minute=1) == Appended(held=[None])
    assert store.get(ann) is None
    put(store, write(ann, {"n": 2}, expected=ABSENT, action=EventAction.RESTORE), minute=2)
    put(store, write(ann, None, name="again"), minute=3)
    put(store, write(ann, {"n": 3}, expected=ABSENT, name="back"), minute=4)
    held = store.get(ann)
    assert held is not None
    assert held.version == 5
    assert [event.state for event in store.history(ann)] == [
        {"n": 1},
        None,
        {"n": 2},
        None,
        {"n": 3},
    ]


def test_many_streams_of_every_kind_are_appended_together(store: RegistryStore) -> None:
    """A command may write entities, relationships, schemas and relationship types at once, and delete some."""
    streams = [entity(f"e{n}") for n in range(501)]
    streams += [edge("e0", f"e{n}") for n in range(30)]
    streams += [definition("person"), definition("knows", kind=StreamKind.RELATIONSHIP_TYPE)]
    put(store, *(write(stream, {"k": stream.key}, expected=ABSENT) for stream in streams))
    held = store.get_many(streams)
    assert [h and (h.stream, h.state, h.version) for h in held] == [
        (stream, {"k": stream.key}, 1) for stream in streams
    ]
    put(store, *(write(stream, None) for stream in streams[::2]), minute=1)
    assert [h is None for h in store.get_many(streams)] == [n % 2 == 0 for n in range(len(streams))]
    put(store, *(write(s, {}, expected=ABSENT, name=f"b{s}") for s in streams[::2]), minute=2)
    versions = {h.version for h in store.get_many(streams[::2]) if h}
    assert versions == {3}


def test_a_schema_and_a_relationship_type_of_one_name_are_two(store: RegistryStore) -> None:
    """The kind is part of a stream's address."""
    schema = definition("x")
    kind = definition("x", kind=StreamKind.RELATIONSHIP_TYPE)
    create(store, schema, {"a": 1})
    assert store.get(kind) is None
    create(store, kind, {"a": 2})
    held = store.get(schema)
    assert held is not None
    assert held.state == {"a": 1}


def test_a_review_is_signed_by_who_changed_it(store: RegistryStore) -> None:
    """Who and when stay while the review stays, change with it, and go with it."""
    ann = entity("ann")
    create(store, ann)
    steps: list[tuple[str | None, str, int]] = [
        ("proposed", "bob", 1),
        ("proposed", "carl", 2),
        ("attested", "dora", 3),
        (None, "erik", 4),
    ]
    seen = []
    for review, actor, minute in steps:
        put(store, write(ann, {}, review=review, actor=actor, name=actor), minute=minute)
        held = store.get(ann)
        assert held is not None
        seen.append((held.review, held.reviewed_by, held.reviewed_at))
    assert seen == [
        ("proposed", "bob", at(1)),
        ("proposed", "bob", at(1)),
        ("attested", "dora", at(3)),
        (None, None, None),
    ]


def test_of_those_who_append_to_one_version_at_once_one_succeeds(store: RegistryStore) -> None:
    """A race for a stream has one winner each time, and the losers learn what is there."""
    ann = entity("ann")
    create(store, ann)

    def race(round_: int) -> list[Any]:
        held = store.get(ann)
        assert held is not None
        appends = [
            write(ann, {"n": n}, expected=held.version_tag, name=f"{round_}/{n}") for n in range(8)
        ]
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda append: store.append([append], now=at(1)), appends))

    for round_ in range(3):
        outcomes = race(round_)
        assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, VersionConflict) for outcome in outcomes) == 7
    held = store.get(ann)
    assert held is not None
    assert held.version == 4
    assert store.history(ann)[-1].operation_id == held.version_tag


def test_the_same_command_at_once_takes_effect_once(store: RegistryStore) -> None:
    """One of several that send the same operation writes it, the others are told that it is there."""
    append = write(entity("ann"), {"n": 1}, expected=ABSENT)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: store.append([append], now=at(0)), range(8)))
    assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert sorted(o.repeated for o in outcomes if isinstance(o, Appended)) == [False] + [True] * 7
    assert log_of(store) == ["ann"]


# Requirements -------------------------------------------------------------------------------------------------


def refused(store: RegistryStore, requirement: Requirement, *, by: StreamId | None = None) -> bool:
    """Say whether an append that requires something is refused, and then leaves nothing behind."""
    stream = by or entity("try")
    before = store.get(stream)
    name = f"{len(store.read_log(START, limit=1000))} {requirement}"
    append = write(stream, {"x": 1}, name=f"try {name}")
    outcome = store.append([append], requires=[requirement], now=at(9))
    if isinstance(outcome, Unmet):
        assert outcome == Unmet(requirement=requirement)
        assert store.get(stream) == before
        return True
    assert isinstance(outcome, Appended)
    store.append([write(stream, None, name=f"end {name}")], now=at(9))
    return False


def test_presence_can_be_required(store: RegistryStore) -> None:
    """Something has to be there: before the append, or by it."""
    tag = create(store, entity("ann"))
    assert not refused(store, Present(any_of=(entity("none"), entity("ann"))))
    assert refused(store, Present(any_of=(entity("none"), entity("ann", source=CRM))))
    assert refused(store, Present(any_of=(entity("ann", tenant=OTHER),)))
    assert not refused(store, Present(any_of=(entity("try"),)))
    assert not refused(store, Unchanged(stream=entity("ann"), version_tag=tag))
    assert refused(store, Unchanged(stream=entity("ann"), version_tag=ABSENT))
    assert refused(store, Unchanged(stream=entity("none"), version_tag=tag))
    assert not refused(store, Unchanged(stream=entity("none"), version_tag=ABSENT))


def test_nothing_may_refer_to_what_is_required_to_be_unreferenced(store: RegistryStore) -> None:
    """Relationships by either end and references count; those that are ignored, and references to itself, do not."""
    ann = entity("ann")
    create(store, ann)
    put(store, write(ann, {"self": "ann"}, references=(ann,)))
    assert not refused(store, Unreferenced(stream=ann))
    create(store, edge("ann", "bob"))
    create(store, edge("carl", "ann", type_name="likes"))
    assert refused(store, Unreferenced(stream=ann))
    ends = {("knows", End.FROM)}
    assert refused(store, Unreferenced(stream=ann, ignoring=frozenset(ends)))
    ends.add(("likes", End.TO))
    assert not refused(store, Unreferenced(stream=ann, ignoring=frozenset(ends)))
    put(store, write(entity("dora"), {"boss": "ann"}, references=(ann,)))
    assert refused(store, Unreferenced(stream=ann, ignoring=frozenset(ends)))
    assert store.referrers(ann) == [
        entity("dora"),
        edge("ann", "bob"),
        edge("carl", "ann", type_name="likes"),
    ]
    assert len(store.referrers(ann, limit=2)) == 2
    put(store, write(entity("dora"), {}, references=(), name="none"))
    assert entity("dora") not in store.referrers(ann)


def test_references_stay_until_they_are_replaced_or_their_stream_goes(store: RegistryStore) -> None:
    """An append that says nothing of references leaves them; a delete takes them along."""
    ann, dora = entity("ann"), entity("dora")
    create(store, ann)
    put(store, write(dora, {"n": 1}, references=(ann, ann)))
    put(store, write(dora, {"n": 2}))
    assert store.referrers(ann) == [dora]
    put(store, write(dora, None))
    assert store.referrers(ann) == []


def test_relationships_refer_to_entities_of_their_source_and_of_the_api(
    store: RegistryStore,
) -> None:
    """An entity of a source is not referred to by relationships of another source."""
    create(store, edge("ann", "bob", source=CRM))
    assert store.referrers(entity("ann", source=CRM)) == [edge("ann", "bob", source=CRM)]
    assert store.referrers(entity("bob")) == [edge("ann", "bob", source=CRM)]
    assert store.referrers(entity("ann", source=SourceId("erp"))) == []
    assert store.referrers(entity("ann", tenant=OTHER)) == []


@pytest.mark.parametrize("end", End)
def test_an_end_can_be_required_to_be_the_sole_one(store: RegistryStore, end: End) -> None:
    """Another relationship of the type with the same end in the same source is one too many."""
    key = "ann" if end is End.FROM else "bob"
    sole = Sole(tenant_id=ACME, source_id=CRM, type_name="knows", end=end, key=key)
    create(store, edge("ann", "bob", type_name="likes", source=CRM))
    create(store, edge("ann", "bob"))
    assert not refused(store, sole)
    create(store, edge("ann", "bob", source=CRM))
    assert refused(store, sole)
    assert not refused(store, replace(sole, allowed=edge("ann", "bob", source=CRM)))


@pytest.mark.parametrize("kind", [StreamKind.ENTITY, StreamKind.RELATIONSHIP])
def test_a_type_can_be_required_to_be_unused(store: RegistryStore, kind: StreamKind) -> None:
    """One row of the type in any source of the tenant is enough for it to be in use."""
    unused = Unused(tenant_id=ACME, kind=kind, type_name="thing")
    create(store, entity("a", type_name="other", source=CRM))
    stream = entity("a", type_name="thing", source=CRM)
    if kind is StreamKind.RELATIONSHIP:
        stream = edge("a", "b", type_name="thing", source=CRM)
    create(store, replace(stream, tenant_id=OTHER))
    assert not refused(store, unused)
    create(store, stream)
    assert refused(store, unused)


def test_rivals_for_a_sole_end_do_not_pass_each_other_unseen(store: RegistryStore) -> None:
    """Of several that each write the only relationship of an end at once, one succeeds."""
    sole = Sole(tenant_id=ACME, source_id=CRM, type_name="knows", end=End.FROM, key="ann")

    def attempt(n: int) -> object:
        mine = edge("ann", f"b{n}", source=CRM)
        append = write(mine, {}, expected=ABSENT)
        return store.append([append], requires=[replace(sole, allowed=mine)], now=at(1))

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Unmet) for outcome in outcomes) == 7


def test_nobody_refers_to_what_is_deleted_at_the_same_time(store: RegistryStore) -> None:
    """Either the reference is there and the delete is refused, or the other way round; never both."""
    for n in range(6):
        ann, bob = entity(f"ann{n}"), entity(f"bob{n}")
        create(store, ann)
        create(store, bob)
        refer = write(edge(bob.key, ann.key), {}, expected=ABSENT)
        remove = write(ann, None)
        with ThreadPoolExecutor(2) as pool:
            referring = pool.submit(
                store.append, [refer], requires=[Present(any_of=(ann,))], now=at(1)
            )
            removing = pool.submit(
                store.append, [remove], requires=[Unreferenced(stream=ann)], now=at(1)
            )
            outcomes = [referring.result(), removing.result()]
        assert sorted(isinstance(outcome, Appended) for outcome in outcomes) == [False, True]
        assert (store.get(ann) is None) == (store.get(refer.event.stream) is None)


# Tenants ------------------------------------------------------------------------------------------------------


def test_tenants_share_nothing(store: RegistryStore) -> None:
    """The same address in two tenants is two streams, and no read of one returns anything of the other's."""
    mine, theirs = entity("ann"), entity("ann", tenant=OTHER)
    create(store, mine, {"n": 1})
    create(store, theirs, {"n": 2})
    create(store, edge("ann", "ann", tenant=OTHER))
    put(store, write(entity("bob", tenant=OTHER), {}, references=(theirs,)))
    held = store.get(mine)
    assert held is not None
    assert held.state == {"n": 1}
    assert [event.state for event in store.history(mine)] == [{"n": 1}]
    assert [h.stream for h in store.search(Search(tenant_id=ACME)).items] == [mine]
    assert store.search(Search(tenant_id=ACME, kind=StreamKind.RELATIONSHIP)).items == []
    assert log_of(store, ACME) == ["ann"]
    assert store.referrers(mine) == []
    assert store.count_by_type(ACME) == {(StreamKind.ENTITY, "person"): 1}
    assert store.entities_with_keys(ACME, [theirs.source_id], ["ann", "bob"]) == [[mine], []]


def test_entities_are_found_by_key_alone(store: RegistryStore) -> None:
    """Of some sources, whatever their types."""
    person, robot = entity("x"), entity("x", type_name="robot", source=CRM)
    for stream in (person, robot, entity("x", source=SourceId("erp")), entity("y", source=CRM)):
        create(store, stream)
    sources = [CRM, person.source_id]
    found = store.entities_with_keys(ACME, sources, ["y", "x", "none", "x"])
    assert found == [[entity("y", source=CRM)], [person, robot], [], [person, robot]]
    assert store.entities_with_keys(ACME, [], ["x"]) == [[]]
    assert store.entities_with_keys(ACME, sources, []) == []


# What was -----------------------------------------------------------------------------------------------------


def test_history_has_every_event_in_order(store: RegistryStore) -> None:
    """A stream's events come oldest first, in pages, each with its number, its actor and what was said of it."""
    ann = entity("ann")
    for n in range(5):
        put(store, write(ann, {"n": n}, actor=f"a{n}", data={"why": n}), minute=n)
        put(store, write(entity("bob"), {"n": n}), minute=n)
    events = store.history(ann)
    assert [(e.version, e.state, e.actor, e.data, e.recorded_at) for e in events] == [
        (n + 1, {"n": n}, f"a{n}", {"why": n}, at(n)) for n in range(5)
    ]
    assert store.history(ann, after=2, limit=2) == events[2:4]
    assert store.history(ann, after=5) == []
    assert store.history(edge("ann", "bob")) == []


def test_history_tells_relationships_of_one_beginning_apart(store: RegistryStore) -> None:
    """Streams whose keys run into each other, or that share one end, keep their own events."""
    streams = [edge("ab", "c"), edge("a", "bc"), edge("ab", "d"), entity("abc"), entity("ab")]
    for n, stream in enumerate(streams):
        create(store, stream, {"n": n})
    assert [[e.state for e in store.history(stream)] for stream in streams] == [
        [{"n": n}] for n in range(len(streams))
    ]


def test_any_moment_can_be_asked_for(store: RegistryStore) -> None:
    """The last event at or before a moment is what was there then: nothing before the first, None once deleted."""
    ann = entity("ann")
    put(store, write(ann, {"n": 1}), minute=1)
    put(store, write(ann, {"n": 2}), minute=3)
    put(store, write(ann, None), minute=5)
    assert store.as_of(ann, at(0)) is None
    events = [store.as_of(ann, at(minute)) for minute in (1, 2, 3, 4, 5, 9)]
    assert [(e.version, e.state) for e in events if e] == [
        (1, {"n": 1}),
        (1, {"n": 1}),
        (2, {"n": 2}),
        (2, {"n": 2}),
        (3, None),
        (3, None),
    ]


def test_the_log_is_read_from_any_place(store: RegistryStore) -> None:
    """From a cursor on come all later events, in order, each once, whatever the pages' size."""
    for n in range(10):
        create(store, entity(f"k{n}", tenant=ACME if n % 2 else OTHER))
    whole = store.read_log(START, limit=100)
    assert keys([event.stream for event in whole]) == [f"k{n}" for n in range(10)]
    assert [e.cursor for e in whole] == sorted({e.cursor for e in whole})
    cursor, seen = START, []
    while events := store.read_log(cursor, limit=3):
        seen += events
        cursor = events[-1].cursor
    assert seen == whole
    mine = store.read_log(START, limit=3, tenant=ACME)
    assert keys([event.stream for event in mine]) == ["k1", "k3", "k5"]
    assert store.read_log(whole[-1].cursor, limit=5) == []


# The audit log ------------------------------------------------------------------------------------------------


def test_an_entry_of_the_audit_log_stands_and_falls_with_its_events(store: RegistryStore) -> None:
    """It is written with the events of its command, and with nothing that was refused or done before."""

    def entry(subject: str) -> AuditEntry:
        return AuditEntry(at=at(0), actor="ann", act="registry_entity.create", subject=subject)

    made = write(entity("ann"), {}, expected=ABSENT, name="once")
    assert isinstance(store.append([made], now=at(0), entry=entry("first")), Appended)
    again = store.append([made], now=at(0), entry=entry("again"))
    assert isinstance(again, Appended)
    assert again.repeated
    late = write(entity("ann"), {}, expected=ABSENT)
    assert isinstance(store.append([late], now=at(1), entry=entry("late")), VersionConflict)
    missing = [Present(any_of=(entity("nobody"),))]
    alone = write(entity("bob"), {}, expected=ABSENT)
    unmet = store.append([alone], requires=missing, now=at(1), entry=entry("unmet"))
    assert isinstance(unmet, Unmet)
    assert acts_of(store) == ["first"]
