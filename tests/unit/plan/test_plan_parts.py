"""The parts of a plan: waves, files, guards, verdicts, containment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.rows import SCHEMAS, Kind
from penstock.errors import PlanChanged
from penstock.identity.digest import entity_digest, halves
from penstock.identity.ids import BatchId, TargetId
from penstock.plan.build import Origin, Side, build_operations, judged
from penstock.plan.containment import all_nested, cyclic_nodes
from penstock.plan.document import WaveFile
from penstock.plan.files import CHUNKS_PER_FILE, PlanWriter, read_chunks
from penstock.plan.guards import TypeCounts, held_types, run_guards
from penstock.plan.operations import OPERATION_SCHEMA, Action, Verdict
from penstock.plan.waves import waves_of

ORIGIN = Origin(
    target_id=TargetId("registry"),
    batch_id=BatchId("crm@2026-01-01T00-00-00.000000Z"),
    snapshot_version=3,
)
PERSON = (Kind.ENTITY, "person")


def creates(keys: list[str], origin: Origin = ORIGIN) -> pa.Table:
    rows = pa.Table.from_pylist(
        [
            {"entity_type": "person", "entity_key": key, "attributes": "{}", "tombstone": False}
            for key in keys
        ],
        SCHEMAS[Kind.ENTITY],
    )
    digests = b"".join(entity_digest("person", key, b"{}") for key in keys)
    hash_hi, hash_lo = halves(np.frombuffer(digests, np.uint8).reshape(-1, 16))
    return build_operations(
        origin=origin,
        kind=Kind.ENTITY,
        action=Action.CREATE,
        rows=rows,
        key_hi=hash_hi,
        key_lo=hash_lo,
        before=None,
        after=Side(hash_hi=hash_hi, hash_lo=hash_lo),
        batch_rows=np.arange(len(keys)),
    )


def test_operations_have_the_published_schema() -> None:
    """Built operations have exactly the schema's columns, digests that match the rows, and are planned."""
    operations = creates(["crm/a", "crm/b"])
    assert operations.schema == OPERATION_SCHEMA
    assert operations["after_digest"].to_pylist()[1] == entity_digest("person", "crm/b", b"{}")
    assert operations["verdict"].to_pylist() == ["planned"] * 2
    assert operations["row"].to_pylist() == [0, 1]


def test_an_operation_id_is_of_its_place_in_history() -> None:
    """The same change has the same id from the same snapshot, and another from another."""
    first, again = creates(["crm/a", "crm/b"]), creates(["crm/b", "crm/a"])
    ids = first["operation_id"].to_pylist()
    assert again["operation_id"].to_pylist() == ids[::-1]
    later = creates(["crm/a"], replace(ORIGIN, snapshot_version=4))
    assert later["operation_id"].to_pylist()[0] not in ids


def test_waves_put_containers_first_and_last() -> None:
    """Creates go by depth, relationships after them, deletes of relationships next, of entities deepest first."""
    keys = pa.array(["a/b/c", "a"])
    assert waves_of(Kind.ENTITY, keys, deletes=False).to_pylist() == [2, 0]
    assert waves_of(Kind.RELATIONSHIP, keys, deletes=False).to_pylist() == [200, 200]
    assert waves_of(Kind.RELATIONSHIP, keys, deletes=True).to_pylist() == [100, 100]
    assert waves_of(Kind.ENTITY, keys, deletes=True).to_pylist() == [298, 300]


def test_files_hold_waves_in_whole_chunks() -> None:
    """The writer cuts each wave into chunks of the given size and caps files; reading gives the order back."""
    stored: dict[str, bytes] = {}
    writer = PlanWriter(stored.__setitem__, chunk_operations=2)
    count = 2 * CHUNKS_PER_FILE + 3
    keys = [f"crm/{n}" for n in range(count)]
    writer.add(creates(["top", *keys[:5]]))
    writer.add(creates(keys[5:]))
    files = writer.finish()
    assert [(f.wave, f.operations) for f in files] == [(0, 1), (1, 40), (1, 3)]
    assert files[2].chunks == (2, 1)
    read = [
        key
        for file in files
        for chunk in read_chunks(file, stored[file.path], where=file.path)
        for key in chunk["key"].to_pylist()
    ]
    assert read == ["top", *keys]


def test_a_file_that_was_changed_is_refused() -> None:
    """A file whose bytes are not those recorded raises before any operation is read."""
    stored: dict[str, bytes] = {}
    writer = PlanWriter(stored.__setitem__, chunk_operations=10)
    writer.add(creates(["a"]))
    (file,) = writer.finish()
    with pytest.raises(PlanChanged, match="wave-000-00000"):
        list(read_chunks(file, stored[file.path] + b"x", where=file.path))
    assert isinstance(file, WaveFile)


def test_a_verdict_is_given_once() -> None:
    """What has been refused stays refused with its first reason; others take the new verdict."""
    operations = creates(["a", "b", "c"])
    first = judged(
        operations, np.array([True, False, False]), Verdict.REFUSED, pa.array(["x", "", ""])
    )
    both = judged(first, np.array([True, True, False]), Verdict.HELD, pa.array(["y", "z", ""]))
    assert both["verdict"].to_pylist() == ["refused", "held", "planned"]
    assert both["reason"].to_pylist() == ["x", "z", None]


@pytest.mark.parametrize(
    ("known", "deletes", "passed"),
    [(100, 30, True), (100, 31, False), (10, 10, True), (20, 20, True), (21, 21, False)],
)
def test_the_delete_share_guard_trips_past_its_limit(
    known: int, deletes: int, passed: bool
) -> None:
    """Up to 30 % of a type's rows, or 20 rows, may go by absence; one more is held."""
    counts = {PERSON: TypeCounts(known=known, landed=1, inferred_deletes=deletes)}
    verdict = next(v for v in run_guards(GuardPolicy(), counts) if v.guard == "delete_share")
    assert verdict.passed is passed
    assert set(held_types([verdict])) == (set() if passed else {PERSON})


def test_an_empty_extract_holds_every_type() -> None:
    """When nothing landed, all deletes are held even where each type alone would pass."""
    other = (Kind.ENTITY, "team")
    counts = {key: TypeCounts(known=60, landed=0, inferred_deletes=15) for key in (PERSON, other)}
    verdicts = run_guards(GuardPolicy(), counts)
    assert {v.guard for v in verdicts if not v.passed} == {"empty_extract"}
    assert set(held_types(verdicts)) == {PERSON, other}


def test_cycles_are_found_among_many_trees() -> None:
    """Only nodes that contain each other are named, whatever hangs above, below and between them."""
    rng = np.random.default_rng(0)
    tree = np.array([[rng.integers(0, n), n] for n in range(1, 500)])
    ring = np.array([[600, 601], [601, 602], [602, 600], [602, 603], [10, 600], [700, 700]])
    assert cyclic_nodes(np.vstack([tree, ring])) == {
        frozenset({600, 601, 602}),
        frozenset({700}),
    }
    assert cyclic_nodes(tree) == set()


def test_nesting_is_told_by_keys() -> None:
    """Edges to keys directly below their own are nested; any other is not."""
    assert all_nested(pa.array(["a", "a/b"]), pa.array(["a/b", "a/b/c"]))
    assert not all_nested(pa.array(["a"]), pa.array(["b"]))
    assert not all_nested(pa.array(["a"]), pa.array(["a/b/c"]))
