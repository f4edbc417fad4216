"""What was decided by field where a source and people meet: kept beside the plan, and foreseen before it is executed.

Each chunk's decisions are an object in the plan's folder, put before the chunk's outcome is recorded, and put anew
where the chunk is sent again. They are no part of the plan: it says what the source wants, and these what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from penstock.execute.merging import foreseen
from penstock.identity.ids import SourceId, TargetId
from penstock.plan.merge import MergedRow
from penstock.plan.operations import Verdict
from penstock.ports.target import TargetDown
from penstock.use_cases.plan_batch import StoredPlan, ownership_of
from penstock.use_cases.platform import Platform

FOLDER = "merges/"
_ROWS = TypeAdapter(tuple[MergedRow, ...])


@dataclass(frozen=True, kw_only=True)
class MergeOverview:
    """What was, or would be, decided about fields that somebody changed in the target."""

    operations: int = 0
    """Operations in which something is kept or put back."""
    conflicts: int = 0
    """Of these, operations with a field that both sides changed."""
    rows: tuple[MergedRow, ...] = ()
    """The first of them, those with conflicts before the others."""
    refused: tuple[str, ...] = ()
    """Why the first of some operations would not take effect at all."""
    trouble: str | None = None
    """Why it cannot be told, if it cannot."""


def store_merges(
    platform: Platform, plan: StoredPlan, chunk: int, rows: Sequence[MergedRow]
) -> None:
    """Keep what was decided about one chunk."""
    key = f"{plan.prefix}{FOLDER}{chunk:06d}.json"
    platform.objects.put(key, _ROWS.dump_json(tuple(rows)))


def stored_merges(platform: Platform, plan: StoredPlan) -> Iterator[MergedRow]:
    """Yield what was decided on executing a plan, in the order of its chunks."""
    for info in platform.objects.list(plan.prefix + FOLDER):
        yield from _ROWS.validate_json(platform.objects.get(info.key))


def merges_of(platform: Platform, plan: StoredPlan, *, limit: int = 20) -> MergeOverview:
    """Return what a plan decides, or what was decided on executing it, counted, with the first decisions."""
    planned = plan.document.merges
    ids = {row.operation_id for row in planned}
    executed = (row for row in stored_merges(platform, plan) if row.operation_id not in ids)
    return overview(chain(planned, executed), limit=limit)


class Foresight:
    """What would be decided if operations were sent now: the target is read, and nothing is written."""

    def __init__(self, platform: Platform, source: SourceId, target: TargetId) -> None:
        self._source = source
        self._ownership = ownership_of(platform, source)
        self._target = platform.targets.get(target)
        self._rows: list[MergedRow] = []
        self._refused: list[str] = []
        self._trouble: str | None = None

    def look(self, operations: pa.Table) -> None:
        """Look at what the target holds of some operations, whole rows of the schema."""
        if not self._ownership or self._target is None or self._trouble is not None:
            return
        planned = operations.filter(pc.equal(operations["verdict"], Verdict.PLANNED.value))
        try:
            rows, refused = foreseen(self._target, planned, self._source, self._ownership)
        except TargetDown as down:
            self._trouble = f"target {self._target.target_id!r} cannot be asked: {down}"
            return
        self._rows += rows
        self._refused += [failure.message for failure in refused]

    def overview(self, *, limit: int = 20) -> MergeOverview:
        """Return what was seen so far."""
        return overview(
            self._rows, limit=limit, refused=self._refused[:limit], trouble=self._trouble
        )


def overview(
    rows: Iterable[MergedRow],
    *,
    limit: int,
    refused: Sequence[str] = (),
    trouble: str | None = None,
) -> MergeOverview:
    """Count decisions, and keep the first ones; memory is by the limit."""
    operations = conflicts = 0
    clashing: list[MergedRow] = []
    others: list[MergedRow] = []
    for row in rows:
        operations += 1
        conflicts += bool(row.conflicts)
        kept = clashing if row.conflicts else others
        if len(kept) < limit:
            kept.append(row)
    return MergeOverview(
        operations=operations,
        conflicts=conflicts,
        rows=tuple([*clashing, *others][:limit]),
        refused=tuple(refused),
        trouble=trouble,
    )


__all__ = [
    "Foresight",
    "MergeOverview",
    "merges_of",
    "overview",
    "store_merges",
    "stored_merges",
]
