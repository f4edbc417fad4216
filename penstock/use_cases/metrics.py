"""Metrics: folding the outbox's events into tallies, and reading how things stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.events.measures import tallies_of
from penstock.ports.metrics import Metrics

AT_ONCE = 1_000
ReadOutbox = Callable[[OutboxCursor, int], Sequence[OutboxEvent]]
"""Returns at most so many events after a place in the outbox, in the order of commits."""


def fold_events(metrics: Metrics, read: ReadOutbox, *, at_once: int = AT_ONCE) -> int:
    """Fold what the outbox has gained into the tallies; returns how many events that were.

    Of several servers that fold at once one counts: the others find the cursor moved, and change nothing.
    """
    since = metrics.tallied_to()
    events = read(since, at_once)
    if not events:
        return 0
    if not metrics.add_tallies(tallies_of(list(events)), since=since, to=events[-1].cursor):
        return 0
    return len(events)
