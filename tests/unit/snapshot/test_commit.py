"""Advancing snapshots: what is written, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.batch.index import SectionRows
from penstock.batch.rows import Kind
from penstock.diff.keys import diff_section
from penstock.errors import IndexCorrupt, ObjectMissing
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.snapshot.commit import AppliedRows, CompactionPolicy, advance
from penstock.snapshot.manifest import read_snapshot_manifest
from penstock.snapshot.view import SnapshotView
from tests.property.test_snapshot_advance import Lane, applied_rows, contents
from tests.unit.batch.test_index import rows_of
from tests.unit.diff.test_keys import edited, opened, without

POLICY = CompactionPolicy()


def test_a_batch_that_was_applied_whole_is_referenced_and_not_rewritten() -> None:
    """The only file to put is the manifest, and no older batch is needed any more."""
    lane = Lane()
    rows = rows_of("t", 2000)
    first = lane.publish(opened(rows), absent=True, policy=POLICY)
    second = lane.publish(opened(edited(rows, [5, 9])), absent=True, policy=POLICY)
    assert [file.key for file in second.files] == [second.path]
    assert second.manifest.files == (BatchId("s@1"),)
    assert second.manifest.entities.base is not None
    assert second.manifest.entities.base.ordinal == 0
    assert first.manifest.digest != second.manifest.digest


def test_a_delta_costs_by_what_changed() -> None:
    """A snapshot that is not a batch's own index is one more delta: 56 bytes a row, and a directory."""
    lane = Lane()
    rows = rows_of("t", 20_000)
    lane.publish(opened(rows), absent=True, policy=POLICY)
    at = list(range(0, 20_000, 100))
    delta = without(edited(rows, at), [n for n in range(20_000) if n % 100])
    new = lane.publish(opened(delta), absent=False, policy=POLICY)
    put, _ = new.files
    assert len(put.content()) < 60 * 200 + 1000
    assert new.manifest.files == (BatchId("s@0"), BatchId("s@1"))
    assert lane.view().section(Kind.ENTITY, "t") is not None


def test_deltas_are_folded_when_there_are_too_many_or_they_are_too_large() -> None:
    """After ``max_deltas``, or beyond ``max_share`` of the rows, a new base takes their place."""
    lane = Lane()
    rows = rows_of("t", 1000)
    lane.publish(opened(rows), absent=True, policy=POLICY)
    deltas = []
    for n in range(10):
        rows_now = edited(rows, list(range(n + 1)))
        delta = without(rows_now, [m for m in range(1000) if m != n])
        new = lane.publish(opened(delta), absent=False, policy=POLICY)
        deltas.append(len(new.manifest.entities.deltas))
    assert deltas == [1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    large = without(edited(rows, list(range(200))), list(range(200, 1000)))
    new = lane.publish(opened(large), absent=False, policy=POLICY)
    assert new.manifest.entities.deltas == ()
    assert new.manifest.entities.base is not None
    assert new.manifest.entities.base.file is not None


def test_the_same_advance_is_the_same_files() -> None:
    """Keys and contents depend on the inputs alone, and name their content."""
    lane = Lane()
    rows = rows_of("t", 1000)
    lane.publish(opened(rows), absent=True, policy=POLICY)
    new = [
        advance(
            lane.view(),
            source_id=SourceId("s"),
            target_id=TargetId("t"),
            batch_id=BatchId("s@1"),
            batch={},
            applied={Kind.ENTITY: [changes_of(rows, [3, 4], shuffle)]},
        )
        for shuffle in (False, True)
    ]
    one, again = ([(f.key, f.content()) for f in each.files] for each in new)
    assert one == again
    other = advance(
        lane.view(),
        source_id=SourceId("s"),
        target_id=TargetId("t"),
        batch_id=BatchId("s@1"),
        batch={},
        applied={Kind.ENTITY: [changes_of(rows, [3, 5], False)]},
    )
    assert not {f.key for f in other.files} & {f.key for f in new[0].files}


def changes_of(rows: SectionRows, at: list[int], shuffle: bool) -> AppliedRows:
    """Return new digests of some rows as applied."""
    (changes,) = diff_section(rows, edited(rows, at), absent=True)
    applied = applied_rows(changes)
    order = np.arange(len(at))[::-1] if shuffle else np.arange(len(at))
    names = ("key_hi", "key_lo", "before_hi", "before_lo", "hash_hi", "hash_lo", "row")
    return AppliedRows(type_name="t", **{name: getattr(applied, name)[order] for name in names})


def test_changes_that_do_not_fit_are_refused() -> None:
    """Deleting from nothing, and one key twice, are not recorded as known."""
    rows = rows_of("t", 10)
    (changes,) = diff_section(rows, None, absent=True)
    gone, empty = applied_rows(changes), SnapshotView.open(Lane().objects, None, _no_batch)
    with pytest.raises(IndexCorrupt, match="leave -10 rows"):
        _advanced(empty, [gone])
    (created,) = diff_section(None, rows, absent=True)
    twice = applied_rows(created)
    with pytest.raises(IndexCorrupt, match="applied twice"):
        _advanced(empty, [twice, twice])


def _no_batch(batch: BatchId, kind: Kind) -> None:  # type: ignore[return]
    raise AssertionError(f"{batch} {kind} is not needed")


def _advanced(view: SnapshotView, applied: list[AppliedRows]) -> None:
    advance(
        view,
        source_id=SourceId("s"),
        target_id=TargetId("t"),
        batch_id=BatchId("s@1"),
        batch={},
        applied={Kind.ENTITY: applied},
    )


def test_a_view_of_nothing_holds_nothing() -> None:
    """Before the first publish everything is absent."""
    view = SnapshotView.open(Lane().objects, None, _no_batch)
    key = np.array([1], np.uint64)
    assert (view.version, view.types(Kind.ENTITY), view.files) == (0, (), ())
    assert view.section(Kind.ENTITY, "t") is None
    assert view.find(Kind.ENTITY, "t", key, key).tolist() == [-1]


def test_a_manifest_that_was_tampered_with_is_named() -> None:
    """Totals that do not have the digest of the snapshot raise, and so does what is no manifest."""
    lane = Lane()
    new = lane.publish(opened(rows_of("t", 10)), absent=True, policy=POLICY)
    data = lane.objects.get(new.path)
    with pytest.raises(IndexCorrupt, match="totals do not have the digest"):
        read_snapshot_manifest(data.replace(b'"rows": 10', b'"rows": 11'), where=new.path)
    with pytest.raises(IndexCorrupt, match="not a snapshot manifest"):
        read_snapshot_manifest(b"{}", where=new.path)


def test_files_that_do_not_add_up_to_the_manifest_are_named() -> None:
    """A snapshot over another batch than its own is not opened."""
    lane = Lane()
    lane.publish(opened(rows_of("t", 10)), absent=True, policy=POLICY)
    lane.batches[BatchId("s@0")] = opened(rows_of("t", 10, seed=5))
    with pytest.raises(IndexCorrupt, match="do not add up to the totals"):
        lane.view()


def test_a_compacted_base_that_is_gone_is_named() -> None:
    """The key of the missing object is in the error."""
    lane = Lane()
    rows = rows_of("t", 100)
    lane.publish(opened(rows), absent=True, policy=POLICY, lose=5)
    assert len(contents(lane.view())["t"]) == 95
    (key,) = [key for key in lane.objects.data if key.endswith(".base")]
    del lane.objects.data[key]
    with pytest.raises(ObjectMissing, match=key):
        lane.view()
