"""Calls to an HTTP endpoint: bounded in time and size, their secrets kept, and their failures told apart.

=====================================================  =============================================================
what happened                                          is
=====================================================  =============================================================
no connection came about                               ``NotSent``: nothing can have taken effect
the connection broke, no whole answer in time, an      ``NoAnswer``: it may have taken effect
answer that is too large or cannot be read
a whole answer of any status                           ``Answer``
=====================================================  =============================================================
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from resources.targets.http_protocol import PROTOCOL, Refusal
from resources.targets.http_settings import HttpEndpoint

_COMPRESS_FROM_BYTES = 1024
_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def refusal(self) -> Refusal:
        """Return what the endpoint says of a status that is no success, as far as it says it as agreed."""
        try:
            said = Refusal.model_validate_json(self.body)
        except ValidationError:
            text = self.body[:_MESSAGE_CHARACTERS].decode(errors="replace").strip()
            said = Refusal(message=text)
        return Refusal(code=said.code[:100], message=said.message[:_MESSAGE_CHARACTERS])


@dataclass(frozen=True, kw_only=True)
class NotSent:
    """No connection came about."""

    message: str


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """The request, or a part of it, went out and no whole answer came back."""

    message: str
    too_large: bool = False


class HttpCalls:
    """One endpoint's connections, kept open between calls and shared by threads."""

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def post(
        self, path: str, body: bytes, content_type: str, headers: Mapping[str, str]
    ) -> Answer | NotSent | NoAnswer:
        """Post once; nothing is repeated or redirected here."""
        url = self._endpoint.url + path
        sent = {"Content-Type": content_type, "Penstock-Protocol": PROTOCOL, **headers}
        if self._endpoint.gzip and len(body) > _COMPRESS_FROM_BYTES:
            body, sent["Content-Encoding"] = gzip.compress(body, compresslevel=1, mtime=0), "gzip"
        try:
            with self._open().stream("POST", url, content=body, headers=sent) as response:
                return self._whole(url, response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return NotSent(message=f"{url} cannot be reached: {_said(error)}")
        except (httpx.TransportError, httpx.DecodingError) as error:
            return NoAnswer(message=f"{url} gave no whole answer: {_said(error)}")

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _open(self) -> httpx.Client:
        # Made at the first call: loading certificates costs some 20 ms.
        with self._lock:
            if self._client is None:
                self._client = _client(self._endpoint)
            return self._client

    def _whole(self, url: str, response: httpx.Response) -> Answer | NoAnswer:
        """Read an answer while it keeps its limits; httpx's own timeout is for each piece, not for all of them."""
        give_up_at = time.monotonic() + self._endpoint.timeout_s
        pieces: list[bytes] = []
        size_bytes = 0
        for piece in response.iter_bytes():
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes > self._endpoint.max_answer_bytes:
                most = self._endpoint.max_answer_bytes
                return NoAnswer(
                    message=f"{url} answered more than {most} bytes: answer less, or raise max_answer_bytes",
                    too_large=True,
                )
            if time.monotonic() > give_up_at:
                most_s = self._endpoint.timeout_s
                return NoAnswer(message=f"{url} gave no whole answer within {most_s:g} s")
        return Answer(status=response.status_code, headers=response.headers, body=b"".join(pieces))


def _client(endpoint: HttpEndpoint) -> httpx.Client:
    import ssl

    headers = {"User-Agent": "penstock", "Accept": "application/json"}
    if endpoint.token is not None:
        headers["Authorization"] = f"Bearer {endpoint.token.get_secret_value()}"
    if endpoint.url.startswith("https:"):
        trusted = ssl.create_default_context(cafile=endpoint.ca_file)
    else:  # no certificates need to be loaded, and none are trusted
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(
        headers=headers,
        timeout=httpx.Timeout(endpoint.timeout_s, connect=endpoint.connect_timeout_s),
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=8),
        verify=trusted,
        follow_redirects=False,
    )


def _said(error: Exception) -> str:
    """Name an error; some of httpx's say nothing themselves."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
