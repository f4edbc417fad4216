"""Which events a workflow may wait for, and which it may not.

No workflow may set off itself, nor two each other: so whatever a turn can bring about may be waited for only if the
event says which turn that was. ``docs/reference/workflow_states.md`` lists both from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


class Origin(StrEnum):
    """How it is known which workflow is behind an event."""

    OUTSIDE = "outside"
    """None is: somebody outside, or a person, brings it about."""
    TASK = "task"
    """The one whose task it names."""
    BATCH = "batch"
    """Those that collected its batch or, of a correction, the batch that it corrects."""
    WORKFLOW = "workflow"
    """The one that it is about."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """One type of event that a workflow may wait for."""

    origin: Origin
    when: str
    """When it begins a turn."""
    has_source: bool = True
    """Whether it is about a source."""
    comes_in: bool = False
    """Whether others tell Penstock; what Penstock itself tells is read from the outbox."""


_O = Origin
AWAITED: Mapping[str, Awaited] = {
    "archive_discovered": Awaited(_O.OUTSIDE, "There is something new to collect.", comes_in=True),
    "collection_completed": Awaited(_O.TASK, "A task to collect is done.", comes_in=True),
    "collection_failed": Awaited(_O.TASK, "A task to collect has failed.", comes_in=True),
    "worker_status_changed": Awaited(
        _O.OUTSIDE,
        "A worker said that it is here, drains or goes.",
        has_source=False,
        comes_in=True,
    ),
    "batch_landed": Awaited(_O.BATCH, "A batch was admitted."),
    "batch_published": Awaited(_O.BATCH, "A batch is complete in a target: once for each."),
    "batch_failed": Awaited(
        _O.BATCH, "A batch was given up or cancelled; not one that a newer batch has overtaken."
    ),
    "plan_held": Awaited(_O.BATCH, "Guards hold operations of a batch back."),
    "hold_decided": Awaited(_O.BATCH, "Somebody approved or rejected what was held."),
    "dead_letter_created": Awaited(
        _O.BATCH, "Dead letters of a batch, for each cause; not those of what never was a batch."
    ),
    "source_paused": Awaited(_O.OUTSIDE, "Somebody paused a source."),
    "source_resumed": Awaited(_O.OUTSIDE, "Somebody resumed a source."),
    "target_paused": Awaited(_O.OUTSIDE, "Somebody paused a target.", has_source=False),
    "target_resumed": Awaited(_O.OUTSIDE, "Somebody resumed a target.", has_source=False),
    "workflow_completed": Awaited(
        _O.WORKFLOW, "A turn of another workflow ended well.", has_source=False
    ),
    "workflow_failed": Awaited(_O.WORKFLOW, "A turn of another workflow failed.", has_source=False),
    "workflow_cancelled": Awaited(
        _O.WORKFLOW, "Somebody cancelled another workflow.", has_source=False
    ),
}
"""What may be waited for; :data:`AwaitedType` names the same."""
TOLD_AWAITED = tuple(name for name, awaited in AWAITED.items() if not awaited.comes_in)
"""Those that Penstock itself tells."""

_UNDER_WAY = "it is on its way, and what comes of it is told: wait for {}"
_LETTERS = _UNDER_WAY.format("batch_published, batch_failed or dead_letter_created")
_BATCHES = _UNDER_WAY.format("batch_published or batch_failed")
_TURNS = _UNDER_WAY.format("workflow_completed, workflow_failed or workflow_cancelled")
_TASKS = "it is a step within a turn: wait for workflow_completed or workflow_failed, or for the batch that comes of it"
_ANYBODY = "it does not say which workflow is behind it, so that one could set off itself: {}"
_BREAKER = _ANYBODY.format("whatever is published to a target opens and closes its breaker")
_INCIDENT = _ANYBODY.format("incidents follow from whatever a source has brought lately")
NOT_AWAITED: Mapping[str, str] = {
    "batch_postponed": _BATCHES,
    "batch_withdrawn": "nothing has changed with it: the batch stands as it stood",
    "batch_requeued": _BATCHES,
    "lease_lost": _BATCHES,
    "dead_letter_requeued": _LETTERS,
    "dead_letter_settled": _ANYBODY.format("a newer batch settles the dead letters of older ones"),
    "breaker_opened": _BREAKER,
    "breaker_closed": _BREAKER,
    "workflow_created": _TURNS,
    "workflow_started": _TURNS,
    "workflow_paused": _TURNS,
    "workflow_resumed": _TURNS,
    "task_assigned": _TASKS,
    "task_completed": _TASKS,
    "task_failed": _TASKS,
    "destination_disabled": _ANYBODY.format("whatever is told can disable a destination"),
    "incident_opened": _INCIDENT,
    "incident_resolved": _INCIDENT,
}
"""Why no workflow can wait for the others."""


def _may_be_awaited(name: object) -> object:
    why = NOT_AWAITED.get(name) if isinstance(name, str) else None
    if why is None:
        return name
    raise PydanticCustomError(
        "not_awaited",
        "no workflow can wait for '{name}': {why}. It can wait for: {can}",
        {"name": name, "why": why, "can": ", ".join(AWAITED)},
    )


AwaitedType = Annotated[
    Literal[
        "archive_discovered",
        "collection_completed",
        "collection_failed",
        "worker_status_changed",
        "batch_landed",
        "batch_published",
        "batch_failed",
        "plan_held",
        "hold_decided",
        "dead_letter_created",
        "source_paused",
        "source_resumed",
        "target_paused",
        "target_resumed",
        "workflow_completed",
        "workflow_failed",
        "workflow_cancelled",
    ],
    BeforeValidator(_may_be_awaited),
]
"""A type of event that a workflow may wait for."""
