"""Executing a plan: its chunks in order, each with an intent before and an outcome after.

A chunk that is recorded as finished is not sent again; one with an intent and no outcome is, which changes nothing
where it took effect, because targets apply each operation id once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from penstock.execute.blocking import Blocker, Blocking
from penstock.execute.chunks import Applier, ChunkResult
from penstock.execute.merging import as_merged
from penstock.execute.putting_off import OpenChunk, PutOff, ids_of, without
from penstock.execute.verify import ALL, LOST_WRITE, lost_operations
from penstock.plan.merge import MergedRow
from penstock.plan.operations import Verdict
from penstock.ports.clock import Clock
from penstock.ports.control import ChunkRecord, Claim, Executions, OperationException
from penstock.ports.target import ApplyContext, Lack

_NAMES = ["operation_id", "action", "kind", "type_name", "key", "to_key"]
Renew = Callable[[], Claim]


@dataclass(kw_only=True)
class ExecutionResult:
    """What became of a plan's operations."""

    operations: int = 0
    applied: int = 0
    already_applied: int = 0
    exceptions: int = 0
    lost: int = 0
    """Of these, in this run."""
    merged: int = 0
    """Operations, in this run, in which something that somebody changed in the target was kept or put back."""


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
    on_merged: Callable[[int, Sequence[MergedRow]], None] = lambda _number, _rows: None
    """Called with what was merged of a chunk, before its outcome is recorded; again where a chunk is sent again."""
    verify_sample: int = 0
    """How many applied operations of each chunk are read back; ``ALL`` for all of them."""

    def run(
        self,
        chunks: Iterator[pa.Table],
        finished: Mapping[int, ChunkRecord],
        earlier: Iterable[OperationException],
    ) -> ExecutionResult:
        """Execute chunks in order; raises ``TargetDown`` or ``LeaseLost``, either of which may be resumed from."""
        blocking = Blocking()
        culprits = {e.operation_id: e.blocked_by or e.operation_id for e in earlier}
        result = ExecutionResult()
        put_off = PutOff()
        for number, chunk in enumerate(chunks):
            if put_off.is_over(chunk):
                self._complete(put_off, blocking, result)
                put_off = PutOff()
            record = finished.get(number)
            if record is not None and record.finished_at is not None:
                _add_record(result, record)
                if record.failed:
                    _note_earlier(blocking, chunk, culprits)
            else:
                self._chunk(number, chunk, blocking, put_off, result)
            result.operations += len(chunk)
            self.on_chunk(result.operations)
        if put_off.chunks:
            self._complete(put_off, blocking, result)
        return result

    def _chunk(
        self,
        number: int,
        chunk: pa.Table,
        blocking: Blocking,
        put_off: PutOff,
        result: ExecutionResult,
    ) -> None:
        claim = self.renew()
        planned = pc.equal(chunk["verdict"], Verdict.PLANNED.value)
        exceptions = [*_never_sent(chunk.filter(pc.invert(planned)))]
        to_send, blocked = _without_blocked(chunk.filter(planned), blocking)
        exceptions += blocked
        waiting = put_off.waiting(to_send)
        to_send = without(to_send, waiting)
        self.control.start_chunk(claim, number, len(chunk), now=self.clock.now())
        outcome = self.applier.apply(to_send, self.context)
        incomplete = put_off.incomplete(to_send, outcome.failures)
        failed = _failed(without(to_send, incomplete), outcome)
        lost = self._lost(to_send, outcome, looks=1 if result.lost else self._looks())
        exceptions += [*failed, *lost]
        for exception in exceptions:
            _note(blocking, exception)
        said = len(to_send) - len(failed) - len(incomplete)
        applied, already_applied = _counts(outcome, said, len(lost))
        so_far = OpenChunk(
            number=number,
            applied=applied,
            already_applied=already_applied,
            exceptions=exceptions,
            data=_data_of(chunk, exceptions),
            merged=_merged_rows(outcome, exceptions),
            lost=len(lost),
            put_off=pa.concat_tables([waiting, incomplete]),
        )
        if len(so_far.put_off):
            put_off.chunks.append(so_far)
        else:
            self._finish(so_far, result)

    def _complete(self, put_off: PutOff, blocking: Blocking, result: ExecutionResult) -> None:
        """Send what was put off once more, all at once, and finish the chunks that it is of."""
        self.renew()
        sent = put_off.operations()
        outcome = self.applier.apply(sent, self.context)
        failed = _failed_together(sent, outcome, blocking)
        lost = self._lost(sent, outcome, looks=self._looks())
        for exception in lost:
            _note(blocking, exception)
        ends = {exception.operation_id: exception for exception in [*failed, *lost]}
        before = outcome.already_applied
        for chunk in put_off.chunks:
            own = {operation_id.hex() for operation_id in ids_of(chunk.put_off)}
            exceptions = [ends[each] for each in sorted(own & set(ends))]
            done = len(own) - len(exceptions)
            already, before = min(before, done), before - min(before, done)
            chunk.applied += done - already
            chunk.already_applied += already
            chunk.exceptions += exceptions
            chunk.data |= _data_of(chunk.put_off, exceptions)
            chunk.merged += [
                row for row in _merged_rows(outcome, exceptions) if row.operation_id in own
            ]
            chunk.lost += sum(exception.outcome == "lost" for exception in exceptions)
            self._finish(chunk, result)

    def _finish(self, chunk: OpenChunk, result: ExecutionResult) -> None:
        if chunk.merged:
            self.on_merged(chunk.number, chunk.merged)
        self.control.finish_chunk(
            self.renew(),
            chunk.number,
            applied=chunk.applied,
            already_applied=chunk.already_applied,
            exceptions=chunk.exceptions,
            data=chunk.data,
            now=self.clock.now(),
        )
        result.applied += chunk.applied
        result.already_applied += chunk.already_applied
        result.exceptions += len(chunk.exceptions)
        result.lost += chunk.lost
        result.merged += len(chunk.merged)

    def _looks(self) -> int:
        return 1 + self.applier.retry_policy.immediate_tries

    def _lost(
        self, sent: pa.Table, outcome: ChunkResult, *, looks: int
    ) -> list[OperationException]:
        """Return what the target said it applied and does not hold, as far as it is looked at."""
        lost = lost_operations(
            self.applier,
            self.context.source_id,
            as_merged(sent, outcome.merged),
            [failure.operation_id for failure in outcome.failures],
            sample=ALL if outcome.unsure else self.verify_sample,
            looks=looks,
        )
        said = "the target said that it took effect; read back, it did not"
        return [
            _exception(row, outcome="lost", code=LOST_WRITE, message=said)
            for row in lost.select(_NAMES).to_pylist()
        ]


def _counts(outcome: ChunkResult, said: int, lost: int) -> tuple[int, int]:
    """Return how many operations took effect now, and how many had before; ``said`` is of both, before a look."""
    if outcome.unsure:
        return said - lost, 0
    from_before = min(outcome.already_applied, said - lost)
    return said - lost - from_before, from_before


def _merged_rows(outcome: ChunkResult, exceptions: Sequence[OperationException]) -> list[MergedRow]:
    """Return what was decided by field about what took effect."""
    failed = {exception.operation_id for exception in exceptions}
    rows = (merged.row for merged in outcome.merged.values())
    return [row for row in rows if row.decides and row.operation_id not in failed]


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
        culprit=exception.blocked_by or exception.operation_id,
    )


def _note_earlier(blocking: Blocking, chunk: pa.Table, culprits: Mapping[str, str]) -> None:
    """Note what failed in a chunk that is finished, by the plan's keys: a recorded key may have lost characters."""
    for row in chunk.select(_NAMES).to_pylist():
        if (culprit := culprits.get(row["operation_id"].hex())) is not None:
            blocking.failed(
                kind=row["kind"],
                action=row["action"],
                key=row["key"],
                to_key=row["to_key"],
                culprit=culprit,
            )


_PLANNED_CODES = {
    Verdict.REFUSED: "refused_by_plan",
    Verdict.HELD: "held_by_guard",
    Verdict.BLOCKED: "blocked_by_plan",
}
_LETTERS = frozenset({"refused", "rejected", "conflict", "lost"})
"""Outcomes that make an operation a dead letter."""


def _data_of(chunk: pa.Table, exceptions: Sequence[OperationException]) -> dict[str, str]:
    """Return the attributes, as planned, of the operations that become dead letters, by operation id in hex."""
    wanted = [bytes.fromhex(e.operation_id) for e in exceptions if e.outcome in _LETTERS]
    if not wanted:
        return {}
    ids = pa.array(wanted, chunk.schema.field("operation_id").type)
    rows = chunk.filter(pc.is_in(chunk["operation_id"], value_set=ids))
    return {
        row["operation_id"].hex(): row["attributes"]
        for row in rows.select(["operation_id", "attributes"]).to_pylist()
        if row["attributes"] is not None
    }


def _exception(
    row: dict[str, object],
    *,
    outcome: str,
    code: str,
    message: str,
    guard: str | None = None,
    blocked_by: str | None = None,
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
        guard=guard,
        blocked_by=blocked_by,
    )


def _never_sent(operations: pa.Table) -> Iterator[OperationException]:
    columns = [*_NAMES, "verdict", "reason", "guard", "blocked_by"]
    for row in operations.select(columns).to_pylist():
        code = _PLANNED_CODES[Verdict(row["verdict"])]
        yield _exception(
            row,
            outcome=row["verdict"],
            code=code,
            message=row["reason"] or "",
            guard=row["guard"],
            blocked_by=row["blocked_by"].hex() if row["blocked_by"] else None,
        )


def _without_blocked(
    planned: pa.Table, blocking: Blocking
) -> tuple[pa.Table, list[OperationException]]:
    """Take out what earlier failures block; blocked operations block what depends on them in turn."""
    blockers = blocking.blockers(planned)
    if not any(blockers):
        return planned, []
    mask = pa.array([blocker is not None for blocker in blockers])
    found = [blocker for blocker in blockers if blocker is not None]
    rows = planned.filter(mask).select(_NAMES).to_pylist()
    blocked = [_blocked(row, blocker) for row, blocker in zip(rows, found, strict=True)]
    return planned.filter(pc.invert(mask)), blocked


def _blocked(row: dict[str, object], blocker: Blocker) -> OperationException:
    return _exception(
        row,
        outcome=str(Verdict.BLOCKED),
        code="blocked",
        message=f"blocked by {blocker.key!r}, whose own operation did not take effect",
        blocked_by=blocker.culprit,
    )


def _failed_together(
    operations: pa.Table, outcome: ChunkResult, blocking: Blocking
) -> list[OperationException]:
    """Return what failed of entities of several waves, containers first: what lies in a failed one is blocked by it."""
    uncontained = {f.operation_id.hex() for f in outcome.failures if f.lacks is Lack.CONTAINER}
    rows = {
        row["operation_id"].hex(): n for n, row in enumerate(operations.select(_NAMES).to_pylist())
    }
    found = []
    for exception in _failed(operations, outcome):
        n = rows[exception.operation_id]
        row = operations.slice(n, 1)
        (blocker,) = blocking.blockers(row)
        end = exception
        if exception.operation_id in uncontained and blocker is not None:
            end = _blocked(row.select(_NAMES).to_pylist()[0], blocker)
        _note(blocking, end)
        found.append(end)
    return found


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
