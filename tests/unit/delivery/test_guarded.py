"""Webhooks go to public addresses, as they resolve at the moment of connecting, and nowhere else."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest

from resources.delivery.guarded import AddressRefused, BadAddress, GuardedPost, check_url, may_reach
from resources.delivery.webhook_limits import WebhookLimits
from tests.fixtures.answering import answering

PUBLIC = WebhookLimits()
LOCAL = WebhookLimits(allowed_networks=("127.0.0.0/8",), timeout_s=60)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_what_is_not_public_is_not_reached(address: str) -> None:
    """Private, local, metadata and multicast addresses are refused, in whatever form they are written."""
    assert not may_reach(ipaddress.ip_address(address), ())
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(BadAddress, match="public"):
        check_url(f"https://{host}/hook", PUBLIC)


def test_what_is_public_or_allowed_is_reached() -> None:
    """A public address is reached by TLS alone; a network that the settings name also without it."""
    public, private = ipaddress.ip_address("93.184.216.34"), ipaddress.ip_address("10.1.2.3")
    allowed = (ipaddress.ip_network("10.1.0.0/16"),)
    assert may_reach(public, ())
    assert may_reach(ipaddress.ip_address("2606:4700::1111"), ())
    assert not may_reach(public, allowed, plain=True)
    assert may_reach(private, allowed, plain=True)
    assert may_reach(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https:///path",
        "https://user:secret@example.org/",
        "https://example.org/#part",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://exa mple.org/",
        "https://exämple.org/",
        "https://example.org/" + "x" * 2000,
        "",
    ],
)
def test_what_is_no_webhook_s_address_is_refused(url: str) -> None:
    """An address has to be https, with a host, and without a password, which the error does not repeat."""
    with pytest.raises(BadAddress) as refused:
        check_url(url, PUBLIC)
    assert "secret" not in str(refused.value)


class Server(ThreadingHTTPServer):
    """Answers as it is told."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    body = b""
    drips = False
    seen: list[str]


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            made.seen.append(self.path)
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(made.body) + (10_000 if made.drips else 0)))
            self.end_headers()
            self.wfile.write(made.body)
            while made.drips:
                try:
                    self.wfile.write(b".")
                    self.wfile.flush()
                except OSError:
                    return
                threading.Event().wait(0.05)

        def log_message(self, *args: object) -> None:
            del args

    made = Server(("127.0.0.1", 0), Handler)
    made.seen, made.daemon_threads = [], False
    with answering(made):
        yield made
        made.drips = False


def post(server: Server, limits: WebhookLimits = LOCAL, host: str = "127.0.0.1") -> Any:
    """POST to a server by a name."""
    http = GuardedPost(limits)
    try:
        return http.post(f"http://{host}:{server.server_port}/hook", headers={}, body=b"{}")
    finally:
        http.close()


def test_redirects_are_not_followed(server: Server) -> None:
    """A redirect is an answer like any other: nothing is sent where it leads."""
    server.status, server.headers = 302, {"Location": "/secret"}
    assert post(server).status == 302
    assert server.seen == ["/hook"]


def test_a_name_is_checked_as_it_resolves(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a forbidden address is refused at connecting, though it led elsewhere a moment ago."""
    allowed = WebhookLimits(allowed_networks=("127.0.0.1/32",))
    answers = iter([["127.0.0.1"], ["10.0.0.7"], ["127.0.0.1", "10.0.0.7"]])
    real = socket.getaddrinfo
    asked: list[str] = []

    def resolve(host: str, port: Any, *args: Any, **named: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *args, **named)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert post(server, allowed, "rebinding.example").status == 200
    for _ in range(2):
        with pytest.raises(AddressRefused, match="public"):
            post(server, allowed, "rebinding.example")
    # It is resolved once for each connection: what was looked at is what was connected to.
    assert len(asked) == 3
    assert server.seen == ["/hook"]


def test_a_large_answer_is_not_read(server: Server) -> None:
    """Of an answer no more is read than the limit, and its status counts all the same."""
    server.body = b"x" * 1_000_000
    limits = LOCAL.model_copy(update={"max_answer_bytes": 1000})
    assert post(server, limits).status == 200


def test_a_slow_answer_is_given_up(server: Server) -> None:
    """An answer that comes byte by byte ends with the request's time, however often something comes."""
    server.drips = True
    limits = LOCAL.model_copy(update={"timeout_s": 0.5, "max_answer_bytes": 10**9})
    with pytest.raises((httpcore.ReadTimeout, httpcore.RemoteProtocolError)):
        post(server, limits)


def test_nobody_listens() -> None:
    """A port that nobody listens on is a failure of the network, not of Penstock."""
    with pytest.raises(httpcore.ConnectError):
        GuardedPost(LOCAL).post(f"http://127.0.0.1:{_closed_port()}/", headers={}, body=b"")


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
