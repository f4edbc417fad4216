"""Sends events to a control plane at a steady rate, in a process of its own, so that it takes no time from others.

``python -m benchmarks.event_sender`` reads what to send from its standard input as JSON, and prints when each was due::

    {"url": "http://127.0.0.1:8000", "token": "...", "requests": [[due_s, [event, ...]], ...], "connections": 8}

``due_s`` is counted from the start. A request that goes out late, since all connections are busy, counts from when it
was due: what waits for the server here waits for it all the same.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.client import HTTPConnection
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from penstock.events.cloudevents import BATCH, STRUCTURED

_TAKEN = 202


def main() -> None:
    """Send everything; prints the moment of the start, and how many events were taken until which moment."""
    told = json.load(sys.stdin)
    queue: SimpleQueue[tuple[float, list[dict[str, Any]]]] = SimpleQueue()
    for due_s, events in told["requests"]:
        queue.put((due_s, events))
    starts_at = time.time() + 0.5
    taken: list[int] = []
    args = (told["url"], told["token"], queue, starts_at, taken)
    threads = [threading.Thread(target=_send, args=args) for _ in range(told["connections"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"starts_at": starts_at, "ended_at": time.time(), "taken": sum(taken)}))


def _send(
    url: str, token: str, queue: SimpleQueue[Any], starts_at: float, taken: list[int]
) -> None:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    while True:
        try:
            due_s, events = queue.get_nowait()
        except Empty:
            connection.close()
            return
        time.sleep(max(0.0, starts_at + due_s - time.time()))
        body = json.dumps(events if len(events) > 1 else events[0])
        kind = BATCH if len(events) > 1 else STRUCTURED
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        connection.request("POST", "/events", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == _TAKEN:
            taken.append(len(events))


if __name__ == "__main__":
    main()
