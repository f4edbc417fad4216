"""Who gets in, how much of what, and what is never told: tokens, roles, tenants, limits, headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.service.addresses import SESSION_COOKIE
from penstock.access.limits import RequestLimits
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import ControlServer, running_control, services_at

LIMITS = RequestLimits(
    caller_per_s=1, caller_burst=5, address_per_s=2, address_burst=20, streams=1, nested=8
)
NEW = {"name": "bob", "role": "viewer"}


def test_nobody_gets_in_without_a_token_that_stands(control: ControlServer) -> None:
    """No token, a wrong one, one of the registry and a revoked one are refused alike, whatever the path."""
    made = control.request("POST", "/tokens", role="admin", json=NEW).json()
    revoked = control.request("POST", f"/tokens/{made['token_id']}/revoke", role="admin", json={})
    assert revoked.status_code == 200
    good = control.token()
    answers = []
    for said in (None, "Bearer x", f"Bearer {made['text']}", f"Bearer pst{good[3:]}"):
        headers = {} if said is None else {"Authorization": said}
        for path in ("/tokens", "/nothing", "/loops"):
            answer = control.request("GET", path, role=None, headers=headers)
            assert answer.headers["Content-Type"] == "application/problem+json"
            answers.append((answer.status_code, {**answer.json(), "instance": ""}))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 401
    for path in ("/health", "/docs", "/openapi.json"):
        assert control.request("GET", path, role=None).status_code == 200


def test_a_session_may_look_and_not_touch(control: ControlServer) -> None:
    """A page's cookie is taken for reading; a command takes a bearer, which no other site can send."""
    cookie = {"Cookie": f"{SESSION_COOKIE}={control.token('admin')}"}
    assert control.request("GET", "/tokens", role=None, headers=cookie).status_code == 200
    refused = control.request("POST", "/tokens", role=None, headers=cookie, json=NEW)
    assert refused.status_code == 401


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 403), ("admin", 201)])
def test_tokens_are_made_by_admins_alone(control: ControlServer, role: str, status: int) -> None:
    """A role below is told which one it takes."""
    assert control.request("GET", "/loops", role=role).status_code == 200
    assert control.request("POST", "/tokens", role=role, json=NEW).status_code == status


def test_an_admin_of_a_tenant_has_that_tenant_and_no_other(control: ControlServer) -> None:
    """Its tokens are of the tenant, others' are not found, and it makes none for others or for all."""
    mine = control.request("POST", "/tokens", role="admin", tenant="acme", json=NEW).json()
    theirs = control.request("POST", "/tokens", role="admin", tenant="other", json=NEW).json()
    assert (mine["tenant"], theirs["tenant"]) == ("acme", "other")
    listed = control.request("GET", "/tokens", role="admin", tenant="acme").json()["items"]
    assert {token["tenant"] for token in listed} == {"acme"}
    for wanted in ("other", "*"):
        body = {**NEW, "tenant": wanted}
        answer = control.request("POST", "/tokens", role="admin", tenant="acme", json=body)
        assert answer.status_code == 404
    for token in (theirs["token_id"], "0" * 16):
        path = f"/tokens/{token}/revoke"
        answer = control.request("POST", path, role="admin", tenant="acme", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    everything = control.request("GET", "/tokens", role="admin").json()["items"]
    assert {"acme", "other", "*"} <= {token["tenant"] for token in everything}


def test_who_asks_too_often_or_too_much_is_told_so(
    new_control_url: Callable[[str], str], clock: FixedClock, tmp_path: Path
) -> None:
    """A token has its rate; a body has a size and a depth."""
    services = services_at(tmp_path, new_control_url("sqlite"), clock, limits=LIMITS)
    with running_control(services) as control:
        deep = control.request("POST", "/tokens", role="admin", content=b"[" * 100_000)
        assert (deep.status_code, deep.json()["code"]) == (400, "invalid_request")
        large = control.request("POST", "/tokens", role="admin", content=b"x" * (2**20 + 1))
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
        answers = [control.request("GET", "/loops").status_code for _ in range(6)]
        assert answers == [200] * 5 + [429]


def test_every_answer_says_how_it_may_be_used(control: ControlServer) -> None:
    """Answers of every kind carry the headers that keep a browser from making more of them."""
    for role, path in (
        ("viewer", "/loops"),
        (None, "/loops"),
        (None, "/docs"),
        (None, "/dashboard/login"),
    ):
        headers = control.request("GET", path, role=role).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
        assert "server" not in headers


def test_acts_on_tokens_are_in_the_audit_log_and_no_secret_is(control: ControlServer) -> None:
    """Who made and revoked what, and why, is recorded."""
    body = {**NEW, "reason": "on call"}
    made = control.request("POST", "/tokens", role="admin", json=body).json()
    control.request("POST", f"/tokens/{made['token_id']}/revoke", role="admin", json={})
    acts = control.services.audit.list_acts(subject=made["token_id"])
    assert [(act.act, act.actor) for act in acts] == [
        ("control_token.revoke", "ada"),
        ("control_token.create", "ada"),
    ]
    assert acts[1].reason == "on call"
    secret = made["text"].rpartition("_")[2]
    assert secret not in repr(control.services.audit.list_acts())


def test_the_description_is_of_openapi_3_1_and_says_what_each_answer_is(
    control: ControlServer,
) -> None:
    """Every operation has a tag, a description, its success and its refusals."""
    document = control.request("GET", "/openapi.json", role=None).json()
    assert document["openapi"].startswith("3.1")
    tags = {tag["name"] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert set(operation["tags"]) <= tags, (method, path)
            assert operation["description"], (method, path)
            assert {"401", "403", "429"} <= set(operation["responses"]), (method, path)
