"""Who gets in, how much of what, and what is never told: tokens, roles, tenants, limits, headers, the audit log."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from control_plane.registry.addresses import API
from control_plane.registry.auth.oidc import OidcBearer
from control_plane.registry.client_problems import InTheWay
from penstock.access.limits import RequestLimits
from resources.registry.api_settings import OidcIssuer
from tests.fixtures.clock import FixedClock
from tests.fixtures.oidc import Issuer
from tests.fixtures.registry_server import Registry, backend_at, running_registry

ENTITY = {"type": "table", "key": "orders", "attributes": {"owner": "ada"}}
LIMITS = RequestLimits(
    caller_per_s=1, caller_burst=5, address_per_s=2, address_burst=20, streams=1, nested=8
)


@pytest.fixture
def limited(new_control_url: Callable[[str], str], clock: FixedClock) -> Iterator[Registry]:
    """A server that allows little."""
    backend = backend_at(new_control_url("sqlite"), clock, limits=LIMITS)
    with running_registry(backend, clock) as served:
        yield served


def test_nobody_gets_in_without_a_token_that_stands(registry: Registry) -> None:
    """No token, a wrong one, an expired and a revoked one are refused alike, before the path is looked at."""
    good = registry.token()
    admin = registry.client("admin")
    made = admin.create_token("bob", "reader")
    admin.revoke_token(made.token_id)
    own = registry.token("admin").split("_")[1]
    with pytest.raises(InTheWay, match="does not revoke itself"):
        admin.revoke_token(own)
    answers = []
    for said in (
        None,
        "",
        "Bearer",
        "Bearer x",
        f"Basic {good}",
        f"Bearer {good}x",
        f"Bearer {made.text}",
    ):
        headers = {} if said is None else {"Authorization": said}
        for path in ("/types", "/nothing", "/entities/table/x"):
            answer = registry.request("GET", path, role=None, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert answer.headers["Content-Type"] == "application/problem+json"
            answers.append({**answer.json(), "instance": ""})
    assert all(answer == answers[0] for answer in answers)
    registry.clock.sleep(timedelta(days=2).total_seconds())
    assert registry.request("GET", "/types").status_code == 401
    for path in ("/health", "/docs", "/openapi.json"):
        assert registry.request("GET", path, role=None).status_code == 200


def test_a_session_may_look_and_not_touch(registry: Registry) -> None:
    """A page's cookie is taken for reading; a command takes a bearer, which no other site can send."""
    cookie = {"Cookie": f"penstock_session={registry.token()}"}
    assert registry.request("GET", "/types", role=None, headers=cookie).status_code == 200
    refused = registry.request("POST", "/entities", role=None, headers=cookie, json=ENTITY)
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("role", "may"),
    [("reader", 1), ("writer", 2), ("schema_admin", 3), ("admin", 4)],
)
def test_each_role_does_what_it_may(registry: Registry, role: str, may: int) -> None:
    """Readers read, writers write, schema admins declare, admins make tokens; each all of those before."""
    answers = [
        registry.request("GET", "/types", role=role),
        registry.request("POST", "/entities", role=role, json=ENTITY),
        registry.request("PUT", "/relationship-types/owned_by", role=role, json={}),
        registry.request("POST", "/tokens", role=role, json={"name": "x", "role": "reader"}),
    ]
    assert [answer.status_code < 300 for answer in answers] == [n < may for n in range(4)]
    assert {answer.status_code for answer in answers[may:]} <= {403}


def test_what_another_tenant_has_is_not_there(registry: Registry) -> None:
    """Whatever is asked of what another tenant has is answered as of what nobody has."""
    mine, theirs = registry.client(), registry.client(tenant="other", name="eve")
    mine.create_entity("table", "secret", {"owner": "ada"})
    mine.create_entity("person", "p", {})
    mine.create_relationship("owned_by", "secret", "p")
    registry.client("schema_admin").schemas.define({"title": "Hidden", "type": "object"})
    token = registry.client("admin").create_token("bob", "reader")
    asked = [
        ("GET", "/entities/table/@", None),
        ("GET", "/history/entities/table/@", None),
        ("GET", "/graph/entities/table/@", None),
        ("GET", "/diff/entities/table/@?before=1&after=1", None),
        ("POST", "/restore/entities/table/@", {}),
        ("POST", "/rollback/entities/table/@", {"version": 1}),
        ("POST", "/propose/entities/table/@", {}),
        ("DELETE", "/entities/table/@", None),
        ("GET", "/relationships/owned_by?from_key=@&to_key=p", None),
        ("POST", "/relationships", {"type": "owned_by", "from_key": "@", "to_key": "p"}),
    ]
    for method, path, body in asked:
        answers = []
        for key in ("secret", "nobody"):
            content = None if body is None else json.dumps(body).replace("@", key)
            answer = registry.request(
                method,
                path.replace("@", key),
                tenant="other",
                content=content,
                headers={"Content-Type": "application/json"},
            )
            answers.append((answer.status_code, answer.text.replace(key, "KEY")))
        assert answers[0] == answers[1], (method, path)
        assert answers[0][0] in {404, 422}, (method, path)
    found = registry.request("GET", "/schemas/hidden", role="admin", tenant="other")
    assert found.status_code == 404
    revoke = registry.request(
        "POST", f"/tokens/{token.token_id}/revoke", role="admin", tenant="other", json={}
    )
    nobodys = registry.request(
        "POST", f"/tokens/{'0' * 16}/revoke", role="admin", tenant="other", json={}
    )
    assert (revoke.status_code, nobodys.status_code) == (404, 404)
    assert list(theirs.search_entities()) == []
    assert list(theirs.search_relationships()) == []
    assert list(theirs.changes()) == []
    assert theirs.types() == []
    assert theirs.create_entity("table", "secret", {}).version == 1


def test_who_asks_too_often_is_told_how_long_to_wait(limited: Registry) -> None:
    """A token has its burst and its rate, an address its own over all tokens, tries without one included."""
    answers = [limited.request("GET", "/types") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert (answers[5].headers["Retry-After"], answers[5].json()["code"]) == ("1", "rate_limited")
    assert limited.request("GET", "/types", role="reader").status_code == 200
    limited.clock.sleep(1)
    assert limited.request("GET", "/types").status_code == 200
    tries = [limited.request("GET", "/types", role=None).status_code for _ in range(20)]
    assert set(tries) == {401, 429}
    assert limited.request("GET", "/types", role="admin").status_code == 429
    limited.clock.sleep(60)
    assert limited.request("GET", "/types").status_code == 200


def test_the_client_waits_as_long_as_it_is_told(limited: Registry) -> None:
    """A busy answer is waited out and asked again, without the caller seeing it."""
    client = limited.client()
    client.calls.sleep = limited.clock.sleep
    assert [client.types() for _ in range(8)] == [[]] * 8
    assert limited.clock.now().second >= 3


def test_what_is_too_large_or_too_deep_is_not_parsed(limited: Registry) -> None:
    """A body over the limit is refused with or without its length, and so are brackets that no parser should see."""
    large = b'{"type":"' + b"x" * 2**20 + b'"}'
    for content in (large, iter([large[:1000], large[1000:]])):
        answer = limited.request("POST", "/entities", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    deep = limited.request("POST", "/entities", content=b"[" * 500_000)
    assert (deep.status_code, deep.json()["code"]) == (400, "invalid_request")
    assert "500,000 deep: at most 8" in deep.json()["detail"]
    inside = limited.request("POST", "/batches", content=b'{"x":"' + b"y" * 2**21 + b'"}')
    assert inside.status_code == 400, "a batch may be larger"


def test_every_answer_says_how_it_may_be_used(registry: Registry) -> None:
    """Answers of every kind carry the headers that keep a browser from making more of them."""
    for role, path in (("reader", "/types"), (None, "/types"), (None, "/docs"), ("reader", "/x")):
        headers = registry.request("GET", path, role=role).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "server" not in headers
    made = registry.request("POST", "/tokens", role="admin", json={"name": "x", "role": "reader"})
    assert made.headers["Cache-Control"] == "no-store"


def test_every_command_is_in_the_audit_log_and_no_secret_is(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """Who did what on what and how it ended is recorded, refused commands too; tokens and bodies are nowhere."""
    caplog.set_level(logging.DEBUG)
    body = {**ENTITY, "attributes": {"password": "hunter2"}}
    registry.request("POST", "/entities", json=body, headers={"Idempotency-Key": "k-secret"})
    registry.request("POST", "/entities", json=body)
    registry.request("DELETE", "/entities/table/orders")
    acts = registry.backend.audit.list_acts()[:3]
    assert [(act.actor, act.act, act.subject, act.details["status"]) for act in reversed(acts)] == [
        ("ada", "registry_entity.create", "table 'orders'", 201),
        ("ada", "registry_entity.create", "table 'orders'", 409),
        ("ada", "registry_entity.delete", "table 'orders'", 200),
    ]
    assert {act.details["tenant"] for act in acts} == {"acme"}
    secret = registry.token().rpartition("_")[2]
    told = caplog.text + repr(acts) + repr(registry.backend)
    assert "hunter2" not in told
    assert secret not in told


def test_an_issuers_callers_get_in(
    new_control_url: Callable[[str], str], clock: FixedClock, issuer: Issuer
) -> None:
    """With an OIDC issuer its bearers work beside tokens; while its keys are out of reach it is 503, not 401."""
    settings = OidcIssuer.model_validate(issuer.settings())
    oidc = OidcBearer.of(settings, clock)
    backend = backend_at(new_control_url("sqlite"), clock, oidc=oidc)
    with running_registry(backend, clock) as served:
        issuer.status = 500
        bearer = {"Authorization": f"Bearer {issuer.token(clock.now())}"}
        down = served.request("POST", "/entities", headers=bearer, json=ENTITY)
        assert (down.status_code, down.headers["Retry-After"]) == (503, "10")
        issuer.status = 200
        clock.sleep(10)
        made = served.request("POST", "/entities", headers=bearer, json=ENTITY)
        assert (made.status_code, made.json()["updated_by"]) == (201, "ada")
        who = served.request("GET", "/whoami", headers=bearer)
        assert who.json() == {"actor": "ada", "tenant": "acme", "role": "writer"}
        old = {"Authorization": f"Bearer {issuer.token(clock.now() - timedelta(hours=2))}"}
        assert served.request("GET", "/types", headers=old).status_code == 401
        assert served.request("GET", "/types").status_code == 200


def test_a_method_that_is_not_for_a_path_is_named(registry: Registry) -> None:
    """405 lists what may be done at a path, over all of its handlers."""
    answer = registry.request("PUT", "/entities", json={})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    answer = registry.request("POST", "/entities/table/a/b", json={})
    assert answer.headers["Allow"] == "DELETE, GET, PATCH, PUT"


def test_a_fault_of_ours_tells_nothing(
    new_control_url: Callable[[str], str], clock: FixedClock
) -> None:
    """A handler that fails answers 500 as a problem, without what went wrong inside."""
    backend = backend_at(new_control_url("sqlite"), clock)
    with running_registry(backend, clock) as served:
        token = served.token()
        with backend.tokens.engine.begin() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql("DROP TABLE registry_event")
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(f"{served.url}{API}/changes", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "registry_event" not in answer.text
