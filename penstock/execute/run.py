"""Executing a plan: its chunks in order, each with an intent before and an outcome after.

A chunk that is recorded as finished is not sent again; one with an intent and no outcome is, which changes nothing
where it took effect, because targets apply each operation id once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from penstock.execute.blocking import Blocking
from penstock.execute.chunks import Applier, ChunkResult
from penstock.plan.operations import Verdict
from penstock.ports.clock import Clock
from penstock.ports.control import ChunkRecord, Claim, Executions, OperationException
from penstock.ports.target import ApplyContext

_NAMES = ["operation_id", "action", "kind", "type_name", "key", "to_key"]
Renew = Callable[[], Claim]


@dataclass(kw_only=True)
class ExecutionResult:
    """What became of a plan's operations."""

    operations: int = 0
    applied: int = 0
    already_applied: int = 0
    exceptions: int = 0


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One plan on its way into one target."""

    applier: Applier
    control: Executions
    clock: Clock
    context: ApplyContext
    renew: Renew
    """Extends the lease where it needs to be, and raises ``LeaseLost`` where it is gone."""
    on_chunk: Callable[[int], None]
    """Called with the operations done so far."""

    def run(
        self,
        chunks: Iterator[pa.Table],
        finished: Mapping[int, ChunkRecord],
        earlier: Sequence[OperationException],
    ) -> ExecutionResult:
        """Execute chunks in order; raises ``TargetDown`` or ``LeaseLost``, either of which may be resumed from."""
        blocking = Blocking()
        for exception in earlier:
            _note(blocking, exception)
        result = ExecutionResult()
        for number, chunk in enumerate(chunks):
            record = finished.get(number)
            if record is not None and record.finished_at is not None:
                _add_record(result, record)
            else:
                self._chunk(number, chunk, blocking, result)
            result.operations += len(chunk)
            self.on_chunk(result.operations)
        return result

    def _chunk(
        self, number: int, chunk: pa.Table, blocking: Blocking, result: ExecutionResult
    ) -> None:
        claim = self.renew()
        planned = pc.equal(chunk["verdict"], Verdict.PLANNED.value)
        exceptions = [*_never_sent(chunk.filter(pc.invert(planned)))]
        to_send, blocked = _without_blocked(chunk.filter(planned), blocking)
        exceptions += blocked
        self.control.start_chunk(claim, number, len(chunk), now=self.clock.now())
        outcome = self.applier.apply(to_send, replace(self.context, now=self.clock.now()))
        exceptions += _failed(to_send, outcome)
        for exception in exceptions:
            _note(blocking, exception)
        self.control.finish_chunk(
            self.renew(),
            number,
            applied=outcome.applied,
            already_applied=outcome.already_applied,
            exceptions=exceptions,
            now=self.clock.now(),
        )
        result.applied += outcome.applied
        result.already_applied += outcome.already_applied
        result.exceptions += len(exceptions)


def _add_record(result: ExecutionResult, record: ChunkRecord) -> None:
    result.applied += record.applied
    result.already_applied += record.already_applied
    result.exceptions += record.failed


def _note(blocking: Blocking, exception: OperationException) -> None:
    blocking.failed(
        kind=exception.kind,
        action=exception.action,
        key=exception.key,
        to_key=exception.to_key,
    )


def _exception(
    row: dict[str, object], *, outcome: str, code: str, message: str
) -> OperationException:
    operation_id = row["operation_id"]
    assert isinstance(operation_id, bytes)
    return OperationException(
        operation_id=operation_id.hex(),
        kind=str(row["kind"]),
        type_name=str(row["type_name"]),
        key=str(row["key"]),
        to_key=None if row["to_key"] is None else str(row["to_key"]),
        action=str(row["action"]),
        outcome=outcome,
        code=code,
        message=message,
    )


def _never_sent(operations: pa.Table) -> Iterator[OperationException]:
    for row in operations.select([*_NAMES, "verdict", "reason"]).to_pylist():
        code = {"refused": "refused_by_plan", "held": "held_by_guard"}.get(
            row["verdict"], "blocked"
        )
        yield _exception(row, outcome=row["verdict"], code=code, message=row["reason"] or "")


def _without_blocked(
    planned: pa.Table, blocking: Blocking
) -> tuple[pa.Table, list[OperationException]]:
    """Take out what earlier failures block; blocked operations block what depends on them in turn."""
    blockers = blocking.blockers(planned)
    if not any(blockers):
        return planned, []
    mask = pa.array([blocker is not None for blocker in blockers])
    keys = [blocker for blocker in blockers if blocker is not None]
    rows = planned.filter(mask).select(_NAMES).to_pylist()
    blocked = [
        _exception(
            row,
            outcome=str(Verdict.BLOCKED),
            code="blocked",
            message=f"blocked by {key!r}, whose own operation did not take effect",
        )
        for row, key in zip(rows, keys, strict=True)
    ]
    return planned.filter(pc.invert(mask)), blocked


def _failed(operations: pa.Table, outcome: ChunkResult) -> list[OperationException]:
    if not outcome.failures:
        return []
    failures = {failure.operation_id: failure for failure in outcome.failures}
    ids = pa.array(list(failures), operations.schema.field("operation_id").type)
    rows = operations.filter(pc.is_in(operations["operation_id"], value_set=ids))
    return [
        _exception(
            row,
            outcome=str(failures[row["operation_id"]].outcome),
            code=failures[row["operation_id"]].code,
            message=failures[row["operation_id"]].message,
        )
        for row in rows.select(_NAMES).to_pylist()
    ]
