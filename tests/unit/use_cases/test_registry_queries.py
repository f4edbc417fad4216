"""Questions about what the registry holds and held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.ports.registry import Held, Search
from penstock.registry.commands import Delete, Deprecate, MergePatch, Replace
from penstock.registry.events import EventAction, StreamKind
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases import registry_queries as queries
from penstock.use_cases.registry_queries import Difference, Graph, History
from tests.fixtures.registry_world import ACME, ANN, OTHER, RegistryWorld, edge, entity

A, B, C, D = (entity(key) for key in "abcd")


@pytest.fixture
def world() -> RegistryWorld:
    return RegistryWorld()


def kind_of(answer: object) -> ProblemKind:
    assert isinstance(answer, Problem), answer
    return answer.kind


def changed(world: RegistryWorld, held: Held, attributes: dict[str, Any]) -> Held:
    return world.done(Replace(stream=held.stream, attributes=attributes, expected=held.version_tag))


def test_what_is_there_is_read_by_name(world: RegistryWorld) -> None:
    """A read returns what is there; what never was and what was deleted are told apart."""
    held = world.create(A, {"a": 1})
    assert queries.get(world.platform, A) == held
    never = queries.get(world.platform, B)
    assert kind_of(never) is ProblemKind.NOT_FOUND
    assert isinstance(never, Problem)
    assert "deleted_by" not in never.more
    world.delete(A)
    gone = queries.get(world.platform, A)
    assert isinstance(gone, Problem)
    assert gone.more["deleted_by"] == ANN


def test_many_are_read_in_order(world: RegistryWorld) -> None:
    """Each name has its answer in its place, and too many at once are refused."""
    held = world.create(B)
    assert queries.get_many(world.platform, [A, B, A]) == [None, held, None]
    assert kind_of(queries.get_many(world.platform, [A] * 1001)) is ProblemKind.TOO_MANY


def test_a_search_is_paged_and_checked(world: RegistryWorld) -> None:
    """Pages follow one another to the end; bad limits and filters are all refused at once."""
    for n in range(5):
        world.create(entity(f"k{n}"), {"n": n % 2, "text": f"Some words {n}"})
    seen, after = [], None
    while True:
        page = queries.search(world.platform, Search(tenant_id=ACME, limit=2, after=after))
        assert not isinstance(page, Problem)
        seen += [held.stream.key for held in page.items]
        if (after := page.next) is None:
            break
    assert seen == [f"k{n}" for n in range(5)]
    odd = queries.search(world.platform, Search(tenant_id=ACME, equals={"n": 1}, words="some wor"))
    assert not isinstance(odd, Problem)
    assert [held.stream.key for held in odd.items] == ["k1", "k3"]
    bad = queries.search(world.platform, Search(tenant_id=ACME, limit=0, equals={"a": [1]}))
    assert isinstance(bad, Problem)
    assert [error.path for error in bad.errors] == ["/limit", "/equals/a"]


def test_everything_can_be_exported(world: RegistryWorld) -> None:
    """An export goes over all pages of what matches, of one tenant."""
    for n in range(1_005):
        world.create(entity(f"{n:04}"))
    exported = list(queries.export(world.platform, Search(tenant_id=ACME)))
    assert [held.stream.key for held in exported] == [f"{n:04}" for n in range(1_005)]
    assert list(queries.export(world.platform, Search(tenant_id=OTHER))) == []
    assert queries.counts(world.platform, ACME) == {(StreamKind.ENTITY, "table"): 1_005}


def test_history_tells_each_change(world: RegistryWorld) -> None:
    """Every event is there, oldest first, with what it changed by path."""
    first = world.create(A, {"a": 1, "list": [1, {"x": 1}]})
    changed(world, first, {"a": 2, "list": [1, {"x": 1, "y": None}]})
    world.done(Deprecate(stream=A, reason="old"))
    world.delete(A)
    told = queries.history(world.platform, A)
    assert isinstance(told, History)
    assert [item.event.action for item in told.items] == [
        EventAction.CREATE,
        EventAction.UPDATE,
        EventAction.DEPRECATE,
        EventAction.DELETE,
    ]
    assert [item.event.version for item in told.items] == [1, 2, 3, 4]
    assert [(c.path, c.change, c.before, c.after) for c in told.items[1].changes] == [
        ("a", "changed", 1, 2),
        ("list[1].y", "added", None, None),
    ]
    assert [item.changes for item in (told.items[0], *told.items[2:])] == [(), (), ()]
    assert told.next is None


def test_history_is_paged_without_losing_a_change(world: RegistryWorld) -> None:
    """The first change of a page is against the last version of the page before."""
    held = world.create(A, {"n": 0})
    for n in range(1, 6):
        held = changed(world, held, {"n": n})
    whole = queries.history(world.platform, A)
    assert isinstance(whole, History)
    pieces, after = [], 0
    while True:
        piece = queries.history(world.platform, A, after=after, limit=2)
        assert isinstance(piece, History)
        pieces += piece.items
        if piece.next is None:
            break
        after = piece.next
    assert tuple(pieces) == whole.items
    end = queries.history(world.platform, A, after=6)
    assert isinstance(end, History)
    assert (end.items, end.next) == ((), None)
    assert kind_of(queries.history(world.platform, B)) is ProblemKind.NOT_FOUND
    assert kind_of(queries.history(world.platform, A, limit=0)) is ProblemKind.INVALID_REQUEST
    assert kind_of(queries.history(world.platform, A, after=-1)) is ProblemKind.INVALID_REQUEST


def test_what_was_at_a_moment_and_at_a_version(world: RegistryWorld) -> None:
    """Before it was there is told apart from when it was gone, and versions are counted from 1."""
    before = world.clock.now()
    first = world.create(A, {"n": 1})
    world.delete(A)
    after = world.clock.now()
    then = queries.as_of(world.platform, A, at=first.updated_at)
    assert not isinstance(then, Problem)
    assert (then.state, then.version) == ({"n": 1}, 1)
    gone = queries.as_of(world.platform, A, at=after + timedelta(days=1))
    assert not isinstance(gone, Problem)
    assert (gone.state, gone.version) == (None, 2)
    early = queries.as_of(world.platform, A, at=before)
    assert isinstance(early, Problem)
    assert "was not there yet" in early.detail
    version = queries.as_of(world.platform, A, version=1)
    assert version == then
    assert kind_of(queries.as_of(world.platform, A, version=3)) is ProblemKind.NOT_FOUND
    assert kind_of(queries.as_of(world.platform, B, version=1)) is ProblemKind.NOT_FOUND
    assert kind_of(queries.as_of(world.platform, B, at=after)) is ProblemKind.NOT_FOUND


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"version": 0},
        {"version": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"at": datetime(2026, 1, 1)},  # noqa: DTZ001  without a zone, on purpose
    ],
)
def test_a_moment_or_a_version_is_named(world: RegistryWorld, asked: dict[str, Any]) -> None:
    """Neither, both, a moment without a zone and version 0 are refused."""
    world.create(A)
    assert kind_of(queries.as_of(world.platform, A, **asked)) is ProblemKind.INVALID_REQUEST


def test_two_versions_are_compared(world: RegistryWorld) -> None:
    """What changed between them is told by path, in either direction."""
    first = world.create(A, {"n": 1, "m": 1})
    second = changed(world, first, {"n": 2, "m": 1})
    world.done(MergePatch(stream=A, patch={"m": None}, expected=second.version_tag))
    found = queries.difference(world.platform, A, 1, 3)
    assert isinstance(found, Difference)
    assert [(c.path, c.change) for c in found.changes] == [("m", "removed"), ("n", "changed")]
    back = queries.difference(world.platform, A, 3, 1)
    assert isinstance(back, Difference)
    assert [(c.path, c.change) for c in back.changes] == [("m", "added"), ("n", "changed")]
    assert kind_of(queries.difference(world.platform, A, 1, 9)) is ProblemKind.NOT_FOUND
    assert kind_of(queries.difference(world.platform, A, 9, 1)) is ProblemKind.NOT_FOUND


# Neighbours ---------------------------------------------------------------------------------------------------


def around(world: RegistryWorld, **how: int) -> Graph:
    graph = queries.neighbours(world.platform, A, **how)
    assert isinstance(graph, Graph), graph
    return graph


def shape(graph: Graph) -> tuple[dict[str, int], set[tuple[str, str | None]]]:
    return (
        {node.stream.key: node.distance for node in graph.nodes},
        {(each.stream.key, each.stream.to_key) for each in graph.edges},
    )


def test_what_is_around_an_entity(world: RegistryWorld) -> None:
    """Depth 1 has what it is joined to from either end, depth 2 what that is joined to."""
    for stream in (A, B, C, D):
        world.create(stream)
    for ends in (("a", "b"), ("c", "a"), ("b", "c"), ("c", "d")):
        world.create(edge(*ends))
    one = around(world)
    assert shape(one) == ({"a": 0, "b": 1, "c": 1}, {("a", "b"), ("c", "a")})
    two = around(world, depth=2)
    assert shape(two) == (
        {"a": 0, "b": 1, "c": 1, "d": 2},
        {("a", "b"), ("c", "a"), ("b", "c"), ("c", "d")},
    )
    assert one.complete
    assert two.complete


def test_a_graph_has_so_many_nodes(world: RegistryWorld) -> None:
    """What found no room is left out, with what leads there, and the graph says that it is not whole."""
    for stream in (A, B, C, D):
        world.create(stream)
    for to in "bcd":
        world.create(edge("a", to))
    small = around(world, limit=3)
    nodes, edges = shape(small)
    assert len(nodes) == 3
    assert edges == {("a", key) for key in nodes if key != "a"}
    assert not small.complete


def test_a_relationship_to_nothing_has_a_node_of_unknown_type(world: RegistryWorld) -> None:
    """An end that is not there is shown as such."""
    world.create(A)
    world.create(B)
    world.create(edge("a", "b"))
    world.store.now.pop(B)  # type: ignore[attr-defined]  # as a published type with dangling ends leaves it
    (_, end) = around(world).nodes
    assert (end.stream.type_name, end.stream.key, end.held) == ("?", "b", None)


def test_a_graph_keeps_to_the_sources_that_see_each_other(world: RegistryWorld) -> None:
    """From a source's entity its own relationships are followed, and from the API's those of every source."""
    mine, theirs = entity("a", source="crm"), entity("a", source="erp")
    for stream in (A, mine, theirs, entity("b", source="crm")):
        world.create(stream)
    world.create(edge("a", "b", source="crm"))
    of_theirs = queries.neighbours(world.platform, theirs)
    assert isinstance(of_theirs, Graph)
    assert of_theirs.edges == ()
    assert len(around(world).edges) == 1


@pytest.mark.parametrize("how", [{"depth": 0}, {"depth": 3}, {"limit": 0}, {"limit": 1001}])
def test_a_graph_has_bounds(world: RegistryWorld, how: dict[str, int]) -> None:
    """Depth and limit outside what there is are refused."""
    world.create(A)
    asked = queries.neighbours(world.platform, A, **how)
    assert kind_of(asked) is ProblemKind.INVALID_REQUEST


def test_nothing_is_around_what_is_not_there(world: RegistryWorld) -> None:
    """A graph around an entity that was deleted is refused as a read is."""
    world.create(A)
    world.run(Delete(stream=A))
    assert kind_of(queries.neighbours(world.platform, A)) is ProblemKind.NOT_FOUND
