"""Planning: from a batch and a snapshot to a stored plan.

Two passes over the key-level diff, which is cheap. The first counts, so that guards judge the whole before anything
is written; the second fetches the rows of what changed, chunk by chunk, and writes operations. Memory is bounded by the
chunk but for deletes of entities, whose keys are held together to look for relationships that would be left dangling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.index import IndexSection
from penstock.batch.manifest import Manifest, Mode
from penstock.batch.ownership import Ownership
from penstock.batch.rows import SCHEMAS, Kind
from penstock.batch.scope import ScopeMap
from penstock.diff.fields import changed_fields
from penstock.diff.keys import KeyChanges, RowRefs, SectionDiff
from penstock.errors import IndexCorrupt
from penstock.identity import digest
from penstock.identity.ids import SourceId, TargetId
from penstock.plan.build import Origin, Side, build_operations, judged
from penstock.plan.document import PLAN_NAME, PlanDocument, plan_prefix
from penstock.plan.files import PlanWriter
from penstock.plan.guards import TypeCounts, history_of, run_guards
from penstock.plan.ledger import LedgerRow
from penstock.plan.operations import Action
from penstock.plan.operations import Verdict as OperationVerdict
from penstock.ports.rows import BatchRows
from penstock.use_cases.holding import Holding
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.platform import Platform, Progress, no_progress
from penstock.use_cases.references import AfterState

PLANNER_VERSION = 3
"""Part of a plan's address: planning by other rules gives another plan."""

_PIECE = 16_384
_DELETES_AT_ONCE = 200_000
TypeKey = tuple[Kind, str]


@dataclass(frozen=True, kw_only=True)
class StoredPlan:
    """A plan in the object store."""

    document: PlanDocument
    prefix: str
    """Its folder."""

    @property
    def path(self) -> str:
        """Object key of ``plan.json``."""
        return self.prefix + PLAN_NAME


def plan_batch(
    platform: Platform,
    manifest: Manifest,
    target: TargetId,
    *,
    guard_policy: GuardPolicy | None = None,
    progress: Progress | None = None,
    store: bool = True,
) -> StoredPlan:
    """Plan a batch against what ``target`` is known to hold, and store the plan.

    The same batch, snapshot and policy give the same bytes under the same keys. With ``store=False`` nothing is
    written: the document says what would be. Raises ``BadBatch``, ``IndexCorrupt`` or ``ObjectMissing``.
    """
    known = KnownRows.open(platform, manifest.source_id, target)
    policy = guard_policy or effective_policy(platform, manifest.source_id)
    planning = _Planning(platform, manifest, target, known, policy, progress or no_progress)
    return planning.run(store=store)


def effective_policy(platform: Platform, source: SourceId) -> GuardPolicy:
    """Return the limits that hold for a source: its own, or the platform's."""
    declared = {spec.source_id: spec for spec in platform.control.list_sources()}
    own = declared[source].guard_policy if source in declared else None
    return own or platform.guard_policy


def ownership_of(platform: Platform, source: SourceId) -> Ownership:
    """Return which fields of a source's entities people or others own in its targets."""
    declared = {spec.source_id: spec for spec in platform.control.list_sources()}
    return declared[source].ownership if source in declared else {}


class _Planning:
    def __init__(
        self,
        platform: Platform,
        manifest: Manifest,
        target: TargetId,
        known: KnownRows,
        policy: GuardPolicy,
        progress: Progress,
    ) -> None:
        self.platform, self.manifest, self.target = platform, manifest, target
        self.known, self.policy, self.progress = known, policy, progress
        self.scopes = ScopeMap(manifest.scopes)
        self.full = manifest.mode is Mode.FULL
        self.rows: dict[Kind, BatchRows] = {
            kind: platform.batches.rows(manifest, kind) for kind in Kind
        }
        self.origin = Origin(
            target_id=target, batch_id=manifest.batch_id, snapshot_version=known.view.version
        )
        self.history = _history(platform, manifest, target, policy)
        self.ledger: dict[TypeKey, LedgerRow] = {}
        self.done = 0
        self.total = 0

    def run(self, *, store: bool) -> StoredPlan:
        counts = {key: self._count(*key) for key in self._types()}
        verdicts = run_guards(self.policy, counts, history=history_of(self.history), full=self.full)
        self.holding = Holding(self.policy, verdicts)
        self.total = sum(
            c.created + c.updated + c.inferred_deletes + c.tombstoned for c in counts.values()
        )
        prefix = plan_prefix(self.manifest.batch_id, self.target, self._inputs())
        put = self.platform.objects.put if store else _discard
        writer = PlanWriter(
            lambda path, data: put(prefix + path, data),
            chunk_operations=self.platform.chunk_operations,
        )
        self._write_operations(writer, counts)
        document = self._document(writer)
        put(prefix + PLAN_NAME, document.to_json())
        return StoredPlan(document=document, prefix=prefix)

    def _inputs(self) -> bytes:
        parts = (
            self.manifest.to_json(),
            self.known.view.digest.encode(),
            str(self.known.view.version).encode(),
            self.policy.model_dump_json().encode(),
            repr([sorted(counts.items()) for counts in self.history]).encode(),
            f"{PLANNER_VERSION}|{self.platform.chunk_operations}".encode(),
        )
        return digest.digest(digest.TAG_PLAN, *parts)

    def _document(self, writer: PlanWriter) -> PlanDocument:
        return PlanDocument(
            batch_id=self.manifest.batch_id,
            source_id=self.manifest.source_id,
            target_id=self.target,
            tenant_id=self.manifest.tenant_id,
            mode=self.manifest.mode,
            source_timestamp=self.manifest.source_timestamp,
            snapshot_version=self.known.view.version,
            snapshot_digest=self.known.view.digest,
            guard_policy=self.policy,
            guards=self.holding.verdicts(),
            holds=self.holding.holds(self.known),
            waves=writer.finish(),
            ledger=tuple(self.ledger[key] for key in sorted(self.ledger)),
        )

    # The first pass: counts ---------------------------------------------------------------------------------

    def _types(self) -> list[TypeKey]:
        """Types that the batch has rows of, filtered rows of, or may delete by absence."""
        types: set[TypeKey] = set()
        for kind in Kind:
            types.update((kind, name) for name in self.rows[kind].index.sections)
            types.update((kind, name) for name in self.manifest.files(kind).filtered)
            if self.full:
                known = set(self.known.view.types(kind))
                types.update((kind, name) for name in self.scopes.types(kind) if name in known)
        return sorted(types)

    def _diff(self, kind: Kind, type_name: str) -> SectionDiff | None:
        before = self.known.view.section(kind, type_name)
        after = self._section(kind, type_name)
        if before is None and after is None:
            return None
        absent = self.full and self.scopes.any_complete(kind, type_name)
        return SectionDiff(before, after, absent=absent)

    def _section(self, kind: Kind, type_name: str) -> IndexSection | None:
        return self.rows[kind].index.sections.get(type_name)

    def _count(self, kind: Kind, type_name: str) -> TypeCounts:
        files = self.manifest.files(kind)
        known, landed = self.known.view.section(kind, type_name), self._section(kind, type_name)
        counts = TypeCounts(known=known.rows if known else 0, landed=landed.rows if landed else 0)
        diff = self._diff(kind, type_name)
        unchanged = 0
        if diff is not None:
            deleted = sum(self._deletes_proven(kind, changes) for changes in diff)
            unchanged = diff.counts.unchanged
            counts = replace(
                counts,
                created=diff.counts.created,
                updated=diff.counts.updated,
                inferred_deletes=deleted if self.full else 0,
                tombstoned=0 if self.full else deleted,
            )
        self.ledger[kind, type_name] = LedgerRow(
            kind=kind,
            type_name=type_name,
            extracted=counts.landed,
            filtered=files.filtered.get(type_name, 0),
            inferred_deletes=counts.inferred_deletes,
            unchanged=unchanged,
        )
        return counts

    def _deletes_proven(self, kind: Kind, changes: KeyChanges) -> int:
        """How many of the deletes have proof; reads rows only where the answer depends on their keys."""
        if not self.full or self.scopes.wholly_complete(kind, changes.type_name):
            return len(changes.deleted)
        if not len(changes.deleted):
            return 0
        rows = self.known.fetch(kind, changes.deleted)
        return int(self._proven(kind, changes.type_name, rows).sum())

    def _proven(self, kind: Kind, type_name: str, rows: pa.Table) -> npt.NDArray[np.bool_]:
        if not self.full:
            return np.ones(len(rows), bool)
        key = "entity_key" if kind is Kind.ENTITY else "from_key"
        if self.scopes.wholly_complete(kind, type_name):
            return np.ones(len(rows), bool)
        return self.scopes.complete_mask(kind, type_name, rows[key].to_pylist())

    # The second pass: operations ----------------------------------------------------------------------------

    @cached_property
    def _after(self) -> AfterState:
        return AfterState(
            manifest=self.manifest,
            rows=self.rows,
            known=self.known,
            scopes=self.scopes,
            held=self.holding.deletes,
            may_stay=self.holding.may_stay,
        )

    @cached_property
    def _after_release(self) -> AfterState:
        """The same if nothing were held: what still refers to an entity then is no guard's doing."""
        return AfterState(
            manifest=self.manifest,
            rows=self.rows,
            known=self.known,
            scopes=self.scopes,
            held={},
        )

    def _write_operations(self, writer: PlanWriter, counts: dict[TypeKey, TypeCounts]) -> None:
        self._cycles = self._find_cycles(counts)
        self._note_holds(counts)
        for kind, type_name in sorted(counts, key=lambda key: (key[0] is not Kind.ENTITY, key[1])):
            for operations in self._operations(kind, type_name):
                self._add(writer, operations)

    def _note_holds(self, counts: dict[TypeKey, TypeCounts]) -> None:
        """Look at what is held before anything else: what depends on it may come first."""
        for kind, type_name in sorted(counts):
            diff = self._diff(kind, type_name)
            if diff is None or not counts[kind, type_name].deletes:
                continue
            if self.holding.concerns(kind, type_name):
                for changes in diff:
                    for operations in self._deletes(kind, changes):
                        self.holding.note(operations)

    def _find_cycles(self, counts: dict[TypeKey, TypeCounts]) -> list[frozenset[str]]:
        """Only a containment edge that is new can close a cycle."""
        containment = [t.name for t in self.manifest.relationship_types if t.containment]
        created = (counts.get((Kind.RELATIONSHIP, name)) for name in containment)
        return self._after.containment_cycles() if any(c and c.created for c in created) else []

    def _operations(self, kind: Kind, type_name: str) -> Iterator[pa.Table]:
        diff = self._diff(kind, type_name)
        deletes: list[pa.Table] = []
        for changes in diff if diff is not None else ():
            yield from self._creates(kind, changes)
            yield from self._updates(kind, changes)
            for operations in self._deletes(kind, changes):
                if kind is Kind.RELATIONSHIP:
                    yield operations
                else:
                    deletes.append(operations)
                if sum(map(len, deletes)) >= _DELETES_AT_ONCE:
                    yield self._refuse_referred(pa.concat_tables(deletes))
                    deletes = []
        if deletes:
            yield self._refuse_referred(pa.concat_tables(deletes))

    def _creates(self, kind: Kind, changes: KeyChanges) -> Iterator[pa.Table]:
        for refs in _pieces(changes.created):
            rows = self.rows[kind].take(refs.rows)
            operations = self._build(kind, Action.CREATE, rows, before=None, after=refs)
            yield self._refuse(kind, changes.type_name, rows, operations)

    def _updates(self, kind: Kind, changes: KeyChanges) -> Iterator[pa.Table]:
        for before, after in zip(
            _pieces(changes.updated_before), _pieces(changes.updated_after), strict=True
        ):
            old, new = self.known.fetch(kind, before), self.rows[kind].take(after.rows)
            _check_same_keys(kind, changes.type_name, old, new)
            changed = changed_fields(old["attributes"], new["attributes"])
            operations = self._build(
                kind,
                Action.UPDATE,
                new,
                before=before,
                after=after,
                changed=changed,
                before_attributes=old["attributes"],
            )
            operations = self._refuse(kind, changes.type_name, new, operations)
            yield self.holding.judge_updates(kind, changes.type_name, operations)

    def _deletes(self, kind: Kind, changes: KeyChanges) -> Iterator[pa.Table]:
        for refs in _pieces(changes.deleted):
            rows = self.known.fetch(kind, refs)
            proven = self._proven(kind, changes.type_name, rows)
            if not proven.any():
                continue
            gone = refs.take(np.flatnonzero(proven))
            rows = rows.filter(pa.array(proven))
            operations = self._build(kind, Action.DELETE, rows, before=gone, after=None)
            yield self.holding.judge_deletes(kind, changes.type_name, operations)

    def _build(
        self,
        kind: Kind,
        action: Action,
        rows: pa.Table,
        *,
        before: RowRefs | None,
        after: RowRefs | None,
        changed: pa.Array | None = None,
        before_attributes: pa.ChunkedArray | None = None,
    ) -> pa.Table:
        refs = after if after is not None else before
        assert refs is not None
        return build_operations(
            origin=self.origin,
            kind=kind,
            action=action,
            rows=rows,
            key_hi=refs.key_hi,
            key_lo=refs.key_lo,
            before=Side(hash_hi=before.hash_hi, hash_lo=before.hash_lo) if before else None,
            after=Side(hash_hi=after.hash_hi, hash_lo=after.hash_lo) if after else None,
            batch_rows=after.rows if after else None,
            changed=changed,
            before_attributes=before_attributes,
        )

    # Verdicts -----------------------------------------------------------------------------------------------

    def _refuse(self, kind: Kind, type_name: str, rows: pa.Table, operations: pa.Table) -> pa.Table:
        """Refuse relationships that end nowhere, and those that close a cycle of containment."""
        if kind is Kind.ENTITY:
            return operations
        missing = self._after.missing_ends(type_name, rows)
        reasons = [
            f"its end {end!r} does not exist after this plan: land that entity, or drop the relationship"
            if end is not None
            else None
            for end in missing
        ]
        operations = _refused(operations, reasons)
        if not self._cycles or not self._is_containment(type_name):
            return operations
        ends = zip(rows["from_key"].to_pylist(), rows["to_key"].to_pylist(), strict=True)
        return _refused(operations, [self._cycle_reason(start, end) for start, end in ends])

    def _is_containment(self, type_name: str) -> bool:
        return any(t.containment and t.name == type_name for t in self.manifest.relationship_types)

    def _cycle_reason(self, start: str, end: str) -> str | None:
        for group in self._cycles:
            if start in group and end in group:
                some = ", ".join(sorted(group)[:5])
                return f"it closes a cycle of containment through {some}: break the cycle at the source"
        return None

    def _refuse_referred(self, operations: pa.Table) -> pa.Table:
        """Refuse deletes of entities that remaining relationships still end at, and block those that held ones do."""
        planned = pc.equal(operations["verdict"], OperationVerdict.PLANNED.value)
        keys = operations.filter(planned)["key"].combine_chunks()
        referrers = self._after_release.referrers(keys)
        if not referrers:
            return self.holding.block_deletes(operations)
        reasons = [
            f"relationship {referrers[key]} still refers to it and is not deleted with it"
            if key in referrers
            else None
            for key in operations["key"].to_pylist()
        ]
        return self.holding.block_deletes(_refused(operations, reasons))

    def _add(self, writer: PlanWriter, operations: pa.Table) -> None:
        self._account(operations)
        self.holding.tally(operations)
        writer.add(operations)
        self.done += len(operations)
        self.progress("plan", self.done, self.total)

    def _account(self, operations: pa.Table) -> None:
        """Enter operations, all of one type, into the ledger."""
        if not len(operations):
            return
        key = (Kind(operations["kind"][0].as_py()), operations["type_name"][0].as_py())
        row = self.ledger[key]
        grouped = operations.group_by(["action", "verdict"]).aggregate([([], "count_all")])
        changes: dict[str, int] = {}
        for group in grouped.to_pylist():
            column = _ledger_column(group["action"], group["verdict"])
            changes[column] = changes.get(column, getattr(row, column)) + group["count_all"]
        self.ledger[key] = row.model_copy(update=changes)


def _history(
    platform: Platform, manifest: Manifest, target: TargetId, policy: GuardPolicy
) -> list[dict[TypeKey, TypeCounts]]:
    """Return what the lane's last batches of the same mode came to: held deletes were none."""
    ledgers = platform.control.recent_ledgers(
        manifest.source_id, target, other_than=manifest.batch_id, limit=policy.history_batches
    )
    return [
        {
            (row.kind, row.type_name): TypeCounts(
                known=0, landed=row.extracted, updated=row.updated, tombstoned=row.deleted
            )
            for row in ledger
        }
        for ledger in ledgers
    ]


_ACTION_COLUMNS = {Action.CREATE: "created", Action.UPDATE: "updated", Action.DELETE: "deleted"}
_VERDICT_COLUMNS = {
    OperationVerdict.REFUSED: "dead_lettered",
    OperationVerdict.HELD: "held",
    OperationVerdict.BLOCKED: "blocked",
}


def _ledger_column(action: str, verdict: str) -> str:
    if verdict == OperationVerdict.PLANNED:
        return _ACTION_COLUMNS[Action(action)]
    return _VERDICT_COLUMNS[OperationVerdict(verdict)]


def _discard(_key: str, _data: bytes) -> None:
    return None


def _pieces(refs: RowRefs) -> Iterator[RowRefs]:
    for start in range(0, len(refs), _PIECE):
        yield refs.take(np.arange(start, min(start + _PIECE, len(refs))))


def _refused(operations: pa.Table, reasons: list[str | None]) -> pa.Table:
    mask = np.array([reason is not None for reason in reasons], bool)
    return judged(operations, mask, OperationVerdict.REFUSED, pa.array(reasons, pa.string()))


def _check_same_keys(kind: Kind, type_name: str, old: pa.Table, new: pa.Table) -> None:
    """Two keys with one 128-bit index key would show as an update; say so instead of mixing them up."""
    for field in SCHEMAS[kind].names:
        if field.endswith("key"):
            same = pc.equal(old[field], new[field])
            if not pc.all(same, min_count=0).as_py():
                at = pc.index(same, False).as_py()
                raise IndexCorrupt(
                    f"{type_name}: {old[field][at].as_py()!r} and {new[field][at].as_py()!r} have the same index "
                    "key, or the row cache is not that of its index: remove the cache folder and requeue"
                )
