"""The registry's projections, and running them beside whatever serves it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from penstock.ports.clock import Clock
from penstock.ports.registry import LogSignal
from resources.control_db.engine import open_engine
from resources.registry.projections import ProjectionRunner
from resources.registry.seals import Seal
from resources.registry.search_index import SearchIndex
from resources.registry.tallies import Activity, Counts

_AGAIN_S = 5.0
_POLL_S = 1.0
_log = logging.getLogger(__name__)


def runner_of(engine: Engine, clock: Clock) -> ProjectionRunner:
    """Return a runner of all of the registry's projections."""
    return ProjectionRunner(engine, [SearchIndex(), Counts(), Activity(), Seal(clock)], clock)


@contextmanager
def projecting(url: str, clock: Clock, signal: LogSignal) -> Iterator[None]:
    """Keep the projections of the registry behind a URL up to date in a thread, on connections of its own.

    Any number of processes may do so: they take turns. A database that is away is tried again.
    """
    stop = threading.Event()
    arguments = (url, clock, stop, signal)
    thread = threading.Thread(target=_run, args=arguments, name="registry projections")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _run(url: str, clock: Clock, stop: threading.Event, signal: LogSignal) -> None:
    engine = open_engine(url)
    runner = runner_of(engine, clock)
    while not stop.is_set():
        try:
            runner.run(stop, poll_s=_POLL_S, signal=signal)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("the registry's projections stand still: %s", error)
            stop.wait(_AGAIN_S)
    engine.dispose()
