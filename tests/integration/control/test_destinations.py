"""Destinations over HTTP: admins make, change, try, replay and remove them; secrets are told once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control_plane.service.loops import event_delivery
from resources.clock import SystemClock
from resources.delivery.webhook_limits import WebhookLimits
from tests.fixtures.control_server import ControlServer, running_control, services_at
from tests.fixtures.webhook import Hook
from tests.integration.control.test_events import tell

NEW = {"id": "hook", "address": "https://example.org/hook", "types": ["batch_failed"]}


def ask(control: ControlServer, method: str, path: str = "", **options: Any) -> Any:
    """Send a request as an admin, and return the answer's document."""
    options.setdefault("role", "admin")
    answer = control.request(method, f"/destinations{path}", **options)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def status(control: ControlServer, method: str, path: str = "", **options: Any) -> int:
    """Send a request as an admin, and return the status."""
    options.setdefault("role", "admin")
    return control.request(method, f"/destinations{path}", **options).status_code


def test_a_destination_s_life(control: ControlServer) -> None:
    """It is made, looked at, changed, disabled, enabled, replayed and removed; each act is in the audit log."""
    made = ask(control, "POST", json={**NEW, "reason": "the team asked"})
    assert made["secret"].startswith("whsec_")
    assert (made["tenant"], made["status"], made["types"]) == ("*", "enabled", ["batch_failed"])
    assert ask(control, "GET")["items"] == [ask(control, "GET", "/hook")]
    changed = ask(control, "PATCH", "/hook", json={"types": [], "address": "https://example.org/"})
    assert (changed["types"], changed["address"]) == ([], "https://example.org/")
    off = ask(control, "POST", "/hook/disable", json={"reason": "it moves"})
    assert (off["status"], off["disabled_why"]) == ("disabled", "it moves")
    assert ask(control, "POST", "/hook/enable", json={})["status"] == "enabled"
    tell(control, "a")
    back = ask(control, "POST", "/hook/replay", json={"after": "0-0"})
    assert back["cursor"] == "0-0"
    ask(control, "POST", "/hook/replay", json={"since": "2026-01-01T00:00:00Z"})
    assert ask(control, "POST", "/hook/secret", json={})["secret"] != made["secret"]
    assert ask(control, "GET", "/hook/deliveries")["items"] == []
    assert status(control, "DELETE", "/hook") == 204
    assert status(control, "GET", "/hook") == 404
    acts = [act.act for act in control.services.audit.list_acts(subject="hook")]
    assert acts[::-1] == [
        f"destination.{name}"
        for name in ["add", "change", "disable", "enable", "replay", "replay", "rotate", "remove"]
    ]


def test_secrets_are_told_once(control: ControlServer) -> None:
    """No answer but that to making and rotating holds a secret, and nothing may keep those two."""
    made = control.request("POST", "/destinations", role="admin", json=NEW)
    assert made.headers["cache-control"] == "no-store"
    secret = made.json()["secret"]
    for path in ("", "/hook", "/hook/deliveries"):
        answer = control.request("GET", f"/destinations{path}", role="admin")
        assert secret not in answer.text
        assert "whsec" not in answer.text
    acts = repr(control.services.audit.list_acts())
    assert secret not in acts


def test_who_may_do_what(control: ControlServer) -> None:
    """Viewers look at their own tenant's, admins change them, and the broker is the platform's alone."""
    assert status(control, "POST", role="operator", json=NEW) == 403
    ask(control, "POST", tenant="acme", json=NEW)
    assert ask(control, "GET", "/hook", role="viewer", tenant="acme")["tenant"] == "acme"
    assert ask(control, "GET", role="viewer", tenant="other")["items"] == []
    for method, path in (
        ("GET", "/hook"),
        ("GET", "/hook/deliveries"),
        ("DELETE", "/hook"),
        ("POST", "/hook/enable"),
        ("POST", "/hook/test"),
    ):
        body = {"json": {}} if method == "POST" else {}
        assert status(control, method, path, tenant="other", **body) == 404
    assert status(control, "POST", json=NEW) == 409
    other = {**NEW, "id": "other", "tenant": "other"}
    assert status(control, "POST", tenant="acme", json=other) == 404
    bus = {"id": "bus", "kind": "rabbitmq", "address": "penstock.events"}
    assert status(control, "POST", tenant="acme", json=bus) == 422
    assert ask(control, "POST", json=bus)["secret"] is None
    assert status(control, "POST", "/bus/secret", json={}) == 422


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"address": "http://example.org/"}, 422),
        ({"address": "https://169.254.169.254/latest"}, 422),
        ({"address": "https://[::1]/"}, 422),
        ({"types": ["nonsense"]}, 422),
        ({"id": "NO SLUG"}, 400),
        ({"surplus": 1}, 400),
        ({"since": 0}, 400),
    ],
)
def test_what_cannot_be_sent_to_is_refused(
    control: ControlServer, wrong: dict[str, Any], code: int
) -> None:
    """Addresses that are not public, unknown types and fields are refused."""
    assert status(control, "POST", json={**NEW, **wrong}) == code
    assert ask(control, "GET")["items"] == []


def test_a_server_sends_what_happens(control_url: str, tmp_path: Path, hook: Hook) -> None:
    """With its loops a server sends events as they happen, and a test at once."""
    services = services_at(tmp_path / "home", control_url, SystemClock())
    limits = WebhookLimits(allowed_networks=("127.0.0.0/8",), timeout_s=30)
    settings = services.settings.model_copy(update={"webhook_limits": limits})
    services = replace(services, settings=settings)
    with running_control(services, loops=[event_delivery.loop]) as control:
        hook.secret = ask(control, "POST", json={"id": "hook", "address": hook.url})["secret"]
        assert ask(control, "POST", "/hook/test", json={})["delivered"]
        tell(control, "a", "b")
        while len(hook.events) < 3:
            assert hook.refused == 0
        assert [each["subject"] for each in hook.events] == ["hook", "a", "b"]
        hook.status = 500
        answer = ask(control, "POST", "/hook/test", json={})
        assert (answer["delivered"], answer["status_code"]) == (False, 500)
