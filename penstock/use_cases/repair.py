"""Repairs: a plan that puts right what a drift audit found, made from what the target holds at this moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Manifest
from penstock.batch.ownership import Ownership
from penstock.batch.rows import Kind
from penstock.execute.merging import content_digest
from penstock.identity import digest
from penstock.identity.canonical import canonical_text
from penstock.plan.document import PLAN_NAME, DerivedFrom, plan_prefix
from penstock.plan.files import PlanWriter
from penstock.plan.guards import TypeCounts, may_protect, run_guards
from penstock.plan.guards import Verdict as GuardVerdict
from penstock.plan.merge import Merge, MergedRow, fields_of, mend, merged_row
from penstock.plan.operations import OPERATION_SCHEMA, Action, Verdict
from penstock.plan.waves import waves_of
from penstock.ports.drift import EXTRA, Drift, DriftStatus
from penstock.ports.target import PUBLISHED
from penstock.publish.state import Intent, PublishState
from penstock.use_cases.drift_extras import index_keys
from penstock.use_cases.drift_findings import drift_id_of
from penstock.use_cases.holding import Holding
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.plan_batch import StoredPlan, effective_policy, ownership_of
from penstock.use_cases.platform import Platform
from penstock.use_cases.release import approved_plan
from penstock.use_cases.stored_plans import open_plan, plan_chunks

PURPOSE = "repair"
MOST_AT_ONCE = 100_000
MOST_LISTED = 1_000
"""Rows whose decisions by field stand in the plan's document."""
Planned = tuple[dict[str, Any], MergedRow]
"""An operation, and what it decides by field."""


def plan_repair(
    platform: Platform, state: PublishState, manifest: Manifest
) -> tuple[StoredPlan, StoredPlan, dict[str, str | None]]:
    """Plan the repair of a lane's open findings, as many as one plan takes.

    Returns the plan, the batch's own, and by finding the operation, in hex, that puts it right; None for what is as it
    should be by now: the target is read again. A repair that was begun and has not ended goes on as it was planned.
    """
    del manifest
    base = approved_plan(platform, state)
    found = platform.control.list_drift(
        source=state.source_id, target=state.target_id, status=DriftStatus.OPEN, limit=MOST_AT_ONCE
    )
    begun = _begun_plan(platform, state)
    if begun is not None:
        return begun, base, _findings_of(platform, state, begun, found)
    repair = _Repair(platform, state, found)
    return repair.plan(base), base, repair.by_finding


def _begun_plan(platform: Platform, state: PublishState) -> StoredPlan | None:
    """Return the repair that was begun and has not ended: half of it may have taken effect."""
    for begun in platform.control.begun_executions(state.source_id, state.target_id):
        ours = (begun.batch_id, begun.intent) == (state.batch_id, Intent.REPAIR)
        if ours and begun.plan_digest == state.plan_digest:
            return open_plan(platform.objects, begun.plan_path, expected_digest=begun.plan_digest)
    return None


def _findings_of(
    platform: Platform, state: PublishState, plan: StoredPlan, found: Sequence[Drift]
) -> dict[str, str | None]:
    """Return the operations of a plan by the finding that each puts right."""
    still_open = {each.drift_id for each in found}
    columns = ["operation_id", "kind", "type_name", "key", "to_key"]
    by_finding: dict[str, str | None] = {}
    for chunk in plan_chunks(platform.objects, plan, columns=columns):
        for row in chunk.to_pylist():
            name = drift_id_of(state.source_id, state.target_id, Kind(row["kind"]), row)
            if name in still_open:
                by_finding[name] = row["operation_id"].hex()
    return by_finding


class _Repair:
    def __init__(self, platform: Platform, state: PublishState, found: Sequence[Drift]) -> None:
        self.platform, self.state = platform, state
        self.target = platform.targets[state.target_id]
        self.known = KnownRows.open(platform, state.source_id, state.target_id)
        self.ownership = ownership_of(platform, state.source_id)
        self.guards: tuple[GuardVerdict, ...] = ()
        self.operations: list[dict[str, Any]] = []
        self.decided: list[MergedRow] = []
        extras = [each for each in found if each.finding == EXTRA]
        self.by_finding: dict[str, str | None] = {
            each.drift_id: None for each in found if each.finding != EXTRA
        }
        for drift_id, (row, merged) in self._restoring(found):
            self._take(drift_id, row)
            if merged.decides:
                self.decided.append(merged)
        if extras:
            self._delete(extras)

    def _take(self, drift_id: str, operation: dict[str, Any]) -> None:
        self.operations.append(operation)
        self.by_finding[drift_id] = operation["operation_id"].hex()

    def plan(self, base: StoredPlan) -> StoredPlan:
        """Store the plan."""
        inputs = digest.digest(
            digest.TAG_PLAN,
            PURPOSE.encode(),
            base.document.digest.encode(),
            self.known.view.digest.encode(),
            *sorted(row["operation_id"] for row in self.operations),
        )
        platform = self.platform
        prefix = plan_prefix(self.state.batch_id, self.state.target_id, inputs)
        writer = PlanWriter(
            lambda path, data: platform.objects.put(prefix + path, data),
            chunk_operations=platform.chunk_operations,
        )
        for start in range(0, len(self.operations), platform.chunk_operations):
            rows = self.operations[start : start + platform.chunk_operations]
            writer.add(pa.Table.from_pylist(rows, schema=OPERATION_SCHEMA))
        document = base.document.model_copy(
            update={
                "guards": self.guards,
                "holds": (),
                "snapshot_version": self.known.view.version,
                "snapshot_digest": self.known.view.digest,
                "waves": writer.finish(),
                "ledger": (),
                "merges": tuple(self.decided[:MOST_LISTED]),
                "derived_from": DerivedFrom(
                    purpose=PURPOSE, plan_digest=base.document.digest, path=base.path
                ),
            }
        )
        platform.objects.put(prefix + PLAN_NAME, document.to_json())
        return StoredPlan(document=document, prefix=prefix)

    # What is missing or differs -----------------------------------------------------------------------------

    def _restoring(self, found: Sequence[Drift]) -> Iterator[tuple[str, Planned]]:
        """Yield findings that are still there, by id, each with the operation that puts it right."""
        for kind, type_name, mine in _by_type(found):
            restored = [each for each in mine if each.finding != EXTRA]
            names = _names(restored)
            wanted = _known_rows(self.known, kind, type_name, names)
            published = pa.array([row and row["attributes"] for row in wanted], pa.string())
            names = names.append_column(PUBLISHED, published)
            held = self.target.read_back(self.state.source_id, kind, names).to_pylist()
            for each, theirs, ours in zip(restored, held, wanted, strict=True):
                operation = _operation(self.state, kind, theirs, ours, self.ownership)
                if operation is not None:
                    yield each.drift_id, operation

    # What nobody published ----------------------------------------------------------------------------------

    def _delete(self, found: Sequence[Drift]) -> None:
        """Delete what is extra still and the source's guards let go; what they hold stays, and is looked at again."""
        rows = {
            (kind, type_name): list(self._extras(kind, type_name, mine))
            for kind, type_name, mine in _by_type(found)
        }
        counts = {
            key: TypeCounts(known=self._rows_known(*key), landed=0, tombstoned=len(extras))
            for key, extras in rows.items()
            if extras
        }
        policy = effective_policy(self.platform, self.state.source_id)
        holding = Holding(policy, run_guards(policy, counts, full=False))
        judged = {key: _judged(holding, *key, extras) for key, extras in rows.items() if extras}
        gone = {each.drift_id: None for each in found}
        kept: list[str] = []
        for (kind, type_name), verdicts in judged.items():
            entities = kind is Kind.ENTITY
            final = holding.block_deletes(verdicts) if entities else verdicts
            goes = pc.equal(final["verdict"], Verdict.PLANNED.value).to_pylist()
            for (drift_id, row), let_go in zip(rows[kind, type_name], goes, strict=True):
                gone.pop(drift_id)
                if let_go and self.platform.delete_extras and _is_told(policy, row):
                    self._take(drift_id, row)
                else:
                    kept.append(drift_id)
        self.by_finding |= gone
        self.guards = holding.verdicts()
        now = self.platform.clock.now()
        self.platform.control.settle_drift(kept, DriftStatus.LEFT, now=now)

    def _extras(
        self, kind: Kind, type_name: str, found: Sequence[Drift]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what is extra still, each with its delete."""
        names = _names(found)
        known = _known_rows(self.known, kind, type_name, names)
        held = self.target.read_back(self.state.source_id, kind, names).to_pylist()
        for each, theirs, ours in zip(found, held, known, strict=True):
            if ours is None and theirs["digest"] is not None:
                yield each.drift_id, _delete_of(self.state, kind, theirs)

    def _rows_known(self, kind: Kind, type_name: str) -> int:
        section = self.known.view.section(kind, type_name)
        return section.rows if section is not None else 0


def _judged(
    holding: Holding, kind: Kind, type_name: str, extras: Sequence[tuple[str, dict[str, Any]]]
) -> pa.Table:
    """Return deletes of one type with what the guards say, and have what they hold noted."""
    rows = [{**row, "before_attributes": _readable(row["before_attributes"])} for _, row in extras]
    table = pa.Table.from_pylist(rows, schema=OPERATION_SCHEMA)
    judged = holding.judge_deletes(kind, type_name, table)
    holding.note(judged)
    holding.tally(judged)
    return judged


def _readable(text: str | None) -> str | None:
    fields = fields_of(text)
    return None if fields is None else canonical_text(fields).decode()


def _is_told(policy: GuardPolicy, row: Mapping[str, Any]) -> bool:
    """Say whether it can be told that a row is not protected: where nobody can read it, its attributes might say so."""
    if fields_of(row["before_attributes"]) is not None:
        return True
    return not may_protect(policy, row["type_name"], row["key"])


def _by_type(found: Sequence[Drift]) -> Iterator[tuple[Kind, str, list[Drift]]]:
    groups: dict[tuple[str, str], list[Drift]] = {}
    for each in found:
        groups.setdefault((each.kind, each.type_name), []).append(each)
    for kind, type_name in sorted(groups):
        yield Kind(kind), type_name, groups[kind, type_name]


def _names(found: Sequence[Drift]) -> pa.Table:
    return pa.table(
        {
            "type_name": pa.array([each.type_name for each in found], pa.string()),
            "key": pa.array([each.key for each in found], pa.string()),
            "to_key": pa.array([each.to_key for each in found], pa.string()),
        }
    )


def _known_rows(
    known: KnownRows, kind: Kind, type_name: str, names: pa.Table
) -> list[dict[str, Any] | None]:
    """Return what was published of some names, None where nothing is."""
    key_hi, key_lo = index_keys(kind, names)
    hash_hi, hash_lo = known.view.hashes(kind, type_name, key_hi, key_lo)
    locators = known.view.find(kind, type_name, key_hi, key_lo)
    rows: list[dict[str, Any] | None] = [None] * len(names)
    digests = digest.joined(hash_hi, hash_lo).to_pylist()
    there = np.flatnonzero(locators >= 0)
    attributes = known.located(kind, locators[there])["attributes"].to_pylist()
    for n, text in zip(there.tolist(), attributes, strict=True):
        rows[n] = {
            "attributes": text,
            "digest": digests[n],
            "key_hi": int(key_hi[n]),
            "key_lo": int(key_lo[n]),
        }
    return rows


def _operation(
    state: PublishState,
    kind: Kind,
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any] | None,
    ownership: Ownership,
) -> Planned | None:
    if ours is None:
        return None
    if theirs["digest"] == ours["digest"] and theirs["attributes"] in {None, ours["attributes"]}:
        return None
    text, after, changed = ours["attributes"], ours["digest"], None
    missing, merge = theirs["digest"] is None, Merge(attributes={})
    if not missing:
        mended = mend(text, theirs["attributes"], ownership.get(theirs["type_name"], {}))
        if mended is None:
            return None
        merge = mended
        text = canonical_text(merge.attributes).decode()
        after, changed = content_digest(kind, theirs, text), list(merge.restored) or None
    action = Action.CREATE if missing else Action.UPDATE
    operation = _row(
        state, kind, action, theirs, after=after, index=(ours["key_hi"], ours["key_lo"])
    )
    operation |= {"attributes": text, "changed": changed}
    return operation, merged_row(operation, merge)


def _delete_of(state: PublishState, kind: Kind, theirs: Mapping[str, Any]) -> dict[str, Any]:
    key_hi, key_lo = index_keys(kind, pa.table({n: [theirs[n]] for n in ("key", "to_key")}))
    index = (int(key_hi[0]), int(key_lo[0]))
    return _row(state, kind, Action.DELETE, theirs, after=None, index=index)


def _row(
    state: PublishState,
    kind: Kind,
    action: Action,
    theirs: Mapping[str, Any],
    *,
    after: bytes | None,
    index: tuple[int, int],
) -> dict[str, Any]:
    """Return an operation on a row of the target, as it is held, that leads to a digest."""
    names = (theirs["type_name"], theirs["key"], theirs["to_key"] or "")
    deletes = action is Action.DELETE
    return {
        "operation_id": digest.digest(
            digest.TAG_OPERATION,
            f"{PURPOSE}|{state.target_id}|{state.batch_id}|{kind}".encode(),
            *(name.encode() for name in names),
            theirs["digest"] or b"",
            after or b"",
        ),
        "wave": waves_of(kind, pa.array([theirs["key"]]), deletes=deletes)[0].as_py(),
        "action": str(action),
        "kind": str(kind),
        "type_name": theirs["type_name"],
        "key": theirs["key"],
        "to_key": theirs["to_key"],
        "attributes": None,
        "before_attributes": theirs["attributes"],
        "before_digest": theirs["digest"],
        "after_digest": after,
        "changed": None,
        "key_hi": index[0],
        "key_lo": index[1],
        "row": -1,
        "verdict": str(Verdict.PLANNED),
        "reason": None,
        "guard": None,
        "blocked_by": None,
    }
