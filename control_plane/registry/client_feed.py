"""Following the change feed: server-sent events, across connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import httpx

from control_plane.registry.client_calls import AGAIN, Calls
from control_plane.registry.client_problems import Refused
from control_plane.registry.documents import EventDocument


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One server-sent event."""

    id: str | None
    data: str


def followed(calls: Calls, *, after: str | None, silence_s: float) -> Iterator[EventDocument]:
    """Yield events for ever, each once, in order, over as many connections as it takes.

    Raises what the registry refuses with, but for what says to come back later.
    """
    tried = 0
    while True:
        headers = {} if after is None else {"Last-Event-ID": after}
        try:
            with calls.stream("/changes/stream", headers, silence_s) as response:
                for message in messages(_lines(response.iter_bytes())):
                    tried, after = 0, message.id or after
                    yield EventDocument.model_validate_json(message.data, extra="ignore")
        except httpx.TransportError:
            pass
        except Refused as refused:
            if refused.problem.status not in AGAIN:
                raise
        calls.wait(tried)
        tried = min(tried + 1, 10)


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream into lines at line ends alone: a JSON text may hold what else Unicode calls a line's end."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """Read the lines of a stream as events; one that was cut off half-way is none."""
    data: list[str] = []
    seen: str | None = None
    for line in lines:
        if not line:
            if data:
                yield Message(id=seen, data="\n".join(data))
            data = []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            seen = value
