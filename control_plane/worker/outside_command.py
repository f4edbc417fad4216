"""A handler that has a command of the user's do the task.

The command gets the task as one JSON object on its standard input. Exit status 0 is success: what it printed is a JSON
object with ``batch_id``, ``result`` or both, or a batch id alone, or nothing. Any other is a failure, whose message is
the end of what it wrote to stderr; it is tried again, unless the status is 65.

Where the task belongs to a trace, the environment variable ``TRACEPARENT`` holds its W3C trace context.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.worker.calls import Assignment
from control_plane.worker.running import Done, TaskFailed

NEVER_AGAIN = 65
"""The exit status of a command whose task would fail again (``EX_DATAERR``)."""
LARGEST_OUTPUT = 1 << 20
"""Bytes of an answer: counts and places, never rows."""
TRACE_PARENT = "TRACEPARENT"
"""The environment variable that holds a task's trace."""
_TRACE = frozenset({TRACE_PARENT, "TRACESTATE"})
_LOOK_S = 0.1
_FAREWELL_S = 10.0
_TOLD = 1000


@dataclass(frozen=True)
class OutsideCommand:
    """Runs a command for each task."""

    arguments: Sequence[str]

    def __call__(self, task: Assignment, stop: threading.Event) -> Done:
        """Do one task; raises ``TaskFailed``. A command that has to stop is terminated, and killed if it does not."""
        process = self._start(_environment(task))
        told = json.dumps(dict(task.document)).encode()
        watching = threading.Thread(target=_watch, args=(process, stop), daemon=True)
        watching.start()
        output, errors = process.communicate(told)
        watching.join()
        if stop.is_set() and process.returncode:
            raise TaskFailed("it was stopped", code="stopped")
        if process.returncode:
            raise TaskFailed(
                errors.decode(errors="replace").strip()[-_TOLD:]
                or f"{self.arguments[0]} ended with exit status {process.returncode}",
                code="command_failed",
                retryable=process.returncode != NEVER_AGAIN,
            )
        return _done(output)

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(  # noqa: S603
                list(self.arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=environment
            )
        except OSError as error:
            raise TaskFailed(
                f"{self.arguments[0]} cannot be run: {error}", code="no_command"
            ) from error


def _environment(task: Assignment) -> dict[str, str]:
    """Return this process's environment with the task's trace in it, in place of the one that started the worker."""
    environment = {name: value for name, value in os.environ.items() if name not in _TRACE}
    if task.trace_parent is not None:
        environment[TRACE_PARENT] = task.trace_parent
    return environment


def _watch(process: subprocess.Popen[bytes], stop: threading.Event) -> None:
    while process.poll() is None:
        if stop.wait(_LOOK_S):
            process.terminate()
            try:
                process.wait(_FAREWELL_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return


def _done(output: bytes) -> Done:
    text = output.decode(errors="replace").strip()
    if len(output) > LARGEST_OUTPUT:
        raise TaskFailed(
            f"the command printed {len(output):,} bytes: rows belong in a batch",
            code="bad_answer",
            retryable=False,
        )
    if not text:
        return Done()
    if not text.startswith("{"):
        return Done(batch_id=text)
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise _bad(f"the command printed no JSON: {error}") from error
    result = answer.get("result") or {}
    if set(answer) - {"batch_id", "result"} or not isinstance(result, dict):
        raise _bad("the command printed an object with something else than batch_id and result")
    return Done(batch_id=answer.get("batch_id"), result=result)


def _bad(message: str) -> TaskFailed:
    return TaskFailed(message, code="bad_answer", retryable=False)
