"""The supervisor: starts Dagster's processes over one data folder, watches them, and stops them all.

It never imports Dagster: a code server, the daemon and the webserver are processes of their own. Each is the head of a
process group and dies with the supervisor, so that neither Ctrl-C nor a kill leaves anything running.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType

from rich.console import Console

from penstock.errors import PenstockError
from resources.dagster_database import create_dagster_schema, dagster_url_beside, for_dagster
from resources.settings import Settings

ROOT = Path(__file__).parents[1]
LOG_BYTES = 10 * 1024 * 1024
"""A log that is longer when its process starts is put aside as ``<name>.log.1``."""
MOST_RESTARTS, WITHIN_S = 5, 600.0
_START_S, _STOP_S, _KILL_S = 240.0, 15.0, 5.0
_PR_SET_PDEATHSIG = 1


class CannotStart(PenstockError):
    """The stack cannot start here; the message says what is in the way."""

    code = "cannot_start"


class ChildFailed(PenstockError):
    """A process of the stack keeps dying, or never became ready; the message names its log."""

    code = "child_failed"


@dataclass(kw_only=True)
class Child:
    """One process of the stack."""

    name: str
    argv: list[str]
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    restarts: deque[float] = field(default_factory=deque)

    @property
    def running(self) -> bool:
        """Whether the process is there and has not ended."""
        return self.process is not None and self.process.poll() is None


class Stack:
    """Code server, daemon and webserver over one data folder."""

    def __init__(
        self,
        settings: Settings,
        *,
        port: int | None = 3000,
        host: str = "127.0.0.1",
        environ: Mapping[str, str] | None = None,
        location: str = "platform_assets.definitions",
        registry_port: int | None = None,
        control_port: int | None = None,
    ) -> None:
        """``port`` is the webserver's; None leaves the webserver out. ``environ`` is added to the children's."""
        self.settings, self.host, self.port, self.location = settings, host, port, location
        self.registry_port, self.control_port = registry_port, control_port
        self.code_port = free_port()
        self.dagster_home = settings.dagster_folder
        self.environ = {**os.environ, **settings_environ(settings), **(environ or {})}
        self.environ["DAGSTER_HOME"] = str(self.dagster_home)
        self.environ["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), *filter(None, [self.environ.get("PYTHONPATH")])]
        )
        self.children = self._children()

    @property
    def url(self) -> str:
        """The page to open."""
        return f"http://{self.host}:{self.port}"

    @property
    def registry_url(self) -> str:
        """The registry's address."""
        return f"http://{self.host}:{self.registry_port}"

    @property
    def control_url(self) -> str:
        """The control plane's address."""
        return f"http://{self.host}:{self.control_port}"

    def _children(self) -> list[Child]:
        python, workspace = sys.executable, str(self.dagster_home / "workspace.yaml")
        code = [python, "-m", "dagster", "api", "grpc", "--module-name", self.location]
        code += [
            "--location-name",
            "penstock",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.code_port),
        ]
        children = [
            Child(name="code-server", argv=code, ready=lambda: _listens(self.code_port)),
            Child(
                name="daemon",
                argv=[python, "-m", "dagster._daemon", "run", "--workspace", workspace],
                ready=lambda: True,
            ),
        ]
        if self.port is not None:
            web = [python, "-m", "dagster_webserver", "--workspace", workspace]
            web += ["--host", self.host, "--port", str(self.port)]
            answers = f"{self.url}/server_info"
            children.append(Child(name="webserver", argv=web, ready=lambda: _answers(answers)))
        return [*children, *self._servers()]

    def _servers(self) -> list[Child]:
        """Return our own servers: the registry, and the control plane."""
        servers = []
        if self.registry_port is not None:
            health = f"{self.registry_url}/registry/v1/health"
            servers.append(self._server("registry", "registry serve", self.registry_port, health))
        if self.control_port is not None:
            health = f"{self.control_url}/health"
            servers.append(self._server("control-plane", "serve", self.control_port, health))
        return servers

    def _server(self, name: str, command: str, port: int, health: str) -> Child:
        argv = [sys.executable, "-m", "control_plane.cli", *command.split()]
        argv += ["--host", self.host, "--port", str(port)]
        return Child(name=name, argv=argv, ready=lambda: _answers(health))

    def start(self) -> None:
        """Start all processes in order, each ready before the next; raises :class:`ChildFailed`."""
        self._prepare()
        for child in self.children:
            self._start(child)
            self._wait_until_ready(child)

    def _prepare(self) -> None:
        from resources.control_db.schema import upgrade

        logs = self.settings.home / "logs"
        for folder in (self.settings.home, self.dagster_home, logs):
            folder.mkdir(parents=True, exist_ok=True)
        upgrade(self.settings.control_url)
        self._write_instance()
        location = f"  - grpc_server:\n      host: 127.0.0.1\n      port: {self.code_port}\n"
        location += "      location_name: penstock\n"
        (self.dagster_home / "workspace.yaml").write_text(f"load_from:\n{location}")

    def _write_instance(self) -> None:
        """Give Dagster its instance file; one that a person has put there stays."""
        postgres = self.settings.control_url.startswith("postgresql")
        if postgres:
            create_dagster_schema(self.settings.control_url)
        file = self.dagster_home / "dagster.yaml"
        if file.exists():
            return
        shutil.copy(ROOT / ("dagster.postgres.yaml" if postgres else "dagster.yaml"), file)

    def log_of(self, child: Child) -> Path:
        """Return the file that a process writes to."""
        return self.settings.home / "logs" / f"{child.name}.log"

    def _start(self, child: Child) -> None:
        _libc()
        log = self.log_of(child)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as sink:
            child.process = subprocess.Popen(  # noqa: S603  our own interpreter and modules
                child.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self.environ,
                cwd=self.settings.home,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  one system call
            )

    def _wait_until_ready(self, child: Child) -> None:
        give_up_at = time.monotonic() + _START_S
        while not child.ready():
            if not child.running:
                raise ChildFailed(f"{child.name} ended while starting: see {self.log_of(child)}")
            if time.monotonic() > give_up_at:
                raise ChildFailed(
                    f"{child.name} was not ready after {_START_S:g} s: see {self.log_of(child)}"
                )
            time.sleep(0.1)

    def check(self) -> list[str]:
        """Restart what has died, and return the names; raises :class:`ChildFailed` if it dies too often."""
        restarted = []
        for child in self.children:
            if child.running:
                continue
            now = time.monotonic()
            while child.restarts and now - child.restarts[0] > WITHIN_S:
                child.restarts.popleft()
            if len(child.restarts) >= MOST_RESTARTS:
                raise ChildFailed(
                    f"{child.name} died {MOST_RESTARTS + 1} times in {WITHIN_S / 60:g} minutes: "
                    f"see {self.log_of(child)}"
                )
            time.sleep(min(10.0, 0.5 * 2 ** len(child.restarts)))
            child.restarts.append(now)
            self._start(child)
            restarted.append(child.name)
        return restarted

    def stop(self) -> None:
        """Stop all processes, last started first: asked, then told, then killed with all they started."""
        for child in reversed(self.children):
            if child.process is None:
                continue
            for number, patience_s in (
                (signal.SIGINT, _STOP_S),
                (signal.SIGTERM, _KILL_S),
                (signal.SIGKILL, _KILL_S),
            ):
                if not child.running:
                    break
                child.process.send_signal(number)
                _wait(child.process, patience_s)
            _kill_group(child.process.pid)


def settings_environ(settings: Settings) -> dict[str, str]:
    """Return the environment variables that stand for some settings, so that children read the same."""
    values = {
        "home": str(settings.home),
        "database_url": settings.control_url,
        "objects_url": settings.store_url,
        "s3_endpoint_url": settings.s3_endpoint_url,
        "s3_region": settings.s3_region,
        "s3_path_style": "true" if settings.s3_path_style else None,
        "dagster_home": str(settings.dagster_folder),
    }
    found = {f"PENSTOCK_{name.upper()}": value for name, value in values.items() if value}
    if given := os.environ.get("DAGSTER_PG_URL"):
        found["DAGSTER_PG_URL"] = for_dagster(given)
    elif settings.control_url.startswith("postgresql"):
        found["DAGSTER_PG_URL"] = dagster_url_beside(settings.control_url)
    return found


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends, however that ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@cache
def _libc() -> ctypes.CDLL:
    """Open the C library, once and not between fork and exec, where another thread may hold the loader's lock."""
    return ctypes.CDLL(None)


def _wait(process: subprocess.Popen[bytes], patience_s: float) -> None:
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return


def _kill_group(group: int) -> None:
    """End what a process left behind: its run workers are in its group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


@contextmanager
def one_per_home(home: Path) -> Iterator[None]:
    """Hold the data folder for one stack; raises :class:`CannotStart` if another holds it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"Penstock is running on {home} already: stop it first, or set PENSTOCK_HOME to another folder"
            ) from None
        yield


class _Stopped(BaseException):
    """Ctrl-C, or a request to end."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


def run_up(
    settings: Settings,
    *,
    port: int = 3000,
    host: str = "127.0.0.1",
    registry_port: int | None = None,
    control_port: int | None = None,
    console: Console | None = None,
) -> int:
    """Run the stack until Ctrl-C or SIGTERM; returns the exit status, 0 for a clean stop."""
    console = console or Console()
    if _listens(port):
        raise CannotStart(f"port {port} is taken: give another with --port")
    for option, other in (("registry", registry_port), ("control", control_port)):
        if other is not None and _listens(other):
            raise CannotStart(f"port {other} is taken: give another with --{option}-port")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    with one_per_home(settings.home):
        stack = Stack(
            settings, port=port, host=host, registry_port=registry_port, control_port=control_port
        )
        try:
            return _run(stack, console)
        except _Stopped:
            console.print("stopping ...")
            return 0
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            stack.stop()


def _run(stack: Stack, console: Console) -> int:
    with console.status("starting code server, daemon, webserver, registry and control plane"):
        stack.start()
    console.print(f"Penstock is up: open [bold]{stack.url}[/bold]  (Ctrl-C stops it)")
    if stack.registry_port is not None:
        console.print(f"the registry: [bold]{stack.registry_url}/registry/v1/docs[/bold]")
    if stack.control_port is not None:
        console.print(
            f"the control plane: [bold]{stack.control_url}[/bold]; to sign in, make a token:"
        )
        console.print(f"  {_how_to_sign_in(stack.settings)}", soft_wrap=True, highlight=False)
    console.print(f"data and logs: {stack.settings.home}")
    while True:
        try:
            for name in stack.check():
                console.print(
                    f"{name} died and was started again: see {stack.settings.home / 'logs'}"
                )
        except ChildFailed as failed:
            console.print(str(failed), style="red")
            return 1
        time.sleep(0.5)


def _how_to_sign_in(settings: Settings) -> str:
    """Return the command that makes the first token, to be copied as it stands."""
    home = shlex.quote(str(settings.home))
    given = "" if settings.home == Settings().home.absolute() else f"PENSTOCK_HOME={home} "
    return f"{given}{Path(sys.prefix) / 'bin' / 'penstock'} token create \"$USER\" --role admin --tenant '*'"
