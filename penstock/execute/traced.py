"""A target whose calls are told of: one span for each, with what it was sent and what it said."""

from __future__ import annotations

from typing import assert_never

import pyarrow as pa

from penstock.batch.rows import Kind
from penstock.identity.ids import SourceId, TargetId
from penstock.ports.target import (
    Applied,
    ApplyContext,
    ApplyOutcome,
    Rejected,
    Target,
    Unavailable,
    Unknown,
)
from penstock.ports.tracing import Span, Tracer

MOST_NAMED = 20
"""Operations that a span names by their ids; larger chunks are named by their number and the first and last id."""


class TracedTarget:
    """A :class:`penstock.ports.target.Target` over another."""

    def __init__(self, target: Target, tracer: Tracer) -> None:
        self._target, self._tracer = target, tracer

    @property
    def target_id(self) -> TargetId:
        """The other's."""
        return self._target.target_id

    def prepare(self) -> None:
        """Prepare the other."""
        self._target.prepare()

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Have the other apply a chunk, and tell of it."""
        with self._tracer.span(
            "penstock.apply",
            target=self.target_id,
            operations=operations.num_rows,
            operation_ids=_named(operations),
            fencing_token=context.fencing_token,
        ) as span:
            outcome = self._target.apply(operations, context)
            _note(span, outcome)
            return outcome

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Have the other say what it holds, and tell of it."""
        with self._tracer.span("penstock.read_back", target=self.target_id, keys=keys.num_rows):
            return self._target.read_back(source, kind, keys)


def _named(operations: pa.Table) -> str:
    ids = operations.column("operation_id")
    if len(ids) <= MOST_NAMED:
        return " ".join(bytes(value.as_py()).hex() for value in ids)
    return f"{bytes(ids[0].as_py()).hex()} ... {bytes(ids[-1].as_py()).hex()}"


def _note(span: Span, outcome: ApplyOutcome) -> None:
    match outcome:
        case Applied():
            span.note(outcome="applied", failed=len(outcome.failures))
        case Rejected():
            span.note(outcome="rejected", code=outcome.code)
        case Unavailable():
            span.note(outcome="unavailable")
        case Unknown():
            span.note(outcome="unknown")
        case _:
            assert_never(outcome)
