"""Merging with what people own, before an update is sent and where a create meets what is there already.

Entities of types with owned fields are read back; one that people changed is merged, and the merge is sent in place of
what was planned, on the precondition that nothing changes once more: what does is merged again. The snapshot goes on
recording what the source said. A delete of something that people changed is a conflict, which is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.ownership import Ownership
from penstock.batch.rows import Kind
from penstock.identity.canonical import canonical_text, value_of
from penstock.identity.digest import (
    DIGEST_BYTES,
    TAG_OPERATION,
    digest,
    entity_digest,
    relationship_digest,
)
from penstock.identity.ids import SourceId
from penstock.plan.merge import Merge, MergedRow, fields_of, merge_three, merged_row
from penstock.plan.operations import OPERATION_SCHEMA, Action
from penstock.ports.target import PUBLISHED, ApplyContext, OperationFailure, Outcome, Target


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedOperation:
    """One operation that takes effect as a merge: the target ends with something else than was planned."""

    after_digest: bytes | None
    row: MergedRow


@dataclass(frozen=True, kw_only=True)
class MergedConflicts:
    """What became of conflicts."""

    operations: pa.Table
    """What to send in their place."""
    originals: Mapping[bytes, bytes]
    """By the id of what is sent: the id of the operation that it stands for."""
    already: tuple[bytes, ...]
    """Operations whose merge is in the target already."""
    merges: Mapping[bytes, MergedOperation]
    """By the id of the operation as planned: what it ends as."""
    refused: tuple[OperationFailure, ...] = ()
    """Operations that would write over what is not the source's."""


OWNED = "owned_by_others"
"""Code of an operation that is refused because people, or others, have changed what they own."""


def merge_owned(
    target: Target, operations: pa.Table, context: ApplyContext, ownership: Ownership
) -> tuple[pa.Table, MergedConflicts]:
    """Take out the updates and deletes of what people changed; returns what is left, and what becomes of these.

    Who edits a table by hand leaves the digest that was written beside it, so that a target would notice nothing.
    """
    owned = pa.array(sorted(ownership), pa.string())
    mine = pc.and_(
        pc.not_equal(operations["action"], Action.CREATE.value),
        pc.is_in(operations["type_name"], value_set=owned),
    )
    merged = _merge_rows(target, operations.filter(mine), context.source_id, ownership)
    refused = [failure.operation_id for failure in merged.refused]
    taken = pa.array(
        [*merged.originals.values(), *merged.already, *refused], pa.binary(DIGEST_BYTES)
    )
    left = operations.filter(pc.invert(pc.is_in(operations["operation_id"], value_set=taken)))
    return left, merged


def merged_conflicts(
    target: Target,
    operations: pa.Table,
    context: ApplyContext,
    failures: Sequence[OperationFailure],
    ownership: Ownership,
) -> MergedConflicts:
    """Read back what conflicts, and merge it; what cannot be merged is left out."""
    ids = [f.operation_id for f in failures if f.outcome is Outcome.CONFLICT and f.code != OWNED]
    values = pa.array(ids, pa.binary(DIGEST_BYTES))
    conflicting = operations.filter(pc.is_in(operations["operation_id"], value_set=values))
    return _merge_rows(target, conflicting, context.source_id, ownership)


def foreseen(
    target: Target, operations: pa.Table, source: SourceId, ownership: Ownership
) -> tuple[list[MergedRow], list[OperationFailure]]:
    """Say what would be merged, and refused, if operations were sent now; raises ``TargetDown``."""
    owned = pc.is_in(operations["type_name"], value_set=pa.array(sorted(ownership), pa.string()))
    merged = _merge_rows(target, operations.filter(owned), source, ownership)
    rows = [each.row for each in merged.merges.values()]
    return [row for row in rows if row.decides], list(merged.refused)


def _merge_rows(
    target: Target, conflicting: pa.Table, source: SourceId, ownership: Ownership
) -> MergedConflicts:
    rows: list[dict[str, Any]] = []
    originals: dict[bytes, bytes] = {}
    merges: dict[bytes, MergedOperation] = {}
    already: list[bytes] = []
    refused: list[OperationFailure] = []
    for row, found in _read_back(target, conflicting, source):
        if _is_theirs(row, found, ownership):
            refused.append(_refusal(row))
            continue
        merged = _merged(row, found, ownership)
        if merged is None:
            continue
        sent, named = merged
        merges[row["operation_id"]] = MergedOperation(after_digest=sent["after_digest"], row=named)
        if (sent["after_digest"], sent["attributes"]) == (found["digest"], found["attributes"]):
            already.append(row["operation_id"])
        else:
            rows.append(sent)
            originals[sent["operation_id"]] = row["operation_id"]
    return MergedConflicts(
        operations=pa.Table.from_pylist(rows, schema=OPERATION_SCHEMA),
        originals=originals,
        already=tuple(already),
        merges=merges,
        refused=tuple(refused),
    )


def _read_back(
    target: Target, operations: pa.Table, source: SourceId
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield operations, each with what the target holds of its row."""
    for kind in pc.unique(operations["kind"]).to_pylist():
        mine = operations.filter(pc.equal(operations["kind"], kind))
        names = mine.select(["type_name", "key", "to_key"])
        names = names.append_column(PUBLISHED, mine["before_attributes"])
        held = target.read_back(source, Kind(kind), names).to_pylist()
        yield from zip(mine.to_pylist(), held, strict=True)


def _is_theirs(row: Mapping[str, Any], found: Mapping[str, Any], ownership: Ownership) -> bool:
    """Say whether an operation would take away fields that people changed, or may have: nobody can read them."""
    owners = ownership.get(row["type_name"])
    if not owners or found["attributes"] in {None, row["before_attributes"]}:
        return False
    theirs = fields_of(found["attributes"])
    if theirs is None:
        return True
    if row["action"] != Action.DELETE or row["before_attributes"] is None:
        return False
    base = value_of(row["before_attributes"])
    return bool(merge_three(base, theirs, base, owners).kept)


def _refusal(row: Mapping[str, Any]) -> OperationFailure:
    return OperationFailure(
        operation_id=row["operation_id"],
        outcome=Outcome.CONFLICT,
        code=OWNED,
        message=f"{row['type_name']} {row['key']} was changed in the target in fields that the source does not own, "
        f"so that {row['action']} would lose them: settle it in the target by hand, or let the source say otherwise",
    )


def _merged(
    row: Mapping[str, Any], found: Mapping[str, Any], ownership: Ownership
) -> tuple[dict[str, Any], MergedRow] | None:
    """Return what to send in place of an operation, and what that decides; None where it is sent as it is."""
    owners = ownership.get(row["type_name"])
    if not owners or found["attributes"] is None:
        return None
    if (found["attributes"], found["digest"]) == (row["before_attributes"], row["before_digest"]):
        return None
    if row["action"] == Action.DELETE:
        return _merged_delete(row, found)
    theirs = fields_of(found["attributes"])
    if theirs is None:
        return None
    base = value_of(row["before_attributes"] or "{}")
    merge = merge_three(base, theirs, value_of(row["attributes"]), owners)
    text = canonical_text(merge.attributes).decode()
    sent = {
        **row,
        "action": str(Action.UPDATE),
        "attributes": text,
        "before_attributes": found["attributes"],
        "before_digest": found["digest"],
        "after_digest": content_digest(Kind(row["kind"]), row, text),
        "operation_id": digest(TAG_OPERATION, row["operation_id"], found["digest"]),
    }
    return sent, merged_row(row, merge)


def _merged_delete(
    row: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[dict[str, Any], MergedRow] | None:
    """Return the delete of what was edited past its digest; None where something else is there, which is a conflict."""
    if row["before_digest"] != found["digest"] and row["before_attributes"] != found["attributes"]:
        return None
    sent = {
        **row,
        "before_attributes": found["attributes"],
        "before_digest": found["digest"],
    }
    return sent, merged_row(row, Merge(attributes={}))


def as_merged(operations: pa.Table, merges: Mapping[bytes, MergedOperation]) -> pa.Table:
    """Return operations with what they lead to in truth, for a look at the target."""
    if not merges:
        return operations
    digests = [
        merges[name].after_digest if name in merges else planned
        for name, planned in zip(
            operations["operation_id"].to_pylist(),
            operations["after_digest"].to_pylist(),
            strict=True,
        )
    ]
    at = operations.schema.get_field_index("after_digest")
    field = operations.schema.field(at)
    return operations.set_column(at, field, pa.array(digests, field.type))


def content_digest(kind: Kind, row: Mapping[str, Any], text: str) -> bytes:
    """Return the content digest of one row with these attributes."""
    data = text.encode()
    if kind is Kind.ENTITY:
        return entity_digest(row["type_name"], row["key"], data)
    return relationship_digest(row["type_name"], row["key"], row["to_key"], data)


def settled(
    failures: Sequence[OperationFailure],
    merged: MergedConflicts,
    failed_again: Mapping[bytes, OperationFailure],
) -> list[OperationFailure]:
    """Return the failures that are left, under the ids of the operations that were planned."""
    refused = {failure.operation_id for failure in merged.refused}
    done = {*merged.originals.values(), *merged.already, *refused}
    left = [failure for failure in failures if failure.operation_id not in done]
    again = [
        replace(failure, operation_id=merged.originals[name])
        for name, failure in failed_again.items()
    ]
    return [*left, *again, *merged.refused]
