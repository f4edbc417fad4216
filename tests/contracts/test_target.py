"""Every target applies operations once, checks what it is told to check, and answers with an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from penstock.batch.rows import SCHEMAS, Kind
from penstock.errors import LeaseLost
from penstock.identity.digest import digest, entity_digest, halves, relationship_digest
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.plan.build import Origin, Side, build_operations
from penstock.plan.operations import Action
from penstock.ports.target import (
    HELD_SCHEMA,
    Applied,
    ApplyContext,
    HeldName,
    ListingTarget,
    Outcome,
    Rejected,
    Target,
)
from resources.control_db.engine import open_engine
from resources.targets.http import open_http
from resources.targets.http_settings import HttpEndpoint
from resources.targets.registry import open_registry
from resources.targets.sql_table import open_sql_table
from tests.fixtures.http_endpoint import Endpoint

CONTEXT = ApplyContext(
    batch_id=BatchId("crm@2026-01-01T00-00-00.000000Z"),
    source_id=SourceId("crm"),
    target_id=TargetId("registry"),
    tenant_id=TenantId("default"),
    plan_digest="0" * 32,
    fencing_token=1,
    now=datetime(2026, 1, 1, tzinfo=UTC),
)


LISTING = [
    "registry-sqlite",
    pytest.param("registry-postgres", marks=pytest.mark.postgres),
    "sql_table-sqlite",
    pytest.param("sql_table-postgres", marks=pytest.mark.postgres),
]
NewUrl = Callable[[str], str]


@pytest.fixture(params=[*LISTING, "http"])
def target(request: pytest.FixtureRequest, new_control_url: NewUrl) -> Iterator[Target]:
    """Each target, those in a database once on SQLite and once on PostgreSQL."""
    if request.param != "http":
        with opened(request.param, new_control_url) as made:
            yield made
        return
    endpoint: Endpoint = request.getfixturevalue("http_endpoint")
    http = open_http(HttpEndpoint(url=endpoint.url(uuid4().hex)), "http")
    yield http
    http.close()


@pytest.fixture(params=LISTING)
def listing(request: pytest.FixtureRequest, new_control_url: NewUrl) -> Iterator[ListingTarget]:
    """Each target that can say what it holds."""
    with opened(request.param, new_control_url) as made:
        assert isinstance(made, ListingTarget)
        yield made


@contextmanager
def opened(param: str, new_control_url: NewUrl) -> Iterator[Target]:
    """Open a target in a fresh database."""
    name, _, database = param.partition("-")
    engine = open_engine(new_control_url(database))
    made: Target = open_registry(engine) if name == "registry" else open_sql_table(engine, "tables")
    made.prepare()
    yield made
    engine.dispose()


def side(digests: list[bytes]) -> Side:
    hash_hi, hash_lo = halves(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16))
    return Side(hash_hi=hash_hi, hash_lo=hash_lo)


def operations(
    action: Action,
    rows: list[tuple[str, str]],
    *,
    before: list[str] | None = None,
    version: int = 0,
) -> pa.Table:
    """Build operations on persons: ``rows`` are (key, attributes text), ``before`` the texts they replace."""
    table = pa.Table.from_pylist(
        [
            {"entity_type": "person", "entity_key": key, "attributes": text, "tombstone": False}
            for key, text in rows
        ],
        SCHEMAS[Kind.ENTITY],
    )
    olds = [text for _, text in rows] if before is None else before
    nothing = np.zeros(len(rows), np.uint64)
    return build_operations(
        origin=Origin(
            target_id=CONTEXT.target_id, batch_id=CONTEXT.batch_id, snapshot_version=version
        ),
        kind=Kind.ENTITY,
        action=action,
        rows=table,
        key_hi=nothing,
        key_lo=nothing,
        before=None
        if action is Action.CREATE
        else side(
            [entity_digest("person", k, t.encode()) for (k, _), t in zip(rows, olds, strict=True)]
        ),
        after=None
        if action is Action.DELETE
        else side([entity_digest("person", k, t.encode()) for k, t in rows]),
        batch_rows=None,
    )


def edges(action: Action, pairs: list[tuple[str, str]]) -> pa.Table:
    table = pa.Table.from_pylist(
        [
            {
                "relationship_type": "knows",
                "from_key": a,
                "to_key": b,
                "attributes": "{}",
                "tombstone": False,
            }
            for a, b in pairs
        ],
        SCHEMAS[Kind.RELATIONSHIP],
    )
    digests = side([relationship_digest("knows", a, b, b"{}") for a, b in pairs])
    nothing = np.zeros(len(pairs), np.uint64)
    return build_operations(
        origin=Origin(target_id=CONTEXT.target_id, batch_id=CONTEXT.batch_id, snapshot_version=0),
        kind=Kind.RELATIONSHIP,
        action=action,
        rows=table,
        key_hi=nothing,
        key_lo=nothing,
        before=digests if action is Action.DELETE else None,
        after=None if action is Action.DELETE else digests,
        batch_rows=None,
    )


def held(target: Target, *keys: str) -> list[str | None]:
    """Return the attributes that the target holds of some persons."""
    table = pa.table({"type_name": ["person"] * len(keys), "key": list(keys)})
    attributes: list[str | None] = target.read_back(CONTEXT.source_id, Kind.ENTITY, table)[
        "attributes"
    ].to_pylist()
    return attributes


def listed(target: ListingTarget, kind: Kind, *, limit: int) -> list[tuple[str | None, ...]]:
    """Return the names of all that is held, page by page."""
    names: list[tuple[str | None, ...]] = []
    after = None
    while True:
        page = target.list_held(CONTEXT.source_id, kind, after=after, limit=limit)
        assert page.schema == HELD_SCHEMA
        rows = page.select(["type_name", "key", "to_key"]).to_pylist()
        names += [tuple(row.values()) for row in rows]
        if len(rows) < limit:
            return names
        after = HeldName(**rows[-1])


def test_operations_take_effect(target: Target) -> None:
    """Creates, updates and deletes change what the target holds, and it is read back byte for byte."""
    text = '{"a":"é\\"\\u0000","b":1.0}'
    rows = [("crm/a", text), ("crm/b", "{}")]
    assert target.apply(operations(Action.CREATE, rows), CONTEXT) == Applied(
        applied=2, already_applied=0
    )
    assert held(target, "crm/b", "crm/none", "crm/a") == ["{}", None, text]
    update = operations(Action.UPDATE, [("crm/b", '{"n":1}')], before=["{}"])
    assert target.apply(update, CONTEXT) == Applied(applied=1, already_applied=0)
    delete = operations(Action.DELETE, [("crm/a", text)])
    assert target.apply(delete, CONTEXT) == Applied(applied=1, already_applied=0)
    assert held(target, "crm/a", "crm/b") == [None, '{"n":1}']


def test_a_repeated_chunk_changes_nothing(target: Target) -> None:
    """Applying the same operations again reports them as already applied, even after later ones."""
    create = operations(Action.CREATE, [("crm/a", "{}"), ("crm/b", "{}")])
    target.apply(create, CONTEXT)
    assert target.apply(create, CONTEXT) == Applied(applied=0, already_applied=2)
    target.apply(operations(Action.UPDATE, [("crm/a", '{"n":1}')], before=["{}"]), CONTEXT)
    assert target.apply(create, CONTEXT) == Applied(applied=0, already_applied=2)
    assert held(target, "crm/a") == ['{"n":1}']


def test_conflicts_are_named_and_the_rest_goes_on(target: Target) -> None:
    """An operation whose precondition fails is listed with what was found; the others of its chunk are applied."""
    target.apply(operations(Action.CREATE, [("crm/a", '{"n":1}')]), CONTEXT)
    update = operations(
        Action.UPDATE, [("crm/a", '{"n":3}'), ("crm/b", "{}")], before=['{"n":2}', "{}"]
    )
    create = operations(Action.CREATE, [("crm/c", "{}"), ("crm/a", '{"n":9}')])
    outcome = target.apply(pa.concat_tables([update, create]), CONTEXT)
    assert isinstance(outcome, Applied)
    assert outcome.applied == 1
    assert [f.outcome for f in outcome.failures] == [Outcome.CONFLICT] * 3
    assert "'crm/b' expected" in outcome.failures[1].message
    assert outcome.failures[1].message.endswith("found nothing: something else has changed it")
    assert held(target, "crm/a", "crm/c") == ['{"n":1}', "{}"]


def test_a_stale_fence_loses_and_changes_nothing(target: Target) -> None:
    """A worker whose token is below the highest seen gets LeaseLost; a new token is taken."""
    newer = replace(CONTEXT, fencing_token=5)
    target.apply(operations(Action.CREATE, [("crm/a", "{}")]), newer)
    with pytest.raises(LeaseLost, match="stale"):
        target.apply(
            operations(Action.CREATE, [("crm/b", "{}")]), replace(CONTEXT, fencing_token=4)
        )
    assert held(target, "crm/b") == [None]
    assert isinstance(target.apply(operations(Action.CREATE, [("crm/b", "{}")]), newer), Applied)


def test_a_key_that_no_text_can_keep_is_refused(target: Target) -> None:
    """A NUL in a key rejects the chunk, naming the key, and nothing of it takes effect."""
    outcome = target.apply(
        operations(Action.CREATE, [("crm/ok", "{}"), ("crm/a\0", "{}")]), CONTEXT
    )
    assert isinstance(outcome, Rejected)
    assert "crm/a\\x00" in outcome.message
    assert held(target, "crm/ok") == [None]


def test_what_is_so_already_is_applied_and_has_a_receipt(target: Target) -> None:
    """An operation of another plan whose effect is there already counts as applied, and once: then it is known."""
    target.apply(operations(Action.CREATE, [("crm/a", "{}")]), CONTEXT)
    same_again = operations(Action.CREATE, [("crm/a", "{}"), ("crm/b", "{}")], version=7)
    absent = operations(Action.DELETE, [("crm/gone", "{}")], version=7)
    chunk = pa.concat_tables([same_again, absent])
    assert target.apply(chunk, CONTEXT) == Applied(applied=3, already_applied=0)
    assert target.apply(chunk, CONTEXT) == Applied(applied=0, already_applied=3)
    assert held(target, "crm/a", "crm/b", "crm/gone") == ["{}", "{}", None]


def test_the_same_change_in_a_later_life_is_another_operation(target: Target) -> None:
    """What was created, deleted and is created again takes effect again, because its id is another."""
    rows = [("crm/a", "{}")]
    target.apply(operations(Action.CREATE, rows, version=0), CONTEXT)
    target.apply(operations(Action.DELETE, rows, version=1), CONTEXT)
    assert held(target, "crm/a") == [None]
    again = target.apply(operations(Action.CREATE, rows, version=2), CONTEXT)
    assert again == Applied(applied=1, already_applied=0)
    assert held(target, "crm/a") == ["{}"]


def test_a_chunk_that_was_applied_in_part_is_completed(target: Target) -> None:
    """Of a chunk whose first half had been applied, the second half is applied, and no more."""
    rows = [(f"crm/{n}", "{}") for n in range(10)]
    chunk = operations(Action.CREATE, rows)
    target.apply(chunk.slice(0, 4), CONTEXT)
    assert target.apply(chunk, CONTEXT) == Applied(applied=6, already_applied=4)
    assert held(target, *(key for key, _ in rows)) == ["{}"] * 10


def test_sources_do_not_see_each_other(target: Target) -> None:
    """The same key of two sources is two entities, each under its own fence."""
    other = replace(CONTEXT, source_id=SourceId("erp"), fencing_token=9)
    assert isinstance(target.apply(operations(Action.CREATE, [("a", '{"n":1}')]), other), Applied)
    chunk = operations(Action.CREATE, [("a", '{"n":2}')], version=1)
    assert target.apply(chunk, CONTEXT) == Applied(applied=1, already_applied=0)
    assert held(target, "a") == ['{"n":2}']
    keys = pa.table({"type_name": ["person"], "key": ["a"]})
    theirs = target.read_back(other.source_id, Kind.ENTITY, keys)
    assert theirs["attributes"].to_pylist() == ['{"n":1}']


def test_kinds_may_share_a_chunk(target: Target) -> None:
    """Entities and relationships of one wave are applied together, or not at all."""
    chunk = pa.concat_tables(
        [operations(Action.CREATE, [("crm/a", "{}")]), edges(Action.CREATE, [("crm/a", "crm/b")])]
    )
    assert target.apply(chunk, CONTEXT) == Applied(applied=2, already_applied=0)
    poison = pa.concat_tables(
        [operations(Action.CREATE, [("crm/x", "{}")]), edges(Action.CREATE, [("crm/x", "\0")])]
    )
    assert isinstance(target.apply(poison, CONTEXT), Rejected)
    assert held(target, "crm/x") == [None]


def test_reading_back_answers_in_order(target: Target) -> None:
    """Answers come in the order of the questions, a key asked twice is answered twice, none asked is none."""
    target.apply(operations(Action.CREATE, [(f"k{n}", f'{{"n":{n}}}') for n in range(3)]), CONTEXT)
    assert held(target, "k2", "none", "k0", "k2") == ['{"n":2}', None, '{"n":0}', '{"n":2}']
    nothing = pa.table({"type_name": pa.array([], pa.string()), "key": pa.array([], pa.string())})
    answer = target.read_back(CONTEXT.source_id, Kind.ENTITY, nothing)
    assert answer.schema.names == ["type_name", "key", "digest", "attributes"]
    keys = pa.table({"type_name": ["person", "robot"], "key": ["k1", "k1"]})
    digests = target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)["digest"].to_pylist()
    assert digests == [entity_digest("person", "k1", b'{"n":1}'), None]


def test_nothing_to_apply_is_applied(target: Target) -> None:
    """An empty chunk is no error."""
    assert target.apply(operations(Action.CREATE, []), CONTEXT) == Applied(
        applied=0, already_applied=0
    )


def test_a_quoted_name_is_only_a_name(target: Target) -> None:
    """Keys and types that look like SQL are kept as they are."""
    rows = [("x'; DROP TABLE registry_entity; --", '{"a":"\'\\"%s :b ?"}'), ('a"b\\', "{}")]
    assert target.apply(operations(Action.CREATE, rows), CONTEXT) == Applied(
        applied=2, already_applied=0
    )
    assert held(target, *(key for key, _ in rows)) == [text for _, text in rows]


def test_relationships_are_kept_by_both_ends(target: Target) -> None:
    """Relationships are created, found by both ends, and deleted."""
    pairs = [("crm/a", "crm/b"), ("crm/a", "crm/c")]
    assert target.apply(edges(Action.CREATE, pairs), CONTEXT) == Applied(
        applied=2, already_applied=0
    )
    assert target.apply(edges(Action.DELETE, pairs[:1]), CONTEXT) == Applied(
        applied=1, already_applied=0
    )
    keys = pa.table(
        {"type_name": ["knows"] * 2, "key": ["crm/a"] * 2, "to_key": ["crm/b", "crm/c"]}
    )
    answer = target.read_back(CONTEXT.source_id, Kind.RELATIONSHIP, keys)
    assert answer["digest"].to_pylist() == [
        None,
        relationship_digest("knows", "crm/a", "crm/c", b"{}"),
    ]


def test_a_race_applies_once(target: Target) -> None:
    """The same chunk from several threads at once takes effect exactly once in all."""
    chunk = operations(Action.CREATE, [(f"crm/{n}", "{}") for n in range(500)])
    with ThreadPoolExecutor(4) as pool:
        outcomes: list[Any] = list(pool.map(lambda _: target.apply(chunk, CONTEXT), range(4)))
    assert all(isinstance(outcome, Applied) for outcome in outcomes)
    assert sum(outcome.applied for outcome in outcomes) == 500
    assert sum(outcome.already_applied for outcome in outcomes) == 1500


def test_lanes_do_not_wait_for_each_other(target: Target) -> None:
    """Chunks of several sources at once are all applied, each exactly once."""
    sources = [replace(CONTEXT, source_id=SourceId(f"s{n}")) for n in range(4)]
    chunks = [
        operations(Action.CREATE, [(f"crm/{n}", "{}") for n in range(300)], version=v)
        for v in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(target.apply, chunks, sources))
    assert outcomes == [Applied(applied=300, already_applied=0)] * 4


def test_a_large_chunk_goes_in_whole(target: Target) -> None:
    """Ten thousand operations are one chunk, with keys of every script."""
    rows = [(f"crm/日本-{n}-é\"'\\", f'{{"n":{n}}}') for n in range(10_000)]
    assert target.apply(operations(Action.CREATE, rows), CONTEXT) == Applied(
        applied=10_000, already_applied=0
    )
    assert held(target, rows[-1][0]) == [rows[-1][1]]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_what_is_held_is_listed_page_by_page(listing: ListingTarget, limit: int) -> None:
    """Each row of a source once, whatever its type and however long the pages; nothing of other sources."""
    keys = ["crm/a", "crm/a b", "crm/b", "crm/日本", "crm/é"]
    persons = operations(Action.CREATE, [(key, "{}") for key in keys])
    listing.apply(pa.concat_tables([persons, of_type(persons, "team")]), CONTEXT)
    listing.apply(edges(Action.CREATE, [("a", "b"), ("a", "c"), ("b", "a"), ("b", "b")]), CONTEXT)
    other = replace(CONTEXT, source_id=SourceId("erp"))
    listing.apply(operations(Action.CREATE, [("erp/a", "{}")], version=1), other)
    expected = [(name, key, None) for name in ("person", "team") for key in keys]
    assert sorted(listed(listing, Kind.ENTITY, limit=limit)) == sorted(expected)
    ends = [("knows", *pair) for pair in (("a", "b"), ("a", "c"), ("b", "a"), ("b", "b"))]
    assert sorted(listed(listing, Kind.RELATIONSHIP, limit=limit)) == ends


def test_what_is_listed_is_as_it_is_read_back(listing: ListingTarget) -> None:
    """Digest and attributes come with the names; what was deleted does not come at all."""
    listing.apply(operations(Action.CREATE, [("crm/a", '{"n":1}'), ("crm/b", "{}")]), CONTEXT)
    listing.apply(operations(Action.DELETE, [("crm/b", "{}")]), CONTEXT)
    (row,) = listing.list_held(CONTEXT.source_id, Kind.ENTITY, after=None, limit=9).to_pylist()
    digest = entity_digest("person", "crm/a", b'{"n":1}')
    assert (row["key"], row["digest"], row["attributes"]) == ("crm/a", digest, '{"n":1}')


def test_of_a_source_that_never_came_nothing_is_listed(listing: ListingTarget) -> None:
    """An unknown source is no error."""
    assert len(listing.list_held(SourceId("never"), Kind.ENTITY, after=None, limit=9)) == 0


def test_an_endpoint_cannot_list(http_endpoint: Endpoint) -> None:
    """The protocol has no call for it, and the target does not say otherwise."""
    http = open_http(HttpEndpoint(url=http_endpoint.url(uuid4().hex)), "http")
    assert not isinstance(http, ListingTarget)
    http.close()


def of_type(rows: pa.Table, type_name: str) -> pa.Table:
    """The same operations on rows of another type."""
    ids = [digest(b"t", name) for name in rows["operation_id"].to_pylist()]
    changed = {
        "operation_id": pa.array(ids, pa.binary(16)),
        "type_name": pa.array([type_name] * len(rows)),
    }
    columns = [changed.get(name, rows[name]) for name in rows.schema.names]
    return pa.table(columns, schema=rows.schema)
