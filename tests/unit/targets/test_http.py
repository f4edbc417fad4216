"""The HTTP target tells what its endpoint answers apart, keeps its limits, and keeps its secret."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pyarrow as pa
import pytest
from pydantic import SecretStr, ValidationError

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost
from penstock.execute.chunks import Applier
from penstock.ports.target import (
    Applied,
    Outcome,
    Rejected,
    TargetDown,
    Unavailable,
    Unknown,
)
from penstock.publish.retry import RetryPolicy
from resources.settings import BadSettings, Settings
from resources.targets.http import EndpointRefuses, EndpointWrong, HttpTarget, open_http
from resources.targets.http_protocol import (
    OperationLine,
    ReadRequest,
    bodies,
    operation_lines,
    protocol_schema,
    retry_after_s,
)
from resources.targets.http_settings import HttpEndpoint
from tests.fixtures.clock import FixedClock
from tests.fixtures.http_endpoint import Endpoint, running_endpoint
from tests.unit.targets.chunks import CONTEXT, chunk, created

Handle = Callable[[httpx.Request], httpx.Response]
NOW = CONTEXT.now
SCHEMA = Path(__file__).parents[3] / "docs" / "reference" / "http_target.schema.json"


@pytest.fixture
def world() -> str:
    return uuid4().hex


@pytest.fixture
def target(http_endpoint: Endpoint, world: str) -> Iterator[HttpTarget]:
    """A target on a world of its own, which waits half a second."""
    made = open_http(HttpEndpoint(url=http_endpoint.url(world), timeout_s=0.5), "wiki")
    yield made
    made.close()


def answering(handle: Handle, **settings: object) -> HttpTarget:
    """Return a target whose endpoint is a function."""
    endpoint = HttpEndpoint.model_validate({"url": "https://wiki.example/penstock", **settings})
    target = open_http(endpoint, "wiki")
    headers = {}
    if endpoint.token is not None:
        headers["Authorization"] = f"Bearer {endpoint.token.get_secret_value()}"
    transport = httpx.MockTransport(handle)
    target._calls._client = httpx.Client(transport=transport, headers=headers)
    return target


def always(status: int, said: object = None, **headers: str) -> Handle:
    """Answer every call alike."""
    return lambda _: httpx.Response(status, json=said, headers=headers)


def two() -> pa.Table:
    return chunk([created("crm/a"), created("crm/b")])


def effects(endpoint: Endpoint, world: str) -> list[tuple[str, int]]:
    """Return how often each key was changed."""
    return endpoint.query(world, "SELECT key, count(*) FROM effect GROUP BY key ORDER BY key")


@pytest.mark.parametrize(("fault", "retry_after_s"), [("429", 1.0), ("500", None), ("503", None)])
def test_an_endpoint_that_is_away_is_unavailable(
    target: HttpTarget,
    http_endpoint: Endpoint,
    world: str,
    fault: str,
    retry_after_s: float | None,
) -> None:
    """429, 500 and 503 are unavailable, with what Retry-After asks for, and the same chunk is taken afterwards."""
    http_endpoint.misbehave(world, fault)
    outcome = target.apply(two(), CONTEXT)
    assert isinstance(outcome, Unavailable)
    assert outcome.retry_after_s == retry_after_s
    assert target.apply(two(), CONTEXT) == Applied(applied=2, already_applied=0)


@pytest.mark.parametrize(
    "fault",
    [
        "timeout_after_applying",
        "timeout_before_applying",
        "half_closed_after_applying",
        "half_closed_before_applying",
    ],
)
def test_silence_is_unknown_and_is_looked_into(
    target: HttpTarget, http_endpoint: Endpoint, world: str, fault: str
) -> None:
    """A timeout or a connection closed half-way is unknown; read back, each operation takes effect exactly once."""
    http_endpoint.misbehave(world, fault, fault)
    assert isinstance(target.apply(two(), CONTEXT), Unknown)
    policy = RetryPolicy(immediate_tries=2)
    applier = Applier(target=target, clock=FixedClock(NOW), retry_policy=policy, jitter=lambda: 0.0)
    result = applier.apply(two(), CONTEXT)
    assert (result.applied + result.already_applied, result.failures) == (2, [])
    assert effects(http_endpoint, world) == [("crm/a", 1), ("crm/b", 1)]


def test_what_is_refused_costs_itself(target: HttpTarget) -> None:
    """An operation that the endpoint rejects is named with its reason; the others are applied."""
    outcome = target.apply(chunk([created("crm/a"), created("crm/b", x="poison")]), CONTEXT)
    assert isinstance(outcome, Applied)
    assert outcome.applied == 1
    assert [(f.outcome, f.code) for f in outcome.failures] == [(Outcome.REJECTED, "poison")]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_chunk_is_rejected(status: int) -> None:
    """400, 413 and 422 reject the chunk, with the endpoint's own code and message, so that it is halved."""
    target = answering(always(status, {"code": "no_owner", "message": "who owns it?"}))
    assert target.apply(two(), CONTEXT) == Rejected(code="no_owner", message="who owns it?")
    bare = answering(lambda _: httpx.Response(status, text="<h1>no</h1>"))
    assert bare.apply(two(), CONTEXT) == Rejected(code=f"http_{status}", message="<h1>no</h1>")


def test_only_a_stale_fence_loses_the_lease() -> None:
    """409 with stale_fence is LeaseLost; any other 409 is a call that may work later."""
    with pytest.raises(LeaseLost, match="stale"):
        answering(always(409, {"code": "stale_fence"})).apply(two(), CONTEXT)
    busy = answering(always(409, {"code": "in_progress"})).apply(two(), CONTEXT)
    assert isinstance(busy, Unavailable)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_named_and_not_shown(status: int) -> None:
    """401 and 403 raise what says where to put a better token, and shows neither the token nor the old one."""
    target = answering(always(status, {"message": "no"}), token="s3cret-s3cret")
    with pytest.raises(EndpointRefuses, match="PENSTOCK_HTTP_TARGETS") as raised:
        target.apply(two(), CONTEXT)
    assert "s3cret" not in f"{raised.value}{target!r}{target._endpoint!r}"


@pytest.mark.parametrize("status", [204, 301, 404, 405])
def test_what_the_protocol_does_not_know_is_an_error(status: int) -> None:
    """A redirect, an unknown path or a method that is not allowed is no endpoint: no retry mends that."""
    with pytest.raises(EndpointWrong, match=f"answered {status}"):
        answering(always(status)).apply(two(), CONTEXT)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"results": []},
        {"results": [{"idempotency_key": "0" * 32, "outcome": "applied"}] * 2},
        ["applied", "applied"],
    ],
)
def test_an_answer_that_does_not_account_for_all_is_unknown(said: object) -> None:
    """A 200 that does not name each operation exactly once is not believed: the chunk is read back."""
    assert isinstance(answering(always(200, said)).apply(two(), CONTEXT), Unknown)


def test_no_connection_is_unavailable() -> None:
    """Where nothing listens, nothing was sent; reading back says that the target is down."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = open_http(HttpEndpoint(url=f"http://127.0.0.1:{unused.getsockname()[1]}"), "wiki")
        outcome = target.apply(two(), CONTEXT)
        assert isinstance(outcome, Unavailable)
        assert "cannot be reached" in outcome.message
        keys = pa.table({"type_name": ["person"], "key": ["crm/a"]})
        with pytest.raises(TargetDown):
            target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)


def test_an_answer_that_is_too_large_is_cut_off(http_endpoint: Endpoint, world: str) -> None:
    """More than max_answer_bytes is not read: a chunk's outcome is unknown, and keys are asked for in halves."""
    endpoint = HttpEndpoint(url=http_endpoint.url(world), max_answer_bytes=1024)
    target = open_http(endpoint, "wiki")
    keys = [f"crm/{n}" for n in range(40)]
    outcome = target.apply(chunk([created(key) for key in keys]), CONTEXT)
    assert isinstance(outcome, Unknown)
    assert "max_answer_bytes" in outcome.message
    wanted = pa.table({"type_name": ["person"] * 40, "key": keys})
    held = target.read_back(CONTEXT.source_id, Kind.ENTITY, wanted)
    assert held["attributes"].to_pylist() == ["{}"] * 40
    target.close()


def test_a_trickle_ends_at_the_timeout() -> None:
    """An answer that keeps coming, a little at a time, is given up when its whole time is over."""

    def trickle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(b" " for _ in iter(int, 1)))

    outcome = answering(trickle, timeout_s=0.05).apply(two(), CONTEXT)
    assert isinstance(outcome, Unknown)
    assert "within 0.05 s" in outcome.message


def test_bodies_keep_their_limits() -> None:
    """A chunk goes out in as many requests as the limits ask for; what is too large by itself is rejected unsent."""
    assert list(bodies([b"aa", b"b", b"cccc", b"d"], most_bytes=3, most_lines=9)) == [
        [b"aa", b"b"],
        [b"cccc"],
        [b"d"],
    ]
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        lines = [json.loads(line) for line in gzip.decompress(request.content).splitlines()]
        sent.append(len(lines))
        results = [
            {"idempotency_key": line["idempotency_key"], "outcome": "applied"} for line in lines
        ]
        return httpx.Response(200, json={"results": results})

    rows = [created(f"crm/{n}", x="x" * 500) for n in range(5)]
    rows.append(created("crm/big", x="x" * 5000))
    target = answering(answer, max_body_bytes=3000, max_operations=3)
    outcome = target.apply(chunk(rows), CONTEXT)
    assert isinstance(outcome, Applied)
    assert sent == [3, 2]
    assert [f.code for f in outcome.failures] == ["operation_too_large"]


def test_who_sends_what_is_said_in_headers() -> None:
    """Batch, source, target, tenant, plan and fencing token go along; each operation has its idempotency key."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503)

    target = answering(answer, token="abc", gzip=False)
    target.apply(two(), replace(CONTEXT, fencing_token=7))
    headers = seen[0].headers
    assert headers["authorization"] == "Bearer abc"
    assert headers["penstock-fencing-token"] == "7"
    assert headers["penstock-plan-digest"] == CONTEXT.plan_digest
    assert headers["penstock-tenant"] == "default"
    lines = [OperationLine.model_validate_json(line) for line in seen[0].content.splitlines()]
    ids = [i.hex() for i in two()["operation_id"].to_pylist()]
    assert [line.idempotency_key for line in lines] == ids


def test_retry_after_is_seconds_or_a_date() -> None:
    """Retry-After is understood in both forms, by the endpoint's own clock, and never beyond a day."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    date = {"retry-after": "Thu, 01 Jan 2026 00:02:00 GMT"}
    assert retry_after_s({"retry-after": "7"}, now) == 7
    assert retry_after_s(date, now) == 120
    assert retry_after_s({**date, "date": "Thu, 01 Jan 2026 00:01:30 GMT"}, now) == 30
    assert retry_after_s({"retry-after": "999999999"}, now) == 86_400
    for nonsense in ("", "soon", "-5", "1e9", "nan"):
        assert retry_after_s({"retry-after": nonsense}, now) is None


def test_another_endpoint_over_the_same_state_knows_it_all(tmp_path: Path) -> None:
    """An endpoint that is killed and started again has forgotten nothing; a wrong token is refused."""
    for already in (0, 2):
        with running_endpoint(tmp_path, "right") as endpoint:
            right = HttpEndpoint(url=endpoint.url("w"), token=SecretStr("right"))
            wrong = HttpEndpoint(url=endpoint.url("w"))
            with closing(open_http(right, "wiki")) as target:
                outcome = target.apply(two(), CONTEXT)
            assert outcome == Applied(applied=2 - already, already_applied=already)
            with closing(open_http(wrong, "wiki")) as target, pytest.raises(EndpointRefuses):
                target.apply(two(), CONTEXT)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "ftp://x"},
        {"url": "https://me:secret@x"},
        {"url": "https://x?key=secret"},
        {"url": "http://elsewhere.example", "token": "secret"},
        {"url": "https://x", "token": "se\ncret"},
        {"url": "https://x", "tokn": "secret"},
    ],
)
def test_an_endpoint_that_would_give_its_secret_away_is_refused(settings: dict[str, str]) -> None:
    """Addresses with secrets in them, tokens over plain HTTP and misspelt settings are refused, and not quoted."""
    with pytest.raises(ValidationError):
        HttpEndpoint.model_validate(settings)
    with pytest.raises(BadSettings, match="PENSTOCK_HTTP_TARGETS") as raised:
        Settings.from_env({"PENSTOCK_HTTP_TARGETS": json.dumps({"wiki": settings})})
    assert "secret" not in str(raised.value).replace("the secret goes", "")


def test_the_published_schema_is_current() -> None:
    """docs/reference/http_target.schema.json is the protocol's schema, and what is sent keeps to it."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == protocol_schema()
    for line in operation_lines(two()):
        OperationLine.model_validate_json(line)
    ReadRequest.model_validate({"kind": "entities", "keys": [{"type_name": "t", "key": "k"}]})
