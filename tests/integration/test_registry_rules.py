"""Publishing into the registry: a batch is held to the schemas and relationship types that were declared there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from penstock.batch.rows import Entity
from penstock.identity.ids import TenantId
from penstock.ports.dead_letters import DeadLetter, LetterFilter
from penstock.ports.registry import Held
from penstock.publish.state import PublishStatus
from penstock.registry.commands import Caller, Create, Delete
from penstock.registry.events import StreamId
from penstock.registry.identifiers import entity_stream, relationship_stream, schema_stream
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases import registry_schemas as acts
from penstock.use_cases.acts import By
from penstock.use_cases.dead_letters import list_letters, requeue_letters
from penstock.use_cases.registry_commands import carry_out
from penstock.use_cases.registry_platform import Done, RegistryPlatform
from resources.control_db.engine import open_engine
from resources.registry.store import SqlRegistryStore
from resources.targets.registry import open_registry
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import TARGET, Bench, complete_scopes, knows, open_bench, person

TENANT = TenantId("default")
CALLER = Caller(tenant_id=TENANT, actor="ann")


@dataclass
class Home:
    """A platform that publishes into a registry, and the registry's commands beside it."""

    bench: Bench
    registry: RegistryPlatform

    def activate(self, title: str, required: tuple[str, ...] = (), **properties: Any) -> None:
        document = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": title,
            "type": "object",
            "properties": properties,
            "required": list(required),
        }
        held = done(acts.define_schema(self.registry, document, CALLER))
        for act in (acts.validate_schema, acts.activate_schema):
            held = done(act(self.registry, title, CALLER, expected=held.version_tag))

    def declare(self, name: str, **fields: Any) -> None:
        done(acts.declare_relationship_type(self.registry, name, fields, CALLER, expected=None))

    def publish(self, rows: list[Any]) -> list[DeadLetter]:
        """Publish a full batch, and return what of it became dead letters."""
        manifest = self.bench.land(rows, scopes=complete_scopes())
        report = self.bench.publish()
        assert report.state.status is PublishStatus.COMPLETE, report.state.failure_details
        letters = list_letters(self.bench.platform, chosen=LetterFilter(batch=manifest.batch_id))
        return sorted(letters, key=lambda letter: (letter.key or "", letter.to_key or ""))

    def held(self, stream: StreamId | Problem) -> Held | None:
        assert isinstance(stream, StreamId)
        return self.registry.store.get(stream)

    def person(self, key: str, kind: str = "person") -> Held | None:
        return self.held(entity_stream(TENANT, kind, key, source="crm"))

    def knows(self, start: str, end: str, kind: str = "knows") -> Held | None:
        return self.held(relationship_stream(TENANT, kind, start, end, source="crm"))


def done(answer: Done | Problem) -> Held:
    assert isinstance(answer, Done), answer
    assert answer.held is not None
    return answer.held


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def home(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    clock: FixedClock,
    new_control_url: Callable[[str], str],
) -> Iterator[Home]:
    """A registry on each database."""
    engine = open_engine(new_control_url(request.param))
    numbers = itertools.count(1)
    with open_bench(tmp_path, clock) as bench:
        target = open_registry(engine, TARGET)
        bench.platform = replace(bench.platform, targets={TARGET: target})
        registry = RegistryPlatform(
            store=SqlRegistryStore(engine),
            clock=clock,
            new_id=lambda: next(numbers).to_bytes(16, "big"),
        )
        yield Home(bench, registry)
    engine.dispose()


def test_bad_rows_of_a_batch_are_dead_letters_with_all_that_is_wrong(home: Home) -> None:
    """The rest is published under the version that validated it; each letter has every violation."""
    home.activate("person", ("name",), name={"type": "string"}, age={"type": "integer"})
    rows = [person(f"p{n}", name=f"Person {n}", age=n) for n in range(9)]
    rows += [person("bad", age="old", extra=1), person("worse", name=None)]
    bad, worse = home.publish(rows)
    assert (bad.key, bad.code) == ("bad", "schema_violation")
    for said in ("/age (type)", "/extra (additionalProperties)", "'name' is required"):
        assert said in bad.message
    assert "/name (type)" in worse.message
    held = home.person("p3")
    assert held is not None
    assert (held.schema_version, held.updated_by[:6]) == (1, "batch:")
    assert home.person("bad") is None
    (event,) = home.registry.store.history(held.stream)
    assert event.schema_version == 1


def test_a_type_without_a_schema_is_published_as_it_is(home: Home) -> None:
    """Sources may publish before anybody has written a schema, beside types that have one."""
    home.activate("person", (), name={"type": "string"})
    other = Entity(entity_type="team", entity_key="t", attributes={"anything": [1]})
    assert home.publish([other, person("a", name="A")]) == []
    held = home.person("t", "team")
    assert held is not None
    assert held.schema_version is None


def test_a_schema_that_becomes_active_later_holds_for_what_changes(home: Home) -> None:
    """What is there stays; an update that breaks it is refused, and one that does not is validated."""
    assert home.publish([person("a", n="x"), person("b", n="x"), person("c", n="x")]) == []
    home.activate("person", (), n={"type": "integer"})
    (letter,) = home.publish([person("a", n=1), person("b", n="y"), person("c", n="x")])
    assert letter.key == "b"
    versions = {key: home.person(key) for key in "abc"}
    assert [held and held.schema_version for held in versions.values()] == [1, None, None]
    assert [held and held.state["n"] for held in versions.values()] == [1, "x", "x"]


def test_a_type_that_takes_no_writes_takes_no_batch(home: Home) -> None:
    """Under a deactivated schema writes are refused and deletes are not."""
    home.activate("person", (), n={"type": "integer"})
    assert home.publish([person("a", n=1), person("b", n=1)]) == []
    done(acts.deactivate_schema(home.registry, "person", CALLER, expected=None))
    (letter,) = home.publish([person("a", n=2)])
    assert letter.code == "no_schema"
    assert home.person("b") is None


def test_what_attributes_name_has_to_be_there(home: Home) -> None:
    """It may be published by the same chunk or be there already, and it is not deleted while it is named."""
    home.activate("person", (), boss={"type": "string", "x-references": "person"})
    letters = home.publish([person("a"), person("b", boss="a"), person("c", boss="nobody")])
    assert [(letter.key, letter.code) for letter in letters] == [("c", "reference_missing")]
    assert "there is no person 'nobody' in source crm or api" in letters[0].message
    a = home.person("a")
    assert a is not None
    caller = carry_out(home.registry, Delete(stream=a.stream, cascade=True), CALLER)
    assert isinstance(caller, Problem)
    assert caller.kind is ProblemKind.REFERENCED
    (kept,) = home.publish([person("b", boss="a")])
    assert (kept.key, kept.code) == ("a", "referenced")
    assert home.person("a") is not None
    done(carry_out(home.registry, Create(stream=replace(a.stream, key="d"), attributes={}), CALLER))


def test_an_entity_may_name_what_lies_deeper_in_its_batch(home: Home) -> None:
    """Containers are applied first; what names something deeper, in itself or elsewhere, waits for it and gets it."""
    home.activate("person", (), boss={"type": "string", "x-references": "person"})
    rows = [
        person("a", boss="a/b/c"),
        person("a/b", boss="z"),
        person("a/b/c", boss="a"),
        person("a/d"),
        person("y", boss="x/y/z"),
        person("x"),
        person("x/y"),
        person("x/y/z"),
        person("z"),
        knows("a", "a/d"),
    ]
    assert home.publish(rows) == []
    keys = ["a", "a/b", "a/b/c", "a/d", "y", "x", "x/y", "x/y/z", "z"]
    assert all(home.person(key) is not None for key in keys)
    assert home.knows("a", "a/d") is not None
    inner = home.person("a/b/c")
    assert inner is not None
    named = home.registry.store.referrers(inner.stream)
    assert [each.key for each in named] == ["a"]
    (kept,) = home.publish([row for row in rows if getattr(row, "entity_key", "") != "x/y/z"][:-1])
    assert (kept.key, kept.code) == ("x/y/z", "referenced")


def test_what_is_refused_blocks_whoever_names_it_and_what_lies_in_them(home: Home) -> None:
    """However deep it lies: nothing is there that refers to nothing, and nothing without what it lies in."""
    home.activate(
        "person",
        (),
        boss={"type": "string", "x-references": "person"},
        n={"type": "integer"},
    )
    rows = [
        person("a", boss="a/b/c"),
        person("a/b"),
        person("a/b/c", n="no number"),
        person("a/d", boss="e"),
        person("e", boss="a"),
        person("f", boss="a/b"),
        person("g"),
        knows("g", "a/d"),
        knows("g", "f"),
    ]
    letters = home.publish(rows)
    assert [(letter.key, letter.code) for letter in letters] == [
        ("a", "reference_missing"),
        ("a/b/c", "schema_violation"),
        ("e", "reference_missing"),
        ("f", "reference_missing"),
    ]
    assert {key for key in ("a", "a/b", "a/b/c", "a/d", "e", "f", "g") if home.person(key)} == {"g"}
    assert home.knows("g", "a/d") is None
    (state,) = home.bench.platform.control.list_states()
    every = home.bench.platform.control.list_exceptions(state.batch_id, state.target_id)
    blocked = [each for each in every if each.outcome == "blocked"]
    assert {(each.key, each.to_key) for each in blocked} == {
        ("a/b", None),
        ("a/d", None),
        ("g", "a/d"),
        ("g", "f"),
    }


def test_what_nothing_names_any_more_may_be_deleted(home: Home) -> None:
    """An update takes back what attributes named, and a delete with what named it goes through."""
    home.activate("person", (), boss={"type": "string", "x-references": "person"})
    assert home.publish([person("a"), person("b", boss="a"), person("c", boss="a")]) == []
    assert home.publish([person("a"), person("b")]) == []
    assert home.publish([person("b")]) == []
    assert home.person("a") is None


def test_relationships_are_held_to_their_type(home: Home) -> None:
    """Types of ends, cardinality and attributes are judged in bulk as one by one."""
    home.declare("knows", from_types=["person"], to_types=["person"], cardinality="many_to_one")
    team = Entity(entity_type="team", entity_key="t", attributes={})
    people = [person(key) for key in "abcd"]
    edges = [knows("a", "b"), knows("a", "c"), knows("b", "t"), knows("c", "d")]
    letters = home.publish([team, *people, *edges])
    assert [(each.key, each.code) for each in letters] == [
        ("a", "relationship_violation"),
        ("b", "relationship_violation"),
    ]
    assert "many_to_one" in letters[0].message
    assert "is a team" in letters[1].message
    assert (home.knows("a", "b") is None) != (home.knows("a", "c") is None)
    held = home.knows("c", "d")
    assert held is not None
    assert held.schema_version == 1


def test_a_relationship_that_moves_makes_room_first(home: Home) -> None:
    """What a batch takes away is gone before what it brings in its place is judged."""
    home.declare("knows", cardinality="many_to_one")
    home.declare("contains", containment=True)
    people = [person(key) for key in "abc"]
    before = [knows("a", "b"), knows("a", "c", type_name="contains")]
    after = [knows("a", "c"), knows("b", "c", type_name="contains")]
    assert home.publish([*people, *before]) == []
    assert home.publish([*people, *after]) == []
    assert home.knows("a", "b") is None
    assert home.knows("a", "c") is not None
    assert home.knows("b", "c", "contains") is not None


def test_no_batch_closes_a_cycle_of_containers(home: Home) -> None:
    """Containers are followed through the registry and through the batch itself."""
    home.declare("contains", containment=True)
    people = [person(key) for key in "abcd"]

    def contains(start: str, end: str) -> Any:
        return knows(start, end, type_name="contains")

    assert home.publish([*people, contains("a", "b")]) == []
    edges = [contains("a", "b"), contains("b", "c"), contains("c", "a"), contains("d", "c")]
    letters = home.publish([*people, *edges])
    assert {letter.code for letter in letters} == {"relationship_violation"}
    there = {pair for pair in ("ab", "bc", "ca", "dc") if home.knows(*pair, "contains")}
    assert {"ab"} < there
    assert len(there) == 4 - len(letters)
    assert not {"bc", "ca"} <= there
    assert not {"bc", "dc"} <= there


def test_a_declared_relationship_keeps_its_ends(home: Home) -> None:
    """An entity that a relationship of the API refers to is not deleted by a batch, if its type is declared."""
    home.declare("likes")
    assert home.publish([person("a"), person("b"), person("c")]) == []
    for kind, ends in (("likes", ("a", "b")), ("hears", ("a", "c"))):
        stream = relationship_stream(TENANT, kind, *ends, source="crm")
        assert isinstance(stream, StreamId)
        done(carry_out(home.registry, Create(stream=stream, attributes={}), CALLER))
    (letter,) = home.publish([person("a")])
    assert (letter.key, letter.code) == ("b", "referenced")
    assert "likes 'a' -> 'b'" in letter.message
    assert home.person("c") is None


def test_a_refused_operation_can_be_tried_again(home: Home) -> None:
    """Once the schema takes it, its dead letter is requeued and published."""
    home.activate("person", (), n={"type": "integer"})
    (letter,) = home.publish([person("a", n=1.5)])
    done(acts.configure_schema(home.registry, "person", "none", CALLER, expected=None))
    done(acts.deactivate_schema(home.registry, "person", CALLER, expected=None))
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "person",
        "type": "object",
        "properties": {"n": {"type": "number"}},
    }
    now = home.held(schema_stream(TENANT, "person"))
    assert now is not None
    tag = now.version_tag
    done(acts.edit_schema(home.registry, "person", document, CALLER, expected=tag))
    done(acts.validate_schema(home.registry, "person", CALLER, expected=None))
    done(acts.activate_schema(home.registry, "person", CALLER, expected=None))
    requeue_letters(
        home.bench.platform, by=By(actor="ann"), dead_letter_ids=[letter.dead_letter_id]
    )
    home.bench.publish()
    held = home.person("a")
    assert held is not None
    assert (held.state, held.schema_version) == ({"n": 1.5}, 2)
