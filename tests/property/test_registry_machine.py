"""Entities and relationships under any order of commands, against a model that is a dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.registry.commands import (
    Caller,
    Command,
    Create,
    Delete,
    Deprecate,
    MergePatch,
    Reinstate,
    Replace,
    Restore,
    RollBack,
    TakeStep,
)
from penstock.registry.events import StreamId
from penstock.registry.problems import Problem, ProblemKind
from penstock.registry.workflow import ReviewStep
from penstock.use_cases import registry_schemas as acts
from penstock.use_cases.registry_platform import Done
from penstock.use_cases.registry_queries import History, history
from tests.fixtures.registry_world import ACME, ANN, BOB, RegistryWorld, edge, entity

KEYS = st.sampled_from("abc")
ACTORS = st.sampled_from([ANN, BOB])
ATTRIBUTES = st.fixed_dictionaries(
    {"n": st.integers(0, 2)},
    optional={"next": st.sampled_from("abc"), "bad": st.just("extra")},
)
DOCUMENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "table",
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "next": {"type": "string", "x-references": "table"},
    },
}


@dataclass
class Model:
    """What an entity is in the model."""

    attributes: dict[str, Any]
    status: str = "active"
    review: str | None = None
    proposer: str | None = None


class Registry(RuleBasedStateMachine):
    """A registry beside a dict of entities, a set of relationships and a list of all that was."""

    def __init__(self) -> None:
        super().__init__()
        self.world = RegistryWorld()
        caller = Caller(tenant_id=ACME, actor=ANN)
        acts.define_schema(self.world.platform, DOCUMENT, caller)
        for act in (acts.validate_schema, acts.activate_schema):
            act(self.world.platform, "table", caller, expected=None)
        self.entities: dict[str, Model] = {}
        self.edges: set[tuple[str, str]] = set()
        self.told: dict[str, list[dict[str, Any] | None]] = {key: [] for key in "abc"}
        self.keys = 0

    # What the model says ------------------------------------------------------------------------------------

    def is_bad(self, key: str, attributes: dict[str, Any]) -> bool:
        missing = attributes.get("next", key) not in {key, *self.entities}
        return "bad" in attributes or missing

    def refers(self, key: str) -> bool:
        """Say whether another entity names one."""
        others = (model for name, model in self.entities.items() if name != key)
        return any(model.attributes.get("next") == key for model in others)

    def run(self, command: Command, by: str, expected: ProblemKind | None) -> Done | None:
        """Carry a command out twice under one key: the second time is a repetition of the first."""
        self.keys += 1
        before = self.world.written()
        answer = self.world.run(command, by, key=str(self.keys))
        if expected is not None:
            assert isinstance(answer, Problem), (command, answer)
            assert answer.kind in {expected, ProblemKind.REFERENCE_MISSING}, (expected, answer)
            assert self.world.written() == before
            return None
        assert isinstance(answer, Done), (command, answer)
        after = self.world.written()
        again = self.world.run(command, by, key=str(self.keys))
        assert isinstance(again, Done)
        assert (again.held, again.operation_id) == (answer.held, answer.operation_id)
        assert self.world.written() == after
        return answer

    def wrote(self, key: str, attributes: dict[str, Any]) -> None:
        """Note new attributes: what was decided about others is no more."""
        model = self.entities.get(key)
        if model is None:
            self.entities[key] = Model(attributes)
        elif model.attributes != attributes:
            model.attributes, model.review, model.proposer = attributes, None, None
        self.told[key].append(attributes)

    def tag(self, key: str) -> bytes | None:
        held = self.world.store.get(entity(key))
        return None if held is None else held.version_tag

    # Commands -----------------------------------------------------------------------------------------------

    @initialize(
        following=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=3, max_size=3),
        pairs=st.sets(st.tuples(KEYS, KEYS), max_size=2),
    )
    def begin(self, following: list[str | None], pairs: set[tuple[str, str]]) -> None:
        """Most is to be seen where much is there."""
        for key in "abc":
            self.create(key, {"n": 0}, ANN)
        for key, following_one in zip("abc", following, strict=True):
            if following_one is not None:
                self.replace(key, {"n": 1, "next": following_one}, ANN, stale=False)
        for start, end in sorted(pairs):
            self.join(start, end, ANN)

    @rule(key=KEYS, attributes=ATTRIBUTES, by=ACTORS)
    def create(self, key: str, attributes: dict[str, Any], by: str) -> None:
        expected = None
        if key in self.entities:
            expected = ProblemKind.ALREADY_EXISTS
        elif self.is_bad(key, attributes):
            expected = ProblemKind.SCHEMA_VIOLATION
        if self.run(Create(stream=entity(key), attributes=attributes), by, expected):
            self.wrote(key, attributes)

    @rule(key=KEYS, attributes=ATTRIBUTES, by=ACTORS, stale=st.booleans())
    def replace(self, key: str, attributes: dict[str, Any], by: str, stale: bool) -> None:
        tag = b"x" * 16 if stale else self.tag(key)
        expected = None
        if stale:
            expected = ProblemKind.VERSION_MISMATCH
        elif key not in self.entities:
            expected = ProblemKind.NOT_FOUND
        elif self.is_bad(key, attributes):
            expected = ProblemKind.SCHEMA_VIOLATION
        command = Replace(stream=entity(key), attributes=attributes, expected=tag)
        if self.run(command, by, expected):
            self.wrote(key, attributes)

    @rule(key=KEYS, patch=ATTRIBUTES, gone=st.sampled_from(["n", "next"]), by=ACTORS)
    def patch(self, key: str, patch: dict[str, Any], gone: str, by: str) -> None:
        model = self.entities.get(key)
        patch = {**patch, gone: None}
        before = {} if model is None else model.attributes
        after = {name: value for name, value in {**before, **patch}.items() if value is not None}
        expected = None
        if model is None:
            expected = ProblemKind.NOT_FOUND
        elif self.is_bad(key, after):
            expected = ProblemKind.SCHEMA_VIOLATION
        command = MergePatch(stream=entity(key), patch=patch, expected=self.tag(key))
        if self.run(command, by, expected):
            self.wrote(key, after)

    @rule(key=KEYS, cascade=st.booleans(), by=ACTORS)
    def delete(self, key: str, cascade: bool, by: str) -> None:
        joined = {pair for pair in self.edges if key in pair}
        expected = None
        if key not in self.entities:
            expected = ProblemKind.NOT_FOUND
        elif self.refers(key) or (joined and not cascade):
            expected = ProblemKind.REFERENCED
        done = self.run(Delete(stream=entity(key), cascade=cascade), by, expected)
        if done is not None:
            assert {(each.key, each.to_key) for each in done.cascaded} == joined
            self.edges -= joined
            del self.entities[key]
            self.told[key].append(None)

    @rule(key=KEYS, by=ACTORS)
    def restore(self, key: str, by: str) -> None:
        told = self.told[key]
        expected = None
        if not told:
            expected = ProblemKind.NOT_FOUND
        elif key in self.entities:
            expected = ProblemKind.ALREADY_EXISTS
        elif self.is_bad(key, told[-2] or {}):
            expected = ProblemKind.REFERENCE_MISSING
        done = self.run(Restore(stream=entity(key)), by, expected)
        if done is not None:
            assert done.held is not None
            self.wrote(key, told[-2] or {})
            self.entities[key].status = done.held.status

    @rule(key=KEYS, version=st.integers(1, 6), by=ACTORS)
    def roll_back(self, key: str, version: int, by: str) -> None:
        told = self.told[key]
        expected = None
        if version > len(told):
            expected = ProblemKind.NOT_FOUND
        elif told[version - 1] is None:
            expected = ProblemKind.ILLEGAL_STEP
        elif self.is_bad(key, told[version - 1] or {}):
            expected = ProblemKind.REFERENCE_MISSING
        if self.run(RollBack(stream=entity(key), version=version), by, expected):
            self.wrote(key, told[version - 1] or {})

    @rule(key=KEYS, deprecated=st.booleans(), by=ACTORS)
    def mark(self, key: str, deprecated: bool, by: str) -> None:
        kind = Deprecate if deprecated else Reinstate
        expected = None if key in self.entities else ProblemKind.NOT_FOUND
        if self.run(kind(stream=entity(key)), by, expected):
            self.entities[key].status = "deprecated" if deprecated else "active"
            self.told[key].append(self.entities[key].attributes)

    @rule(key=KEYS, step=st.sampled_from(["propose", "attest", "reject"]), by=ACTORS)
    def review(self, key: str, step: str, by: str) -> None:
        model = self.entities.get(key)
        legal = {None: {"propose"}, "rejected": {"propose"}, "proposed": {"attest", "reject"}}
        expected = None
        if model is None:
            expected = ProblemKind.NOT_FOUND
        elif step not in legal.get(model.review, set()):
            expected = ProblemKind.ILLEGAL_STEP
        elif step == "attest" and model.proposer == by:
            expected = ProblemKind.FORBIDDEN
        command = TakeStep(stream=entity(key), step=ReviewStep(step))
        if self.run(command, by, expected) and model is not None:
            became = {"propose": "proposed", "attest": "attested", "reject": "rejected"}
            model.review, model.proposer = became[step], by
            self.told[key].append(model.attributes)

    @rule(key=KEYS, n=st.integers(0, 2))
    def vouch_and_change(self, key: str, n: int) -> None:
        """Put forward, attest, and set attributes that may be the same."""
        self.review(key, "propose", ANN)
        self.review(key, "attest", BOB)
        self.replace(key, {"n": n}, ANN, stale=False)

    @rule(start=KEYS, end=KEYS, by=ACTORS)
    def join(self, start: str, end: str, by: str) -> None:
        expected = None
        if (start, end) in self.edges:
            expected = ProblemKind.ALREADY_EXISTS
        elif not {start, end} <= set(self.entities):
            expected = ProblemKind.RELATIONSHIP_VIOLATION
        if self.run(Create(stream=edge(start, end), attributes={}), by, expected):
            self.edges.add((start, end))

    @rule(key=KEYS)
    def put_back(self, key: str) -> None:
        """Make what is not there, so that not all goes in the end."""
        if key not in self.entities:
            self.create(key, {"n": 0}, BOB)

    @rule(start=KEYS, end=KEYS, by=ACTORS)
    def part(self, start: str, end: str, by: str) -> None:
        expected = None if (start, end) in self.edges else ProblemKind.NOT_FOUND
        if self.run(Delete(stream=edge(start, end)), by, expected):
            self.edges.discard((start, end))

    # What holds always --------------------------------------------------------------------------------------

    @invariant()
    def what_is_there_is_what_the_model_has(self) -> None:
        for key in "abc":
            held = self.world.store.get(entity(key))
            model = self.entities.get(key)
            assert (held is None) == (model is None)
            if held is not None and model is not None:
                found = (held.state, held.status, held.review, held.version)
                count = len(self.told[key])
                assert found == (model.attributes, model.status, model.review, count)
        there = {(s, e) for s in "abc" for e in "abc" if self.world.store.get(edge(s, e))}
        assert there == self.edges

    @invariant()
    def nothing_refers_to_nothing(self) -> None:
        for key, model in self.entities.items():
            assert model.attributes.get("next", key) in self.entities
        assert all({*pair} <= set(self.entities) for pair in self.edges)

    @invariant()
    def history_has_all_that_was(self) -> None:
        for key in "abc":
            told = history(self.world.platform, stream_of(key))
            found = [] if isinstance(told, Problem) else [i.event.state for i in whole(told)]
            assert found == self.told[key]


def stream_of(key: str) -> StreamId:
    return entity(key)


def whole(told: History) -> list[Any]:
    assert told.next is None
    return list(told.items)


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=80, stateful_step_count=30)
