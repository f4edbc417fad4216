"""The whole stack under its supervisor, as ``penstock up`` runs it: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from penstock.publish.state import PublishState, PublishStatus
from resources.control_db.store import SqlControlStore
from resources.settings import Settings

T = TypeVar("T")
UP = [sys.executable, "-m", "control_plane.cli", "up"]
PATIENCE_S = 600.0
"""Generous, since the machine may be busy; nothing waits longer than it has to."""
SHOWN = """{ assetOrError(assetKey: {path: ["control_catalog", "published"]}) { ... on Asset {
  assetMaterializations(limit: 5) { partition metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }"""


@dataclass(kw_only=True)
class Up:
    """A running ``penstock up``."""

    home: Path
    port: int
    registry_port: int
    control_port: int
    process: subprocess.Popen[str]
    environ: dict[str, str]

    def of_this_home(self, name: str = "") -> list[int]:
        """Return the processes that run over this home, the supervisor included."""
        wanted = f"PENSTOCK_HOME={self.home}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environ = (folder / "environ").read_bytes().split(b"\0")
                if wanted in environ and name in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def graphql(self, query: str) -> Any:
        """Ask Dagster's webserver."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def collect(self, source: str) -> None:
        """Extract a source and land its batch."""
        command = [sys.executable, "-W", "ignore", "-m", "jobs.collect", source]
        environ = {**self.environ, "DAGSTER_HOME": str(self.home / "dagster")}
        subprocess.run(
            command, env=environ, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S
        )

    def published(self, source: str) -> PublishState | None:
        """Return the newest publish state of a source, once it is COMPLETE."""
        store = SqlControlStore(f"sqlite:///{self.home / 'control.db'}")
        states = store.list_states(statuses=[PublishStatus.COMPLETE])
        store.close()
        return next((state for state in states if state.source_id == source), None)

    def stop(self, number: signal.Signals) -> int:
        """Send the supervisor a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def eventually(look: Callable[[], T | None], what: str) -> T:
    """Look until there is something to see."""
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        if seen := look():
            return seen
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE_S:g} s")


@contextmanager
def penstock_up(home: Path, **settings: str) -> Iterator[Up]:
    """Run ``penstock up`` over a folder until it says that it is up; nothing of it is left afterwards."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "DAGSTER_"))}
    environ = {**kept, "PENSTOCK_HOME": str(home), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    environ |= {f"PENSTOCK_{name.upper()}": value for name, value in settings.items()}
    port, registry_port, control_port = free_port(), free_port(), free_port()
    command = [*UP, "--port", str(port), "--registry-port", str(registry_port)]
    command += ["--control-port", str(control_port)]
    process = subprocess.Popen(
        command,
        env=environ,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    up = Up(
        home=home,
        port=port,
        registry_port=registry_port,
        control_port=control_port,
        process=process,
        environ=environ,
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Penstock is up" in line:
                break
        else:
            raise AssertionError("penstock up ended: " + "".join(said))
        yield up
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        for left in up.of_this_home():
            os.kill(left, signal.SIGKILL)


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
