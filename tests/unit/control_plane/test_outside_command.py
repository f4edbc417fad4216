"""A worker may have any command do its tasks."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from control_plane.worker.calls import Assignment
from control_plane.worker.outside_command import OutsideCommand
from control_plane.worker.running import Done, TaskFailed

TASK: dict[str, Any] = {
    "task_id": "0" * 32,
    "workflow_id": "1" * 32,
    "step": "collect",
    "source_id": "crm",
    "tenant_id": "acme",
    "attempt": 1,
    "fencing_token": 1,
    "lease_expires_at": "2026-01-01T12:00:00Z",
    "capability": "collect",
}


def do(script: str, stop: threading.Event | None = None, **fields: Any) -> Done:
    """Have a Python script do the task."""
    command = OutsideCommand([sys.executable, "-c", script])
    return command(Assignment.of({**TASK, **fields}), stop or threading.Event())


def test_a_command_gets_the_task_and_answers_with_json() -> None:
    """On its standard input, all of it."""
    done = do(
        "import json, sys; t = json.load(sys.stdin);"
        "print(json.dumps({'batch_id': 'b', 'result': {'source': t['source_id']}}))"
    )
    assert done == Done(batch_id="b", result={"source": "crm"})


def test_a_command_may_print_a_batch_id_or_nothing() -> None:
    """Either is an answer."""
    assert do("print('crm@2026')") == Done(batch_id="crm@2026")
    assert do("pass") == Done()


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        ("import sys; sys.exit('no route')", "command_failed", True),
        ("import sys; print('bad row', file=sys.stderr); sys.exit(65)", "command_failed", False),
        ("print('{')", "bad_answer", False),
        ("print('{\"rows\": 1}')", "bad_answer", False),
        ("print('x' * 2_000_000)", "bad_answer", False),
    ],
)
def test_a_failure_says_whether_trying_again_may_help(
    script: str, code: str, retryable: bool
) -> None:
    """By the exit status; an answer that means nothing is no better the second time."""
    with pytest.raises(TaskFailed) as failed:
        do(script)
    assert (failed.value.reported_code, failed.value.retryable) == (code, retryable)


def test_the_end_of_stderr_is_the_message() -> None:
    """So that a person sees what went wrong."""
    with pytest.raises(TaskFailed, match="no route"):
        do("import sys; sys.exit('no route')")


def test_a_command_that_is_not_there_fails_its_task() -> None:
    """And says which."""
    with pytest.raises(TaskFailed, match="cannot be run"):
        OutsideCommand(["/no/such/command"])(Assignment.of(TASK), threading.Event())


def test_a_command_that_has_to_stop_is_terminated(tmp_path: Path) -> None:
    """It is not waited for to its end."""
    stop, here = threading.Event(), tmp_path / "here"
    script = f"import time; open({json.dumps(str(here))}, 'w').close(); time.sleep(600)"

    def stop_soon() -> None:
        while not here.exists():
            threading.Event().wait(0.05)
        stop.set()

    threading.Thread(target=stop_soon).start()
    with pytest.raises(TaskFailed, match="stopped"):
        do(script, stop)


def test_a_command_has_the_task_s_trace_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """In TRACEPARENT; of a task without one it has none, whatever trace the worker itself was started in."""
    monkeypatch.setenv("TRACEPARENT", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    monkeypatch.setenv("TRACESTATE", "ours=1")
    script = (
        "import json, os; names = ('TRACEPARENT', 'TRACESTATE');"
        "print(json.dumps({'result': {n: os.environ[n] for n in names if n in os.environ}}))"
    )
    traced = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
    assert do(script, trace_parent=traced) == Done(result={"TRACEPARENT": traced})
    assert do(script, trace_parent="no trace at all") == Done()
    assert do(script) == Done()
