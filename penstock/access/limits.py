"""How much a caller may ask of a server: requests in a time, and JSON in a depth, decided without side effects."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENS = np.zeros(256, dtype=np.int8)
_OPENS[list(b"[{")] = 1
_OPENS[list(b"]}")] = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """A bucket that ``burst`` requests can be taken from at once, and that fills by ``per_second``."""

    per_second: float
    burst: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """How full a caller's bucket was at a moment of a clock that never goes backwards."""

    left: float
    at_s: float


def take(bucket: Bucket | None, limit: RateLimit, *, now_s: float) -> tuple[Bucket, float]:
    """Take one request from a bucket, full at first.

    Returns the bucket after it and 0, or, where there was none to take, the seconds until there is one.
    """
    before = bucket or Bucket(left=limit.burst, at_s=now_s)
    filled = min(limit.burst, before.left + (now_s - before.at_s) * limit.per_second)
    if filled >= 1:
        return Bucket(left=filled - 1, at_s=now_s), 0.0
    return Bucket(left=filled, at_s=now_s), (1 - filled) / limit.per_second


def nested(text: bytes) -> int:
    """Return how many arrays and objects stand within one another at most in a JSON text.

    Nothing is parsed and nothing recurses, so that any text can be asked about before a parser sees it. A text that
    is not JSON has some depth as well; the parser will say what is wrong with it.
    """
    brackets = _TEXT.sub(b"", text).translate(None, _ALL_BUT_BRACKETS)
    if not brackets:
        return 0
    steps = _OPENS[np.frombuffer(brackets, dtype=np.uint8)]
    return max(0, int(np.cumsum(steps, dtype=np.int64).max()))


class RequestLimits(BaseModel):
    """How much may be asked over HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caller_per_s: float = Field(default=100.0, gt=0)
    """Requests of one token, or of one subject of an issuer."""
    caller_burst: float = Field(default=500.0, ge=1)
    address_per_s: float = Field(default=200.0, gt=0)
    """Requests of one address, with whatever tokens and without."""
    address_burst: float = Field(default=1000.0, ge=1)
    body_bytes: int = Field(default=2**20, ge=1024)
    batch_bytes: int = Field(default=8 * 2**20, ge=1024)
    """Of a batch, and of rows that a schema is to be inferred from."""
    nested: int = Field(default=64, ge=2, le=500)
    """Arrays and objects within one another."""
    streams: int = Field(default=100, ge=0)
    """Followers of a stream at once."""

    @property
    def of_caller(self) -> RateLimit:
        """The rate of one caller."""
        return RateLimit(per_second=self.caller_per_s, burst=self.caller_burst)

    @property
    def of_address(self) -> RateLimit:
        """The rate of one address."""
        return RateLimit(per_second=self.address_per_s, burst=self.address_burst)
