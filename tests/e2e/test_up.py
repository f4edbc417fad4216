"""The whole stack under its supervisor, as ``penstock up`` runs it: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from control_plane.supervisor import (
    ROOT,
    CannotStart,
    Child,
    ChildFailed,
    Stack,
    free_port,
    run_up,
)
from resources.settings import Settings
from tests.fixtures.penstock_up import PATIENCE_S, UP, eventually, penstock_up

SHOWN = """{ assetOrError(assetKey: {path: ["control_catalog", "published"]}) { ... on Asset {
  assetMaterializations(limit: 5) { partition metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }"""


def test_a_batch_that_lands_is_published_and_shown_and_ctrl_c_leaves_nothing(
    tmp_path: Path,
) -> None:
    """A landed batch is published with no further word, Dagster shows it, and SIGINT ends every process with 0."""
    with penstock_up(tmp_path / "home") as up:
        up.collect("control_catalog")
        state = eventually(lambda: up.published("control_catalog"), "the batch is published")
        assert state.metrics.entities_created > 100
        timestamp = state.batch_id.partition("@")[2]

        def shown() -> Any:
            found = up.graphql(SHOWN)["assetOrError"].get("assetMaterializations") or []
            # Whenever the hour strikes meanwhile, the source's schedule brings another batch.
            return [each for each in found if each["partition"].endswith(timestamp)]

        (materialization,) = eventually(shown, "Dagster shows the batch")
        assert materialization["partition"] == f"control_catalog|{timestamp}"
        counts = {e["label"]: e.get("intValue") for e in materialization["metadataEntries"]}
        assert counts["entities_created"] == state.metrics.entities_created
        for server in (f"{up.registry_port}/registry/v1", f"{up.control_port}"):
            health = f"http://127.0.0.1:{server}/health"
            with urllib.request.urlopen(health, timeout=PATIENCE_S) as answer:
                assert json.load(answer) == {"status": "ok"}
        assert up.stop(signal.SIGINT) == 0
        assert up.of_this_home() == []
    assert (tmp_path / "home" / "control.db").exists()


def test_what_dies_is_started_again_and_nothing_outlives_the_supervisor(tmp_path: Path) -> None:
    """A home has one stack at most; a killed daemon comes back; a killed supervisor takes its processes along."""
    with penstock_up(tmp_path / "home") as up:
        second = subprocess.run(
            [*UP, "--port", str(free_port()), "--registry-port", "0", "--control-port", "0"],
            env=up.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert second.returncode == 2
        assert str(up.home) in second.stdout + second.stderr
        (daemon,) = up.of_this_home("dagster._daemon")
        os.kill(daemon, signal.SIGKILL)
        again = eventually(
            lambda: [p for p in up.of_this_home("dagster._daemon") if p != daemon],
            "the daemon is started again",
        )
        assert len(again) == 1
        up.stop(signal.SIGKILL)
        eventually(lambda: not up.of_this_home(), "the processes end with their supervisor")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """``up`` on a port that another program listens on says so, and starts nothing."""
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=f"port {port} is taken"):
            run_up(Settings(home=tmp_path / "home"), port=port)
    assert not (tmp_path / "home").exists()


def one_child(tmp_path: Path, program: str, *, ready: bool) -> Stack:
    """Return a stack of one process that runs a Python program."""
    stack = Stack(Settings(home=tmp_path / "home"), port=None)
    argv = [sys.executable, "-c", program]
    stack.children = [Child(name="daemon", argv=argv, ready=lambda: ready)]
    return stack


def test_a_process_that_ends_while_starting_is_named_with_its_log(tmp_path: Path) -> None:
    """What a process said before it ended is in the log that the error names."""
    stack = one_child(tmp_path, "raise SystemExit('no such thing')", ready=False)
    with pytest.raises(ChildFailed, match=r"daemon ended while starting: see .*daemon\.log"):
        stack.start()
    assert "no such thing" in stack.log_of(stack.children[0]).read_text()


def test_a_process_that_keeps_dying_is_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    """Restarts are bounded: after five in ten minutes the sixth death is an error."""
    monkeypatch.setattr("control_plane.supervisor.MOST_RESTARTS", 2)
    stack = one_child(tmp_path, "", ready=True)
    stack.start()
    child = stack.children[0]
    for _ in range(2):
        assert child.process is not None
        child.process.wait(PATIENCE_S)
        assert stack.check() == ["daemon"]
    assert child.process is not None
    child.process.wait(PATIENCE_S)
    with pytest.raises(ChildFailed, match="died 3 times"):
        stack.check()
