"""The drift audit: targets are read back in rotation and held against what was published to them.

Each look takes the next rows of each type in the order of their index, as many as it takes for every row to be looked
at within the period. What people or others own may differ; what the source owns may not, and is put right by a repair.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from penstock.batch.index import KeyedRows
from penstock.batch.ownership import Owner, Ownership
from penstock.batch.rows import Kind
from penstock.errors import IllegalMove, LaneBusy, PenstockError, TargetUnreachable
from penstock.identity.canonical import value_of
from penstock.identity.digest import joined
from penstock.identity.ids import SourceId, TargetId
from penstock.plan.merge import fields_of, mend, merge_three
from penstock.ports.drift import Drift, DriftCursor, DriftStatus
from penstock.ports.target import PUBLISHED, TargetDown
from penstock.publish.state import Intent, PublishState
from penstock.use_cases.acts import By
from penstock.use_cases.corrections import check_free
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.plan_batch import ownership_of
from penstock.use_cases.platform import Platform

FIRST_LOOK_S = 900.0
"""What is taken to have passed before the first look at a type."""
MOST_ROWS = 10_000
"""Read back at once, and held in memory."""
PACE = 0.9
"""Share of the period that a turn takes: the rest is for the wait until the next look."""
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


@dataclass
class _Look:
    checked: int = 0
    counts: Counter[tuple[DriftStatus, str]] = field(default_factory=Counter)

    def add(self, checked: int, found: Sequence[Drift]) -> None:
        self.checked += checked
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
    check_free(platform, source, target)
    known = KnownRows.open(platform, source, target)
    ownership = ownership_of(platform, source)
    cursors = {(c.kind, c.type_name): c for c in platform.control.drift_cursors(source, target)}
    look = _Look()
    for kind in Kind:
        for type_name in known.view.types(kind):
            cursor = cursors.get((str(kind), type_name))
            work = _Type(platform, known, source, target, kind, type_name, ownership, look)
            work.look(cursor, period_s, everything=everything)
    return DriftReport(
        source_id=source,
        target_id=target,
        checked=look.checked,
        missing=look.of(DriftStatus.OPEN, "missing"),
        differing=look.of(DriftStatus.OPEN, "differs"),
        left=look.of(DriftStatus.LEFT, "missing", "differs"),
    )


@dataclass
class _Type:
    platform: Platform
    known: KnownRows
    source: SourceId
    target: TargetId
    kind: Kind
    type_name: str
    ownership: Ownership
    result: _Look

    def look(self, cursor: DriftCursor | None, period_s: float, *, everything: bool) -> None:
        now = self.platform.clock.now()
        section = self.known.view.section(self.kind, self.type_name)
        assert section is not None
        at = 0 if everything else _place(section, cursor.position if cursor else _BEGIN)
        due = section.rows if everything else _due(section.rows, cursor, period_s, now)
        while due > 0:
            stop = min(section.rows, at + due, at + MOST_ROWS)
            found, fine, last = self._slice(at, stop)
            if not self._undisturbed():
                raise LaneBusy(
                    f"the lane {self.source} -> {self.target} became busy during the look"
                )
            cursor = self._moved(cursor, stop, section.rows, last, now)
            self.platform.control.record_look(cursor, found, fine)
            self.result.add(stop - at, found)
            due -= stop - at
            at = stop if stop < section.rows else 0  # what is due goes on at the beginning

    def _undisturbed(self) -> bool:
        """Say whether the snapshot is still the one that was looked at, and nobody is at work."""
        check_free(self.platform, self.source, self.target)
        head = self.platform.control.snapshot_head(self.source, self.target)
        return head is not None and head.version == self.known.view.version

    def _moved(
        self, cursor: DriftCursor | None, stop: int, rows: int, last: str, now: datetime
    ) -> DriftCursor:
        whole = stop >= rows
        begun = cursor.turn_started_at if cursor else now
        return DriftCursor(
            source_id=self.source,
            target_id=self.target,
            kind=str(self.kind),
            type_name=self.type_name,
            position=_BEGIN if whole else last,
            checked=0 if whole else stop,
            turn_started_at=now if whole else begun,
            turn_finished_at=begun if whole else (cursor.turn_finished_at if cursor else None),
            updated_at=now,
        )

    def _slice(self, start: int, stop: int) -> tuple[list[Drift], list[str], str]:
        key_hi, key_lo, hash_hi, hash_lo, rows = self.known.slice(
            self.kind, self.type_name, start, stop
        )
        names = _names(self.kind, rows)
        held = self._read_back(names)
        expected = joined(hash_hi, hash_lo)
        # The text too, where it is kept: who edits a table by hand leaves the digest that was written beside it.
        sides = zip(
            held["digest"].to_pylist(),
            expected.to_pylist(),
            held["attributes"].to_pylist(),
            rows["attributes"].to_pylist(),
            strict=True,
        )
        same = [found == wanted and text in {None, ours} for found, wanted, text, ours in sides]
        found, fine = [], []
        for n, name in enumerate(names.to_pylist()):
            drift_id = _id_of(self.source, self.target, self.kind, name)
            if same[n]:
                fine.append(drift_id)
                continue
            theirs = held.slice(n, 1).to_pylist()[0]
            ours = rows["attributes"][n].as_py()
            found.append(self._finding(drift_id, name, theirs, ours, expected[n].as_py()))
        last = f"{int(key_hi[-1]):016x}{int(key_lo[-1]):016x}"
        return found, fine, last

    def _read_back(self, names: pa.Table) -> pa.Table:
        try:
            return self.platform.targets[self.target].read_back(self.source, self.kind, names)
        except TargetDown as down:
            raise TargetUnreachable(
                f"target {self.target!r} cannot be read back: {down}. The next look begins where this one did"
            ) from down

    def _finding(
        self,
        drift_id: str,
        name: Mapping[str, Any],
        theirs: Mapping[str, Any],
        ours: str,
        expected: bytes,
    ) -> Drift:
        found = theirs["digest"]
        owners = self.ownership.get(self.type_name, {})
        status = DriftStatus.OPEN
        if found is not None and mend(ours, theirs["attributes"], owners) is None:
            status = DriftStatus.LEFT
        return Drift(
            drift_id=drift_id,
            source_id=self.source,
            target_id=self.target,
            kind=str(self.kind),
            type_name=self.type_name,
            key=name["key"],
            to_key=name["to_key"],
            finding="missing" if found is None else "differs",
            expected_digest=expected.hex(),
            found_digest=None if found is None else found.hex(),
            fields=[] if found is None else _fields(ours, theirs["attributes"], owners),
            status=status,
            found_at=self.platform.clock.now(),
        )


def repair_lane(platform: Platform, source: SourceId, target: TargetId, *, by: By) -> PublishState:
    """Put the batch that a lane was last advanced by back in the queue, to repair what was found."""
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
    return platform.control.requeue(head.batch_id, target, now=now, intent=Intent.REPAIR, act=act)


def drift_coverage(platform: Platform) -> list[DriftCoverage]:
    """Return how far the audit of each lane has come."""
    coverage = []
    for spec in platform.control.list_sources():
        for target in spec.targets:
            if platform.control.snapshot_head(spec.source_id, target) is None:
                continue
            view = KnownRows.open(platform, spec.source_id, target).view
            types = {(str(kind), name) for kind in Kind for name in view.types(kind)}
            cursors = platform.control.drift_cursors(spec.source_id, target)
            turns = {(c.kind, c.type_name): c.turn_finished_at for c in cursors}
            finished = [turns.get(each) for each in types]
            whole = [moment for moment in finished if moment is not None]
            found = platform.control.list_drift(
                source=spec.source_id, target=target, status=DriftStatus.OPEN
            )
            coverage.append(
                DriftCoverage(
                    source_id=spec.source_id,
                    target_id=target,
                    rows=sum(t.rows for kind in Kind for t in view.totals(kind).values()),
                    oldest_turn_finished_at=min(whole)
                    if len(whole) == len(finished) and whole
                    else None,
                    open=len(found),
                )
            )
    return coverage


def _fields(ours: str, held: str | None, owners: Mapping[str, Owner]) -> list[dict[str, str]]:
    """Tell what becomes of each field that differs."""
    theirs, base = fields_of(held), value_of(ours)
    if theirs is None:
        return [{"name": name, "is": "unreadable"} for name in sorted(owners)]
    merge = merge_three(base, theirs, base, owners)
    restored = [{"name": each, "is": "restored"} for each in merge.restored]
    return [*restored, *({"name": each, "is": "kept"} for each in merge.kept)]


def _due(rows: int, cursor: DriftCursor | None, period_s: float, now: datetime) -> int:
    """Return how many rows have to be looked at now, for none to be left for longer than the period.

    A row is seen by the first look at which a whole turn has passed. With looks ``d`` apart, that is up to ``d`` after
    the turn, so a turn takes ``period - d``; the constant share of it is for looks that are not evenly apart.
    """
    passed_s = (now - cursor.updated_at).total_seconds() if cursor else FIRST_LOOK_S
    turn_s = min(PACE * period_s, period_s - passed_s)
    if turn_s <= passed_s:
        return rows
    return min(rows, max(1, math.ceil(rows * max(0.0, passed_s) / turn_s)))


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


def _id_of(source: SourceId, target: TargetId, kind: Kind, name: Mapping[str, Any]) -> str:
    parts = (source, target, str(kind), name["type_name"], name["key"], name["to_key"] or "")
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


__all__ = ["DriftReport", "audit_all", "audit_lane", "drift_coverage", "repair_lane"]
