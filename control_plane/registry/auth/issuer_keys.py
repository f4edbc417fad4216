"""An OIDC issuer's public keys: fetched when needed, kept for a while, and not fetched for every unknown name."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import httpx
import jwt

from control_plane.web.gate import CannotTell
from penstock.ports.clock import Clock

MOST_BYTES = 2**20
TIMEOUT_S = 5.0


class IssuerUnreachable(CannotTell):
    """The issuer's keys cannot be fetched, so nobody can tell whether a token is its own."""

    code = "issuer_unreachable"


@dataclass(kw_only=True)
class IssuerKeys:
    """The keys behind one address. Threads share one."""

    url: str
    clock: Clock
    keep_s: float
    fetch_at_most_every_s: float
    _keys: dict[str, jwt.PyJWK] = field(default_factory=dict)
    _fetched_s: float | None = None
    _tried_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return a key by its id; raises :class:`IssuerUnreachable` where keys cannot be had at all."""
        with self._lock:
            if self._outdated() or key_id not in self._keys:
                self._fetch_if_due()
            if self._fetched_s is None:
                raise IssuerUnreachable(
                    f"the issuer's keys at {self.url} cannot be fetched: try again later"
                )
            return self._keys.get(key_id)

    def _outdated(self) -> bool:
        return self._fetched_s is None or self.clock.monotonic_s() - self._fetched_s > self.keep_s

    def _fetch_if_due(self) -> None:
        now_s = self.clock.monotonic_s()
        if self._tried_s is not None and now_s - self._tried_s < self.fetch_at_most_every_s:
            return
        self._tried_s = now_s
        fetched = _fetch(self.url)
        if fetched is not None:
            self._keys, self._fetched_s = fetched, now_s


def _fetch(url: str) -> dict[str, jwt.PyJWK] | None:
    """Return an issuer's signing keys by id; None where it does not answer with any."""
    try:
        with httpx.stream("GET", url, timeout=TIMEOUT_S, follow_redirects=False) as answer:
            answer.raise_for_status()
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    return None
        keys = jwt.PyJWKSet.from_json(body.decode())
    except (httpx.HTTPError, jwt.PyJWTError, ValueError):
        return None
    return {
        key.key_id: key for key in keys.keys if key.key_id and key.public_key_use in (None, "sig")
    }
