"""What one look at the object store finds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.batch.manifest import Manifest, Mode, manifest_key
from penstock.batch.source import SourceSpec
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId, batch_id
from penstock.ports.object_store import ObjectInfo
from penstock.publish.state import PublishStatus
from penstock.use_cases import discover_batches as module
from penstock.use_cases.discover_batches import discover_batches, read_cursor
from penstock.use_cases.platform import Platform
from resources.object_store.local import LocalObjectStore
from tests.fixtures.control_fake import RecordedBatches
from tests.fixtures.landing import landing_platform

START = datetime(2026, 1, 1, tzinfo=UTC)
CRM = SourceSpec(source_id=SourceId("crm"), targets=(TargetId("registry"), TargetId("mart")))


@pytest.fixture
def control() -> RecordedBatches:
    return RecordedBatches(specs=[CRM])


@pytest.fixture
def platform(local_store: LocalObjectStore, tmp_path: Path, control: RecordedBatches) -> Platform:
    return landing_platform(local_store, tmp_path, control)


def manifest(n: int, source: str = "crm") -> Manifest:
    at = START + timedelta(minutes=n)
    return Manifest(
        source_id=SourceId(source), source_timestamp=at, processing_timestamp=at, mode=Mode.FULL
    )


def land(platform: Platform, n: int, source: str = "crm", data: bytes | None = None) -> BatchId:
    made = manifest(n, source)
    platform.objects.put(manifest_key(made.batch_id), made.to_json() if data is None else data)
    return made.batch_id


def named(n: int, source: str = "crm") -> BatchId:
    return batch_id(SourceId(source), START + timedelta(minutes=n))


def test_a_new_batch_is_pending_for_every_target(
    platform: Platform, control: RecordedBatches
) -> None:
    """A batch is admitted once, with a publish state for each target that its source names."""
    batch = land(platform, 1)
    found = discover_batches(platform, "")
    assert found.admitted == (batch,)
    assert [(s.target_id, s.status) for s in control.states] == [
        ("registry", PublishStatus.PENDING),
        ("mart", PublishStatus.PENDING),
    ]
    assert control.states[0].s3_path.endswith("batches/crm/2026-01-01T00-01-00.000000Z/")
    again = discover_batches(platform, found.cursor)
    assert (again.admitted, again.dead_letters) == ((), ())


def test_only_what_is_new_is_listed(
    platform: Platform, control: RecordedBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first look, folders that were seen are neither listed nor asked for."""
    for n in range(10):
        land(platform, n)
    found = discover_batches(platform, "")
    asked: list[str] = []
    listed: list[str] = []
    stat, folders = platform.objects.stat, platform.objects.list_folders

    def watched_stat(key: str) -> ObjectInfo | None:
        asked.append(key)
        return stat(key)

    def watched_folders(prefix: str, *, start_after: str = "") -> Iterator[str]:
        for folder in folders(prefix, start_after=start_after):
            listed.append(folder)
            yield folder

    monkeypatch.setattr(platform.objects, "stat", watched_stat)
    monkeypatch.setattr(platform.objects, "list_folders", watched_folders)
    batch = land(platform, 10)
    assert discover_batches(platform, found.cursor).admitted == (batch,)
    assert asked == [manifest_key(batch)]
    assert len(listed) == 2  # batches/crm/ and the one that is new


def test_a_batch_that_is_still_written_is_looked_at_again(platform: Platform) -> None:
    """A folder without a manifest is remembered while newer ones are admitted."""
    platform.objects.put(
        manifest_key(named(1)).replace("_manifest.json", "entities/p.parquet"), b""
    )
    newer = land(platform, 2)
    found = discover_batches(platform, "")
    assert found.admitted == (newer,)
    assert read_cursor(found.cursor).sources["crm"].pending == ("2026-01-01T00-01-00.000000Z",)
    older = land(platform, 1)
    found = discover_batches(platform, found.cursor)
    assert found.admitted == (older,)
    assert read_cursor(found.cursor).sources["crm"].pending == ()


def test_pending_folders_are_bounded(platform: Platform) -> None:
    """Folders that never get a manifest do not grow the cursor without end."""
    for n in range(module.MAX_PENDING + 5):
        platform.objects.put(f"batches/crm/2026-01-01T00-00-{n:02}.000000Z/x", b"")
    found = discover_batches(platform, "")
    pending = read_cursor(found.cursor).sources["crm"].pending
    assert len(pending) == module.MAX_PENDING
    assert pending[-1] == "2026-01-01T00-00-24.000000Z"


def test_an_old_timestamp_that_lands_late_is_found(platform: Platform) -> None:
    """The regular listing of everything finds what came after newer batches had been seen."""
    land(platform, 5)
    cursor = discover_batches(platform, "").cursor
    late = land(platform, 1)
    admitted: list[BatchId] = []
    for _ in range(module.LOOKS_PER_RELIST):
        found = discover_batches(platform, cursor)
        admitted += found.admitted
        cursor = found.cursor
    assert admitted == [late]


def test_a_look_records_no_more_than_its_limit(platform: Platform) -> None:
    """What is over the limit is found by the next look, in order."""
    batches = [land(platform, n) for n in range(7)]
    cursor = ""
    admitted: list[BatchId] = []
    for expected in (3, 3, 1, 0):
        found = discover_batches(platform, cursor, limit=3)
        assert len(found.admitted) == expected
        admitted += found.admitted
        cursor = found.cursor
    assert admitted == batches


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_source_is_starved_by_another(platform: Platform, limit: int) -> None:
    """With more than a limit's worth in every source, all of it is admitted in the end."""
    platform.control.list_sources().append(SourceSpec(source_id=SourceId("erp")))
    batches = {land(platform, n, source) for n in range(4) for source in ("crm", "erp")}
    cursor = ""
    admitted: set[BatchId] = set()
    for _ in range(12):
        found = discover_batches(platform, cursor, limit=limit)
        admitted |= set(found.admitted)
        cursor = found.cursor
    assert admitted == batches


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"not json", "not a valid manifest"),
        (b"{}", "source_id: Field required"),
        (
            manifest(1).to_json().replace(b'"schema_version": 1', b'"schema_version": 9'),
            "schema_version",
        ),
        (manifest(2).to_json(), "says that it is batch 'crm@2026-01-01T00-02"),
        (manifest(1, "erp").to_json(), "says that it is batch 'erp@"),
        (manifest(1).to_json().replace(b'"crm"', b'"../crm"'), "source_id"),
        (manifest(1).to_json().replace(b'"default"', b'"acme"'), "tenant_id is 'acme'"),
        (b"[" * 100_000, "not a valid manifest"),
        (b" " * (16 * 1024 * 1024 + 1), "over the limit"),
    ],
)
def test_a_malformed_manifest_is_a_dead_letter_and_stops_nothing(
    platform: Platform, control: RecordedBatches, data: bytes, problem: str
) -> None:
    """The dead letter says what is wrong; the batches before and after are admitted; it is said once."""
    good = [land(platform, 0), land(platform, 3)]
    bad = land(platform, 1, data=data)
    found = discover_batches(platform, "")
    assert list(found.admitted) == good
    (letter,) = found.dead_letters
    assert (letter.subject, letter.source_id, letter.code) == (bad, "crm", "bad_manifest")
    assert letter.where == manifest_key(bad)
    assert problem in letter.message
    assert discover_batches(platform, "").dead_letters == ()


def test_a_batch_of_an_undeclared_source_waits_for_its_declaration(
    platform: Platform, control: RecordedBatches
) -> None:
    """It is a dead letter once, and admitted when somebody declares the source."""
    batch = land(platform, 1, "stranger")
    found = discover_batches(platform, "")
    assert [letter.code for letter in found.dead_letters] == ["undeclared_source"]
    assert "platform_assets/sources.py" in found.dead_letters[0].message
    assert discover_batches(platform, "").dead_letters == ()
    control.specs.append(SourceSpec(source_id=SourceId("stranger"), tenant_id=TenantId("default")))
    assert discover_batches(platform, "").admitted == (batch,)


@pytest.mark.parametrize(
    "folder", ["crm/yesterday", "crm/2026-13-01T00-00-00.000000Z", "Bad Name/x"]
)
def test_a_folder_that_names_no_batch_is_a_dead_letter(platform: Platform, folder: str) -> None:
    """A manifest where none can lie is reported once, by its key."""
    key = f"batches/{folder}/_manifest.json"
    platform.objects.put(key, b"{}")
    good = land(platform, 3)
    found = discover_batches(platform, "")
    assert found.admitted == (good,)
    assert [letter.where for letter in found.dead_letters] == [key]
    assert discover_batches(platform, "").dead_letters == ()


def test_a_cursor_of_nonsense_is_the_beginning(platform: Platform) -> None:
    """A cursor that was lost or damaged costs a listing and no batch."""
    batch = land(platform, 1)
    assert discover_batches(platform, "{nonsense").admitted == (batch,)
    assert discover_batches(platform, "[]").admitted == ()
