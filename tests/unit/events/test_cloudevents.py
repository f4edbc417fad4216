"""Envelopes come in as JSON or as headers, and what is wrong with one is said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.errors import BadEvent
from penstock.events.catalogue import example
from penstock.events.cloudevents import read_binary, read_structured, structured
from penstock.events.facts import PLATFORM_TENANT
from penstock.identity.ids import TenantId
from penstock.use_cases.handle_events import arrival_of, key_of
from penstock.use_cases.take_events import arrival_of_message, read_events
from tests.unit.events.test_delivery import event

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def envelope(**fields: Any) -> dict[str, Any]:
    """An event as others send it."""
    values = {
        "specversion": "1.0",
        "id": "1",
        "source": "/collector",
        "type": "archive_discovered",
        "data": example("archive_discovered"),
    }
    return {**values, **fields}


def test_both_modes_say_the_same() -> None:
    """An event in headers is the event in JSON; its subject is its data's without one, and its time now."""
    headers = {
        "Ce-Specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/collector",
        "ce-type": "archive_discovered",
        "content-type": "application/json",
    }
    read = read_structured(envelope(), now=NOW)
    assert read == read_binary(headers, example("archive_discovered"), now=NOW)
    assert (read.subject, read.time) == ("sql_catalog", NOW)


def test_what_is_told_is_an_envelope() -> None:
    """What Penstock sends has every attribute that CloudEvents asks for, and whose it is."""
    told = structured(event(data={"a": 1}, trace_parent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    assert {"specversion", "id", "source", "type"} <= set(told)
    assert told["time"] == "2026-01-01T00:00:00Z"
    assert (told["tenant"], told["traceparent"][:2]) == ("acme", "00")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id has to be"),
        ({"id": "x" * 256}, "id has to be"),
        ({"source": None}, "source has to be"),
        ({"type": "batch_published"}, "not heard here"),
        ({"type": 1}, "type has to be"),
        ({"time": "yesterday"}, "time has to be"),
        ({"time": "2026-01-01T00:00:00"}, "time has to be"),
        ({"data": None}, "archive_discovered"),
        ({"data": {"source_id": "NO SLUG", "archive": "a"}}, "source_id"),
        ({"data_base64": "e30="}, "data_base64"),
        ({"subject": 7}, "subject has to be"),
        ({"data": {"source_id": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}, "nested deeper"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, Any], said: str) -> None:
    """An envelope that breaks the contract is refused by the name of what is wrong."""
    with pytest.raises(BadEvent, match=said):
        read_structured(envelope(**wrong), now=NOW)


@pytest.mark.parametrize(
    "bad", ["", "no trace", 7, None, ["00"], "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
def test_a_trace_that_is_none_costs_no_event(bad: object) -> None:
    """The event is taken as if it had come without one, in both modes."""
    assert read_structured(envelope(traceparent=bad), now=NOW) == read_structured(
        envelope(), now=NOW
    )


def test_a_trace_may_come_as_a_header_of_its_own() -> None:
    """As whoever sends HTTP requests within a trace sends it; the event's own attribute goes before it."""
    own, around = (f"00-{letter * 32}-{'b' * 16}-01" for letter in "ac")
    headers = {f"ce-{name}": str(value) for name, value in envelope().items() if name != "data"}
    headers["Traceparent"] = around
    data = example("archive_discovered")
    assert read_binary(headers, data, now=NOW).trace_parent == around
    assert read_binary({**headers, "ce-traceparent": own}, data, now=NOW).trace_parent == own


def test_a_batch_is_all_or_nothing() -> None:
    """A batch of events is read whole, and the one that is wrong is named."""
    kind = "application/cloudevents-batch+json"
    read = read_events([envelope(), envelope(id="2")], content_type=kind, headers={}, now=NOW)
    assert [each.event_id for each in read] == ["1", "2"]
    with pytest.raises(BadEvent, match="event 1 of the batch"):
        read_events([envelope(), {}], content_type=kind, headers={}, now=NOW)
    for bad in ({}, [envelope()] * 1001):
        with pytest.raises(BadEvent, match="up to 1,000"):
            read_events(bad, content_type=kind, headers={}, now=NOW)
    with pytest.raises(BadEvent, match="application/json"):
        read_events(envelope(), content_type="application/json", headers={}, now=NOW)


def test_nobody_speaks_for_another_tenant() -> None:
    """A sender of one tenant tells its own events; the platform's sender may say whose they are."""
    acme = TenantId("acme")
    plain, named = (read_structured(envelope(**f), now=NOW) for f in ({}, {"tenant": "acme"}))
    assert arrival_of(plain, acme).tenant_id == arrival_of(named, acme).tenant_id == "acme"
    assert arrival_of(named, PLATFORM_TENANT).tenant_id == "acme"
    assert arrival_of(plain, PLATFORM_TENANT).tenant_id == "default"
    with pytest.raises(BadEvent, match="not yours"):
        arrival_of(named, TenantId("other"))
    assert key_of(arrival_of(plain, acme)) != key_of(arrival_of(plain, TenantId("other")))


def test_a_message_that_is_no_event_is_kept_with_its_error() -> None:
    """A broker's message is taken in both modes; one that cannot be read becomes an arrival that says why."""

    def taken(body: object, raw: bytes = b"", **headers: str) -> Any:
        named = {name.replace("ce_", "cloudEvents:"): value for name, value in headers.items()}
        return arrival_of_message(
            body, raw=raw, content_type="", headers=named, sender=PLATFORM_TENANT, now=NOW
        )

    assert taken(envelope()).error is None
    binary = taken(
        example("archive_discovered"),
        ce_specversion="1.0",
        ce_id="1",
        ce_source="/collector",
        ce_type="archive_discovered",
    )
    assert (binary.error, binary.event_id) == (None, "1")
    broken = taken(None, b"no \xff JSON")
    assert "JSON object" in broken.error
    assert broken.data == {"message": "no \ufffd JSON"}
