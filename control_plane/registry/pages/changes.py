"""The changes of one entity as its page shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.web.frame import shown_json
from penstock.diff.fields import FieldChange
from penstock.registry.attributes import plain
from penstock.registry.events import EventAction, RecordedEvent
from penstock.use_cases.registry_queries import History

_SAID = ("reason", "comment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One difference."""

    path: str
    """Where, e.g. ``columns[2].type``; empty for all of it."""
    has_before: bool
    before: str
    has_after: bool
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One event."""

    version: int
    action: str
    recorded_at: datetime
    actor: str
    schema_version: int | None
    said: str
    """What who did it said about it."""
    rows: tuple[Row, ...]


def shown_changes(history: History) -> list[Change]:
    """Return a stretch of a history as its page shows it, oldest first."""
    return [_change(item.event, item.changes) for item in history.items]


def _change(event: RecordedEvent, changes: Sequence[FieldChange]) -> Change:
    said = [str(event.data[name]) for name in _SAID if event.data.get(name)]
    return Change(
        version=event.version,
        action=str(event.action),
        recorded_at=event.recorded_at,
        actor=event.actor,
        schema_version=event.schema_version,
        said="; ".join(said),
        rows=tuple(_rows(changes) if event.action is not EventAction.CREATE else _first(event)),
    )


def _first(event: RecordedEvent) -> Iterator[Row]:
    """Of what was made, all is new."""
    for name, value in plain(event.state or {}).items():
        yield Row(path=name, has_before=False, before="", has_after=True, after=shown_json(value))


def _rows(changes: Sequence[FieldChange]) -> Iterator[Row]:
    for change in changes:
        yield Row(
            path=change.path,
            has_before=change.change != "added",
            before=shown_json(change.before),
            has_after=change.change != "removed",
            after=shown_json(change.after),
        )
