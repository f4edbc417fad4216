"""A disk that is full: the failure is said, nothing is committed by half, and with room again all is as undisturbed."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign
from tests.crash.jobs import apart
from tests.crash.observe import differences
from tests.crash.processes import Said, WorkerFailed, fork
from tests.crash.scenario import STEPS, Step, Worker
from tests.fixtures.http_endpoint import running_endpoint

FREE_BYTES = (0, 65_536, 262_144)
"""So much is left when a step begins: each time another writer finds no more room."""
SAID = ("No space left", "disk is full", "disk I/O error", "File too large", "unable to open")
PUT_OFF = "asked to wait"


@pytest.mark.parametrize("number", [1, 2], ids=["while landing", "while publishing"])
@pytest.mark.parametrize("target", ["registry", "tables"])
def test_a_full_disk_costs_nothing_but_time(target: str, number: int, tmp_path: Path) -> None:
    """Row cache, scratch, objects and databases share a disk that fills up; once it has room the step goes through."""
    failures, different = apart(filled, target, number, tmp_path)
    assert different == []
    assert failures
    assert all(any(word in failure for word in (*SAID, PUT_OFF)) for failure in failures)


def filled(target: str, number: int, folder: Path) -> tuple[list[str], list[str]]:
    """Run one step on disks that are more and more full; return what its workers said, and what differed."""
    disk = folder / "disk"
    (folder / "endpoint").mkdir()
    with small_disk(disk) as mounted, running_endpoint(folder / "endpoint") as endpoint:
        campaign = Campaign(
            database="sqlite",
            target=target,
            folder=disk / "worlds",
            endpoint=endpoint,
            postgres=None,
            seed=1,
            steps=STEPS[: number + 2],
            answers=folder,
        )
        campaign.prepare()
        run = campaign.undisturbed[number]
        failures, different = [], []
        for free_bytes in FREE_BYTES:
            campaign.worlds.restore(f"before {number}")
            fork(lambda: _settle(campaign), folder / "settled").wait()
            try:
                _through(campaign, once(run.step), disk if mounted else None, free_bytes)
            except WorkerFailed as failed:
                failures.append(str(failed))
            said = campaign.starter.start(run.step, hours=100, then=run.follow, look=True).wait()
            assert said is not None
            assert said.seen is not None
            different += differences(run.seen, said.seen)
    return failures, different


def _settle(campaign: Campaign) -> Said:
    """Open and close the databases, which leaves nothing in their logs whose end would give room."""
    platform = campaign.worlds.open()
    for owner in (platform.control, *platform.targets.values()):
        if hasattr(owner, "engine"):
            with owner.engine.connect():
                pass
            owner.engine.dispose()
    return Said([], None)


def _through(campaign: Campaign, step: Step, disk: Path | None, free_bytes: int) -> None:
    if disk is None:
        campaign.starter.start(limited(step, free_bytes), hours=0).wait()
        return
    with full(disk, free_bytes):
        campaign.starter.start(step, hours=0).wait()


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system of its own over a folder; False where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0
    mounted = mounted and not subprocess.run(command, check=False, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full(folder: Path, free_bytes: int) -> Iterator[None]:
    """Fill a disk up."""
    filler, stat = folder / "filler", os.statvfs(folder)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, stat.f_bavail * stat.f_frsize - free_bytes))
    try:
        yield
    finally:
        filler.unlink()


def limited(step: Step, most_bytes: int) -> Step:
    """Return a step whose worker can write no file beyond a size: what is left where nothing can be mounted."""

    def run(worker: Worker) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        try:
            step.run(worker)
        finally:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )

    return replace(step, run=run)


def once(step: Step) -> Step:
    """Return a step that is tried once: what is put off is not waited for, as other workers will do that."""

    def run(worker: Worker) -> None:
        def sleep(delay_s: float) -> None:
            raise TimeoutError(f"{PUT_OFF} for {delay_s} s")

        worker.platform.clock.sleep = sleep  # type: ignore[method-assign]
        step.run(worker)

    return replace(step, run=run)
