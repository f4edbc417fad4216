"""The drift audit: targets are read back in rotation and held against what was published to them.

What they hold is listed in rotation too, where they can, for what nobody published.

Each look takes the next rows of each type in the order of their index, as many as it takes for every row to be looked
at within the period. What people or others own may differ; what the source owns may not, and is put right by a repair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.index import KeyedRows
from penstock.batch.ownership import Owner, Ownership
from penstock.batch.rows import Kind
from penstock.errors import IllegalMove, LaneBusy, PenstockError, TargetUnreachable
from penstock.identity.canonical import value_of
from penstock.identity.digest import joined
from penstock.identity.ids import SourceId, TargetId
from penstock.plan.merge import fields_of, mend, merge_three
from penstock.ports.drift import (
    DIFFERS,
    EXTRA,
    MISSING,
    WAITING,
    Drift,
    DriftCursor,
    DriftStatus,
    ListingCursor,
)
from penstock.ports.target import PUBLISHED, ListingTarget, TargetDown
from penstock.publish.state import Intent, PublishState
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.acts import By
from penstock.use_cases.corrections import check_free
from penstock.use_cases.drift_extras import ListingWork
from penstock.use_cases.drift_findings import MOST_ROWS, drift_id_of, due_rows
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.plan_batch import ownership_of
from penstock.use_cases.platform import Platform

_BEGIN = "0" * 32


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What one look at one lane came to."""

    source_id: SourceId
    target_id: TargetId
    checked: int
    missing: int
    differing: int
    left: int
    """Rows in which only what people or others own differs."""
    listed: int | None = 0
    """Rows that the target was seen to hold, whoever wrote them; None where it cannot list what it holds."""
    extra: int = 0
    """Of these, rows that nobody published."""
    trouble: str | None = None
    """Why the look came to nothing, if it did: the next one begins where this one did."""


@dataclass(frozen=True, kw_only=True)
class DriftCoverage:
    """How far the audit of one lane has come."""

    source_id: SourceId
    target_id: TargetId
    rows: int
    """Known in the snapshot."""
    oldest_turn_finished_at: datetime | None
    """Every row was looked at since then, at the least; None if some never was."""
    open: int
    """Findings that wait for a repair."""
    left: int
    """Findings that stay: what people own, and what nobody published where no policy takes it away."""
    extra: int
    """Rows that nobody published, of both."""
    oldest_listing_finished_at: datetime | None
    """All that the target holds was listed since then; None if it never was."""
    lists: bool
    """Whether the target can list what it holds: if not, nobody knows of extra rows."""


@dataclass
class _Look:
    checked: int = 0
    listed: int = 0
    waits: bool = False
    """Whether there are findings that a row which is fine may settle."""
    counts: Counter[tuple[DriftStatus, str]] = field(default_factory=Counter)

    def add(self, found: Sequence[Drift]) -> None:
        self.counts.update((each.status, each.finding) for each in found)

    def of(self, status: DriftStatus, *findings: str) -> int:
        return sum(self.counts[status, finding] for finding in findings)


def audit_all(platform: Platform, *, period_s: float, repair: bool) -> list[DriftReport]:
    """Look at every lane that has a snapshot and is not busy; with ``repair``, ask for what is found to be repaired."""
    reports = []
    for spec in platform.control.list_sources():
        for target in spec.targets:
            if platform.control.snapshot_head(spec.source_id, target) is None:
                continue
            if target not in platform.targets:
                continue
            try:
                reports.append(audit_lane(platform, spec.source_id, target, period_s=period_s))
                if repair and platform.control.list_drift(
                    source=spec.source_id, target=target, status=DriftStatus.OPEN, limit=1
                ):
                    by = By(actor="penstock", reason="the drift audit found differences")
                    repair_lane(platform, spec.source_id, target, by=by)
            except (LaneBusy, IllegalMove):
                continue  # the next look comes soon
            except PenstockError as error:
                reports.append(_came_to_nothing(spec.source_id, target, error))
    return reports


def _came_to_nothing(source: SourceId, target: TargetId, error: PenstockError) -> DriftReport:
    """Report a lane that could not be looked at: the others are looked at all the same."""
    return DriftReport(
        source_id=source,
        target_id=target,
        checked=0,
        missing=0,
        differing=0,
        left=0,
        trouble=str(error),
    )


def audit_lane(
    platform: Platform,
    source: SourceId,
    target: TargetId,
    *,
    period_s: float,
    everything: bool = False,
) -> DriftReport:
    """Look at the next rows of one lane, or at all of them.

    Raises ``LaneBusy`` while a batch of the lane is in hand: what it writes would look like drift; and
    ``TargetUnreachable``.
    """
    if target not in platform.targets:
        raise PenstockError(f"target {target!r} of source {source!r} is not configured here")
    claims = platform.control.lane_claims(source, target)
    check_free(platform, source, target)
    lane = _Lane(platform, KnownRows.open(platform, source, target), source, target, claims)
    lane.read_back(period_s, everything=everything)
    lists = lane.list_extras(period_s, everything=everything)
    look = lane.look
    return DriftReport(
        source_id=source,
        target_id=target,
        checked=look.checked,
        missing=look.of(DriftStatus.OPEN, MISSING),
        differing=look.of(DriftStatus.OPEN, DIFFERS),
        left=look.of(DriftStatus.LEFT, MISSING, DIFFERS),
        listed=look.listed if lists else None,
        extra=look.of(DriftStatus.OPEN, EXTRA) + look.of(DriftStatus.LEFT, EXTRA),
    )


@dataclass
class _Lane:
    platform: Platform
    known: KnownRows
    source: SourceId
    target: TargetId
    claims: int
    """How often the lane was claimed before the look."""
    look: _Look = field(default_factory=_Look)

    def read_back(self, period_s: float, *, everything: bool) -> None:
        """Look at what was published, type by type."""
        control = self.platform.control
        counts = control.count_drift(self.source, self.target)
        self.look.waits = any(status in WAITING and n for (status, _), n in counts.items())
        cursors = {
            (c.kind, c.type_name): c for c in control.drift_cursors(self.source, self.target)
        }
        ownership = ownership_of(self.platform, self.source)
        for kind in Kind:
            for type_name in self.known.view.types(kind):
                cursor = cursors.pop((str(kind), type_name), None)
                work = _Type(self, kind, type_name, ownership)
                work.look(cursor, period_s, everything=everything)
        for cursor in cursors.values():
            control.forget_type(cursor, now=self.platform.clock.now())

    def list_extras(self, period_s: float, *, everything: bool) -> bool:
        """Look for what nobody published; say whether the target can tell."""
        target = self.platform.targets[self.target]
        if not isinstance(target, ListingTarget):
            return False
        listed = self.platform.control.listing_cursors(self.source, self.target)
        cursors = {cursor.kind: cursor for cursor in listed}
        for kind in Kind:
            work = ListingWork(
                platform=self.platform,
                known=self.known,
                target=target,
                source_id=self.source,
                target_id=self.target,
                kind=kind,
            )
            with self.reachable():
                for look in work.looks(cursors.get(str(kind)), period_s, everything=everything):
                    self.record(look.cursor, look.found, [])
                    self.look.listed += look.listed
        return True

    def record(
        self, cursor: DriftCursor | ListingCursor, found: Sequence[Drift], fine: Sequence[str]
    ) -> None:
        """Record a look, unless somebody has been at work meanwhile: what they write is no drift."""
        self.platform.control.record_look(cursor, found, fine, claims=self.claims)
        self.look.add(found)

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """Say in words that the target could not be asked."""
        try:
            yield
        except TargetDown as down:
            raise TargetUnreachable(
                f"target {self.target!r} cannot be read back: {down}. The next look begins where this one did"
            ) from down


@dataclass
class _Type:
    lane: _Lane
    kind: Kind
    type_name: str
    ownership: Ownership

    def look(self, cursor: DriftCursor | None, period_s: float, *, everything: bool) -> None:
        now = self.lane.platform.clock.now()
        section = self.lane.known.view.section(self.kind, self.type_name)
        assert section is not None
        at = 0 if everything else _place(section, cursor.position if cursor else _BEGIN)
        looked_at = cursor.updated_at if cursor else None
        due = section.rows if everything else due_rows(section.rows, looked_at, period_s, now)
        if cursor is not None and everything:
            cursor = replace(cursor, turn_started_at=now)
        while due > 0:
            stop = min(section.rows, at + due, at + MOST_ROWS)
            found, fine, last = self._slice(at, stop)
            cursor = self._moved(cursor, stop, section.rows, last, now)
            self.lane.record(cursor, found, fine)
            self.lane.look.checked += stop - at
            due -= stop - at
            at = stop if stop < section.rows else 0  # what is due goes on at the beginning

    def _moved(
        self, cursor: DriftCursor | None, stop: int, rows: int, last: str, now: datetime
    ) -> DriftCursor:
        whole = stop >= rows
        begun = cursor.turn_started_at if cursor else now
        return DriftCursor(
            source_id=self.lane.source,
            target_id=self.lane.target,
            kind=str(self.kind),
            type_name=self.type_name,
            position=_BEGIN if whole else last,
            checked=0 if whole else stop,
            turn_started_at=now if whole else begun,
            turn_finished_at=begun if whole else (cursor.turn_finished_at if cursor else None),
            updated_at=now,
        )

    def _slice(self, start: int, stop: int) -> tuple[list[Drift], list[str], str]:
        key_hi, key_lo, hash_hi, hash_lo, rows = self.lane.known.slice(
            self.kind, self.type_name, start, stop
        )
        names, expected = _names(self.kind, rows), joined(hash_hi, hash_lo)
        target = self.lane.platform.targets[self.lane.target]
        with self.lane.reachable():
            held = target.read_back(self.lane.source, self.kind, names)
        same = _as_published(held, expected, rows["attributes"])
        fine: list[str] = []
        if self.lane.look.waits:
            fine = [self._id_of(name) for name in names.filter(pa.array(same)).to_pylist()]
        found = [
            self._finding(theirs, ours, digest)
            for theirs, ours, digest in _differing(held, rows["attributes"], expected, same)
        ]
        last = f"{int(key_hi[-1]):016x}{int(key_lo[-1]):016x}"
        return found, fine, last

    def _id_of(self, name: Mapping[str, Any]) -> str:
        return drift_id_of(self.lane.source, self.lane.target, self.kind, name)

    def _finding(self, theirs: Mapping[str, Any], ours: str, expected: bytes) -> Drift:
        found = theirs["digest"]
        owners = self.ownership.get(self.type_name, {})
        status = DriftStatus.OPEN
        if found is not None and mend(ours, theirs["attributes"], owners) is None:
            status = DriftStatus.LEFT
        return Drift(
            drift_id=self._id_of(theirs),
            source_id=self.lane.source,
            target_id=self.lane.target,
            kind=str(self.kind),
            type_name=self.type_name,
            key=theirs["key"],
            to_key=theirs["to_key"],
            finding=MISSING if found is None else DIFFERS,
            expected_digest=expected.hex(),
            found_digest=None if found is None else found.hex(),
            fields=[] if found is None else _fields(ours, theirs["attributes"], owners),
            status=status,
            found_at=self.lane.platform.clock.now(),
        )


def _as_published(
    held: pa.Table, expected: pa.Array, published: pa.ChunkedArray
) -> npt.NDArray[np.bool_]:
    """Say of each row whether the target holds what was published.

    The text counts too, where it is kept: who edits a table by hand leaves the digest that was written beside it.
    """
    same_digest = pc.equal(pc.cast(held["digest"], pa.binary()), pc.cast(expected, pa.binary()))
    texts = held["attributes"]
    same_text = pc.or_(pc.is_null(texts), pc.fill_null(pc.equal(texts, published), False))
    same = pc.and_(pc.fill_null(same_digest, False), same_text)
    return np.asarray(same.to_numpy(), bool)


def _differing(
    held: pa.Table,
    published: pa.ChunkedArray,
    expected: pa.Array,
    same: npt.NDArray[np.bool_],
) -> Iterator[tuple[dict[str, Any], str, bytes]]:
    """Yield rows that differ: what is held, what was published, and its digest."""
    at = pa.array(np.flatnonzero(~same))
    sides = (held.take(at), published.take(at), expected.take(at))
    yield from zip(*(side.to_pylist() for side in sides), strict=True)


def repair_lane(platform: Platform, source: SourceId, target: TargetId, *, by: By) -> PublishState:
    """Put the batch that a lane was last advanced by back in the queue, to repair what was found.

    Raises ``IllegalMove`` if nothing was found or somebody has asked for it already, ``LaneBusy`` while a batch of the
    lane is in hand, or if one was since this looked for findings.
    """
    claims = platform.control.lane_claims(source, target)
    check_free(platform, source, target)
    head = platform.control.snapshot_head(source, target)
    if head is None or not platform.control.list_drift(
        source=source, target=target, status=DriftStatus.OPEN, limit=1
    ):
        raise IllegalMove(
            f"nothing was found that differs at target {target!r} of source {source!r}"
        )
    now = platform.clock.now()
    act = by.entry(
        "drift.repair", head.batch_id, now=now, source=source, details={"target_id": target}
    )
    return platform.control.requeue(
        head.batch_id, target, now=now, intent=Intent.REPAIR, act=act, claims=claims
    )


def drift_findings(
    platform: Platform,
    *,
    source: SourceId | None = None,
    every: bool = False,
    limit: int = 1000,
) -> list[Drift]:
    """Return what waits for a repair and what nobody published, newest first; with ``every``, all findings."""
    control = platform.control
    if every:
        return control.list_drift(source=source, limit=limit)
    found = control.list_drift(source=source, status=DriftStatus.OPEN, limit=limit)
    found += control.list_drift(source=source, status=DriftStatus.LEFT, finding=EXTRA, limit=limit)
    newest = sorted(found, key=lambda each: (-each.found_at.timestamp(), each.drift_id))
    return newest[:limit]


def drift_coverage(platform: Platform) -> list[DriftCoverage]:
    """Return how far the audit of each lane has come."""
    coverage = []
    for spec in platform.control.list_sources():
        for target in spec.targets:
            if platform.control.snapshot_head(spec.source_id, target) is None:
                continue
            view = KnownRows.open(platform, spec.source_id, target).view
            coverage.append(_coverage(platform, spec.source_id, target, view))
    return coverage


def _coverage(
    platform: Platform, source: SourceId, target: TargetId, view: SnapshotView
) -> DriftCoverage:
    control = platform.control
    types = {(str(kind), name) for kind in Kind for name in view.types(kind)}
    turns = {
        (c.kind, c.type_name): c.turn_finished_at for c in control.drift_cursors(source, target)
    }
    listings = {c.kind: c.turn_finished_at for c in control.listing_cursors(source, target)}
    counts = control.count_drift(source, target)
    waiting = {
        status: sum(n for (at, _), n in counts.items() if at is status) for status in WAITING
    }
    return DriftCoverage(
        source_id=source,
        target_id=target,
        rows=sum(t.rows for kind in Kind for t in view.totals(kind).values()),
        oldest_turn_finished_at=_oldest(turns.get(each) for each in types),
        open=waiting[DriftStatus.OPEN],
        left=waiting[DriftStatus.LEFT],
        extra=sum(n for (at, what), n in counts.items() if at in WAITING and what == EXTRA),
        oldest_listing_finished_at=_oldest(listings.get(str(kind)) for kind in Kind),
        lists=isinstance(platform.targets.get(target), ListingTarget),
    )


def _oldest(moments: Iterable[datetime | None]) -> datetime | None:
    """Return the oldest of some moments; None if there is none, or one of them never was."""
    found = list(moments)
    whole = [moment for moment in found if moment is not None]
    return min(whole) if whole and len(whole) == len(found) else None


def _fields(ours: str, held: str | None, owners: Mapping[str, Owner]) -> list[dict[str, str]]:
    """Tell what becomes of each field that differs."""
    theirs, base = fields_of(held), value_of(ours)
    if theirs is None:
        return [{"name": name, "is": "unreadable"} for name in sorted(owners)]
    merge = merge_three(base, theirs, base, owners)
    restored = [{"name": each, "is": "restored"} for each in merge.restored]
    return [*restored, *({"name": each, "is": "kept"} for each in merge.kept)]


def _place(section: KeyedRows, position: str) -> int:
    """Return the first row whose key is behind a position, by halving."""
    wanted = (int(position[:16], 16), int(position[16:], 16))
    if wanted == (0, 0):
        return 0
    low, high = 0, section.rows
    while low < high:
        middle = (low + high) // 2
        key_hi, key_lo = section.read(("key_hi", "key_lo"), middle, middle + 1)
        if (int(key_hi[0]), int(key_lo[0])) <= wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < section.rows else 0


def _names(kind: Kind, rows: pa.Table) -> pa.Table:
    if kind is Kind.ENTITY:
        nothing = pa.nulls(len(rows), pa.string())
        columns: Sequence[Any] = (rows["entity_type"], rows["entity_key"], nothing)
    else:
        columns = (rows["relationship_type"], rows["from_key"], rows["to_key"])
    names = dict(zip(("type_name", "key", "to_key"), columns, strict=True))
    return pa.table({**names, PUBLISHED: rows["attributes"]})


__all__ = [
    "DriftReport",
    "audit_all",
    "audit_lane",
    "drift_coverage",
    "drift_findings",
    "repair_lane",
]
