"""Publishing in bulk and the API judge alike: what one takes the other takes, and both refuse in the same words."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from penstock.batch.rows import SCHEMAS, Kind
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import entity_digest, halves, relationship_digest
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.plan.build import Origin, Side, build_operations
from penstock.plan.operations import Action
from penstock.ports.registry import Held
from penstock.ports.target import Applied, ApplyContext
from penstock.registry.commands import Caller, Command, Create, Delete, Replace
from penstock.registry.events import StreamId, StreamKind
from penstock.registry.problems import Problem
from penstock.use_cases import registry_schemas as acts
from penstock.use_cases.registry_bulk import as_message
from penstock.use_cases.registry_commands import carry_out, carry_out_many
from penstock.use_cases.registry_platform import BatchResult, Done, RegistryPlatform
from resources.control_db.engine import open_engine
from resources.registry.store import SqlRegistryStore
from resources.targets.registry import RegistryTarget, open_registry
from tests.fixtures.clock import FixedClock
from tests.property.depth import examples
from tests.property.registry_schemas import a_schema, a_value
from tests.unit.targets.chunks import CONTEXT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TYPES, EDGES = ("table", "team"), ("owns", "holds")
ENTITIES = [(name, key) for name in TYPES for key in ("a", "b", "c")]
KEYS = ("a", "b", "c", "nobody")
ADDRESSES = [
    *((name, key, None) for name, key in ENTITIES),
    *((name, start, end) for name in EDGES for start in KEYS for end in KEYS),
]
Address = tuple[str, str, str | None]
Verdicts = dict[Address, tuple[str, str]]
numbers = itertools.count(1)


@dataclass(frozen=True)
class Step:
    """An operation on its way into both: nothing before is a create, nothing after a delete."""

    address: Address
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def action(self) -> Action:
        if self.before is None:
            return Action.CREATE
        return Action.DELETE if self.after is None else Action.UPDATE


@dataclass
class Side_:  # noqa: N801
    """A tenant of a registry, and the source that writes in it."""

    registry: RegistryPlatform
    tenant: TenantId
    source: SourceId

    @property
    def caller(self) -> Caller:
        return Caller(tenant_id=self.tenant, actor="ann")

    def stream(self, address: Address) -> StreamId:
        name, key, to_key = address
        kind = StreamKind.ENTITY if to_key is None else StreamKind.RELATIONSHIP
        return StreamId(
            tenant_id=self.tenant,
            source_id=self.source,
            kind=kind,
            type_name=name,
            key=key,
            to_key=to_key,
        )

    def held(self, address: Address) -> Held | None:
        return self.registry.store.get(self.stream(address))

    def rows(self) -> dict[Address, tuple[Any, ...]]:
        """Return what is there, and what refers to it."""
        store = self.registry.store
        found = {}
        every = store.get_many([self.stream(address) for address in ADDRESSES])
        for address, held in zip(ADDRESSES, every, strict=True):
            if held is not None:
                named = store.referrers(held.stream) if address[2] is None else []
                by = [(each.type_name, each.key, each.to_key) for each in named]
                found[address] = (held.state, held.schema_version, held.version, by)
        return found


@dataclass
class Bulk(Side_):
    """The side that is published into."""

    target: RegistryTarget = field(kw_only=True)

    def take(self, steps: Sequence[Step]) -> Verdicts:
        number = next(numbers)
        batch = BatchId(f"{self.source}@2026-01-01T00-00-00.{number:06d}Z")
        context = replace(
            CONTEXT,
            batch_id=batch,
            source_id=self.source,
            tenant_id=self.tenant,
            plan_digest=f"{number:032x}",
        )
        table, addresses = _operations(steps, context, number)
        outcome = self.target.apply(table, context)
        assert isinstance(outcome, Applied), outcome
        assert outcome.applied == len(steps) - len(outcome.failures)
        return {addresses[f.operation_id]: (f.code, _said(f.message)) for f in outcome.failures}


class Api(Side_):
    """The side that commands are sent to."""

    def take(self, steps: Sequence[Step]) -> Verdicts:
        """Carry out all that can be: relationships in order, entities in one batch, since they may name each other."""
        if steps[0].address[2] is None:
            return self._together(steps)
        order = list(Action)
        steps = sorted(steps, key=lambda step: order.index(step.action))
        commands = [self._command(step) for step in steps]
        answer = carry_out_many(self.registry, commands, self.caller, atomic=False)
        assert isinstance(answer, BatchResult)
        return {
            step.address: (each.code, _said(as_message(each)))
            for step, each in zip(steps, answer.items, strict=True)
            if isinstance(each, Problem)
        }

    def _together(self, steps: Sequence[Step]) -> Verdicts:
        """Carry out in one batch all that can be, and say of each of the others what is in its way then."""
        left, refused = list(steps), list[Step]()
        while left:
            commands = [self._command(step) for step in left]
            answer = carry_out_many(self.registry, commands, self.caller, atomic=True)
            assert isinstance(answer, BatchResult)
            if answer.done == len(left):
                break
            bad = [isinstance(each, Problem) and each.code != "not_done" for each in answer.items]
            refused += [step for step, is_bad in zip(left, bad, strict=True) if is_bad]
            left = [step for step, is_bad in zip(left, bad, strict=True) if not is_bad]
        verdicts = {}
        for step in refused:
            alone = carry_out(self.registry, self._command(step), self.caller)
            assert isinstance(alone, Problem), (step, alone)
            verdicts[step.address] = (alone.code, _said(as_message(alone)))
        return verdicts

    def _command(self, step: Step) -> Command:
        stream = self.stream(step.address)
        if step.before is None:
            assert step.after is not None
            return Create(stream=stream, attributes=step.after)
        if step.after is None:
            return Delete(stream=stream)
        held = self.held(step.address)
        assert held is not None
        return Replace(stream=stream, attributes=step.after, expected=held.version_tag)


def _said(message: str) -> str:
    """Return what is wrong; how to mend it differs, as a batch asks for no cascades."""
    return message.partition(". Delete those first")[0]


def _operations(
    steps: Sequence[Step], context: ApplyContext, version: int
) -> tuple[pa.Table, dict[bytes, Address]]:
    """Return steps as a chunk, and whose operation each id is."""
    parts, addresses = [], {}
    kind = Kind.ENTITY if steps[0].address[2] is None else Kind.RELATIONSHIP
    for action in Action:
        some = [step for step in steps if step.action is action]
        if not some:
            continue
        nothing = np.zeros(len(some), np.uint64)
        table = build_operations(
            origin=Origin(
                target_id=context.target_id, batch_id=context.batch_id, snapshot_version=version
            ),
            kind=kind,
            action=action,
            rows=pa.Table.from_pylist([_row(step) for step in some], SCHEMAS[kind]),
            key_hi=nothing,
            key_lo=nothing,
            before=_side(some, [step.before for step in some]),
            after=_side(some, [step.after for step in some]),
            batch_rows=None,
        )
        ids = [each.as_py() for each in table["operation_id"]]
        addresses |= dict(zip(ids, (step.address for step in some), strict=True))
        parts.append(table)
    return pa.concat_tables(parts), addresses


def _row(step: Step) -> dict[str, Any]:
    name, key, to_key = step.address
    said = step.before if step.after is None else step.after
    text = canonical_text(dict(said or {})).decode()
    if to_key is None:
        return {"entity_type": name, "entity_key": key, "attributes": text, "tombstone": False}
    ends = {"from_key": key, "to_key": to_key}
    return {"relationship_type": name, **ends, "attributes": text, "tombstone": False}


def _side(steps: Sequence[Step], states: Sequence[Mapping[str, Any] | None]) -> Side | None:
    if None in states:
        return None
    digests = b"".join(
        entity_digest(name, key, canonical_text(dict(state or {})))
        if to_key is None
        else relationship_digest(name, key, to_key, canonical_text(dict(state or {})))
        for (name, key, to_key), state in zip((s.address for s in steps), states, strict=True)
    )
    high, low = halves(np.frombuffer(digests, np.uint8).reshape(-1, 16))
    return Side(hash_hi=high, hash_lo=low)


@pytest.fixture(scope="module")
def registry(
    migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RegistryPlatform, RegistryTarget]]:
    """One registry for all examples: each has tenants of its own."""
    file = tmp_path_factory.mktemp("alike") / "control.db"
    shutil.copy(migrated_sqlite, file)
    engine = open_engine(f"sqlite:///{file}")
    # Nothing here is to outlive a power cut.
    event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
    ids = itertools.count(1)
    platform = RegistryPlatform(
        store=SqlRegistryStore(engine),
        clock=FixedClock(NOW),
        new_id=lambda: next(ids).to_bytes(16, "big"),
    )
    yield platform, open_registry(engine)
    engine.dispose()


# What is tried ------------------------------------------------------------------------------------------------


def _document(rnd: Random, name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"n": a_schema(rnd, 1, refer=False), "m": {"type": "integer"}}
    for each in rnd.sample(["one", "two"], rnd.randint(0, 2)):
        properties[each] = {"type": "string", "x-references": rnd.choice(TYPES)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": "object",
        "properties": properties,
        "required": rnd.sample(sorted(properties), rnd.randint(0, 1)),
    }


def _declared(rnd: Random, document: dict[str, Any]) -> dict[str, Any]:
    cardinalities = ["many_to_many", "one_to_one", "one_to_many", "many_to_one"]
    declared: dict[str, Any] = {
        "from_types": rnd.sample(TYPES, rnd.choice((0, 0, 1, 2))),
        "to_types": rnd.sample(TYPES, rnd.choice((0, 0, 1, 2))),
        "cardinality": rnd.choice(cardinalities),
        "may_dangle": rnd.random() < 0.2,
    }
    if rnd.random() < 0.3:
        declared |= {"containment": True, "cardinality": "one_to_many"}
    if rnd.random() < 0.5:
        own = {name: each for name, each in document.items() if name not in {"title", "$schema"}}
        own["properties"] = {
            name: each for name, each in own["properties"].items() if "x-ref" not in repr(each)
        }
        declared["attributes"] = {**own, "required": []}
    return declared


def _attributes(rnd: Random, document: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for name, schema in document["properties"].items():
        if isinstance(schema, dict) and "x-references" in schema:
            if rnd.random() < 0.6:
                values[name] = rnd.choice((*"abcabcabc", "nobody", 7))
        elif rnd.random() < 0.7:
            values[name] = a_value(rnd, schema, document)
    if rnd.random() < 0.1:
        values["undeclared"] = 1
    return values


def _changes(
    rnd: Random, side: Side_, addresses: Sequence[Address], document: dict[str, Any]
) -> list[Step]:
    """Return creates of what is not there, and updates of some of what is."""
    steps = []
    for address in rnd.sample(addresses, rnd.randint(1, len(addresses))):
        held = side.held(address)
        after = _attributes(rnd, document)
        before = None if held is None else dict(held.state)
        if before is None or canonical_text(before) != canonical_text(after):
            steps.append(Step(address, before, after))
    return steps


def _deletes(rnd: Random, side: Side_, addresses: Sequence[Address]) -> list[Step]:
    found = [(address, side.held(address)) for address in addresses]
    return [
        Step(address, dict(held.state), None)
        for address, held in found
        if held is not None and rnd.random() < 0.4
    ]


def _both(bulk: Bulk, api: Api, steps: Sequence[Step]) -> None:
    if not steps:
        return
    assert bulk.take(steps) == api.take(steps), steps


@settings(max_examples=examples(15))
@given(seed=st.integers(0, 2**32))
def test_bulk_and_api_judge_alike(
    registry: tuple[RegistryPlatform, RegistryTarget], seed: int
) -> None:
    """Under any schemas and types the same is there afterwards, and what is refused breaks the same rules."""
    platform, target = registry
    rnd = Random(seed)
    number = next(numbers)
    source = SourceId(f"s{number}")
    bulk = Bulk(platform, TenantId(f"bulk{number}"), source, target=target)
    api = Api(platform, TenantId(f"api{number}"), source)
    documents = {name: _document(rnd, name) for name in TYPES}
    for name in TYPES:
        if rnd.random() < 0.9:
            closes = rnd.random() < 0.1
            for side in (bulk, api):
                _activate(side, name, documents[name], closes=closes)
    edge_document = _document(rnd, "edge")
    for name in EDGES:
        declared = _declared(rnd, edge_document)
        for side in (bulk, api):
            answer = acts.declare_relationship_type(
                platform, name, declared, side.caller, expected=None
            )
            assert isinstance(answer, Done | Problem)
            if isinstance(answer, Problem):
                declared.pop("attributes", None)
                made = acts.declare_relationship_type(
                    platform, name, declared, side.caller, expected=None
                )
                assert isinstance(made, Done), made
    edge_addresses = [address for address in ADDRESSES if address[2] is not None]
    for _ in range(2):
        steps: list[Step] = []
        for name in TYPES:
            own = [address for address in ADDRESSES if address[0] == name]
            steps += _changes(rnd, bulk, own, documents[name])
        _both(bulk, api, steps)
        _both(bulk, api, _deletes(rnd, bulk, edge_addresses))
        likely = [each for each in edge_addresses if "nobody" not in each]
        chosen = rnd.sample(likely, 6) + rnd.sample(edge_addresses, 1)
        chosen = list(dict.fromkeys(chosen))
        _both(bulk, api, _changes(rnd, bulk, chosen, edge_document))
        _both(bulk, api, _deletes(rnd, bulk, [(*each, None) for each in ENTITIES]))
        assert bulk.rows() == api.rows()


def _activate(side: Side_, name: str, document: dict[str, Any], *, closes: bool) -> None:
    """Activate a schema, if it is one; some are closed again, and take no writes."""
    platform, caller = side.registry, side.caller
    steps = [acts.validate_schema, acts.activate_schema]
    answer: Done | Problem = acts.define_schema(platform, document, caller)
    for act in [*steps, acts.deactivate_schema] if closes else steps:
        if isinstance(answer, Problem):
            return
        answer = act(platform, name, caller, expected=None)
