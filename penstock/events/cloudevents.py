"""Envelopes as CloudEvents 1.0 has them: as JSON, and as headers beside the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from penstock.errors import BadEvent
from penstock.events.catalogue import heard
from penstock.events.envelope import OutboxEvent
from penstock.identity.ids import TenantId
from penstock.identity.trace import read_trace_parent

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_DATA_BYTES = 64 * 1024
"""Longer data is refused."""
MAX_DEPTH = 16
"""Deeper data is refused."""
_LONGEST = {"id": 255, "source": 500, "type": 63, "subject": 500}


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An event that came in, checked."""

    event_id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: Mapping[str, Any]
    tenant_id: TenantId | None
    """As the envelope says; who sends it may say so only for a tenant of theirs."""
    trace_parent: str | None


def structured(event: OutboxEvent) -> dict[str, Any]:
    """Return an event that is told as a JSON object."""
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "tenant": event.tenant_id,
        "datacontenttype": "application/json",
        "data": event.data,
    }
    if event.trace_parent is not None:
        envelope["traceparent"] = event.trace_parent
    return envelope


def read_structured(envelope: object, *, now: datetime) -> Heard:
    """Read an event from a JSON object; raises :class:`~penstock.errors.BadEvent` that says what is wrong."""
    if not isinstance(envelope, Mapping):
        raise BadEvent("an event is a JSON object in a CloudEvents 1.0 envelope")
    if "data_base64" in envelope:
        raise BadEvent("data_base64 is not taken: send the data as a JSON object in `data`")
    return _read(envelope, envelope.get("data"), now)


def read_binary(headers: Mapping[str, str], data: object, *, now: datetime) -> Heard:
    """Read an event whose attributes are headers, ``ce-id`` and so on, and whose body is the data."""
    prefixed = {name.lower(): value for name, value in headers.items()}
    attributes = {
        name.removeprefix("ce-"): unquote(value)
        for name, value in prefixed.items()
        if name.startswith("ce-")
    }
    if "traceparent" not in attributes and "traceparent" in prefixed:
        attributes["traceparent"] = prefixed["traceparent"]
    return _read(attributes, data, now)


def _read(attributes: Mapping[str, Any], data: object, now: datetime) -> Heard:
    if attributes.get("specversion") != "1.0":
        raise BadEvent('specversion has to be "1.0": this takes CloudEvents 1.0')
    event_type = _text(attributes, "type")
    _check_depth(data)
    checked = heard(event_type, data)
    return Heard(
        event_id=_text(attributes, "id"),
        source=_text(attributes, "source"),
        type=event_type,
        subject=_text(attributes, "subject") if "subject" in attributes else checked.subject,
        time=_moment(attributes["time"]) if attributes.get("time") is not None else now,
        data=checked.as_json(),
        tenant_id=None if "tenant" not in attributes else TenantId(_text(attributes, "tenant")),
        trace_parent=read_trace_parent(attributes.get("traceparent")),
    )


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    longest = _LONGEST.get(name, 63)
    if not isinstance(value, str) or not value or len(value) > longest:
        raise BadEvent(f"{name} has to be a text of 1 to {longest} characters")
    return value


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadEvent("time has to be an RFC 3339 moment with its zone: 2026-11-20T19:24:14Z")
    return moment


def _check_depth(data: object, left: int = MAX_DEPTH) -> None:
    if left == 0:
        raise BadEvent(f"data is nested deeper than {MAX_DEPTH}")
    children: Iterable[object] = ()
    if isinstance(data, Mapping):
        children = data.values()
    elif isinstance(data, list):
        children = data
    for child in children:
        _check_depth(child, left - 1)
