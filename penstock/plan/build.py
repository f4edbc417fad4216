"""Building operations: from rows that changed to Arrow tables of ``OPERATION_SCHEMA``, a chunk at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.identity.digest import TAG_OPERATION, U64, column_digests, joined
from penstock.identity.ids import BatchId, TargetId
from penstock.plan.operations import DIGEST, OPERATION_SCHEMA, Action, Verdict
from penstock.plan.waves import waves_of

Rows64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What makes an operation's id its own: the same change planned again from another snapshot is another."""

    target_id: TargetId
    batch_id: BatchId
    snapshot_version: int

    def text(self) -> str:
        """The part of every operation id that the plan's operations share."""
        return f"{self.target_id}|{self.batch_id}|{self.snapshot_version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """Digest halves of some rows, before or after."""

    hash_hi: U64
    hash_lo: U64

    def digests(self) -> pa.Array:
        """Return them as ``fixed_size_binary(16)``."""
        return joined(self.hash_hi, self.hash_lo)


def build_operations(
    *,
    origin: Origin,
    kind: Kind,
    action: Action,
    rows: pa.Table,
    key_hi: U64,
    key_lo: U64,
    before: Side | None,
    after: Side | None,
    batch_rows: Rows64 | None,
    changed: pa.Array | None = None,
    before_attributes: pa.ChunkedArray | None = None,
) -> pa.Table:
    """Return operations of one action on rows of one kind and type, all ``planned``.

    ``rows`` has the columns of ``SCHEMAS[kind]``: the rows after, or before where they are deleted. ``batch_rows``
    are their positions in the batch, None for inferred deletes. ``before_attributes`` is for updates; those of a
    delete are its rows'.
    """
    n = len(rows)
    rows = rows.combine_chunks()
    type_name, key, to_key = _names(kind, rows)
    before_digest = before.digests() if before is not None else pa.nulls(n, DIGEST)
    after_digest = after.digests() if after is not None else pa.nulls(n, DIGEST)
    deletes = action is Action.DELETE
    attributes = pa.nulls(n, pa.string()) if deletes else _column(rows, "attributes")
    image = rows.column("attributes") if deletes else before_attributes
    columns = {
        "operation_id": _operation_ids(
            origin, kind, action, [type_name, key, to_key], before_digest, after_digest
        ),
        "wave": waves_of(kind, key, deletes=deletes),
        "action": _constant(action, n),
        "kind": _constant(kind, n),
        "type_name": type_name,
        "key": key,
        "to_key": to_key,
        "attributes": attributes,
        "before_attributes": pa.nulls(n, pa.string()) if image is None else image,
        "before_digest": before_digest,
        "after_digest": after_digest,
        "changed": changed if changed is not None else pa.nulls(n, pa.list_(pa.string())),
        "key_hi": pa.array(key_hi),
        "key_lo": pa.array(key_lo),
        "row": pa.array(batch_rows if batch_rows is not None else np.full(n, -1, np.int64)),
        "verdict": _constant(Verdict.PLANNED, n),
        "reason": pa.nulls(n, pa.string()),
        "guard": pa.nulls(n, pa.string()),
        "blocked_by": pa.nulls(n, DIGEST),
    }
    return pa.table([columns[name] for name in OPERATION_SCHEMA.names], schema=OPERATION_SCHEMA)


def _names(kind: Kind, rows: pa.Table) -> tuple[pa.Array, pa.Array, pa.Array]:
    if kind is Kind.ENTITY:
        nothing = pa.nulls(len(rows), pa.string())
        return _column(rows, "entity_type"), _column(rows, "entity_key"), nothing
    return (
        _column(rows, "relationship_type"),
        _column(rows, "from_key"),
        _column(rows, "to_key"),
    )


def _column(rows: pa.Table, name: str) -> pa.Array:
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _constant(text: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(str(text), pa.string()), n)


def _operation_ids(
    origin: Origin,
    kind: Kind,
    action: Action,
    names: list[pa.Array],
    before: pa.Array,
    after: pa.Array,
) -> pa.Array:
    n = len(before)
    shared = _constant(f"{origin.text()}|{kind}|{action}", n)
    empty = pa.scalar(b"", pa.binary())
    sides = [pc.fill_null(pc.cast(side, pa.binary()), empty) for side in (before, after)]
    filled = [pc.fill_null(column, "") for column in names]
    digests = column_digests(TAG_OPERATION, [shared, *filled, *sides])
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST, n, [None, pa.py_buffer(digests)])


def judged(
    operations: pa.Table,
    mask: npt.NDArray[np.bool_],
    verdict: Verdict,
    reasons: pa.Array,
    *,
    guard: pa.Array | None = None,
    blocked_by: pa.Array | None = None,
) -> pa.Table:
    """Return the operations with another verdict where ``mask`` is set and they are still ``planned``.

    ``reasons``, and ``guard`` or ``blocked_by`` where they say more, have one value per operation; those outside the
    mask are not looked at.
    """
    if not mask.any():
        return operations
    still = pc.equal(operations.column("verdict"), Verdict.PLANNED.value)
    where = pc.and_(pa.array(mask), still.combine_chunks())
    values = {"verdict": pa.scalar(str(verdict)), "reason": reasons}
    values |= {n: v for n, v in (("guard", guard), ("blocked_by", blocked_by)) if v is not None}
    for name, value in values.items():
        column = operations.column(name).combine_chunks()
        position = operations.schema.get_field_index(name)
        operations = operations.set_column(
            position, OPERATION_SCHEMA.field(name), pc.if_else(where, value, column)
        )
    return operations
