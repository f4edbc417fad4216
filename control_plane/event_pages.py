"""The page ``docs/reference/control_events.md`` and the JSON Schemas beside it, as they follow from the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from penstock.events.catalogue import CATALOGUE, example, schema_of
from penstock.events.facts import Direction, EventData

_WHO = {
    Direction.OUT: "told by Penstock",
    Direction.IN: "heard by Penstock",
    Direction.BOTH: "told and heard by Penstock",
}


def event_files() -> Mapping[str, str]:
    """Return what each generated file holds, by its path below ``docs/reference``."""
    schemas = {
        f"events/{name}.schema.json": json.dumps(schema_of(name), indent=2) + "\n"
        for name in CATALOGUE
    }
    return {"control_events.md": "\n".join(_page()) + "\n", **schemas}


def _page() -> Iterator[str]:
    yield from _HEAD
    for name, model in CATALOGUE.items():
        yield f"| [`{name}`](#{name}) | {_WHO[model.DIRECTION]} | `{model.SUBJECT}` | {_summary(model)} |"
    for name, model in CATALOGUE.items():
        yield ""
        yield f"## {name}"
        yield ""
        yield f"{_summary(model)} {_WHO[model.DIRECTION].capitalize()}; [schema](events/{name}.schema.json)."
        yield ""
        yield "```json"
        yield json.dumps(example(name), indent=2)
        yield "```"


def _summary(model: type[EventData]) -> str:
    return " ".join((model.__doc__ or "").split())


_HEAD = (
    "# The control plane's events",
    "",
    "<!-- Generated from penstock/events/catalogue.py by control_plane/reference.py. -->",
    "",
    "Events travel in [CloudEvents 1.0](https://cloudevents.io) envelopes: `type` is a name of this page, `source`",
    "is `/penstock` in what Penstock tells, `subject` is what the event is about, `tenant` is an extension",
    "attribute that says whose it is, and `data` is a JSON object of the schema given. Every event is told at least",
    "once, those of one subject in order; `id` is the same each time. An event holds no attributes of entities, no",
    "text quoted in error messages and no secrets. Events of tenant `*` concern the whole platform.",
    "",
    "[Send events elsewhere](../howto/send_events_elsewhere.md) says how to receive them, and how to send those that",
    "Penstock hears.",
    "",
    "| type | direction | subject | what it says |",
    "|---|---|---|---|",
)
