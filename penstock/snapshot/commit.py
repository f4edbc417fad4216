"""How a snapshot advances: by what was really applied, without a look at what did not change.

:func:`advance` is pure: the same view and changes give the same files under the same keys. The keys carry a digest
of the content, so that a worker that lost its lease and writes late can never overwrite what another committed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.batch.index import (
    I64,
    LOCATOR_ROW_BITS,
    IndexFile,
    KeyedRows,
    SectionRows,
    Sink,
    Totals,
    equal_neighbours,
    sort_order,
    write_index,
)
from penstock.batch.rows import Kind
from penstock.errors import IndexCorrupt
from penstock.identity.digest import U64
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.snapshot.manifest import (
    Base,
    KindState,
    SnapshotFile,
    SnapshotManifest,
    TypeTotals,
    snapshot_digest,
    snapshot_prefix,
)
from penstock.snapshot.overlay import (
    DELTA_COLUMNS,
    OverlaySection,
    added,
    change_of,
    merged_deltas,
    no_rows,
)
from penstock.snapshot.view import SnapshotView

_APPLIED_COLUMNS = ("key_hi", "key_lo", "before_hi", "before_lo", "hash_hi", "hash_lo", "row")


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedRows:
    """What was applied to one type: arrays of one length, in any order, each key once.

    One type may come in several pieces. A create has ``before`` (0, 0); a delete has ``hash`` (0, 0) and row -1.
    """

    type_name: str
    key_hi: U64
    key_lo: U64
    before_hi: U64
    before_lo: U64
    hash_hi: U64
    hash_lo: U64
    row: I64
    """Position in the batch, counted over all rows of the kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactionPolicy:
    """When deltas are folded into a new base."""

    max_deltas: int = 8
    max_share: float = 0.1
    """Rows in deltas, as a share of the rows of the snapshot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileToPut:
    """One object to put before the head of the snapshot moves; ``write`` streams it."""

    key: str
    write: Callable[[Sink], object]

    def content(self) -> bytes:
        """Return the whole object. For small ones and for tests."""
        sink = io.BytesIO()
        self.write(sink)
        return sink.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class NewSnapshot:
    """The next version of a snapshot: put ``files`` in order, then move the head to ``path``."""

    manifest: SnapshotManifest
    path: str
    """Object key of the manifest, the last of ``files``."""
    files: tuple[FileToPut, ...]


def advance(
    view: SnapshotView,
    *,
    source_id: SourceId,
    target_id: TargetId,
    batch_id: BatchId,
    batch: Mapping[Kind, IndexFile],
    applied: Mapping[Kind, Sequence[AppliedRows]],
    policy: CompactionPolicy | None = None,
) -> NewSnapshot:
    """Return the snapshot that holds what ``view`` does, changed by what was ``applied`` of a batch.

    Where a kind then holds exactly what the batch's index says, it references that index and writes nothing; otherwise
    the changes become one more delta, or, by the policy, all of it a new base. Raises :class:`IndexCorrupt` if the
    changes do not fit the view.
    """
    work = _Advance(view, source_id, target_id, batch_id, policy or CompactionPolicy())
    states = {k: work.state(k, batch.get(k), applied.get(k, ())) for k in Kind}
    return work.finish(states)


class _Advance:
    """One advance under way: what all kinds share, and the files gathered so far."""

    def __init__(
        self,
        view: SnapshotView,
        source_id: SourceId,
        target_id: TargetId,
        batch_id: BatchId,
        policy: CompactionPolicy,
    ) -> None:
        self.view, self.policy = view, policy
        self.source_id, self.target_id, self.batch_id = source_id, target_id, batch_id
        self.version = view.version + 1
        known = view.files
        self.batches = known if batch_id in known else (*known, batch_id)
        self.ordinal = self.batches.index(batch_id)
        self.files: list[FileToPut] = []
        self.totals: dict[Kind, dict[str, Totals]] = {}

    def state(
        self, kind: Kind, batch: IndexFile | None, applied: Sequence[AppliedRows]
    ) -> KindState:
        changes = {rows.type_name: self._changes(rows) for rows in _by_type(applied)}
        totals = _moved_totals(self.view.totals(kind), changes)
        self.totals[kind] = totals
        written = {name: TypeTotals.of(value) for name, value in sorted(totals.items())}
        if not totals:
            return KindState()
        if totals == _totals_of(batch):
            return KindState(base=Base(ordinal=self.ordinal), totals=written)
        before = self.view.manifest.state(kind) if self.view.manifest else KindState()
        base, deltas = before.base, before.deltas
        if changes and self._worth_a_delta(before, totals, changes):
            deltas = (*deltas, self._delta(kind, changes))
        elif changes:
            base, deltas = Base(file=self._compacted(kind, changes)), ()
        return KindState(base=base, deltas=deltas, totals=written)

    def _changes(self, applied: AppliedRows) -> SectionRows:
        order = sort_order(applied.key_hi, applied.key_lo)
        key_hi, key_lo = applied.key_hi[order], applied.key_lo[order]
        if len(twice := equal_neighbours(key_hi, key_lo)):
            raise IndexCorrupt(
                f"key ({key_hi[twice[0]]:#018x}, {key_lo[twice[0]]:#018x}) of type "
                f"{applied.type_name!r} was applied twice in one batch"
            )
        row = np.maximum(applied.row[order], 0).astype(np.uint64)
        return SectionRows(
            type_name=applied.type_name,
            key_hi=key_hi,
            key_lo=key_lo,
            hash_hi=applied.hash_hi[order],
            hash_lo=applied.hash_lo[order],
            locator=row | np.uint64(self.ordinal << LOCATOR_ROW_BITS),
            before_hi=applied.before_hi[order],
            before_lo=applied.before_lo[order],
        )

    def _worth_a_delta(
        self, before: KindState, totals: Mapping[str, Totals], changes: Mapping[str, SectionRows]
    ) -> bool:
        if before.base is None or len(before.deltas) >= self.policy.max_deltas:
            return False
        over = sum(delta.rows for delta in before.deltas) + sum(c.rows for c in changes.values())
        return over <= self.policy.max_share * sum(value.rows for value in totals.values())

    def _delta(self, kind: Kind, changes: Mapping[str, SectionRows]) -> SnapshotFile:
        sink = io.BytesIO()
        write_index(sink, [changes[name] for name in sorted(changes)], extra=DELTA_COLUMNS[4:])
        data = sink.getvalue()
        key = self._key(f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.delta")
        self.files.append(FileToPut(key=key, write=lambda out: out.write(data)))
        return SnapshotFile(key=key, rows=sum(c.rows for c in changes.values()))

    def _compacted(self, kind: Kind, changes: Mapping[str, SectionRows]) -> SnapshotFile:
        sections = [
            overlaid(name, self.view.section(kind, name), changes.get(name))
            for name in sorted({*self.view.types(kind), *changes})
        ]
        sections = [section for section in sections if section.rows]
        digest = hashlib.sha256()
        for section in sections:
            name, value = section.type_name, section.totals
            digest.update(f"{name} {value.rows} {value.sum_hi} {value.sum_lo} ".encode())
        digest.update(f"{self.view.path_digest} {self.batch_id}".encode())
        key = self._key(f"{kind}-{digest.hexdigest()[:16]}.base")

        def write(out: Sink) -> None:
            write_index(out, sections, extra=("locator",))

        self.files.append(FileToPut(key=key, write=write))
        return SnapshotFile(key=key, rows=sum(section.rows for section in sections))

    def _key(self, name: str) -> str:
        return f"{snapshot_prefix(self.source_id, self.target_id)}{self.version:010d}-{name}"

    def finish(self, states: Mapping[Kind, KindState]) -> NewSnapshot:
        states, batches = self._without_old_batches(states)
        manifest = SnapshotManifest(
            source_id=self.source_id,
            target_id=self.target_id,
            version=self.version,
            batch_id=self.batch_id,
            digest=snapshot_digest(self.totals),
            files=batches,
            entities=states[Kind.ENTITY],
            relationships=states[Kind.RELATIONSHIP],
        )
        data = manifest.to_json()
        path = self._key(f"{hashlib.sha256(data).hexdigest()[:16]}.json")
        self.files.append(FileToPut(key=path, write=lambda out: out.write(data)))
        return NewSnapshot(manifest=manifest, path=path, files=tuple(self.files))

    def _without_old_batches(
        self, states: Mapping[Kind, KindState]
    ) -> tuple[Mapping[Kind, KindState], tuple[BatchId, ...]]:
        """Where all that is left are indexes of this batch, no older batch is needed any more."""
        bases = [state.base for state in states.values() if state.base]
        if any(base.ordinal != self.ordinal for base in bases):
            return states, self.batches
        if any(state.deltas for state in states.values()):
            return states, self.batches
        first = {
            kind: state.model_copy(update={"base": Base(ordinal=0)}) if state.base else state
            for kind, state in states.items()
        }
        return first, (self.batch_id,)


def _by_type(applied: Sequence[AppliedRows]) -> Iterator[AppliedRows]:
    """Join what was applied in several pieces, so that each type comes once; nothing is left out."""
    pieces: dict[str, list[AppliedRows]] = {}
    for rows in applied:
        if len(rows.key_hi):
            pieces.setdefault(rows.type_name, []).append(rows)
    for name, parts in pieces.items():
        columns = {
            column: np.concatenate([getattr(part, column) for part in parts])
            for column in _APPLIED_COLUMNS
        }
        yield parts[0] if len(parts) == 1 else AppliedRows(type_name=name, **columns)


def overlaid(type_name: str, section: KeyedRows | None, changes: SectionRows | None) -> KeyedRows:
    """Return a section with more changes over it."""
    if changes is None:
        return section or no_rows(type_name)
    if isinstance(section, OverlaySection):
        return OverlaySection(section.base, merged_deltas(type_name, [section.changes, changes]))
    return OverlaySection(section or no_rows(type_name), changes)


def _moved_totals(
    before: Mapping[str, Totals], changes: Mapping[str, SectionRows]
) -> dict[str, Totals]:
    totals = {n: added(before.get(n), change_of(rows)) for n, rows in changes.items()}
    totals = {**before, **totals}
    for name, value in totals.items():
        if value.rows < 0 or (not value.rows and (value.sum_hi or value.sum_lo)):
            raise IndexCorrupt(
                f"changes of type {name!r} do not fit the snapshot: they leave {value.rows} rows; "
                "plan the batch again against the current snapshot"
            )
    return {name: value for name, value in totals.items() if value.rows}


def _totals_of(batch: IndexFile | None) -> dict[str, Totals]:
    sections = batch.sections.values() if batch else ()
    return {section.type_name: section.totals for section in sections if section.rows}
