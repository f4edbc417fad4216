"""Traces: what one batch went through, from its landing to the calls that applied its operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from penstock.identity.digest import digest

Attribute = str | int | float | bool
_TRACE_TAG, _SPAN_TAG = b"T", b"P"


class Span(Protocol):
    """One piece of work that has begun."""

    def note(self, **attributes: Attribute) -> None:
        """Add what became known meanwhile."""
        ...

    @property
    def trace_parent(self) -> str | None:
        """The W3C trace context of what goes on below it elsewhere; None where nobody is told of it."""
        ...


class Tracer(Protocol):
    """Where pieces of work are told to."""

    def span(
        self, name: str, *, parent: str | None = None, **attributes: Attribute
    ) -> AbstractContextManager[Span]:
        """Tell of the work of a block: below ``parent``, a W3C trace context, or below the block around it.

        An exception marks it as failed, and goes on.
        """
        ...


class _Nothing:
    trace_parent: str | None = None

    def note(self, **attributes: Attribute) -> None:
        del attributes


class NoTracer:
    """Tells nobody."""

    @contextmanager
    def span(
        self, name: str, *, parent: str | None = None, **attributes: Attribute
    ) -> Iterator[Span]:
        """Run the block."""
        del name, parent, attributes
        yield _Nothing()


NO_TRACER = NoTracer()


def trace_parent_of(subject: str) -> str:
    """Return the trace context that all work on one subject (a batch id, a workflow's id) belongs to.

    It follows from the id, so that processes that share nothing but the batch tell one story: as W3C Trace Context has
    it, ``00-<trace id, 32 hex>-<parent id, 16 hex>-01``.
    """
    trace = digest(_TRACE_TAG, subject.encode())
    span = digest(_SPAN_TAG, subject.encode())[:8]
    return f"00-{trace.hex()}-{span.hex()}-01"
