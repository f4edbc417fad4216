"""Repairs: a plan that puts right what a drift audit found, made from what the target holds at this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.batch.manifest import Manifest
from penstock.batch.ownership import Ownership
from penstock.batch.rows import Kind
from penstock.execute.merging import content_digest
from penstock.identity import digest
from penstock.identity.canonical import canonical_text
from penstock.identity.keys import entity_index_keys, relationship_index_keys
from penstock.plan.document import PLAN_NAME, DerivedFrom, plan_prefix
from penstock.plan.files import PlanWriter
from penstock.plan.merge import Merge, MergedRow, mend, merged_row
from penstock.plan.operations import OPERATION_SCHEMA, Action, Verdict
from penstock.plan.waves import waves_of
from penstock.ports.drift import Drift, DriftStatus
from penstock.ports.target import PUBLISHED
from penstock.publish.state import PublishState
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.plan_batch import StoredPlan, ownership_of
from penstock.use_cases.platform import Platform
from penstock.use_cases.release import approved_plan

PURPOSE = "repair"
MOST_AT_ONCE = 100_000
MOST_LISTED = 1_000
"""Rows whose decisions by field stand in the plan's document."""
Planned = tuple[dict[str, Any], MergedRow]
"""An operation, and what it decides by field."""


def plan_repair(
    platform: Platform, state: PublishState, manifest: Manifest
) -> tuple[StoredPlan, StoredPlan, dict[str, str | None]]:
    """Plan the repair of a lane's open findings.

    Returns the plan, the batch's own, and by finding the operation, in hex, that puts it right.

    The target is read again: what is as it should be by now gets no operation.
    """
    del manifest
    base = approved_plan(platform, state)
    found = platform.control.list_drift(
        source=state.source_id, target=state.target_id, status=DriftStatus.OPEN, limit=MOST_AT_ONCE
    )
    known = KnownRows.open(platform, state.source_id, state.target_id)
    ownership = ownership_of(platform, state.source_id)
    planned = list(_operations(platform, state, known, ownership, found))
    operations = [row for _, (row, _) in planned]
    decided = [merged for _, (_, merged) in planned if merged.decides]
    by_finding = {each.drift_id: None for each in found} | {
        drift_id: row["operation_id"].hex() for drift_id, (row, _) in planned
    }
    inputs = digest.digest(
        digest.TAG_PLAN,
        PURPOSE.encode(),
        base.document.digest.encode(),
        known.view.digest.encode(),
        *sorted(row["operation_id"] for row in operations),
    )
    prefix = plan_prefix(state.batch_id, state.target_id, inputs)
    writer = PlanWriter(
        lambda path, data: platform.objects.put(prefix + path, data),
        chunk_operations=platform.chunk_operations,
    )
    for start in range(0, len(operations), platform.chunk_operations):
        rows = operations[start : start + platform.chunk_operations]
        writer.add(pa.Table.from_pylist(rows, schema=OPERATION_SCHEMA))
    document = base.document.model_copy(
        update={
            "guards": (),
            "holds": (),
            "snapshot_version": known.view.version,
            "snapshot_digest": known.view.digest,
            "waves": writer.finish(),
            "ledger": (),
            "merges": tuple(decided[:MOST_LISTED]),
            "derived_from": DerivedFrom(
                purpose=PURPOSE, plan_digest=base.document.digest, path=base.path
            ),
        }
    )
    platform.objects.put(prefix + PLAN_NAME, document.to_json())
    return StoredPlan(document=document, prefix=prefix), base, by_finding


def _operations(
    platform: Platform,
    state: PublishState,
    known: KnownRows,
    ownership: Ownership,
    found: Sequence[Drift],
) -> Iterator[tuple[str, Planned]]:
    """Yield findings that are still there, by id, each with the operation that puts it right."""
    counts = Counter((each.kind, each.type_name) for each in found)
    for kind_text, type_name in sorted(counts):
        kind = Kind(kind_text)
        mine = [d for d in found if (d.kind, d.type_name) == (kind_text, type_name)]
        names = pa.table(
            {
                "type_name": [type_name] * len(mine),
                "key": [each.key for each in mine],
                "to_key": pa.array([each.to_key for each in mine], pa.string()),
            }
        )
        wanted = _known_rows(known, kind, type_name, names)
        target = platform.targets[state.target_id]
        published = pa.array([row and row["attributes"] for row in wanted], pa.string())
        names = names.append_column(PUBLISHED, published)
        held = target.read_back(state.source_id, kind, names).to_pylist()
        for each, theirs, ours in zip(mine, held, wanted, strict=True):
            operation = _operation(state, kind, theirs, ours, ownership)
            if operation is not None:
                yield each.drift_id, operation


def _known_rows(
    known: KnownRows, kind: Kind, type_name: str, names: pa.Table
) -> list[dict[str, Any] | None]:
    """Return what was published of some names, None where nothing is."""
    keys, to_keys = names["key"].combine_chunks(), names["to_key"].combine_chunks()
    if kind is Kind.ENTITY:
        key_hi, key_lo = entity_index_keys(keys)
    else:
        key_hi, key_lo = relationship_index_keys(keys, to_keys)
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
    names = (theirs["type_name"], theirs["key"], theirs["to_key"] or "")
    operation = {
        "operation_id": digest.digest(
            digest.TAG_OPERATION,
            f"{PURPOSE}|{state.target_id}|{state.batch_id}|{kind}".encode(),
            *(name.encode() for name in names),
            theirs["digest"] or b"",
            after,
        ),
        "wave": waves_of(kind, pa.array([theirs["key"]]), deletes=False)[0].as_py(),
        "action": str(Action.CREATE if missing else Action.UPDATE),
        "kind": str(kind),
        "type_name": theirs["type_name"],
        "key": theirs["key"],
        "to_key": theirs["to_key"],
        "attributes": text,
        "before_attributes": theirs["attributes"],
        "before_digest": theirs["digest"],
        "after_digest": after,
        "changed": changed,
        "key_hi": ours["key_hi"],
        "key_lo": ours["key_lo"],
        "row": -1,
        "verdict": str(Verdict.PLANNED),
        "reason": None,
        "guard": None,
        "blocked_by": None,
    }
    return operation, merged_row({**operation, "kind": str(kind)}, merge)
