"""The demo: real sources, published twice with a real change in between, on an embedded stack that ends by itself.

Everything runs as in production: S3 over HTTP, Dagster's daemon with a code server of its own, the S3 sensor, the queue
and publish runs. This process only starts them, changes the world, and shows what the control database says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from control_plane import tables
from control_plane.demo_world import DemoWorld
from control_plane.supervisor import ROOT, Stack, die_with_parent, free_port
from penstock.errors import PenstockError
from penstock.identity import ids
from penstock.identity.ids import SourceId
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan
from resources.settings import Settings

BUCKET = "penstock-demo"
OWN_SOURCES = ("python_environment", "control_catalog", "dagster_catalog", "demo_catalog")
_TIME_S = 240.0
_SETTLED = {PublishStatus.COMPLETE, PublishStatus.FAILED}
_SHADES = {
    PublishStatus.COMPLETE: "green",
    PublishStatus.FAILED: "red",
    PublishStatus.RETRYING: "yellow",
}


class DemoFailed(PenstockError):
    """The demo did not show what it promises; the message says what is missing."""

    code = "demo_failed"


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round published."""

    title: str
    states: tuple[PublishState, ...]
    seconds: float


def run_demo(console: Console | None = None, *, keep: bool = False) -> int:
    """Run the demo; returns 0 if creates, updates and deletes were all seen and every batch is COMPLETE."""
    console = console or tables.console()
    own_url = os.environ.get("DEMO_URL")
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
        if not keep:
            stack.callback(_remove, home)
        try:
            rounds = _run(console, home, own_url, stack)
            _check(rounds)
        except PenstockError as failed:
            console.print(f"The demo failed: {failed}", style="red")
            console.print(_last_lines(home))
            return 1
    _what_next(console, own_url)
    return 0


def _run(console: Console, home: Path, own_url: str | None, stack: ExitStack) -> list[Round]:
    world = DemoWorld(home / "world")
    settings, environ = _settings(home, world, own_url)
    console.rule("Penstock demo")
    with console.status("starting S3, Dagster's code server and daemon"):
        stack.enter_context(_s3(settings, environ, home))
        dagster = Stack(settings, port=None, environ=environ)
        stack.callback(dagster.stop)
        dagster.start()
        _wait_for(settings.dagster_folder / "history" / "runs.db")
    world.first(settings.dagster_folder / "history" / "runs.db")
    os.environ.update({k: v for k, v in environ.items() if k.startswith("AWS_")})
    from resources.wiring import open_platform

    platform = open_platform(settings)
    first = _round("first publish: everything is new", console, platform, dagster, OWN_SOURCES)
    _show(console, platform, first)
    console.print("\nNow the world changes:", style="bold")
    for line in world.change() if own_url is None else world.change()[:2]:
        console.print(f"  - {line}")
    second = _round("second publish: only what changed", console, platform, dagster, OWN_SOURCES)
    _show(console, platform, second)
    return [first, second]


def _settings(home: Path, world: DemoWorld, own_url: str | None) -> tuple[Settings, dict[str, str]]:
    settings = Settings.model_validate(
        {
            "home": home,
            "objects_url": f"s3://{BUCKET}/data",
            "s3_endpoint_url": f"http://127.0.0.1:{free_port()}",
            "s3_region": "us-east-1",
        }
    )
    environ = {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",  # the embedded S3 takes any
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONPATH": str(world.site_packages),
        "PYTHONWARNINGS": "ignore",
        "DEMO_URL": own_url or f"sqlite:///{world.database}",
    }
    return settings, environ


@contextmanager
def _s3(settings: Settings, environ: Mapping[str, str], home: Path) -> Iterator[None]:
    """Run the embedded S3 for as long as the block lasts, with the demo's bucket in it."""
    endpoint = settings.s3_endpoint_url
    assert endpoint is not None
    port = endpoint.rpartition(":")[2]
    with (home / "s3.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  one system call
        )
        try:
            _create_bucket(endpoint, environ)
            yield
        finally:
            process.terminate()
            process.wait(10)


def _create_bucket(endpoint: str, environ: Mapping[str, str]) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 0}),
    )
    give_up_at = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
        except BotoCoreError as error:
            if time.monotonic() > give_up_at:
                raise DemoFailed(f"the embedded S3 did not start: {error}") from error
            time.sleep(0.2)
        else:
            return


def _wait_for(file: Path) -> None:
    give_up_at = time.monotonic() + 60
    while not file.exists():
        if time.monotonic() > give_up_at:
            raise DemoFailed(f"Dagster's daemon did not create {file}")
        time.sleep(0.2)


# One round --------------------------------------------------------------------------------------------------


def _round(
    title: str, console: Console, platform: Platform, dagster: Stack, sources: Sequence[str]
) -> Round:
    """Collect the sources in a run of the collect job, and watch until every batch of theirs is settled."""
    start, since = time.monotonic(), datetime.now(UTC)
    console.rule(title)
    with (dagster.settings.home / "logs" / "collect.log").open("ab") as log:
        collecting = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "jobs.collect", *sources],
            env=dagster.environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    watch = _Watch(platform, sources, since)
    try:
        with Live(watch.renderable, console=console, refresh_per_second=5, redirect_stdout=False):
            while not watch.look():
                dagster.check()
                if collecting.poll() not in {None, 0}:
                    raise DemoFailed(f"collecting failed: see the end of {log.name}")
                if time.monotonic() - start > _TIME_S:
                    raise DemoFailed(f"not every batch was published within {_TIME_S:g} s")
                time.sleep(0.2)
        collecting.wait()
    finally:
        collecting.terminate()
        collecting.wait()
    return Round(title=title, states=watch.settled(), seconds=time.monotonic() - start)


class _Watch:
    """Progress as the control database tells it: one bar a source."""

    def __init__(self, platform: Platform, sources: Sequence[str], since: datetime) -> None:
        self._platform, self._since = platform, since
        self._progress = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._tasks: dict[str, TaskID] = {
            source: self._progress.add_task(source, total=None, status="extracting")
            for source in sources
        }
        self._states: dict[str, PublishState] = {}
        self.renderable = Group(self._progress)

    def look(self) -> bool:
        """Bring the bars up to date; say whether all is settled."""
        for source, task in self._tasks.items():
            states = self._platform.control.list_states(source=_source_id(source), limit=1)
            if states and states[0].source_timestamp >= self._since:
                self._states[source] = states[0]
                self._show(task, states[0])
        return all(
            source in self._states and self._states[source].status in _SETTLED
            for source in self._tasks
        )

    def _show(self, task: TaskID, state: PublishState) -> None:
        done, total = self._operations(state)
        shade = _SHADES.get(state.status, "cyan")
        self._progress.update(
            task, completed=done, total=total, status=f"[{shade}]{state.status}[/{shade}]"
        )

    def _operations(self, state: PublishState) -> tuple[int, int | None]:
        if state.plan_digest is None or state.execution_plan_path is None:
            return 0, None
        plan = open_plan(
            self._platform.objects, state.execution_plan_path, expected_digest=state.plan_digest
        )
        chunks = self._platform.control.chunks(state.plan_digest, state.batch_id, state.target_id)
        done = sum(c.operations for c in chunks.values() if c.finished_at is not None)
        total = plan.document.operations
        return (done, total) if total else (1, 1)

    def settled(self) -> tuple[PublishState, ...]:
        """Return the states, in the order of the sources."""
        return tuple(self._states[source] for source in self._tasks)


def _source_id(text: str) -> SourceId:
    return ids.source_id(text)


# What came of it --------------------------------------------------------------------------------------------


def _show(console: Console, platform: Platform, shown: Round) -> None:
    table = Table(
        title=f"{shown.title} ({shown.seconds:.0f} s)",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("source", no_wrap=True)
    for heading in ("planned", "created", "updated", "deleted", "same", "left out"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("plan", no_wrap=True)
    for state in shown.states:
        table.add_row(*_cells(platform, state))
    console.print()
    console.print(table)


def _cells(platform: Platform, state: PublishState) -> list[str | Text]:
    status = Text(str(state.status), _SHADES.get(state.status, ""))
    if state.status is not PublishStatus.COMPLETE:
        return [state.source_id, *[""] * 6, status, ""]
    ledger = platform.control.get_ledger(state.batch_id, state.target_id)
    counts = [
        sum(getattr(row, name) for row in ledger)
        for name in ("created", "updated", "deleted", "unchanged")
    ]
    planned = sum(counts[:3]) + state.exceptions
    numbers = [f"{n:,}" for n in (planned, *counts, state.exceptions)]
    return [state.source_id, *numbers, status, (state.plan_digest or "")[:8]]


def _check(rounds: Sequence[Round]) -> None:
    """Say whether the demo has shown what it promises."""
    states = [state for each in rounds for state in each.states]
    for state in states:
        if state.status is not PublishStatus.COMPLETE:
            why = state.failure_details.error_message if state.failure_details else ""
            raise DemoFailed(f"{state.batch_id} is {state.status}: {why}")
        if state.exceptions:
            raise DemoFailed(f"{state.batch_id}: {state.exceptions} operations did not take effect")
    second = [state.metrics for state in rounds[-1].states]
    for action in ("created", "updated", "deleted"):
        if not sum(getattr(m, f"entities_{action}") for m in second):
            raise DemoFailed(f"the second publish {action} nothing, though the world had changed")


def _what_next(console: Console, own_url: str | None) -> None:
    steps = {"make up": "run the stack; open http://127.0.0.1:3000"}
    if own_url is None:
        steps["make demo DEMO_URL=..."] = "catalog a database of your own (a SQLAlchemy URL)"
    steps[".venv/bin/penstock --help"] = "ask the platform"
    steps["docs/howto/add_a_source.md"] = "add a source in code"
    console.print("\nAll as planned. What to try next:", style="bold")
    for step, what in steps.items():
        console.print(f"  {step:<28}{what}", highlight=False, markup=False)


def _last_lines(home: Path) -> str:
    logs = sorted((home / "logs").glob("*.log"))
    tails = (
        f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        for log in logs
    )
    return "\n".join(tails)


def _remove(home: Path) -> None:
    import shutil

    shutil.rmtree(home, ignore_errors=True)
