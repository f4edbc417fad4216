"""Every registry store finds what is asked for in one order, whatever its index has seen of the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from penstock.errors import InvalidIdentifier
from penstock.identity.ids import SourceId
from penstock.ports.registry import (
    ABSENT,
    RegistryStore,
    Search,
)
from penstock.registry.events import StreamKind
from resources.control_db.engine import open_engine
from resources.registry.projections import ProjectionRunner
from resources.registry.search_index import SearchIndex
from resources.registry.store import SqlRegistryStore
from resources.registry.tallies import Counts
from tests.contracts.registry_values import (
    ACME,
    NOW,
    SettledStore,
    create,
    definition,
    edge,
    entity,
    keys,
    put,
    write,
)
from tests.fixtures.clock import FixedClock
from tests.fixtures.registry_memory import MemoryRegistryStore

CRM = SourceId("crm")


class Projected(SettledStore):
    """A store whose projections have seen what was there before the last append, and nothing of that yet."""

    def append(self, *args: Any, **kwargs: Any) -> Any:
        runner = ProjectionRunner(
            self.engine, [SearchIndex(), Counts()], FixedClock(NOW), at_once=50
        )
        for name in runner.names:
            runner.catch_up(name)
        runner.release()
        return super().append(*args, **kwargs)


@pytest.fixture(
    params=[
        "sqlite",
        "sqlite-projected",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("postgres-projected", marks=pytest.mark.postgres),
        "memory",
    ]
)
def store(
    request: pytest.FixtureRequest, new_control_url: Callable[[str], str]
) -> Iterator[RegistryStore]:
    """Each store: in memory, on SQLite and on PostgreSQL, these without and with projections that lag behind."""
    if request.param == "memory":
        yield MemoryRegistryStore()
        return
    database, _, projected = request.param.partition("-")
    sql = (Projected if projected else SettledStore)(open_engine(new_control_url(database)))
    yield sql
    sql.close()


# Searching ----------------------------------------------------------------------------------------------------


def found(store: RegistryStore, **asked: Any) -> list[str]:
    """Return the keys of what a search finds, page by page."""
    search = Search(tenant_id=ACME, limit=2, **asked)
    page = store.search(search)
    seen = list(page.items)
    while page.next is not None:
        assert len(page.items) == 2
        page = store.search(replace(search, after=page.next))
        seen += page.items
    return keys([held.stream for held in seen])


def test_everything_is_listed_by_type_source_and_key(store: RegistryStore) -> None:
    """Pages come in one order, of bytes, over types and sources."""
    streams = [
        entity(key, type_name=name, source=source)
        for name in ("b", "B", "a")
        for source in (CRM, SourceId("api"))
        for key in ("z", "Z", "é", "a/b")
    ]
    put(store, *(write(stream, {}, expected=ABSENT) for stream in streams))
    listed = sorted(streams, key=lambda s: (s.type_name, s.source_id, s.key))
    assert found(store) == keys(listed)
    assert found(store, type_name="b") == keys([s for s in listed if s.type_name == "b"])
    assert found(store, source_id=CRM) == keys([s for s in listed if s.source_id == CRM])
    assert found(store, type_name="none") == []


def test_rows_are_found_by_status_and_review(store: RegistryStore) -> None:
    """Both are of the row as it is now."""
    for n, (status, review) in enumerate(
        [("active", None), ("deprecated", None), ("active", "proposed"), ("deprecated", "attested")]
    ):
        put(store, write(entity(f"k{n}"), {}, status=status, review=review))
    assert found(store, status="active") == ["k0", "k2"]
    assert found(store, status="deprecated", review="attested") == ["k3"]
    assert found(store, review="proposed") == ["k2"]


def test_attributes_are_found_by_equality(store: RegistryStore) -> None:
    """A scalar is equal to the attribute or is in its list; true is not 1, but 1 is 1.0."""
    states: list[dict[str, Any]] = [
        {"a": 1},
        {"a": True},
        {"a": "1"},
        {"a": [3, 1.0]},
        {"a": None},
        {"b": 1},
        {"a": 1, "b": "x"},
        {"a": Decimal("2.50")},
    ]
    for n, state in enumerate(states):
        create(store, entity(f"k{n}"), state)
    assert found(store, equals={"a": 1}) == ["k0", "k3", "k6"]
    assert found(store, equals={"a": True}) == ["k1"]
    assert found(store, equals={"a": "1"}) == ["k2"]
    assert found(store, equals={"a": 1, "b": "x"}) == ["k6"]
    assert found(store, equals={"a": 2.5}) == ["k7"]
    assert found(store, equals={"a": None}) == ["k4", "k5"]
    assert found(store, equals={"a": "none"}) == []


def test_words_are_found_in_texts_and_keys(store: RegistryStore) -> None:
    """All words occur, whatever their case and place; the last may be the beginning of one."""
    create(store, entity("db/orders"), {"doc": "All orders of Customers", "n": 12})
    create(
        store, entity("db/people"), {"doc": {"de": "Kunden über alles"}, "tags": ["order-entry"]}
    )
    create(store, entity("x"), {"order": "no text of a name"})
    assert found(store, words="order") == ["db/orders", "db/people"]
    assert found(store, words="ORDERS cust") == ["db/orders"]
    assert found(store, words="cust orders") == []
    assert found(store, words="Über") == ["db/people"]
    assert found(store, words="db") == ["db/orders", "db/people"]
    assert found(store, words=" - ") == ["db/orders", "db/people", "x"]
    assert found(store, words="12") == []


def test_relationships_are_found_by_their_ends(store: RegistryStore) -> None:
    """From here, to there, or both."""
    for stream in (
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "c"),
        edge("a", "c", type_name="likes"),
    ):
        create(store, stream, {"n": 1})
    kind = StreamKind.RELATIONSHIP
    assert found(store, kind=kind, from_key="a") == ["a", "a", "a"]
    assert found(store, kind=kind, to_key="c") == ["a", "b", "a"]
    assert found(store, kind=kind, from_key="b", to_key="c", equals={"n": 1}) == ["b"]
    assert found(store, kind=kind, from_key="a", type_name="likes") == ["a"]


def test_schemas_are_listed_like_all_else(store: RegistryStore) -> None:
    """Each kind by itself."""
    for name in ("b", "a", "c"):
        create(store, definition(name), {"title": f"The {name}"})
    create(store, definition("r", kind=StreamKind.RELATIONSHIP_TYPE))
    assert found(store, kind=StreamKind.SCHEMA) == ["a", "b", "c"]
    assert found(store, kind=StreamKind.SCHEMA, words="the") == ["a", "b", "c"]
    assert found(store, kind=StreamKind.RELATIONSHIP_TYPE) == ["r"]


def test_a_page_goes_on_where_the_last_one_ended_whatever_is_written(store: RegistryStore) -> None:
    """What is there throughout is seen once; what comes in after the place is seen, before it is not."""
    for n in range(10, 20):
        create(store, entity(f"k{n}"), {"a": 1})
    search = Search(tenant_id=ACME, limit=4, equals={"a": 1})
    page = store.search(search)
    assert keys([held.stream for held in page.items]) == ["k10", "k11", "k12", "k13"]
    create(store, entity("k05"), {"a": 1})
    create(store, entity("k145"), {"a": 1})
    put(store, write(entity("k13"), None), write(entity("k15"), None))
    put(store, write(entity("k16"), {"a": 2}))
    rest = store.search(replace(search, after=page.next, limit=100))
    assert keys([held.stream for held in rest.items]) == ["k14", "k145", "k17", "k18", "k19"]
    assert rest.next is None


def test_counts_follow_what_is_there(store: RegistryStore) -> None:
    """Creates and restores count one more, deletes one less, updates nothing."""
    create(store, entity("a"))
    create(store, entity("b"))
    create(store, edge("a", "b"))
    create(store, definition("person"))
    put(store, write(entity("a"), {"n": 1}), write(entity("b"), None))
    assert store.count_by_type(ACME) == {
        (StreamKind.ENTITY, "person"): 1,
        (StreamKind.RELATIONSHIP, "knows"): 1,
    }


def test_a_cursor_that_no_page_gave_is_refused(control_url: str) -> None:
    """The error says to begin without one."""
    store = SqlRegistryStore(open_engine(control_url))
    with pytest.raises(InvalidIdentifier, match="begin without one"):
        store.search(Search(tenant_id=ACME, after="no!"))
    store.close()
