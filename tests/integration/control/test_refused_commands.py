"""Commands that are refused are in the audit log, without what was sent, and nobody can flood it."""

from __future__ import annotations

from typing import Any

import httpx

from control_plane.service.refused_commands import ACT, OF_EACH_CALLER
from penstock.ports.audit_log import AuditEntry
from tests.fixtures.control_server import ControlServer


def refusals(control: ControlServer) -> list[AuditEntry]:
    """What was refused, oldest first."""
    acts = control.services.audit.list_acts()
    return [act for act in reversed(acts) if act.act == ACT]


def outcome(entry: AuditEntry) -> tuple[str, Any, Any]:
    return entry.subject, entry.details["status"], entry.details["code"]


def test_what_a_role_or_a_rule_refuses_is_recorded(control: ControlServer) -> None:
    """With who asked, at which address, and how it was refused; questions, and what is no command, are not."""
    hook = {"id": "chat", "address": "http://ada:hunter2@example.org/", "reason": "sesame"}
    control.request("POST", "/destinations", role="viewer", json=hook)
    control.request("POST", "/destinations?token=sesame", role="admin", json=hook)
    own = control.token("admin").split("_")[1]
    control.request("POST", f"/tokens/{own}/revoke", role="admin", json={})
    found = refusals(control)
    assert [outcome(entry) for entry in found] == [
        ("/destinations", 403, "forbidden"),
        ("/destinations", 422, "bad_address"),
        (own, 409, "illegal_move"),
    ]
    assert {entry.actor for entry in found} == {"ada"}
    assert found[0].details["command"] == "POST /destinations"
    assert "hunter2" not in repr(found)
    assert "sesame" not in repr(found)
    preview = {"workflow_policy": {"deadlines": [{"name": "x", "within_s": 1, "begins": "08:00"}]}}
    answers = [
        control.request("POST", "/priority/preview", json=preview),
        control.request("GET", "/tokens", role="viewer"),
        control.request("POST", "/destinations", role="admin", json={}),
        control.request("POST", "/destinations", role=None, json=hook),
        control.request("POST", "/nowhere", json={}),
    ]
    assert [answer.status_code for answer in answers] == [422, 403, 400, 401, 404]
    assert len(refusals(control)) == 3


def test_another_tenant_does_not_read_what_was_tried_on_its_sources(control: ControlServer) -> None:
    """Of what a role refuses it has not been asked yet whose it is."""
    control.request(
        "POST", "/sources/crm/pause", role="viewer", tenant="acme", json={"reason": "x"}
    )
    (entry,) = refusals(control)
    assert (entry.subject, entry.source_id, entry.details["tenant_id"]) == ("crm", None, "acme")


def test_the_dashboard_s_acts_are_recorded_too(control: ControlServer) -> None:
    """What a form asks for and is refused by role; a form that is not ours may be another site's doing."""
    proof = "p" * 43
    cookies = {"penstock_control_session": control.token("viewer"), "penstock_control_csrf": proof}
    for csrf in ("another", proof):
        answer = httpx.post(
            f"{control.url}/dashboard/sources/crm/pause",
            data={"csrf": csrf, "reason": "x"},
            cookies=cookies,
            timeout=60,
        )
        assert answer.status_code == 403
    (entry,) = refusals(control)
    assert outcome(entry) == ("crm", 403, "forbidden")
    assert entry.details["command"] == "POST /dashboard/sources/crm/pause"


def test_nobody_floods_the_log(control: ControlServer, clock: Any) -> None:
    """After some the refusals of a caller are counted, and the next one that is recorded says how many there were."""
    for _ in range(int(OF_EACH_CALLER.burst) + 5):
        control.request("POST", "/tokens", json={"name": "eve", "role": "admin"})
    assert len(refusals(control)) == OF_EACH_CALLER.burst
    control.request("POST", "/tokens", role="viewer", json={"name": "eve", "role": "admin"})
    assert len(refusals(control)) == OF_EACH_CALLER.burst + 1, "each caller has its own"
    clock.sleep(1 / OF_EACH_CALLER.per_second)
    control.request("POST", "/tokens", json={"name": "eve", "role": "admin"})
    assert refusals(control)[-1].details["refused_since_and_not_recorded"] == 5
