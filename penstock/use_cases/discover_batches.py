"""Discover batches: what landed since the last look, admitted or dead-lettered; nothing stops the looking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.batch.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Manifest,
    batch_of_manifest_key,
    batch_prefix,
    read_manifest,
)
from penstock.batch.source import SourceSpec
from penstock.errors import (
    BadManifest,
    InvalidIdentifier,
    ObjectMissing,
    PenstockError,
    UndeclaredSource,
)
from penstock.identity import ids
from penstock.identity.ids import BatchId, TargetId
from penstock.ports.control import BatchRecord, DeadLetter
from penstock.publish.state import PublishState
from penstock.use_cases.platform import Platform
from penstock.use_cases.reports import Discovery

ROOT = "batches/"
LOOKS_PER_RELIST = 120
"""Every so many looks all folders are listed, which finds what landed late under an old timestamp."""
MAX_PENDING = 20
"""Folders of one source, without a manifest yet, that a cursor remembers; more wait for the next relist."""
_ASK_AT_ONCE = 1_000


class SourceCursor(BaseModel):
    """How far one folder below ``batches/`` has been looked through."""

    model_config = ConfigDict(frozen=True)
    seen: str = ""
    """The last timestamp folder that was looked at; the next look lists what comes after."""
    pending: tuple[str, ...] = ()
    """Timestamp folders before that without a manifest yet: being written, or abandoned."""


class Cursor(BaseModel):
    """Where the next look begins. Losing it costs one full listing, and no batch."""

    model_config = ConfigDict(frozen=True)
    looks: int = Field(default=0, ge=0)
    sources: dict[str, SourceCursor] = Field(default_factory=dict)


def read_cursor(text: str) -> Cursor:
    """Return what a cursor's text says; a text that is none is the beginning, as batches are never admitted twice."""
    try:
        return Cursor.model_validate_json(text)
    except ValidationError:
        return Cursor()


def discover_batches(platform: Platform, cursor: str, *, limit: int = 100) -> Discovery:
    """Look for new manifests and record each: PENDING for every target of its source, or as a dead letter.

    Costs one listing for each folder below ``batches/`` and one request for each folder that is new or pending. At
    most ``limit`` batches are recorded; the returned cursor goes on where that stopped. What is known already is
    passed over.
    """
    look = _Look(platform, read_cursor(cursor), limit)
    after = look.run()
    return Discovery(
        admitted=tuple(look.admitted),
        dead_letters=tuple(look.dead_letters),
        cursor=after.model_dump_json(),
    )


@dataclass
class _Look:
    platform: Platform
    before: Cursor
    limit: int
    admitted: list[BatchId] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    @property
    def room(self) -> int:
        return self.limit - len(self.admitted) - len(self.dead_letters)

    def run(self) -> Cursor:
        specs: dict[str, SourceSpec] = {
            spec.source_id: spec for spec in self.platform.control.list_sources()
        }
        relist = self.before.looks % LOOKS_PER_RELIST == 0
        sources: dict[str, SourceCursor] = {}
        for folder in self.platform.objects.list_folders(ROOT):
            name = folder[len(ROOT) : -1]
            cursor = self.before.sources.get(name, SourceCursor())
            begin = SourceCursor() if relist else cursor
            if self.room <= 0:
                sources[name] = cursor
                continue
            try:
                sources[name] = self._source(name, specs.get(name), begin)
            except InvalidIdentifier as error:  # a folder whose name no key of ours can have
                self._dead_letter(folder, name, None, error)
        # A relist that ran out of room is taken up again by the next look.
        done = not relist or self.room > 0
        return Cursor(looks=self.before.looks + done, sources=sources)

    def _source(self, name: str, spec: SourceSpec | None, cursor: SourceCursor) -> SourceCursor:
        """Look at the folders of one source that are new or were without a manifest."""
        pending: list[str] = []
        seen = cursor.seen
        folders = [*cursor.pending, *self._new_folders(name, cursor.seen)]
        unknown = self._unknown(name, folders, spec)
        for at, folder in enumerate(folders):
            if self.room <= 0:
                pending += [later for later in folders[at:] if later <= cursor.seen]
                break
            if folder in unknown and not self._record(name, folder, spec):
                pending.append(folder)
            seen = max(seen, folder)
        return SourceCursor(seen=seen, pending=tuple(pending[-MAX_PENDING:]))

    def _new_folders(self, name: str, seen: str) -> Iterator[str]:
        prefix = f"{ROOT}{name}/"
        after = f"{prefix}{seen}/" if seen else ""
        for folder in self.platform.objects.list_folders(prefix, start_after=after):
            yield folder[len(prefix) : -1]

    def _unknown(self, name: str, folders: list[str], spec: SourceSpec | None) -> set[str]:
        """Return the folders that nothing has been recorded of: neither a batch nor a dead letter."""
        unknown: set[str] = set()
        for start in range(0, len(folders), _ASK_AT_ONCE):
            some = {
                folder: _subject(_manifest_key(name, folder), spec)
                for folder in folders[start : start + _ASK_AT_ONCE]
            }
            known = self.platform.control.known_batches([BatchId(s) for s in some.values()])
            unknown |= {folder for folder, subject in some.items() if subject not in known}
        return unknown

    def _record(self, name: str, folder: str, spec: SourceSpec | None) -> bool:
        """Admit or dead-letter what is in a folder; False if it has no manifest yet."""
        key = _manifest_key(name, folder)
        try:
            stat = self.platform.objects.stat(key)
            if stat is None:
                return False
            if spec is None:
                raise UndeclaredSource(
                    f"{self.platform.objects.url(key)} is a batch of source {name!r}, which is not declared: add it "
                    "to platform_assets/sources.py, or delete the folder"
                )
            manifest = self._manifest(key, stat.size_bytes)
            _check_tenant(manifest, spec, key)
        except ObjectMissing:  # taken away between two requests
            return False
        except PenstockError as error:
            self._dead_letter(key, name, spec, error)
        else:
            self._admit(manifest, spec)
        return True

    def _manifest(self, key: str, size_bytes: int) -> Manifest:
        where = self.platform.objects.url(key)
        if size_bytes > MAX_MANIFEST_BYTES:
            raise BadManifest(
                f"{where} has {size_bytes:,} bytes, over the limit of {MAX_MANIFEST_BYTES:,}: write larger parts, "
                "so that there are fewer to name"
            )
        batch = batch_of_manifest_key(key)
        manifest = read_manifest(self.platform.objects.get(key), where=where)
        if manifest.batch_id != batch:
            raise BadManifest(
                f"{where} says that it is batch {manifest.batch_id!r} and lies in the folder of {batch!r}: correct "
                "source_id or source_timestamp, or move the folder"
            )
        return manifest

    def _admit(self, manifest: Manifest, spec: SourceSpec) -> None:
        now = self.platform.clock.now()
        path = self.platform.objects.url(batch_prefix(manifest.batch_id))
        states = [
            PublishState(
                batch_id=manifest.batch_id,
                source_id=manifest.source_id,
                target_id=target,
                tenant_id=spec.tenant_id,
                s3_path=path,
                source_timestamp=manifest.source_timestamp,
                processing_timestamp=manifest.processing_timestamp,
                enqueued_at=now,
                trace_parent=manifest.trace_parent,
            )
            for target in targets_of(manifest, spec)
        ]
        record = BatchRecord(manifest=manifest, s3_path=path, admitted_at=now)
        if self.platform.control.admit(record, states):
            self.admitted.append(manifest.batch_id)

    def _dead_letter(
        self, key: str, name: str, spec: SourceSpec | None, error: PenstockError
    ) -> None:
        self.dead_letters.append(
            self.platform.control.record_dead_letter(
                subject=_subject(key, spec),
                where=key,
                source_id=name if ids.SLUG.fullmatch(name) else None,
                code=error.code,
                message=str(error),
                now=self.platform.clock.now(),
            )
        )


def targets_of(manifest: Manifest, spec: SourceSpec) -> tuple[TargetId, ...]:
    """Return where a batch goes: to the source's targets, or, of a correction, to the one that it corrects."""
    return spec.targets if manifest.corrects is None else (manifest.corrects.target_id,)


def _check_tenant(manifest: Manifest, spec: SourceSpec, key: str) -> None:
    if manifest.tenant_id != spec.tenant_id:
        raise BadManifest(
            f"{key}: tenant_id is {manifest.tenant_id!r}, and source {spec.source_id!r} is declared for tenant "
            f"{spec.tenant_id!r}: correct the manifest or the declaration"
        )


def _manifest_key(name: str, folder: str) -> str:
    return f"{ROOT}{name}/{folder}/{MANIFEST_NAME}"


def _subject(key: str, spec: SourceSpec | None) -> str:
    """What is recorded of a manifest is known by its batch, or by its key where no batch can be named.

    A batch of an undeclared source is known by its key too, so that it is new once its source is declared.
    """
    if spec is None:
        return key
    try:
        return batch_of_manifest_key(key)
    except BadManifest:
        return key
