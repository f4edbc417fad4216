"""Calls of the registry over HTTP: signed, tried again where that is safe, their refusals raised.

Reads are safe to repeat, and so is a command under its idempotency key: every one has one, so that an answer that got
lost is asked for again and not done again.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import orjson

from control_plane.registry.addresses import API
from control_plane.registry.client_problems import NoAnswer, refusal

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that say to come back."""
_LONGEST_WAIT_S = 30.0
_BAD = 400


def _new_key() -> str:
    return str(uuid4())


def _trusted(url: str, verify: bool | str) -> bool | str | ssl.SSLContext:
    if url.startswith("http:"):  # no certificates need to be loaded, and none are trusted
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return verify


@dataclass(kw_only=True)
class Calls:
    """A connection to one registry on behalf of one token."""

    url: str
    token: str = field(repr=False)
    tries: int = 5
    timeout_s: float = 30.0
    verify: bool | str = True
    """Whether to trust the server's certificate by the system's, or a file of certificates."""
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    new_key: Callable[[], str] = _new_key

    def __post_init__(self) -> None:
        self._http = httpx.Client(
            base_url=self.url.rstrip("/") + API,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=self.timeout_s,
            verify=_trusted(self.url, self.verify),
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def read(self, path: str, **parameters: Any) -> httpx.Response:
        """Ask for something; raises what the registry refuses with, or :class:`NoAnswer`."""
        return self._call("GET", path, parameters, {}, None)

    def ask(self, path: str, body: Any) -> httpx.Response:
        """Ask for something with a body: a query that changes nothing."""
        headers = {"Content-Type": "application/json"}
        return self._call("POST", path, {}, headers, orjson.dumps(body))

    def command(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        media: str = "application/json",
        etag: str | None = None,
        only_new: bool = False,
        key: str | None = None,
        **parameters: Any,
    ) -> httpx.Response:
        """Send a command under an idempotency key, its own unless one is given."""
        headers = {"Idempotency-Key": key or self.new_key()}
        if etag is not None:
            headers["If-Match"] = "*" if etag == "*" else f'"{etag}"'
        if only_new:
            headers["If-None-Match"] = "*"
        if body is not None:
            headers["Content-Type"] = media
        content = None if body is None else orjson.dumps(body)
        return self._call(method, path, parameters, headers, content)

    def once(self, path: str, body: Any) -> httpx.Response:
        """Send what must not be done twice and has no key: it is tried once."""
        headers = {"Content-Type": "application/json"}
        return self._call("POST", path, {}, headers, orjson.dumps(body), tries=1)

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], silence_s: float
    ) -> Iterator[httpx.Response]:
        """Open a stream that may be silent for so long; raises what the registry refuses with."""
        timeout = httpx.Timeout(self.timeout_s, read=silence_s)
        with self._http.stream("GET", path, headers=dict(headers), timeout=timeout) as response:
            if response.status_code >= _BAD:
                response.read()
                raise refusal(response)
            yield response

    def wait(self, tried: int, response: httpx.Response | None = None) -> None:
        """Wait before the next try: as long as the server says, or twice as long as before."""
        told = "" if response is None else response.headers.get("Retry-After", "")
        if told.isdecimal():
            self.sleep(min(float(told), _LONGEST_WAIT_S))
        else:
            self.sleep(min(0.1 * 2**tried, _LONGEST_WAIT_S) * (0.5 + self.jitter() / 2))

    def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Any],
        headers: Mapping[str, str],
        content: bytes | None,
        tries: int | None = None,
    ) -> httpx.Response:
        asked = httpx.URL(path)
        told = {name: _text(value) for name, value in parameters.items() if value is not None}
        url = asked.copy_merge_params(told) if told else asked
        most = tries or self.tries
        for tried in range(most):
            last = tried == most - 1
            try:
                response = self._http.request(method, url, headers=dict(headers), content=content)
            except httpx.TransportError as error:
                if last:
                    raise NoAnswer(
                        f"{self.url} gave no answer to {method} {path} in {most} tries: {error}"
                    ) from error
                self.wait(tried)
                continue
            if response.status_code in AGAIN and not last:
                self.wait(tried, response)
                continue
            if response.status_code >= _BAD:
                raise refusal(response)
            return response
        raise AssertionError("the last try has answered or raised")


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return list(value) if isinstance(value, list | tuple) else str(value)
