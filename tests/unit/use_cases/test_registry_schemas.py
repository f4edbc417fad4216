"""Commands on schemas and relationship types, and what they mean for what is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from penstock.ports.registry import Held
from penstock.registry.commands import (
    Caller,
    Create,
    Delete,
    MergePatch,
    Replace,
    Restore,
    RollBack,
)
from penstock.registry.identifiers import relationship_type_stream, schema_stream
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases import registry_schemas as acts
from penstock.use_cases.registry_platform import BatchResult, Done, RegistryPolicy
from tests.fixtures.registry_memory import MemoryRegistryStore
from tests.fixtures.registry_world import ACME, ANN, BOB, RegistryWorld, edge, entity

CALLER = Caller(tenant_id=ACME, actor=ANN)
A = entity("a")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def document(title: str, required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "title": title,
        "type": "object",
        "properties": properties,
        "required": list(required),
    }


TABLE = document(
    "table",
    ("name",),
    name={"type": "string"},
    rows={"type": "integer", "minimum": 0},
    owner={"type": "string", "x-references": "team"},
    readers={"type": "array", "items": {"type": "string", "x-references": "team"}},
)


@pytest.fixture
def world() -> RegistryWorld:
    return RegistryWorld()


def done(answer: Done | Problem) -> Held:
    assert isinstance(answer, Done), answer
    assert answer.held is not None
    return answer.held


def refused(answer: Done | Problem, kind: ProblemKind) -> Problem:
    assert isinstance(answer, Problem), answer
    assert answer.kind is kind, answer
    return answer


def act(world: RegistryWorld, name: str, schema_id: str, *more: Any) -> Done | Problem:
    """Do something to a schema, at whatever version it is."""
    command: Callable[..., Done | Problem] = getattr(acts, name)
    return command(world.platform, schema_id, *more, CALLER, expected=None)


def activate(world: RegistryWorld, written: dict[str, Any]) -> Held:
    """Define, validate and activate a schema."""
    held = done(acts.define_schema(world.platform, written, CALLER))
    valid = done(act(world, "validate_schema", held.stream.key))
    assert valid.status == "valid", valid.state["problems"]
    return done(act(world, "activate_schema", held.stream.key))


def evolve(world: RegistryWorld, written: dict[str, Any]) -> Done | Problem:
    """Revise, edit, validate and activate a schema that is active."""
    schema_id = str(written["title"])
    revised = done(act(world, "revise_schema", schema_id))
    edited = acts.edit_schema(
        world.platform, schema_id, written, CALLER, expected=revised.version_tag
    )
    assert done(edited).status == "draft"
    assert done(act(world, "validate_schema", schema_id)).status == "valid"
    return act(world, "activate_schema", schema_id)


# The life of a schema -----------------------------------------------------------------------------------------


def test_a_schema_goes_from_draft_to_active(world: RegistryWorld) -> None:
    """Each step is an event with the state after it, under the id that follows from the title."""
    held = activate(world, document("Big Table"))
    assert held.stream == schema_stream(ACME, "big_table")
    assert (held.status, held.version, held.schema_version) == ("active", 3, 1)
    told = [event.state and event.state["status"] for event in world.store.history(held.stream)]
    assert told == ["draft", "valid", "active"]
    again = acts.define_schema(world.platform, document("Big Table"), CALLER)
    refused(again, ProblemKind.ALREADY_EXISTS)


def test_a_bad_draft_is_invalid_with_every_problem(world: RegistryWorld) -> None:
    """Validating answers with what is wrong; activating it then is refused with the legal moves."""
    written = document("t", a={"type": "nothing"}, b={"minimum": "x"})
    done(acts.define_schema(world.platform, written, CALLER))
    held = done(act(world, "validate_schema", "t"))
    assert held.status == "invalid"
    paths = [each["path"] for each in held.state["problems"]]
    assert paths == ["/properties/a/type", "/properties/b/minimum"]
    problem = refused(act(world, "activate_schema", "t"), ProblemKind.ILLEGAL_STEP)
    assert "revise" in problem.more["legal"]


@pytest.mark.parametrize("written", [[], "text", {}, {"title": "表"}, {"title": ""}])
def test_what_gives_no_id_is_no_schema(world: RegistryWorld, written: Any) -> None:
    """A document that is no object, or has no title that an id can be made of, is refused."""
    refused(acts.define_schema(world.platform, written, CALLER), ProblemKind.INVALID_SCHEMA)


def test_a_draft_is_edited_under_the_version_that_was_read(world: RegistryWorld) -> None:
    """Two who edit at once do not lose one's work, unless a policy lets them."""
    first = done(acts.define_schema(world.platform, document("t"), CALLER))
    edited = document("t", a=True)
    nameless = acts.edit_schema(world.platform, "t", edited, CALLER, expected=None)
    refused(nameless, ProblemKind.VERSION_REQUIRED)
    tag = first.version_tag
    assert done(acts.edit_schema(world.platform, "t", edited, CALLER, expected=tag)).version == 2
    stale = acts.edit_schema(world.platform, "t", document("t"), CALLER, expected=tag)
    refused(stale, ProblemKind.VERSION_MISMATCH)
    renamed = act(world, "edit_schema", "t", document("other"))
    refused(renamed, ProblemKind.VERSION_REQUIRED)
    free = RegistryWorld(policy=RegistryPolicy(definitions_want_version=False))
    done(acts.define_schema(free.platform, document("t"), CALLER))
    refused(act(free, "edit_schema", "t", document("other")), ProblemKind.INVALID_SCHEMA)


def test_an_incompatible_version_is_refused_with_place_rule_and_remedy(
    world: RegistryWorld,
) -> None:
    """A field that becomes required breaks what BACKWARD promises, until the mode is another."""
    activate(world, document("t", a={"type": "string"}))
    narrower = document("t", ("a",), a={"type": "string"})
    problem = refused(evolve(world, narrower), ProblemKind.INCOMPATIBLE_SCHEMA)
    assert problem.status == 409
    assert all(error.message and error.remedy for error in problem.errors)
    done(act(world, "configure_schema", "t", "NONE".lower()))
    assert done(act(world, "activate_schema", "t")).schema_version == 2
    bad = act(world, "configure_schema", "t", "sideways")
    assert refused(bad, ProblemKind.INVALID_SCHEMA).errors[0].path == "/compatibility"


def test_versions_can_be_pointed_at_and_reactivated(world: RegistryWorld) -> None:
    """The active version moves among those that there are."""
    activate(world, document("t", a={"type": "string"}))
    done(act(world, "configure_schema", "t", "none"))
    assert done(evolve(world, document("t", b={"type": "string"}))).schema_version == 2
    assert done(act(world, "point_schema", "t", 1)).schema_version == 1
    refused(act(world, "point_schema", "t", 7), ProblemKind.NOT_FOUND)
    unmoved = act(world, "point_schema", "t", 1)
    assert isinstance(unmoved, Done)
    assert unmoved.operation_id is None
    done(act(world, "deactivate_schema", "t"))
    assert done(act(world, "reactivate_schema", "t", None)).schema_version == 1


def test_a_schema_that_others_refer_to_stays(world: RegistryWorld) -> None:
    """It is neither deactivated nor marked, and those who refer to it are named."""
    activate(world, document("part", n={"type": "integer"}))
    missing = document("whole", x={"$ref": "penstock:nothing"})
    done(acts.define_schema(world.platform, missing, CALLER))
    done(act(world, "validate_schema", "whole"))
    lacks = refused(act(world, "activate_schema", "whole"), ProblemKind.INVALID_SCHEMA)
    assert "nothing" in lacks.detail
    activate(world, document("user", x={"$ref": "penstock:part"}))
    problem = refused(act(world, "deactivate_schema", "part"), ProblemKind.REFERENCED)
    assert problem.more["users"]
    good = world.done(Create(stream=entity("u", "user"), attributes={"x": {"n": 1}}))
    assert good.schema_version == 1
    bad = Create(stream=entity("v", "user"), attributes={"x": {"n": "1"}})
    assert world.refused(bad, ProblemKind.SCHEMA_VIOLATION).errors[0].path == "/x/n"


def test_a_schema_with_entities_is_not_marked_for_deletion(world: RegistryWorld) -> None:
    """Its entities go first; the mark can be taken away."""
    activate(world, TABLE)
    world.create(A, {"name": "a"})
    done(act(world, "deactivate_schema", "table"))
    problem = refused(act(world, "mark_schema_for_deletion", "table"), ProblemKind.REFERENCED)
    assert problem.more["users"] == ["1 entities"]
    world.delete(A)
    assert done(act(world, "mark_schema_for_deletion", "table")).status == "marked_for_deletion"
    assert done(act(world, "restore_schema", "table")).status == "draft"
    refused(act(world, "revise_schema", "nothing"), ProblemKind.NOT_FOUND)


def test_commands_on_schemas_are_carried_out_once_under_a_key(world: RegistryWorld) -> None:
    """A repetition answers as the first time, and another command under the key is refused."""

    def define(title: str) -> Done | Problem:
        return acts.define_schema(world.platform, document(title), CALLER, idempotency_key="k")

    first = define("t")
    done(act(world, "validate_schema", "t"))
    assert isinstance(first, Done)
    assert define("t") == replace(first, repeated=True)
    refused(define("u"), ProblemKind.KEY_REUSED)
    nobody = acts.define_schema(world.platform, document("v"), replace(CALLER, actor=""))
    refused(nobody, ProblemKind.INVALID_REQUEST)


# What schemas mean for entities ---------------------------------------------------------------------------------


def test_an_entity_is_validated_by_the_active_version(world: RegistryWorld) -> None:
    """Every error is said at once with path, rule and type, and the version that validated is kept."""
    activate(world, TABLE)
    bad = Create(stream=A, attributes={"rows": -1, "extra": True, "name": 3})
    problem = world.refused(bad, ProblemKind.SCHEMA_VIOLATION)
    assert [(e.path, e.rule, e.value_type) for e in problem.errors] == [
        ("/extra", "additionalProperties", "boolean"),
        ("/name", "type", "integer"),
        ("/rows", "minimum", "integer"),
    ]
    assert problem.more["schema_version"] == 1
    held = world.create(A, {"name": "a"})
    assert held.schema_version == 1
    patch = MergePatch(stream=A, patch={"rows": "many"}, expected=held.version_tag)
    world.refused(patch, ProblemKind.SCHEMA_VIOLATION)


def test_missing_references_are_said_beside_what_else_is_wrong(world: RegistryWorld) -> None:
    """A field that names an entity has to name one that is there; each that does not is an error of its own."""
    activate(world, TABLE)
    world.create(entity("t1", "team"))
    missing = {"name": "a", "owner": "t2", "readers": ["t1", "t3"]}
    problem = world.refused(Create(stream=A, attributes=missing), ProblemKind.REFERENCE_MISSING)
    assert [(e.path, e.rule) for e in problem.errors] == [
        ("/owner", "x-references"),
        ("/readers/1", "x-references"),
    ]
    assert "no team 't2' in source api" in problem.errors[0].message
    both = Create(stream=A, attributes={"name": 1, "owner": "t2"})
    problem = world.refused(both, ProblemKind.SCHEMA_VIOLATION)
    assert {e.rule for e in problem.errors} == {"type", "x-references"}
    world.create(A, {"name": "a", "owner": "t1"})
    world.create(entity("a", source="crm"), {"name": "a", "owner": "t1"})


def test_what_is_referred_to_is_not_deleted(world: RegistryWorld) -> None:
    """A cascade takes relationships along, never entities that name it; once they name another, it may go."""
    activate(world, TABLE)
    team, other = world.create(entity("t1", "team")), world.create(entity("t2", "team"))
    held = world.create(A, {"name": "a", "owner": "t1"})
    for cascade in (False, True):
        gone = Delete(stream=team.stream, cascade=cascade)
        problem = world.refused(gone, ProblemKind.REFERENCED)
        assert problem.more["references"][0]["key"] == "a"
    world.done(MergePatch(stream=A, patch={"owner": "t2"}, expected=held.version_tag))
    world.delete(team.stream)
    world.refused(Delete(stream=other.stream), ProblemKind.REFERENCED)
    world.delete(A)
    world.delete(other.stream)


def test_a_batch_may_create_what_it_refers_to(world: RegistryWorld) -> None:
    """In an atomic batch the order does not matter, and it may take both away again."""
    activate(world, TABLE)
    team = entity("t1", "team")
    made = world.batch(
        Create(stream=A, attributes={"name": "a", "owner": "t1"}),
        Create(stream=team, attributes={}),
        atomic=True,
    )
    assert isinstance(made, BatchResult)
    assert made.done == 2
    gone = world.batch(Delete(stream=team), Delete(stream=A), atomic=True)
    assert isinstance(gone, BatchResult)
    assert gone.done == 2


def test_an_entity_may_refer_to_itself(world: RegistryWorld) -> None:
    """It is there once it is there, and does not keep itself from going."""
    activate(world, document("node", next={"type": "string", "x-references": "node"}))
    node = entity("n", "node")
    world.create(node, {"next": "n"})
    world.delete(node)


def test_what_was_may_not_be_any_more(world: RegistryWorld) -> None:
    """Restoring and rolling back are held to the schema that is active now."""
    held = world.create(A, {"old": 1})
    world.done(Replace(stream=A, attributes={"name": "a"}, expected=held.version_tag))
    activate(world, TABLE)
    world.refused(RollBack(stream=A, version=1), ProblemKind.SCHEMA_VIOLATION)
    world.delete(A)
    assert world.done(Restore(stream=A)).schema_version == 1


def test_without_an_active_version_there_are_no_writes(world: RegistryWorld) -> None:
    """Entities of a deactivated type stay readable and may be deleted, but are not written."""
    activate(world, TABLE)
    held = world.create(A, {"name": "a"})
    done(act(world, "deactivate_schema", "table"))
    patch = MergePatch(stream=A, patch={"rows": 1}, expected=held.version_tag)
    problem = world.refused(patch, ProblemKind.NO_SCHEMA)
    assert problem.more["schema_status"] == "deactivated"
    assert world.store.get(A) == held
    world.delete(A)


def test_a_type_without_a_schema_is_taken_or_not() -> None:
    """A policy decides; a draft alone validates nothing."""
    world = RegistryWorld(policy=RegistryPolicy(accept_undeclared_types=False))
    world.refused(Create(stream=A, attributes={}), ProblemKind.NO_SCHEMA)
    done(acts.define_schema(world.platform, TABLE, CALLER))
    world.refused(Create(stream=A, attributes={"name": "a"}), ProblemKind.NO_SCHEMA)
    free = RegistryWorld()
    done(acts.define_schema(free.platform, TABLE, CALLER))
    assert free.create(A, {"anything": 1}).schema_version is None


class Interrupted(MemoryRegistryStore):
    """A store in which somebody does one thing between a decision and its append."""

    meanwhile: Any = None

    def append(self, appends: Any, **how: Any) -> Any:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return super().append(appends, **how)


def test_a_version_that_becomes_active_meanwhile_validates() -> None:
    """What was decided under an older version is decided anew."""
    world = RegistryWorld(store=Interrupted())
    activate(world, TABLE)
    done(act(world, "configure_schema", "table", "none"))
    done(act(world, "revise_schema", "table"))
    narrow = document("table", ("other",), other={"type": "string"})
    held = world.store.get(schema_stream(ACME, "table"))
    assert held is not None
    tag = held.version_tag
    done(acts.edit_schema(world.platform, "table", narrow, CALLER, expected=tag))
    done(act(world, "validate_schema", "table"))
    assert isinstance(world.store, Interrupted)
    world.store.meanwhile = lambda: done(act(world, "activate_schema", "table"))
    answer = world.run(Create(stream=A, attributes={"name": "a"}), by=BOB)
    assert isinstance(answer, Problem)
    assert answer.more["schema_version"] == 2


def test_an_entity_that_comes_meanwhile_keeps_its_schema() -> None:
    """A mark for deletion does not go past an entity that was created in between."""
    world = RegistryWorld(store=Interrupted())
    done(acts.define_schema(world.platform, TABLE, CALLER))
    assert isinstance(world.store, Interrupted)
    world.store.meanwhile = lambda: world.create(A, {"name": "a"})
    refused(act(world, "mark_schema_for_deletion", "table"), ProblemKind.REFERENCED)


# Relationship types -------------------------------------------------------------------------------------------


def declare(world: RegistryWorld, name: str, expected: bytes | None = None, **fields: Any) -> Any:
    return acts.declare_relationship_type(world.platform, name, fields, CALLER, expected=expected)


def test_a_relationship_type_is_declared_and_declared_anew(world: RegistryWorld) -> None:
    """A change wants the version that was read; the same again changes nothing."""
    first = done(declare(world, "reads", from_types=["view"]))
    assert first.stream == relationship_type_stream(ACME, "reads")
    refused(declare(world, "reads", to_types=["table"]), ProblemKind.VERSION_REQUIRED)
    second = done(declare(world, "reads", first.version_tag, to_types=["table"]))
    assert (second.version, second.state["from_types"]) == (2, [])
    same = declare(world, "reads", second.version_tag, to_types=["table"])
    assert isinstance(same, Done)
    assert same.operation_id is None


def test_everything_wrong_with_a_relationship_type_is_said_at_once(world: RegistryWorld) -> None:
    """Fields that there are not, wrong types, bad names and a bad schema are all listed."""
    problem = refused(declare(world, "1", colour="red", from_types="x"), ProblemKind.INVALID_SCHEMA)
    assert {e.path for e in problem.errors} == {"/name", "/colour", "/from_types"}
    problem = refused(
        declare(
            world,
            "reads",
            from_types=["ok", "1", 3],
            to_types=["t"] * 101,
            cardinality="some",
            description="x" * 2_001,
            attributes=document("reads", a={"type": "nothing"}),
        ),
        ProblemKind.INVALID_SCHEMA,
    )
    assert {e.path for e in problem.errors} == {
        "/from_types/1",
        "/from_types/2",
        "/to_types",
        "/cardinality",
        "/description",
        "/attributes/properties/a/type",
    }


def test_a_relationship_type_in_use_is_not_removed(world: RegistryWorld) -> None:
    """Its relationships go first; then its declaration can be taken away, and made again."""
    done(declare(world, "reads"))
    world.create(A)
    world.create(edge("a", "a"))

    def remove() -> Done | Problem:
        return acts.remove_relationship_type(world.platform, "reads", CALLER, expected=None)

    assert "'a' -> 'a'" in refused(remove(), ProblemKind.REFERENCED).detail
    world.delete(edge("a", "a"))
    gone = remove()
    assert isinstance(gone, Done)
    assert gone.held is None
    refused(remove(), ProblemKind.NOT_FOUND)
    assert done(declare(world, "reads")).version == 3
