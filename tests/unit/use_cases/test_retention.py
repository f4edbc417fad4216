"""Retention: what is old goes whole, and nothing that something live needs does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from penstock.batch.manifest import Manifest, Mode, batch_prefix, manifest_key
from penstock.errors import NotFound
from penstock.identity.ids import BatchId
from penstock.ports.target import Unavailable
from penstock.publish.retention import RetentionPolicy
from penstock.publish.retry import RetryPolicy
from penstock.publish.state import Intent, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.publish import PublishOptions, publish_next
from penstock.use_cases.retention import Retained, retain
from tests.fixtures.memory import SOURCE, TARGET, Bench, person

PENSTOCK = By(actor="penstock")
LATER = timedelta(days=200)


def retained(bench: Bench, *, dry_run: bool = False, **policy: Any) -> Retained:
    chosen = RetentionPolicy(**{"keep_batches": 1, **policy})
    platform = replace(bench.platform, retention_policy=chosen)
    return retain(platform, by=PENSTOCK, dry_run=dry_run)


def land(bench: Bench, version: int, *, keys: int = 3, **options: Any) -> Manifest:
    """Land a full batch that changes every row, with objects where a batch has them."""
    batch = bench.land([person(f"crm/{n}", v=version) for n in range(keys)], **options)
    for name in ("entities/part-00000.parquet", "_manifest.json"):
        bench.platform.objects.put(batch_prefix(batch.batch_id) + name, b"x" * 10)
    return batch


def history(bench: Bench, batches: int) -> list[BatchId]:
    """Publish some batches, and let time pass."""
    found = []
    for version in range(batches):
        found.append(land(bench, version).batch_id)
        bench.publish()
    bench.clock.moment += LATER
    return found


def keys_of(bench: Bench, batch: BatchId) -> list[str]:
    timestamp = batch.partition("@")[2]
    return [info.key for info in bench.platform.objects.list("") if f"/{timestamp}/" in info.key]


def test_what_is_old_goes_with_all_that_belongs_to_it(bench: Bench) -> None:
    """A batch's objects, its plans and everything that is recorded of it are gone; the newest stays."""
    first, second, last = history(bench, 3)
    assert keys_of(bench, first)
    done = retained(bench)
    assert done.batches == (first, second)
    assert done.objects > 4
    assert keys_of(bench, first) == keys_of(bench, second) == []
    for gone in (first, second):
        with pytest.raises(NotFound):
            bench.control.get_batch(gone)
        with pytest.raises(NotFound):
            bench.control.get_state(gone, TARGET)
        assert bench.control.list_executions(gone, TARGET) == []
    assert bench.control.get_state(last, TARGET).status is PublishStatus.COMPLETE
    assert keys_of(bench, last)
    assert done.kept == {"it is among the newest of its source": 1}
    (entry,) = bench.control.list_acts()
    assert (entry.act, entry.details["batches"]) == ("retention.retain", [first, second])


def test_publishing_goes_on_afterwards(bench: Bench) -> None:
    """The current snapshot is whole: the next batch is planned against it as if nothing had gone."""
    history(bench, 3)
    retained(bench)
    land(bench, 9)
    report = bench.publish()
    assert report.state.metrics.entities_updated == 3
    assert bench.target.entities["person", "crm/0"] == '{"v":9}'


def test_a_dry_run_deletes_nothing(bench: Bench) -> None:
    """It says exactly what a run then does."""
    history(bench, 3)
    tried = retained(bench, dry_run=True)
    assert bench.control.list_acts() == []
    done = retained(bench)
    assert done == replace(tried, dry_run=False)
    assert retained(bench).batches == ()


def test_what_is_young_or_among_the_newest_stays(bench: Bench) -> None:
    """Both have to be said no to: age, and the number of batches of the source."""
    history(bench, 3)
    assert retained(bench, keep_days=1000).kept["it is not old enough"] == 2
    assert retained(bench, keep_batches=3).batches == ()
    assert len(retained(bench, keep_batches=2).batches) == 1


def test_a_batch_whose_rows_the_snapshot_holds_stays(bench: Bench) -> None:
    """Attributes stay where they landed: a batch with rows that are still current is needed, however old."""
    first = land(bench, 1, keys=50).batch_id
    bench.publish()
    for version in (2, 3):
        bench.land([person("crm/0", v=version)], mode=Mode.DELTA, scopes=[])
        bench.publish()
    bench.clock.moment += LATER
    done = retained(bench)
    assert first not in done.batches
    assert done.kept["a current snapshot needs it"] >= 1
    bench.land([person(f"crm/{n}", v=5) for n in range(50)], mode=Mode.DELTA, scopes=[])
    report = bench.publish()
    assert report.state.metrics.entities_updated == 50


def test_a_hold_that_waits_for_somebody_stays(bench: Bench) -> None:
    """What guards hold can be approved however late, unless a newer full batch decided anew."""
    land(bench, 1, keys=60)
    bench.publish()
    held = land(bench, 1, keys=2).batch_id
    assert bench.publish().state.held
    for version in (2, 3):
        bench.land([person("crm/0", v=version)], mode=Mode.DELTA, scopes=[])
        bench.publish()
    bench.clock.moment += LATER
    assert held not in retained(bench).batches
    land(bench, 4, keys=59)
    bench.publish()
    land(bench, 5, keys=59)
    bench.publish()
    bench.clock.moment += LATER
    assert held in retained(bench).batches


def test_a_dead_letter_s_batch_stays(bench: Bench) -> None:
    """Somebody has to look at it, with the data that failed."""
    bench.target.poison = {"crm/1"}
    bad = land(bench, 1).batch_id
    bench.publish()
    bench.target.poison = set()
    for version in (2, 3):
        bench.land([person("crm/0", v=version)], mode=Mode.DELTA, scopes=[])
        bench.publish()
    bench.clock.moment += LATER
    assert bad not in retained(bench).batches


def test_what_is_on_its_way_stays(bench: Bench) -> None:
    """A batch that waits, or was put back into the queue, is not old whatever its age."""
    first, *_ = history(bench, 3)
    bench.control.requeue(first, TARGET, now=bench.clock.now(), intent=Intent.REPUBLISH)
    done = retained(bench)
    assert first not in done.batches
    assert done.kept["it is on its way to a target"] == 1


def test_what_is_half_executed_stays(bench: Bench) -> None:
    """Its plan tells what took effect of it."""
    history(bench, 1)
    failed = land(bench, 2).batch_id
    bench.target.away = [Unavailable(message="away")]
    policy = RetryPolicy(immediate_tries=0, delayed_tries=0)
    report = publish_next(bench.platform, "worker", options=PublishOptions(retry_policy=policy))
    assert report is not None
    assert report.state.status is PublishStatus.FAILED
    land(bench, 3)
    bench.clock.moment += LATER
    assert failed not in retained(bench).batches
    assert bench.control.begun_executions(SOURCE, TARGET)


def test_what_changes_meanwhile_is_left_for_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that somebody republishes while retention looks is not deleted under his hands."""
    first, *_ = history(bench, 3)
    judge = type(bench.control).batches_in_letters

    def meanwhile(control: Any) -> Any:
        found = judge(control)
        control.requeue(first, TARGET, now=bench.clock.now(), intent=Intent.REPUBLISH)
        bench.publish()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.control), "batches_in_letters", meanwhile)
        done = retained(bench)
    assert done.batches == ()
    assert done.kept["it has changed meanwhile"] == 2
    assert bench.control.get_state(first, TARGET).status is PublishStatus.COMPLETE


def test_an_error_while_deleting_objects_takes_all_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of a batch go with its objects or not at all, and the next run makes up for it."""
    first, second, _ = history(bench, 3)
    objects = type(bench.platform.objects)

    def fails(_objects: object, _keys: object) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "delete", fails)
        with pytest.raises(OSError, match="the store is away"):
            retained(bench)
    assert bench.control.get_state(first, TARGET).status is PublishStatus.COMPLETE
    assert retained(bench).batches == (first, second)


def test_the_manifest_goes_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two deletions nobody sees half a batch."""
    first, *_ = history(bench, 2)
    order: list[str] = []
    objects = type(bench.platform.objects)
    delete = objects.delete

    def noted(self: Any, keys: Any) -> None:
        keys = list(keys)
        order.extend(keys)
        delete(self, keys)

    monkeypatch.setattr(objects, "delete", noted)
    retained(bench)
    assert order[0] == manifest_key(first)


def test_old_files_of_snapshots_go_and_current_ones_stay(bench: Bench) -> None:
    """Whatever the current snapshot reads is kept; what older ones left is deleted by its age."""
    import os

    history(bench, 4)
    platform = replace(bench.platform, retention_policy=RetentionPolicy(keep_days=1))
    folder = bench.platform.objects
    head = bench.control.snapshot_head(SOURCE, TARGET)
    assert head is not None
    before = [info.key for info in folder.list("snapshots/")]
    assert len(before) > 1
    stamp = (bench.clock.now() - timedelta(days=5)).timestamp()
    for key in before:
        os.utime(folder.url(key).removeprefix("file://"), (stamp, stamp))
    retain(platform, by=PENSTOCK)
    after = [info.key for info in folder.list("snapshots/")]
    assert head.path in after
    assert len(after) < len(before)
    land(bench, 9)
    assert bench.publish().state.status is PublishStatus.COMPLETE
