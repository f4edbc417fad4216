"""Running campaigns: what they need around them, and one job for each database and target."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from tests.crash.campaign import Campaign, Kill, Plan
from tests.crash.worlds import KIND_OF_TARGET
from tests.fixtures.http_endpoint import Endpoint, running_endpoint
from tests.fixtures.postgres import running_postgres

T = TypeVar("T")
_FAST = Path(
    "/dev/shm"
)  # worlds are copied for each kill, and nothing in them is worth a disk's time


def run_job(job: tuple[str, tuple[str, ...], Plan, int, tuple[str, ...]]) -> list[Kill]:
    """Run all campaigns of one database: its name, the targets, the plan, the seed, and the steps if not all."""
    database, targets, plan, seed, only = job
    kills: list[Kill] = []
    with surroundings(database) as (folder, endpoint, postgres):
        for target in targets:
            campaign = Campaign(
                database=database,
                target=target,
                folder=folder / target,
                endpoint=endpoint,
                postgres=postgres,
                seed=seed,
            )
            campaign.prepare()
            for kill in campaign.kills(plan, only):
                kills.append(kill)
                if kill.differences:
                    say(f"{kill.database} {kill.target}, {kill.step}: {kill.kind} at {kill.where}")
                    say(f"    {kill.differences[0]}")
            campaign.worlds.close()
            say(f"{database} {KIND_OF_TARGET[target]}: {sum(k.killed for k in kills)} kills")
    return kills


def apart(work: Callable[..., T], *arguments: object) -> T:
    """Call a function in a process of its own, which has no threads and so may fork."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


@contextmanager
def surroundings(database: str) -> Iterator[tuple[Path, Endpoint, str | None]]:
    """Yield a folder, a running HTTP endpoint, and PostgreSQL's socket folder where it is wanted."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-crash-", dir=_FAST if _FAST.is_dir() else None))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = None
        if database == "postgres":
            server = Path(tempfile.gettempdir()) / f"penstock-pg-{uuid4().hex}"
            postgres = stack.enter_context(running_postgres(server))
        (folder / "endpoint").mkdir()
        yield folder, stack.enter_context(running_endpoint(folder / "endpoint")), postgres


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
