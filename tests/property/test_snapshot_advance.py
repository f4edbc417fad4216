"""Snapshots against a dict that every batch is applied to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.batch.index import IndexFile
from penstock.batch.rows import Kind
from penstock.diff.keys import KeyChanges, diff_section
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.snapshot.commit import AppliedRows, CompactionPolicy, NewSnapshot, advance
from penstock.snapshot.manifest import read_snapshot_manifest
from penstock.snapshot.view import SnapshotView
from tests.property.index_models import Hash, Key, Model, edits, index_file, models

TYPES = ("a", "b", "c")
POLICIES = (
    CompactionPolicy(max_deltas=2, max_share=10.0),
    CompactionPolicy(max_deltas=3, max_share=0.3),
    CompactionPolicy(max_deltas=100, max_share=100.0),
)


@dataclass(frozen=True, slots=True)
class _Size:
    size_bytes: int


class _Objects:
    """A store of objects in memory, as far as snapshots need one."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        return self.data[key]

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.data[key][offset : offset + length]

    def stat(self, key: str) -> _Size | None:
        return _Size(len(self.data[key])) if key in self.data else None


class Lane:
    """One source on its way to one target."""

    def __init__(self) -> None:
        self.objects = _Objects()
        self.batches: dict[BatchId, IndexFile] = {}
        self.path: str | None = None

    def view(self) -> SnapshotView:
        manifest = None
        if self.path:
            manifest = read_snapshot_manifest(self.objects.get(self.path), where=self.path)
        return SnapshotView.open(self.objects, manifest, lambda batch, kind: self.batches[batch])

    def publish(
        self, batch: IndexFile, *, absent: bool, policy: CompactionPolicy, lose: int = 0
    ) -> NewSnapshot:
        """Apply a batch, all but the last ``lose`` changes of each stretch."""
        view, batch_id = self.view(), BatchId(f"s@{len(self.batches)}")
        self.batches[batch_id] = batch
        applied = []
        for name in sorted({*view.types(Kind.ENTITY), *batch.sections}):
            section = view.section(Kind.ENTITY, name)
            diff = diff_section(section, batch.sections.get(name), absent=absent)
            applied += [applied_rows(changes, lose) for changes in diff]
        new = advance(
            view,
            source_id=SourceId("s"),
            target_id=TargetId("t"),
            batch_id=batch_id,
            batch={Kind.ENTITY: batch},
            applied={Kind.ENTITY: applied},
            policy=policy,
        )
        for file in new.files:
            self.objects.data[file.key] = file.content()
        self.path = new.path
        return new


def applied_rows(changes: KeyChanges, lose: int = 0) -> AppliedRows:
    """Return changes as a planner hands them on, in an order that is not theirs."""
    created, before, after, deleted = (
        changes.created,
        changes.updated_before,
        changes.updated_after,
        changes.deleted,
    )
    n, gone = len(created), len(deleted)
    zeros, none = np.zeros(n, np.uint64), np.zeros(gone, np.uint64)
    pick = np.arange(len(changes))[::-1][lose:]
    columns = {
        "key_hi": np.concatenate([created.key_hi, after.key_hi, deleted.key_hi]),
        "key_lo": np.concatenate([created.key_lo, after.key_lo, deleted.key_lo]),
        "before_hi": np.concatenate([zeros, before.hash_hi, deleted.hash_hi]),
        "before_lo": np.concatenate([zeros, before.hash_lo, deleted.hash_lo]),
        "hash_hi": np.concatenate([created.hash_hi, after.hash_hi, none]),
        "hash_lo": np.concatenate([created.hash_lo, after.hash_lo, none]),
        "row": np.concatenate([created.rows, after.rows, np.full(gone, -1, np.int64)]),
    }
    return AppliedRows(type_name=changes.type_name, **{k: v[pick] for k, v in columns.items()})


def contents(view: SnapshotView) -> dict[str, dict[Key, Hash]]:
    """Return everything in a snapshot, by type, read in pieces of odd sizes."""
    found: dict[str, dict[Key, Hash]] = {}
    for name in view.types(Kind.ENTITY):
        section = view.section(Kind.ENTITY, name)
        assert section is not None
        rows: dict[Key, Hash] = {}
        for lo in range(0, section.rows, 7):
            hi = min(lo + 7, section.rows)
            columns = section.read(("key_hi", "key_lo", "hash_hi", "hash_lo"), lo, hi)
            for a, b, c, d in zip(*(x.tolist() for x in columns), strict=True):
                rows[a, b] = (c, d)
        assert list(rows) == sorted(rows)
        found[name] = rows
    return found


def check_locators(lane: Lane, view: SnapshotView, expected: dict[str, Model]) -> None:
    """Every row's locator leads to a row of a batch with its key and digest."""
    for name, model in expected.items():
        wanted = np.array([*model, (9, 2**33)], np.uint64)
        found = view.find(Kind.ENTITY, name, wanted[:, 0].copy(), wanted[:, 1].copy()).tolist()
        assert found.pop() == -1
        for key, locator in zip(model, found, strict=True):
            batch = lane.batches[view.files[locator >> 40]]
            section, row = batch.sections[name], locator & (2**40 - 1)
            at = row - section.start
            columns = section.read(("key_hi", "key_lo", "hash_hi", "hash_lo"), at, at + 1)
            assert tuple(int(c[0]) for c in columns) == (*key, *model[key])


by_type = st.dictionaries(st.sampled_from(TYPES), models, max_size=3)
deltas = st.dictionaries(st.sampled_from(TYPES), edits, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(by_type, deltas), max_size=7), st.sampled_from(POLICIES))
def test_a_snapshot_holds_what_a_dict_would(
    batches: list[dict[str, dict[Key, Hash | None]]], policy: CompactionPolicy
) -> None:
    """Full and delta batches in any order, over any layout of base, deltas and compaction."""
    lane, expected = Lane(), dict[str, Model]()
    for batch in batches:
        full = all(value for model in batch.values() for value in model.values())
        index = index_file({n: {k: v or (0, 0) for k, v in m.items()} for n, m in batch.items()})
        new = lane.publish(index, absent=full, policy=policy)
        if full:
            expected = {n: {k: v for k, v in m.items() if v} for n, m in batch.items()}
            assert len(new.files) == 1
            assert new.manifest.files == (new.manifest.batch_id,)
        else:
            for name, model in batch.items():
                known = expected.setdefault(name, {})
                known |= {k: v for k, v in model.items() if v}
                expected[name] = {k: v for k, v in known.items() if k not in model or model[k]}
        expected = {name: model for name, model in expected.items() if model}
        view = lane.view()
        assert contents(view) == expected
        check_locators(lane, view, expected)
        same = Lane()
        direct = same.publish(index_file(expected), absent=True, policy=policy)
        assert direct.manifest.digest == new.manifest.digest == view.digest


@settings(max_examples=60, deadline=None)
@given(st.lists(by_type, min_size=1, max_size=5), st.sampled_from(POLICIES), st.integers(1, 3))
def test_what_was_not_applied_is_found_again(
    batches: list[dict[str, Model]], policy: CompactionPolicy, lose: int
) -> None:
    """A snapshot that lacks some changes of a batch reaches the batch when they are applied later."""
    lane = Lane()
    for batch in batches:
        lane.publish(index_file(batch), absent=True, policy=policy, lose=lose)
    lane.publish(index_file(batches[-1]), absent=True, policy=policy)
    assert contents(lane.view()) == {name: model for name, model in batches[-1].items() if model}
