"""A lane's snapshot through its life, against a dict: batches, refusals, compaction, republishing, dead workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.batch.index import IndexFile
from penstock.batch.rows import Kind
from penstock.diff.keys import diff_section
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.snapshot.commit import AppliedRows, CompactionPolicy, NewSnapshot, advance
from tests.property.index_models import Hash, Key, Model, index_file
from tests.property.test_snapshot_advance import (
    POLICIES,
    Lane,
    applied_rows,
    by_type,
    check_locators,
    contents,
    deltas,
)

COLUMNS = ("key_hi", "key_lo", "before_hi", "before_lo", "hash_hi", "hash_lo", "row")
failing = st.sampled_from([0, 0, 0, 2, 3])
"""Every how many-th key the target refuses; 0 for none."""


@dataclass(frozen=True)
class Batch:
    """A batch that landed, and may be published any number of times."""

    batch_id: BatchId
    rows: dict[str, dict[Key, Hash | None]]
    full: bool
    index: IndexFile

    def wanted(self, name: str, key: Key, known: Hash | None) -> Hash | None:
        """What the batch says that a target should have."""
        rows = self.rows.get(name, {})
        return rows.get(key) if self.full or key in rows else known


def is_refused(key: Key, every: int) -> bool:
    return bool(every) and (key[0] + key[1]) % every == 0


class SnapshotMachine(RuleBasedStateMachine):
    """Each rule publishes something; the invariant compares the snapshot with what a dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane()
        self.batches: list[Batch] = []
        self.expected: dict[str, Model] = {}
        self.version = 0

    @rule(rows=by_type, every=failing, policy=st.sampled_from(POLICIES))
    def publish_a_full_batch(
        self, rows: dict[str, Model], every: int, policy: CompactionPolicy
    ) -> None:
        self._publish(self._land({n: dict(m) for n, m in rows.items()}, full=True), every, policy)

    @rule(rows=deltas, every=failing, policy=st.sampled_from(POLICIES))
    def publish_a_delta(
        self, rows: dict[str, dict[Key, Hash | None]], every: int, policy: CompactionPolicy
    ) -> None:
        self._publish(self._land(rows, full=False), every, policy)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), every=failing, policy=st.sampled_from(POLICIES))
    def republish(self, data: st.DataObject, every: int, policy: CompactionPolicy) -> None:
        self._publish(data.draw(st.sampled_from(self.batches)), every, policy)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), policy=st.sampled_from(POLICIES))
    def die_before_the_commit(self, data: st.DataObject, policy: CompactionPolicy) -> None:
        """The files of a snapshot that nobody committed are in the store, and change nothing."""
        new = self._advance(data.draw(st.sampled_from(self.batches)), 2, policy)
        for file in new.files:
            self.lane.objects.data[file.key] = file.content()

    def _land(self, rows: dict[str, dict[Key, Hash | None]], *, full: bool) -> Batch:
        index = index_file({n: {k: v or (0, 0) for k, v in m.items()} for n, m in rows.items()})
        batch = Batch(BatchId(f"s@{len(self.batches)}"), rows, full, index)
        self.lane.batches[batch.batch_id] = index
        self.batches.append(batch)
        return batch

    def _publish(self, batch: Batch, every: int, policy: CompactionPolicy) -> None:
        new, again = (self._advance(batch, every, policy) for _ in range(2))
        assert new.path == again.path
        assert [(f.key, f.content()) for f in new.files] == [
            (f.key, f.content()) for f in again.files
        ]
        for file in new.files:
            self.lane.objects.data[file.key] = file.content()
        self.lane.path = new.path
        self._apply(batch, every)
        self.version += 1
        assert new.manifest.version == self.version

    def _advance(self, batch: Batch, every: int, policy: CompactionPolicy) -> NewSnapshot:
        view = self.lane.view()
        applied = []
        for name in sorted({*view.types(Kind.ENTITY), *batch.index.sections}):
            section = view.section(Kind.ENTITY, name)
            diff = diff_section(section, batch.index.sections.get(name), absent=batch.full)
            applied += [_without(applied_rows(changes), every) for changes in diff]
        return advance(
            view,
            source_id=SourceId("s"),
            target_id=TargetId("t"),
            batch_id=batch.batch_id,
            batch={Kind.ENTITY: batch.index},
            applied={Kind.ENTITY: applied},
            policy=policy,
        )

    def _apply(self, batch: Batch, every: int) -> None:
        after: dict[str, Model] = {}
        for name in {*self.expected, *batch.rows}:
            known = self.expected.get(name, {})
            for key in {*known, *batch.rows.get(name, {})}:
                refused = is_refused(key, every)
                value = known.get(key) if refused else batch.wanted(name, key, known.get(key))
                if value is not None:
                    after.setdefault(name, {})[key] = value
        self.expected = after

    @invariant()
    def the_snapshot_is_what_the_dict_is(self) -> None:
        view = self.lane.view()
        assert contents(view) == self.expected
        check_locators(self.lane, view, self.expected)


def _without(applied: AppliedRows, every: int) -> AppliedRows:
    pairs = zip(applied.key_hi.tolist(), applied.key_lo.tolist(), strict=True)
    kept = np.array([not is_refused(key, every) for key in pairs], bool)
    columns = {name: getattr(applied, name)[kept] for name in COLUMNS}
    return AppliedRows(type_name=applied.type_name, **columns)


def test_a_snapshot_is_what_a_dict_would_be() -> None:
    """Some hundred lives of a lane: whatever is applied, refused, compacted or repeated, both hold the same."""
    chosen = settings(deadline=None, derandomize=True, max_examples=60, stateful_step_count=12)
    run_state_machine_as_test(SnapshotMachine, settings=chosen)
