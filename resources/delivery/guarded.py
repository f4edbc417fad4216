"""HTTP to addresses that strangers name: only where it may go, and for no longer than it may take.

Whether an address may be reached is decided on the resolved address that is then connected to, at the moment of
connecting: a name that resolves to something else a moment later gets nowhere else.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore

from penstock.errors import InvalidIdentifier, PenstockError
from resources.delivery.webhook_limits import IpNetwork, WebhookLimits

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LONGEST_URL = 2000
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(PenstockError):
    """An address may not be reached from here."""

    code = "address_refused"


class BadAddress(InvalidIdentifier):
    """An address is none that webhooks can be sent to."""

    code = "bad_address"


def check_url(text: str, limits: WebhookLimits) -> SplitResult:
    """Return a URL that webhooks can be sent to, or raise :class:`BadAddress`.

    What a name resolves to is looked at when it is connected to.
    """
    shape = "a webhook's address is https://host/path, with no user, password or fragment"
    if len(text) > _LONGEST_URL or not text.isascii() or any(c <= " " for c in text):
        raise BadAddress(f"{shape}, of at most {_LONGEST_URL} characters of ASCII")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise BadAddress(shape) from None
    if url.username is not None or url.password is not None or url.fragment or port == 0:
        raise BadAddress(shape)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise BadAddress(shape)
    if url.scheme == "http" and not limits.allowed_networks:
        raise BadAddress(f"{shape}: plain http reaches only networks that the settings allow")
    try:
        literal = ipaddress.ip_address(url.hostname)
    except ValueError:
        return url
    if not may_reach(literal, limits.networks(), plain=url.scheme == "http"):
        raise BadAddress(
            f"{literal} is not a public address: the platform's settings say which private networks may be reached"
        )
    return url


def may_reach(address: IpAddress, allowed: Iterable[IpNetwork], *, plain: bool = False) -> bool:
    """Say whether an address may be connected to; ``plain`` without TLS."""
    meant = _meant(address)
    if any(meant in network for network in allowed if network.version == meant.version):
        return True
    return not plain and meant.is_global and not meant.is_multicast and not meant.is_reserved


def _meant(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    embedded = address.ipv4_mapped or address.sixtofour
    if embedded is None and address.teredo is not None:
        embedded = address.teredo[1]
    return embedded or address


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAnswer:
    """What came back: never a redirect followed."""

    status: int
    headers: dict[str, str]


class GuardedPost:
    """POSTs to addresses that may be reached, over connections that are kept; one thread at a time."""

    def __init__(self, limits: WebhookLimits, *, tls: ssl.SSLContext | None = None) -> None:
        self._limits = limits
        self._backend = _Backend(limits)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            network_backend=self._backend,
            max_connections=1,
            keepalive_expiry=30.0,
        )

    def post(self, url: str, *, headers: dict[str, str], body: bytes) -> HttpAnswer:
        """POST once; raises :class:`AddressRefused`, or ``httpcore`` errors and ``OSError`` where nothing came back."""
        self._backend.plain = check_url(url, self._limits).scheme == "http"
        self._backend.deadline_s = time.monotonic() + self._limits.timeout_s
        with self._pool.stream("POST", url, headers=[*headers.items()], content=body) as response:
            left = self._limits.max_answer_bytes
            for piece in response.iter_stream():
                left -= len(piece)
                if left < 0:
                    break
            found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
            return HttpAnswer(status=response.status, headers=found)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()


class _Backend(httpcore.NetworkBackend):
    """Connects to the address that it has looked at, and to no other."""

    def __init__(self, limits: WebhookLimits) -> None:
        self._limits = limits
        self._allowed = limits.networks()
        self._real = httpcore.SyncBackend()
        self.plain = False
        self.deadline_s = 0.0

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the limits say how long
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a name that may be reached and answers."""
        trouble: Exception | None = None
        for address in self._addresses(host, port):
            timeout_s = min(self._limits.connect_s, self.left_s())
            try:
                stream = self._real.connect_tcp(
                    str(address), port, timeout_s, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _Stream(stream, self)
        raise trouble or httpcore.ConnectError(f"{host} has no address")

    def left_s(self) -> float:
        """Return the seconds that are left of a request; raises when none are."""
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout("it took too long")
        return left_s

    def _addresses(self, host: str, port: int) -> Sequence[IpAddress]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            # One that may not be reached is enough: which one is answered is the other side's choice.
            if not may_reach(address, self._allowed, plain=self.plain):
                raise AddressRefused(
                    f"{host} is not at a public address: the platform's settings say which private networks may be "
                    "reached"
                )
        return list(dict.fromkeys(addresses))


class _Stream(httpcore.NetworkStream):
    """A connection on which nothing takes longer than its request may."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Read what there is."""
        return self._stream.read(max_bytes, self._backend.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write everything."""
        self._stream.write(buffer, self._backend.left_s())

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Go on under TLS, to the name that was asked for."""
        timeout_s = min(self._limits_connect_s(), self._backend.left_s())
        inner = self._stream.start_tls(ssl_context, server_hostname, timeout_s)
        return _Stream(inner, self._backend)

    def _limits_connect_s(self) -> float:
        return self._backend._limits.connect_s

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection."""
        return self._stream.get_extra_info(info)
