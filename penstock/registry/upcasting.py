"""Old forms of events, brought up to date as they are read.

The log is never rewritten. When the form of an event's state or data changes, its ``event_version`` grows by one, and
a pure function from the old form to the new one is added to :data:`CURRENT`; readers see the newest form alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from penstock.errors import PenstockError
from penstock.registry.events import EventAction, RecordedEvent, StreamKind


class EventTooNew(PenstockError):
    """A newer Penstock has written an event that this one cannot read."""

    code = "event_too_new"


class Form(NamedTuple):
    """What an upcaster changes: the state after an event, and its data."""

    state: Mapping[str, Any] | None
    data: Mapping[str, Any]


Step = Callable[[Form], Form]
"""From one version of a form to the next; pure, so that a log reads alike wherever it is read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upcasters:
    """Steps by the kind, action and version that they begin at."""

    steps: Mapping[tuple[StreamKind, EventAction, int], Step] = field(default_factory=dict)

    def newest(self, kind: StreamKind, action: EventAction) -> int:
        """Return the version that events of a kind and action have after upcasting: what to write new ones as."""
        version = 1
        while (kind, action, version) in self.steps:
            version += 1
        return version

    def upcast(self, event: RecordedEvent) -> RecordedEvent:
        """Return an event in its newest form; raises :class:`EventTooNew` for one from the future."""
        kind, action = event.stream.kind, event.action
        newest = self.newest(kind, action)
        if event.event_version == newest:
            return event
        if event.event_version > newest:
            raise EventTooNew(
                f"event {event.operation_id.hex()} ({action} of {kind} {event.stream.key!r}) has version "
                f"{event.event_version}, and this Penstock knows {newest} at most: upgrade it"
            )
        form = Form(event.state, event.data)
        for version in range(event.event_version, newest):
            form = self.steps[kind, action, version](form)
        return replace(event, state=form.state, data=form.data, event_version=newest)


CURRENT = Upcasters()
"""Every event is in its first form so far."""
