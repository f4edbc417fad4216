"""Operations that are put off until all other entities of a plan have been applied, and the chunks that wait.

An entity may name another one that a later wave creates: the target refuses it for now. It is put off, and what lies in
it with it, and all of them are sent once more together before anything refers to entities. A chunk is finished when
the last of its operations is: after a kill it is sent again whole, which changes nothing where it took effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.execute.blocking import Blocking
from penstock.plan.merge import MergedRow
from penstock.ports.control import OperationException
from penstock.ports.target import Lack, OperationFailure

MOST = 10_000
"""Operations that are put off of one plan: as many as are sent in one call. Those beyond are refused."""


@dataclass(kw_only=True)
class OpenChunk:
    """What is known so far of a chunk, and which of its operations are put off."""

    number: int
    applied: int
    already_applied: int
    exceptions: list[OperationException]
    data: dict[str, str]
    """Attributes of what becomes a dead letter, by operation id in hex."""
    merged: list[MergedRow]
    lost: int
    put_off: pa.Table


@dataclass(kw_only=True)
class PutOff:
    """The operations of one plan that are put off."""

    chunks: list[OpenChunk] = field(default_factory=list)
    _blocking: Blocking = field(default_factory=Blocking)
    _count: int = 0

    def waiting(self, operations: pa.Table) -> pa.Table:
        """Return those of a chunk that lie in what is put off, as far as there is room for them."""
        blockers = self._blocking.blockers(operations)
        mask = pa.array([blocker is not None for blocker in blockers], pa.bool_())
        return self._noted(operations.filter(mask))

    def incomplete(self, operations: pa.Table, failures: Sequence[OperationFailure]) -> pa.Table:
        """Return those that were refused for what a later operation may bring, as far as there is room for them."""
        ids = [each.operation_id for each in failures if each.lacks is Lack.REFERENCE]
        if not ids:
            return operations.slice(0, 0)
        wanted = pa.array(ids, operations.schema.field("operation_id").type)
        return self._noted(
            operations.filter(pc.is_in(operations["operation_id"], value_set=wanted))
        )

    def _noted(self, operations: pa.Table) -> pa.Table:
        operations = operations.slice(0, MOST - self._count)
        self._count += len(operations)
        names = ["operation_id", "kind", "action", "key", "to_key"]
        for row in operations.select(names).to_pylist():
            self._blocking.failed(
                kind=row["kind"],
                action=row["action"],
                key=row["key"],
                to_key=row["to_key"],
                culprit=row["operation_id"].hex(),
            )
        return operations

    def is_over(self, chunk: pa.Table) -> bool:
        """Say whether a chunk may refer to entities, so that what is put off has to come before it."""
        return bool(self.chunks) and (
            chunk["kind"][0].as_py() != Kind.ENTITY or chunk["after_digest"].null_count > 0
        )

    def operations(self) -> pa.Table:
        """Return all that is put off, containers first."""
        table = pa.concat_tables([chunk.put_off for chunk in self.chunks])
        return table.sort_by([("wave", "ascending"), ("key", "ascending")])


def without(operations: pa.Table, some: pa.Table) -> pa.Table:
    """Return operations but for some of them."""
    if not len(some):
        return operations
    known = pc.is_in(operations["operation_id"], value_set=some["operation_id"].combine_chunks())
    return operations.filter(pc.invert(known))


def ids_of(operations: pa.Table) -> Iterator[bytes]:
    """Yield the ids of operations."""
    yield from operations["operation_id"].to_pylist()
