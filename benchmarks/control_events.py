"""From events to what they bring about, at a steady rate: a part of ``bench control``.

Sources tell of archives over ``POST /events``, most of them in batches of 50, some alone. Most are of sources that no
workflow waits for, as in a feed of a whole platform; some begin a turn of a workflow, which workers then do. An event
has been acted on when the inbox says so, which is after all that it brought about was committed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from statistics import median
from typing import Any

from sqlalchemy import Engine, func, select

from benchmarks.harness import Result, at_least, at_most, result
from resources.control_db.event_tables import inbox_event
from resources.control_db.workflow_tables import workflow, workflow_turn

_TYPE = "archive_discovered"
_PATIENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What is sent."""

    per_s: int = 1000
    for_s: float = 60.0
    batch: int = 50
    alone: int = 20
    """One event in so many goes alone."""
    acting: int = 50
    """One event in so many begins a turn."""
    subjects: int = 10_000
    connections: int = 8


def requests_of(feed: Feed, run: str, sources: int) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Yield each request: when it is due, in seconds from the start, and its events."""
    together: list[dict[str, Any]] = []
    for number in range(round(feed.per_s * feed.for_s)):
        due_s = number / feed.per_s
        event = _event(feed, run, number, sources)
        if number % feed.alone == 0:
            yield due_s, [event]
            continue
        together.append(event)
        if len(together) == feed.batch:
            yield due_s, together
            together = []
    if together:
        yield feed.for_s, together


def _event(feed: Feed, run: str, number: int, sources: int) -> dict[str, Any]:
    acts = number % feed.acting == 1
    source = f"s{number // feed.acting % sources}" if acts else f"other{number % feed.subjects}"
    return {
        "specversion": "1.0",
        "id": f"{run}-{number}",
        "source": "/bench",
        "type": _TYPE,
        "data": {"source_id": source, "archive": f"s3://archive/{source}/{number}"},
    }


def measure(
    feed: Feed, *, url: str, token: str, engine: Engine, workers: AbstractContextManager[None]
) -> list[Result]:
    """Send a feed, and see when each event was acted on; one workflow waits for each of the sources ``s0`` and on."""
    run = uuid.uuid4().hex
    before = _turns_and_queued(engine)
    sources = _waiting_workflows(engine)
    requests = list(requests_of(feed, run, sources))
    told = {"url": url, "token": token, "requests": requests, "connections": feed.connections}
    with workers:
        sender = subprocess.run(
            [sys.executable, "-m", "benchmarks.event_sender"],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            check=True,
        )
        said = json.loads(sender.stdout)
        backlog = _waiting(engine)
        give_up_at = time.monotonic() + _PATIENCE_S
        while _waiting(engine) and time.monotonic() < give_up_at:
            time.sleep(0.05)
    due = {e["id"]: said["starts_at"] + due_s for due_s, events in requests for e in events}
    acting = {e["id"] for _, events in requests for e in events if e["data"]["source_id"][0] == "s"}
    acted = _turns_and_queued(engine) - before
    return _results(feed, said, due, acting, _settled(engine, run), backlog, acted)


def _results(
    feed: Feed,
    said: Mapping[str, Any],
    due: Mapping[str, float],
    acting: set[str],
    settled: Mapping[str, datetime],
    backlog: int,
    acted: int,
) -> list[Result]:
    latencies = sorted(at.timestamp() - due[each] for each, at in settled.items())
    of_acting = sorted(settled[each].timestamp() - due[each] for each in acting & settled.keys())
    rate = said["taken"] / (said["ended_at"] - said["starts_at"])
    of = f"{feed.per_s:,} events/s for {feed.for_s:g} s"
    turns = f"{of}, of those that begin a turn"
    return [
        result(f"{of}: taken", rate, "events/s", goal=at_least(0.95 * feed.per_s, "events/s")),
        result(f"{of}: not acted on at the end", backlog, "events"),
        result(f"{of}: lost or dead", len(due) - len(settled), "events", goal=at_most(0, "events")),
        result(f"{of}: event to action, median", median(latencies), "s"),
        result(f"{of}: event to action, p99", _p99(latencies), "s", goal=at_most(1, "s")),
        result(f"{turns}: event to action, median", median(of_acting), "s"),
        result(f"{turns}: event to action, p99", _p99(of_acting), "s", goal=at_most(1, "s")),
        result(
            f"{turns}: turns begun or queued",
            acted,
            "",
            peer=f"{len(acting):,} events",
            goal=at_least(len(acting), ""),
        ),
    ]


def _p99(ordered: list[float]) -> float:
    return ordered[ceil(0.99 * len(ordered)) - 1]


def _one(engine: Engine, query: Any) -> int:
    with engine.connect().execution_options(penstock_reading=True) as connection:
        return int(connection.execute(query).scalar_one() or 0)


def _waiting(engine: Engine) -> int:
    waiting = select(func.count()).where(inbox_event.c.status == "waiting")
    return _one(engine, waiting)


def _waiting_workflows(engine: Engine) -> int:
    return _one(engine, select(func.count()).where(workflow.c.kind == "event_driven"))


def _turns_and_queued(engine: Engine) -> int:
    """Count what events have begun, or will once the turn before has ended, or came to nothing for too many of them."""
    turns = select(func.count()).where(workflow_turn.c.trigger_id.like("event:%"))
    left = select(func.sum(workflow.c.queued_count + workflow.c.dropped_triggers))
    return _one(engine, turns) + _one(engine, left)


def _settled(engine: Engine, run: str) -> dict[str, datetime]:
    done = select(inbox_event.c.event_id, inbox_event.c.settled_at).where(
        inbox_event.c.status == "done", inbox_event.c.event_id.like(f"{run}-%")
    )
    with engine.connect().execution_options(penstock_reading=True) as connection:
        return {row.event_id: row.settled_at for row in connection.execute(done)}
