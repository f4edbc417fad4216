"""Named points: before and after every call through a port, every SQL statement and every commit.

The product has no code for this. A worker of the harness opens the real platform and puts :class:`Pointed` around each
of its ports; what passes through has a name and a number, such as ``target.apply:after#2``.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Engine, event

from penstock.use_cases.platform import Platform

_REMOTE = {"objects", "batches", "target"}
"""Ports whose answer may take any time: whoever waits for one in a transaction keeps its locks for as long."""
_HELD_OPEN = {"upload", "keep", "spool"}
"""Calls that give something to write to, whose methods are points too."""


@dataclass
class Points:
    """Counts what passes, and ends or stops this process at one point."""

    at: str | None = None
    number: signal.Signals = signal.SIGKILL
    passed: list[str] = field(default_factory=list)
    writing: set[int] = field(default_factory=set)
    """Connections with a transaction that writes."""
    _counts: Counter[str] = field(default_factory=Counter)

    def hit(self, name: str) -> None:
        """Pass a point."""
        if self.writing and name.partition(".")[0] in _REMOTE:
            raise AssertionError(f"{name} is called within a transaction")
        self._counts[name] += 1
        point = f"{name}#{self._counts[name]}"
        self.passed.append(point)
        if point == self.at:
            os.kill(os.getpid(), self.number)


class Pointed:
    """Anything with methods, each of which has a point before and after it."""

    def __init__(self, inner: Any, name: str, points: Points) -> None:
        self._inner, self._name, self._points = inner, name, points

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._inner, attribute)
        if attribute.startswith("_") or not callable(value):
            return value
        return self._pointed(value, attribute)

    def _pointed(self, method: Callable[..., Any], attribute: str) -> Callable[..., Any]:
        name = f"{self._name}.{attribute}"

        def call(*arguments: Any, **named: Any) -> Any:
            self._points.hit(f"{name}:before")
            result = method(*arguments, **named)
            self._points.hit(f"{name}:after")
            return _Opened(result, name, self._points) if attribute in _HELD_OPEN else result

        return call


class _Opened(AbstractContextManager[Any]):
    """A block in which something is written, with points around its end: that is when it counts."""

    def __init__(self, inner: AbstractContextManager[Any], name: str, points: Points) -> None:
        self._inner, self._name, self._points = inner, name, points

    def __enter__(self) -> Any:
        return Pointed(self._inner.__enter__(), self._name, self._points)

    def __exit__(self, *raised: Any) -> Any:
        self._points.hit(f"{self._name}.end:before")
        result = self._inner.__exit__(*raised)
        self._points.hit(f"{self._name}.end:after")
        return result


def pointed(platform: Platform, points: Points) -> Platform:
    """Return the platform with points around every port and inside every transaction."""
    ports: Mapping[str, Any] = {
        "control": platform.control,
        "objects": platform.objects,
        "batches": platform.batches,
        "scratch": platform.scratch,
    }
    targets = {name: Pointed(target, "target", points) for name, target in platform.targets.items()}
    engines = [platform.control, *platform.targets.values()]
    seen: set[int] = set()
    for owner in engines:
        engine = getattr(owner, "engine", None)
        if isinstance(engine, Engine) and id(engine) not in seen:
            seen.add(id(engine))
            _point_sql(engine, points)
    wrapped = {name: Pointed(port, name, points) for name, port in ports.items()}
    return replace(platform, targets=targets, **wrapped)


def _point_sql(engine: Engine, points: Points) -> None:
    def before_statement(*_: Any) -> None:
        points.hit("sql.statement:before")

    def commit(connection: Any) -> None:
        points.hit("sql.commit:before")
        do_commit(connection)
        points.hit("sql.commit:after")

    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("penstock_reading"):
            points.writing.add(id(connection))

    def end(connection: Connection) -> None:
        points.writing.discard(id(connection))

    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", end)
    event.listen(engine, "rollback", end)
    event.listen(engine, "before_cursor_execute", before_statement)
    do_commit = engine.dialect.do_commit
    engine.dialect.do_commit = commit  # type: ignore[method-assign]
