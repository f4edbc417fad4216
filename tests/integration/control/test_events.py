"""Events over HTTP: taken once, listed and followed by tenant, and acted on."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.service.loops import event_handling
from penstock.events.catalogue import example
from penstock.identity.ids import TenantId
from resources.clock import SystemClock
from resources.control_db.outbox import add_events
from resources.control_db.store import SqlControlStore
from tests.contracts.event_values import new_event, told
from tests.fixtures.control_server import ControlServer, running_control, services_at

BATCH = "application/cloudevents-batch+json"
ACME = TenantId("acme")


def envelope(event_id: str = "1", **fields: Any) -> dict[str, Any]:
    """An event that comes in."""
    values = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/collector",
        "type": "archive_discovered",
        "data": example("archive_discovered"),
    }
    return {**values, **fields}


def send(control: ControlServer, body: Any, kind: str = BATCH, **options: Any) -> httpx.Response:
    """POST events."""
    headers = {"content-type": kind, **options.pop("headers", {})}
    return control.request(
        "POST", "/events", content=json.dumps(body).encode(), headers=headers, **options
    )


def tell(control: ControlServer, *subjects: str, tenant: str = "default") -> None:
    """Tell events of a tenant, and return once they can be read."""
    with control.services.engine.begin() as connection:
        new = [new_event(each, tenant_id=TenantId(tenant)) for each in subjects]
        add_events(connection, new)
    told(SqlControlStore.from_engine(control.services.engine))


def test_the_inbox_shows_the_trace_that_an_event_came_with(control: ControlServer) -> None:
    """As it is kept; null of an event that came with none, or with what is none."""
    traced = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    send(
        control, [envelope("1", traceparent=traced), envelope("2"), envelope("3", traceparent="x")]
    )
    inbox = control.request("GET", "/events/inbox").json()["items"]
    assert {each["id"]: each["traceparent"] for each in inbox} == {
        "1": traced,
        "2": None,
        "3": None,
    }


def test_events_are_taken_once_in_every_mode(control: ControlServer) -> None:
    """One event, a batch, and an event in headers are kept; what comes again changes nothing."""
    one = send(control, envelope("1"), "application/cloudevents+json; charset=utf-8")
    assert (one.status_code, one.json()) == (202, {"accepted": 1, "known": 0})
    assert send(control, [envelope("1"), envelope("2")]).json() == {"accepted": 1, "known": 1}
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "3",
        "ce-source": "/collector",
        "ce-type": "archive_discovered",
    }
    binary = send(control, example("archive_discovered"), "application/json", headers=headers)
    assert binary.json() == {"accepted": 1, "known": 0}
    inbox = control.request("GET", "/events/inbox").json()["items"]
    assert [(each["id"], each["status"], each["subject"]) for each in inbox] == [
        ("3", "waiting", "sql_catalog"),
        ("2", "waiting", "sql_catalog"),
        ("1", "waiting", "sql_catalog"),
    ]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ([envelope(), {}], BATCH, 422),
        (envelope(), "text/plain", 422),
        (envelope(type="batch_published"), "application/cloudevents+json", 422),
        ([envelope()] * 1001, BATCH, 422),
    ],
)
def test_what_is_no_event_is_refused_whole(
    control: ControlServer, body: Any, kind: str, status: int
) -> None:
    """A problem document says what is wrong, and nothing of a batch is kept."""
    refused = send(control, body, kind)
    assert refused.status_code == status
    assert refused.json()["code"] == "bad_event"
    assert control.request("GET", "/events/inbox").json()["items"] == []


def test_no_json_and_no_token(control: ControlServer) -> None:
    """What is no JSON is refused, and so is who may only look, or shows no token."""
    options = {"content": b"{", "headers": {"content-type": BATCH}}
    assert control.request("POST", "/events", **options).status_code == 400
    assert send(control, [envelope()], role="viewer").status_code == 403
    assert send(control, [envelope()], role=None).status_code == 401


def test_a_tenant_s_token_tells_and_sees_its_own(control: ControlServer) -> None:
    """Nobody tells events of another tenant, or sees them, in the inbox or among what happened."""
    assert send(control, [envelope(tenant="other")], tenant="acme").status_code == 422
    assert send(control, [envelope(tenant="acme")], tenant="acme").status_code == 202
    tell(control, "mine", tenant="acme")
    tell(control, "theirs", tenant="other")
    seen = control.request("GET", "/events", tenant="acme").json()["items"]
    assert [each["subject"] for each in seen] == ["mine"]
    assert control.request("GET", "/events/inbox", tenant="other").json()["items"] == []
    position = control.request("GET", "/events/inbox").json()["items"][0]["position"]
    path = f"/events/inbox/{position}/requeue"
    assert control.request("POST", path, tenant="other", json={}).status_code == 404
    assert control.request("POST", path, tenant="acme", json={}).status_code == 409


def test_events_are_paged(control: ControlServer) -> None:
    """Whoever goes on with `next` meets every event once; filters and limits hold."""
    tell(control, "a", "b", "c")
    seen, after = [], ""
    while True:
        page = control.request("GET", f"/events?limit=2{after}").json()
        if not page["items"]:
            break
        seen += [each["subject"] for each in page["items"]]
        after = f"&after={page['next']}"
    assert seen == ["a", "b", "c"]
    assert control.request("GET", "/events?type=batch_failed").json()["items"] == []
    for wrong in ("type=nonsense", "after=nowhere", "limit=0"):
        assert control.request("GET", f"/events?{wrong}").status_code == 400


def test_followers_are_told_what_happens(control: ControlServer) -> None:
    """A stream begins after the last event that was seen, and goes on with what is told while it is open."""
    tell(control, "a", "b")
    first = control.request("GET", "/events?limit=1").json()["next"]
    headers = {
        "Authorization": f"Bearer {control.token('viewer')}",
        "Last-Event-ID": first,
    }
    seen: list[str] = []
    teller = threading.Timer(0.3, tell, (control, "c"))
    teller.start()
    with httpx.stream("GET", f"{control.url}/events/stream", headers=headers, timeout=60) as feed:
        assert feed.headers["content-type"].startswith("text/event-stream")
        for line in feed.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line[6:])["subject"])
            if len(seen) == 2:
                break
    teller.join()
    assert seen == ["b", "c"]


def test_what_came_in_is_acted_on(control_url: str, tmp_path: Path) -> None:
    """With its loops a server acts on what it takes in: what cannot be done is dead, and can be requeued."""
    services = services_at(tmp_path / "home", control_url, SystemClock())
    with running_control(services, loops=[event_handling.loop]) as control:
        data = {"worker_id": "nobody", "status": "gone"}
        bad = envelope("1", type="collection_failed", data={**example("collection_failed")})
        send(control, [envelope("2"), bad, envelope("3", type="worker_status_changed", data=data)])
        found: dict[str, Any] = {}
        while found.get("2") != "done" or ("waiting" in found and found["1"] == found["3"]):
            items = control.request("GET", "/events/inbox").json()["items"]
            found = {each["id"]: each["status"] for each in items}
        failed = {each["id"]: each["error_code"] for each in items if each["id"] != "2"}
        assert failed == {"1": "not_found", "3": "not_found"}
