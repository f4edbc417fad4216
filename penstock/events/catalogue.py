"""The catalogue: every type of event, with the model of its data, who tells whom, and an example.

``docs/reference/control_events.md`` and the JSON Schemas beside it are generated from this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from penstock.errors import BadEvent
from penstock.events.examples import EXAMPLES
from penstock.events.facts import Direction, EventData
from penstock.events.incoming import ArchiveDiscovered, CollectionCompleted, CollectionFailed
from penstock.events.publishing import (
    BatchFailed,
    BatchLanded,
    BatchPostponed,
    BatchPublished,
    BatchRequeued,
    BatchWithdrawn,
    BreakerClosed,
    BreakerOpened,
    DeadLetterCreated,
    DeadLetterRequeued,
    DeadLetterSettled,
    HoldDecided,
    LeaseLost,
    PlanHeld,
    SourcePaused,
    SourceResumed,
    TargetPaused,
    TargetResumed,
)
from penstock.events.workflows import (
    DestinationDisabled,
    IncidentOpened,
    IncidentResolved,
    TaskAssigned,
    TaskCompleted,
    TaskFailed,
    WorkerStatusChanged,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowStarted,
)

_MODELS: tuple[type[EventData], ...] = (
    BatchLanded,
    BatchPublished,
    BatchPostponed,
    BatchFailed,
    BatchWithdrawn,
    BatchRequeued,
    LeaseLost,
    PlanHeld,
    HoldDecided,
    DeadLetterCreated,
    DeadLetterRequeued,
    DeadLetterSettled,
    BreakerOpened,
    BreakerClosed,
    SourcePaused,
    SourceResumed,
    TargetPaused,
    TargetResumed,
    WorkflowCreated,
    WorkflowStarted,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowCancelled,
    TaskAssigned,
    TaskCompleted,
    TaskFailed,
    WorkerStatusChanged,
    DestinationDisabled,
    IncidentOpened,
    IncidentResolved,
    ArchiveDiscovered,
    CollectionCompleted,
    CollectionFailed,
)
CATALOGUE: Mapping[str, type[EventData]] = {model.TYPE: model for model in _MODELS}
"""The model of each type's data, by the type's name."""
TOLD = tuple(name for name, model in CATALOGUE.items() if model.DIRECTION is not Direction.IN)
"""The types that Penstock tells."""
HEARD = tuple(name for name, model in CATALOGUE.items() if model.DIRECTION is not Direction.OUT)
"""The types that Penstock hears."""


def example(event_type: str) -> dict[str, Any]:
    """Return the data of an event of a type as an example."""
    return dict(EXAMPLES[event_type])


def heard(event_type: str, data: object) -> EventData:
    """Return the data of an event that came in; raises :class:`~penstock.errors.BadEvent` if none such is heard."""
    model = CATALOGUE.get(event_type)
    if model is None or model.DIRECTION is Direction.OUT:
        raise BadEvent(
            f"events of type {event_type!r} are not heard here; these are: {', '.join(HEARD)}"
        )
    return _checked(model, data)


def checked(event_type: str, data: object) -> EventData:
    """Return the data of an event of any type in the catalogue, or raise :class:`~penstock.errors.BadEvent`."""
    model = CATALOGUE.get(event_type)
    if model is None:
        raise BadEvent(
            f"there is no event {event_type!r}; docs/reference/control_events.md has all"
        )
    return _checked(model, data)


def _checked(model: type[EventData], data: object) -> EventData:
    try:
        # Strict JSON has no moments, so texts are read as such.
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "data"
        raise BadEvent(
            f"{where} of {model.TYPE!r} is wrong: {first['msg']}. Its JSON Schema is "
            f"docs/reference/events/{model.TYPE}.schema.json"
        ) from None


def schema_of(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema of the data of a type of event."""
    model = CATALOGUE[event_type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:penstock:event:{event_type}",
        **model.model_json_schema(mode="validation"),
        "title": event_type,
        "examples": [example(event_type)],
    }
