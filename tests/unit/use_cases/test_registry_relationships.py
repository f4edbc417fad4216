"""Commands on relationships, and entities that others refer to."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.ports.registry import ABSENT, Append, Appended
from penstock.registry.commands import Create, Delete, MergePatch, Replace, Restore
from penstock.registry.events import EventAction, NewEvent, StreamId
from penstock.registry.identifiers import relationship_type_stream
from penstock.registry.problems import Problem, ProblemKind
from penstock.registry.relationship_types import RelationshipType, relationship_type
from penstock.use_cases.registry_platform import BatchResult, Done, RegistryPolicy
from tests.fixtures.registry_memory import MemoryRegistryStore
from tests.fixtures.registry_world import ACME, ANN, RegistryWorld, edge, entity

A, B, C = entity("a"), entity("b"), entity("c")


@pytest.fixture
def world() -> RegistryWorld:
    world = RegistryWorld()
    for stream in (A, B, C):
        world.create(stream)
    return world


def declare(world: RegistryWorld, name: str, **fields: Any) -> None:
    declared = relationship_type(name, fields)
    assert isinstance(declared, RelationshipType), declared
    event = NewEvent(
        stream=relationship_type_stream(ACME, name),
        action=EventAction.CREATE,
        state=declared.to_state(),
        operation_id=name.encode().ljust(16, b"_"),
        actor=ANN,
    )
    answer = world.store.append([Append(event=event, expected=ABSENT)], now=world.clock.moment)
    assert isinstance(answer, Appended)


def create(stream: StreamId, **attributes: Any) -> Create:
    return Create(stream=stream, attributes=attributes)


def test_a_relationship_lives_as_an_entity_does(world: RegistryWorld) -> None:
    """It is created, patched, deleted and restored by the same commands."""
    held = world.create(edge("a", "b"), {"how": "view"})
    patched = world.done(
        MergePatch(stream=held.stream, patch={"how": "join"}, expected=held.version_tag)
    )
    assert (patched.state, patched.version) == ({"how": "join"}, 2)
    world.delete(held.stream)
    assert world.done(Restore(stream=held.stream)).state == {"how": "join"}


def test_both_ends_have_to_be_there(world: RegistryWorld) -> None:
    """A relationship to nothing is refused with every end that is missing."""
    refused = world.refused(create(edge("x", "y")), ProblemKind.RELATIONSHIP_VIOLATION)
    assert [(each.path, each.rule) for each in refused.errors] == [
        ("/from_key", "ends"),
        ("/to_key", "ends"),
    ]
    assert "no entity 'x' in source api" in refused.detail


def test_ends_are_looked_for_in_the_same_source_and_the_apis(world: RegistryWorld) -> None:
    """A relationship of a source may lead to what the API wrote, and not to another source's."""
    world.create(entity("mine", source="crm"))
    world.create(edge("mine", "a", source="crm"))
    world.refused(create(edge("mine", "a")), ProblemKind.RELATIONSHIP_VIOLATION)
    world.refused(create(edge("mine", "a", source="erp")), ProblemKind.RELATIONSHIP_VIOLATION)


def test_a_declared_type_says_what_it_joins(world: RegistryWorld) -> None:
    """An end of another type is refused, and the type that is there is named."""
    declare(world, "reads", from_types=["view"], to_types=["table", "view"])
    world.create(entity("v", "view"))
    world.create(edge("v", "a"))
    refused = world.refused(create(edge("a", "v")), ProblemKind.RELATIONSHIP_VIOLATION)
    ((path, message),) = [(each.path, each.message) for each in refused.errors]
    assert path == "/from_key"
    assert "no view 'a'" in message
    assert "is a table" in message


def test_a_type_may_dangle(world: RegistryWorld) -> None:
    """Where the type says so, ends need not be there, and nothing keeps an end from going."""
    declare(world, "reads", may_dangle=True)
    world.create(edge("x", "y"))
    world.create(edge("a", "y"))
    assert world.delete(A).cascaded == ()


def test_attributes_of_a_relationship_are_validated(world: RegistryWorld) -> None:
    """Errors of attributes and of ends are said at once, and the version that validated is kept."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reads",
        "type": "object",
        "properties": {"how": {"enum": ["view", "join"]}},
        "required": ["how"],
    }
    declare(world, "reads", attributes=schema)
    refused = world.refused(create(edge("a", "x"), how=1), ProblemKind.RELATIONSHIP_VIOLATION)
    assert {each.rule for each in refused.errors} == {"ends", "enum"}
    assert world.create(edge("a", "b"), {"how": "view"}).schema_version == 1


def test_undeclared_types_may_be_refused() -> None:
    """With a policy that takes none, a relationship of an undeclared type is refused."""
    world = RegistryWorld(policy=RegistryPolicy(accept_undeclared_types=False))
    assert "declare it" in world.refused(create(edge("a", "b")), ProblemKind.NO_SCHEMA).detail


# Cardinality --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cardinality", "second_from", "second_to"),
    [
        ("many_to_many", True, True),
        ("one_to_many", True, False),
        ("many_to_one", False, True),
        ("one_to_one", False, False),
    ],
)
def test_a_type_says_how_many(
    world: RegistryWorld, cardinality: str, second_from: bool, second_to: bool
) -> None:
    """A second relationship from the same entity, or to it, is taken only if the type allows it."""
    declare(world, "reads", cardinality=cardinality)
    first = world.create(edge("a", "b"))
    for stream, allowed in ((edge("a", "c"), second_from), (edge("c", "b"), second_to)):
        answer = world.run(create(stream))
        assert isinstance(answer, Done) == allowed
        if isinstance(answer, Problem):
            assert [each.rule for each in answer.errors] == ["cardinality"]
            assert "'a' -> 'b'" in answer.detail
        else:
            world.delete(stream)
    world.done(Replace(stream=first.stream, attributes={"x": 1}, expected=first.version_tag))


def test_a_batch_may_move_a_relationship_and_may_not_double_it(world: RegistryWorld) -> None:
    """Within an atomic batch, what it deletes makes room, and what it creates takes it."""
    declare(world, "reads", cardinality="many_to_one")
    world.create(edge("a", "b"))
    moved = world.batch(create(edge("a", "c")), Delete(stream=edge("a", "b")), atomic=True)
    assert isinstance(moved, BatchResult)
    assert moved.done == 2
    doubled = world.batch(create(edge("b", "a")), create(edge("b", "c")), atomic=True)
    assert isinstance(doubled, BatchResult)
    assert doubled.done == 0


# Containment --------------------------------------------------------------------------------------------------


def test_nothing_lies_in_two_containers(world: RegistryWorld) -> None:
    """A second container is refused, and the first is named."""
    declare(world, "contains", containment=True)
    world.create(edge("a", "c", "contains"))
    refused = world.refused(create(edge("b", "c", "contains")), ProblemKind.RELATIONSHIP_VIOLATION)
    assert [each.rule for each in refused.errors] == ["containment"]


def test_nothing_lies_within_itself(world: RegistryWorld) -> None:
    """A cycle of containers is refused with the way around it, a short one too."""
    declare(world, "contains", containment=True)
    world.create(edge("a", "b", "contains"))
    world.create(edge("b", "c", "contains"))
    refused = world.refused(create(edge("c", "a", "contains")), ProblemKind.RELATIONSHIP_VIOLATION)
    assert "'a' in 'c' in 'b' in 'a'" in refused.detail
    world.refused(create(edge("c", "c", "contains")), ProblemKind.RELATIONSHIP_VIOLATION)
    both = world.batch(
        Delete(stream=edge("a", "b", "contains")), create(edge("c", "a", "contains")), atomic=True
    )
    assert isinstance(both, BatchResult)
    assert both.done == 2


# What is referred to ------------------------------------------------------------------------------------------


def test_an_entity_that_is_referred_to_is_not_deleted(world: RegistryWorld) -> None:
    """The refusal names what refers to it, from either end, and a cascade takes that along."""
    first, second = world.create(edge("a", "b")), world.create(edge("c", "a", "uses"))
    refused = world.refused(Delete(stream=A), ProblemKind.REFERENCED)
    named = [
        (each["type"], each["from_key"], each["to_key"]) for each in refused.more["references"]
    ]
    assert named == [("reads", "a", "b"), ("uses", "c", "a")]
    assert "reads 'a' -> 'b'" in refused.detail
    answer = world.delete(A, cascade=True)
    assert set(answer.cascaded) == {first.stream, second.stream}
    assert world.store.get_many([A, first.stream, second.stream]) == [None, None, None]
    assert world.store.history(first.stream)[-1].data == {"with_stream": "table 'a'"}


def test_relationships_that_mean_another_type_do_not_keep_an_entity(world: RegistryWorld) -> None:
    """Where a type joins views only, a table with the same key may go."""
    declare(world, "reads", from_types=["view"], to_types=["table"])
    world.create(entity("a", "view"))
    world.create(edge("a", "b"))
    world.refused(Delete(stream=entity("a", "view")), ProblemKind.REFERENCED)
    world.refused(Delete(stream=B), ProblemKind.REFERENCED)
    assert world.delete(A).cascaded == ()


def test_other_sources_relationships_keep_what_the_api_wrote_only(world: RegistryWorld) -> None:
    """A relationship of a source refers to that source's entities and the API's, not to a third's."""
    for source in ("crm", "erp"):
        world.create(entity("k", source=source))
    world.create(edge("k", "a", source="crm"))
    world.refused(Delete(stream=A), ProblemKind.REFERENCED)
    world.refused(Delete(stream=entity("k", source="crm")), ProblemKind.REFERENCED)
    world.delete(entity("k", source="erp"))


def test_a_repeated_cascade_answers_again(world: RegistryWorld) -> None:
    """Under a key, a delete with all that it took along is done once."""
    world.create(edge("a", "b"))
    first = world.run(Delete(stream=A, cascade=True), key="k")
    again = world.run(Delete(stream=A, cascade=True), key="k")
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert (first.cascaded, again.repeated) == ((edge("a", "b"),), True)


# Rivals -------------------------------------------------------------------------------------------------------


class Interrupted(MemoryRegistryStore):
    """A store in which somebody does one thing between a decision and its append."""

    meanwhile: Any = None

    def append(self, appends: Any, **how: Any) -> Any:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return super().append(appends, **how)


@pytest.fixture
def raced() -> RegistryWorld:
    world = RegistryWorld(store=Interrupted())
    for stream in (A, B, C):
        world.create(stream)
    return world


def interrupt(world: RegistryWorld, *commands: Any) -> None:
    assert isinstance(world.store, Interrupted)

    def act() -> None:
        for command in commands:
            assert isinstance(world.run(command), Done)

    world.store.meanwhile = act


def test_an_end_that_goes_meanwhile_is_missed(raced: RegistryWorld) -> None:
    """A relationship is not left dangling by a delete that came in between."""
    interrupt(raced, Delete(stream=B))
    answer = raced.run(create(edge("a", "b")))
    assert isinstance(answer, Problem)
    assert answer.kind is ProblemKind.RELATIONSHIP_VIOLATION


def test_a_reference_that_comes_meanwhile_is_seen(raced: RegistryWorld) -> None:
    """A delete does not go past a relationship that came in between."""
    interrupt(raced, create(edge("a", "b")))
    answer = raced.run(Delete(stream=B))
    assert isinstance(answer, Problem)
    assert answer.kind is ProblemKind.REFERENCED


def test_cardinality_holds_against_a_rival(raced: RegistryWorld) -> None:
    """Of two that want one place, the later is refused."""
    declare(raced, "reads", cardinality="many_to_one")
    interrupt(raced, create(edge("a", "b")))
    answer = raced.run(create(edge("a", "c")))
    assert isinstance(answer, Problem)
    assert [each.rule for each in answer.errors] == ["cardinality"]


def test_no_cycle_comes_of_two_who_close_it_from_both_sides(raced: RegistryWorld) -> None:
    """Each of two relationships is fine alone; the later is refused."""
    declare(raced, "contains", containment=True)
    interrupt(raced, create(edge("b", "a", "contains")))
    answer = raced.run(create(edge("a", "b", "contains")))
    assert isinstance(answer, Problem)
    assert [each.rule for each in answer.errors] == ["containment"]


def test_a_container_that_moves_meanwhile_closes_no_cycle(raced: RegistryWorld) -> None:
    """The way up that was looked at has to be as it was, above the nearest container too."""
    declare(raced, "contains", containment=True)
    raced.create(edge("a", "b", "contains"))
    interrupt(raced, create(edge("c", "a", "contains")))
    answer = raced.run(create(edge("b", "c", "contains")))
    assert isinstance(answer, Problem)
    assert [each.rule for each in answer.errors] == ["containment"]


def test_a_declaration_that_comes_meanwhile_holds(raced: RegistryWorld) -> None:
    """A relationship under a type that is declared anew in between is judged by the new one."""
    declare(raced, "reads", to_types=["table"])
    changed = RelationshipType(name="reads", to_types=("view",))

    def act() -> None:
        event = NewEvent(
            stream=relationship_type_stream(ACME, "reads"),
            action=EventAction.UPDATE,
            state=changed.to_state(),
            operation_id=b"changed".ljust(16),
            actor=ANN,
        )
        MemoryRegistryStore.append(
            raced.store, [Append(event=event, expected=None)], now=raced.clock.moment
        )

    assert isinstance(raced.store, Interrupted)
    raced.store.meanwhile = act
    answer = raced.run(create(edge("a", "b")))
    assert isinstance(answer, Problem)
    assert answer.errors[0].path == "/to_key"
