"""The change feed, by cursor and as server-sent events, and the client's calls across faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from control_plane.registry.addresses import API
from control_plane.registry.client import RegistryClient
from control_plane.registry.client_feed import messages
from control_plane.registry.client_problems import NoAnswer, NotAdmitted, TooBusy
from penstock.access.limits import RequestLimits
from resources.control_db.engine import open_engine
from tests.fixtures.answering import answering
from tests.fixtures.clock import FixedClock
from tests.fixtures.registry_server import Registry, backend_at, running_registry


def test_the_feed_holds_everything_in_order(registry: Registry) -> None:
    """Page after page, each event is there once and in order; the last page says where to come back."""
    client = registry.client()
    for number in range(5):
        client.create_entity("table", f"t{number}", {"n": number})
    client.delete_entity("table", "t0")
    events = list(client.changes(page_size=2))
    assert [(e.key, e.action) for e in events] == [
        *((f"t{n}", "create") for n in range(5)),
        ("t0", "delete"),
    ]
    assert list(client.changes(after=events[3].cursor)) == events[4:]
    empty = registry.request("GET", f"/changes?after={events[-1].cursor}").json()
    assert empty == {"items": [], "next": events[-1].cursor}
    for odd in ("x", "1", "1-", "g-1", "1-" + "f" * 16):
        assert registry.request("GET", f"/changes?after={odd}").status_code == 400


def test_a_follower_sees_what_happens(registry: Registry) -> None:
    """A follower gets what was there, and then each event as it is committed, of its own tenant alone."""
    client, other = registry.client(), registry.client(tenant="other")
    client.create_entity("table", "before", {})
    followed = client.follow()
    assert next(followed).key == "before"
    other.create_entity("table", "elsewhere", {})
    client.create_entity("table", "after", {"line": "\u2028\n"})
    seen = next(followed)
    assert (seen.key, seen.state) == ("after", {"line": "\u2028\n"})
    followed.close()


@pytest.mark.postgres
def test_a_follower_is_woken_and_waits_for_no_poll(
    new_control_url: Callable[[str], str], clock: FixedClock
) -> None:
    """An event reaches followers as it is committed, also once the one listening session has been ended."""
    url = new_control_url("postgres")
    with running_registry(backend_at(url, clock, poll_s=600.0, heartbeat_s=600.0), clock) as served:
        client = served.client()
        client.create_entity("table", "t0", {})
        followers = [client.follow() for _ in range(3)]
        assert {next(each).key for each in followers} == {"t0"}
        client.create_entity("table", "t1", {})
        assert {next(each).key for each in followers} == {"t1"}
        engine = open_engine(url)
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        mine = "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        with engine.connect() as connection:
            assert connection.scalar(text(ended + mine)) == 1
        engine.dispose()
        client.create_entity("table", "t2", {})
        assert {next(each).key for each in followers} == {"t2"}
        for each in followers:
            each.close()


def test_a_follower_goes_on_where_it_was_cut_off(registry: Registry) -> None:
    """With Last-Event-ID the stream begins after the event that was seen last, whatever the address says."""
    client = registry.client()
    for name in "abc":
        client.create_entity("table", name, {})
    first, *rest = client.changes()
    headers = {"Authorization": f"Bearer {registry.token()}", "Last-Event-ID": first.cursor}
    url = f"{registry.url}{API}/changes/stream?after=0-0"
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        seen = list(itertools.islice(messages(lines), 2))
        assert [message.id for message in seen] == [event.cursor for event in rest]
        assert next(line for line in lines if line.startswith(":")) == ": nothing new"


def test_there_is_room_for_so_many_followers(
    new_control_url: Callable[[str], str], clock: FixedClock
) -> None:
    """One more than there is room for is told to come back; a place is free again when one goes."""
    backend = backend_at(new_control_url("sqlite"), clock, limits=RequestLimits(streams=1))
    with running_registry(backend, clock) as served:
        client = served.client()
        client.create_entity("table", "t", {})
        followed = client.follow()
        next(followed)
        refused = served.request("GET", "/changes/stream")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
        followed.close()
        waits: list[float] = []
        client.calls.sleep = waits.append
        again = client.follow()
        assert next(again).key == "t"
        again.close()


class Flaky:
    """A proxy before the registry that loses what it is told to lose."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.faults: list[str] = []
        self.seen: list[str] = []
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(size)
                flaky.seen.append(self.headers.get("Idempotency-Key", ""))
                fault = flaky.faults.pop(0) if flaky.faults else ""
                if fault == "lose_request":
                    self.close_connection = True
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                answer = httpx.request(
                    self.command,
                    flaky.behind + self.path,
                    headers=headers,
                    content=body,
                    timeout=60,
                )
                if fault == "lose_answer":
                    self.close_connection = True
                    return
                if fault == "busy":
                    self.send_response(503)
                    self.send_header("Retry-After", "7")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def flaky(registry: Registry) -> Iterator[Flaky]:
    """A flaky way to the server."""
    made = Flaky(registry.url)
    with answering(made.server):
        yield made


def test_a_lost_answer_is_asked_for_again_and_not_done_again(
    registry: Registry, flaky: Flaky
) -> None:
    """Requests and answers may get lost: under the same key the command takes effect once."""
    waits: list[float] = []
    with RegistryClient(
        flaky.url, registry.token(), sleep=waits.append, jitter=lambda: 1.0, new_key=lambda: "k1"
    ) as client:
        flaky.faults = ["lose_request", "lose_answer", "busy"]
        made = client.create_entity("table", "orders", {})
        assert made.version == 1
        assert len(list(client.entity_history("table", "orders"))) == 1
        assert flaky.seen[:4] == ["k1"] * 4
        assert waits == [0.1, 0.2, 7.0]
        client.calls.new_key = lambda: "k2"
        flaky.faults = ["lose_answer"]
        patched = client.patch_entity("table", "orders", {"n": 1}, etag=made.etag)
        assert (patched.version, patched.attributes) == (2, {"n": 1})


def test_the_client_gives_up_by_its_name(registry: Registry, flaky: Flaky) -> None:
    """Without any answer, or with busy ones only, the client says so after its tries; a refusal is final at once."""
    with RegistryClient(flaky.url, registry.token(), sleep=lambda _s: None, tries=3) as client:
        flaky.faults = ["lose_request"] * 3
        with pytest.raises(NoAnswer, match="in 3 tries"):
            client.types()
        flaky.faults = ["busy"] * 3
        with pytest.raises(TooBusy, match="without saying why"):
            client.types()
        client.calls._http.headers["Authorization"] = "Bearer nobody"
        before = len(flaky.seen)
        with pytest.raises(NotAdmitted):
            next(client.follow())
        with pytest.raises(NotAdmitted):
            client.types()
        assert len(flaky.seen) == before + 2
        assert registry.token() not in repr(client.calls)


def test_a_token_is_not_made_twice(registry: Registry, flaky: Flaky) -> None:
    """What has no idempotency key is tried once: nobody knows whether it was done, and that is said."""
    token = registry.token("admin")
    with RegistryClient(flaky.url, token, sleep=lambda _s: None) as client:
        flaky.faults = ["lose_answer"]
        with pytest.raises(NoAnswer, match="in 1 tries"):
            client.create_token("bob", "reader")
        assert sorted(each.name for each in client.tokens()) == ["ada", "bob"]


def test_messages_are_read_as_the_standard_has_them() -> None:
    """Comments and unknown fields are passed over, data of several lines are one, and half an event is none."""
    lines = [
        ": hello",
        "",
        "id: 1",
        "data: a",
        "data:b",
        "retry: 5",
        "",
        "event: x",
        "data",
        "",
        "data: lost",
    ]
    found = [(message.id, message.data) for message in messages(lines)]
    assert found == [("1", "a\nb"), ("1", "")]


def test_a_place_is_kept_however_the_log_is_read(registry: Registry) -> None:
    """The cursor of an event in a history is its place in the feed."""
    client = registry.client()
    client.create_entity("table", "a", {})
    client.create_entity("table", "b", {})
    (item,) = client.entity_history("table", "a")
    (after,) = client.changes(after=item.event.cursor)
    assert after.key == "b"
    assert replace(registry.backend).streams.left == registry.backend.limits.streams
