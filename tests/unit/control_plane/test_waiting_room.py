"""Workers wait for tasks in one room, and are given them by one claim."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from control_plane.service.waiting_room import WaitingRoom
from penstock.ports.work import Grant
from penstock.use_cases.work import Workshop
from penstock.workflow.workers import WorkerMove
from resources.control_db.store import SqlControlStore
from resources.control_db.work import SqlWork
from tests.contracts.control_values import NOW
from tests.contracts.work_values import POLICY, add_task, add_worker, add_workflow
from tests.fixtures.clock import FixedClock


@pytest.fixture
def room(new_control_url, clock: FixedClock) -> Iterator[WaitingRoom]:  # type: ignore[no-untyped-def]
    """A room over a fresh control database."""
    clock.moment = NOW
    store = SqlControlStore(new_control_url("sqlite"))
    work = SqlWork.from_engine(store.engine)
    yield WaitingRoom(Workshop(work=work, clock=clock, policy=POLICY))
    store.close()


def work_of(room: WaitingRoom) -> SqlWork:
    work = room.workshop.work
    assert isinstance(work, SqlWork)
    return work


@contextmanager
def looking(room: WaitingRoom) -> Iterator[None]:
    """Look again and again in a thread, as the server's loop does."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            room.look()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        room.notice()
        thread.join()


async def listening() -> bool:
    return False


async def ask(room: WaitingRoom, worker_id: str, most: int = 1, wait_s: float = 30) -> list[str]:
    grants = await room.ask(worker_id, most, wait_s=wait_s, is_gone=listening)
    return sorted(grant.task_id for grant in grants)


def test_a_task_that_is_there_is_given_at_once(room: WaitingRoom) -> None:
    """Whoever asks does not wait."""
    work = work_of(room)
    add_worker(work)
    task_id = add_task(work.engine, add_workflow(work.engine, "a"))
    with looking(room):
        assert asyncio.run(ask(room, "w1")) == [task_id]
    assert room.waiting == 0


def test_a_task_that_comes_later_wakes_who_waits(room: WaitingRoom) -> None:
    """Once the room is told."""
    work = work_of(room)
    add_worker(work)
    whose = add_workflow(work.engine, "a")

    async def later() -> list[str]:
        waiting = asyncio.create_task(ask(room, "w1"))
        while not room.waiting:
            await asyncio.sleep(0.01)
        task_id = await asyncio.to_thread(add_task, work.engine, whose)
        room.notice()
        got = await waiting
        assert got == [task_id]
        return got

    with looking(room):
        asyncio.run(later())


def test_no_task_in_time_is_an_empty_answer(room: WaitingRoom) -> None:
    """And whoever asked waits no more."""
    add_worker(work_of(room))
    with looking(room):
        assert asyncio.run(ask(room, "w1", wait_s=0.05)) == []
    assert room.waiting == 0


def test_who_hangs_up_is_given_nothing(room: WaitingRoom) -> None:
    """A task that comes afterwards is there for others."""
    work = work_of(room)
    add_worker(work)

    async def gone() -> bool:
        return True

    async def hang_up() -> Sequence[Grant]:
        return await room.ask("w1", 1, wait_s=60, is_gone=gone)

    assert asyncio.run(hang_up()) == ()
    add_task(work.engine, add_workflow(work.engine, "a"))
    room.notice()
    room.look()
    assert work.held_tasks() == []


def test_many_who_wait_are_given_tasks_by_load(room: WaitingRoom) -> None:
    """Each task goes to one of them, and the less loaded comes first."""
    work = work_of(room)
    whose = add_workflow(work.engine, "a")
    for name in ("w1", "w2", "w3"):
        add_worker(work, name, capacity=2)
    tasks = [add_task(work.engine, whose, f"s{number}") for number in range(3)]

    async def all_ask() -> list[list[str]]:
        asks = [asyncio.create_task(ask(room, name, 2)) for name in ("w1", "w2", "w3")]
        while room.waiting < 3:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(room.look)
        return await asyncio.gather(*asks)

    got = asyncio.run(all_ask())
    assert sorted(task_id for each in got for task_id in each) == sorted(tasks)
    assert [len(each) for each in got] == [1, 1, 1]


def test_who_drains_is_dismissed(room: WaitingRoom) -> None:
    """It is answered with nothing, at once."""
    work = work_of(room)
    add_worker(work)

    async def drained() -> list[str]:
        waiting = asyncio.create_task(ask(room, "w1"))
        while not room.waiting:
            await asyncio.sleep(0.01)
        work.move_worker("w1", WorkerMove.DRAIN, now=NOW, act=None, why="")
        room.dismiss("w1")
        return await waiting

    assert asyncio.run(drained()) == []
