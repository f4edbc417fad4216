"""What several senders send at once is stored together, and each is told of its own alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from control_plane.service.intake import open_intake
from control_plane.service.together import Together
from penstock.ports.events import Received
from tests.contracts.test_inbox import arrival
from tests.fixtures.clock import FixedClock


class SlowInbox:
    """Stores what comes when it is let; refuses events that are named ``bad``."""

    def __init__(self) -> None:
        self.stored: list[list[str]] = []
        self.began, self.let = threading.Event(), threading.Event()

    def accept_each(self, received: Sequence[Received], *, now: datetime) -> list[int]:
        del now
        self.began.set()
        assert self.let.wait(10)
        ids = [each.event_id for part in received for each in part.arrivals]
        if "bad" in ids:
            raise ValueError("one of them is bad")
        self.stored.append(ids)
        return [len(part.arrivals) for part in received]


Intake = Together[Received, int]


async def _send(intake: Intake, *ids: str) -> int:
    return await intake.ask(Received([arrival(each) for each in ids], "kim"))


async def _while_storing(inbox: SlowInbox, intake: Intake, *sent: Sequence[str]) -> list[Any]:
    """Send something, and the rest once that is being stored; return what all were told."""
    first = asyncio.create_task(_send(intake, "first"))
    await asyncio.to_thread(inbox.began.wait, 10)
    others = [asyncio.create_task(_send(intake, *ids)) for ids in sent]
    await asyncio.sleep(0)
    inbox.let.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


@pytest.fixture
def inbox() -> SlowInbox:
    return SlowInbox()


@pytest.fixture
def intake(inbox: SlowInbox, clock: FixedClock) -> Intake:
    return open_intake(inbox, clock)  # type: ignore[arg-type]


def test_who_comes_meanwhile_is_stored_together(inbox: SlowInbox, intake: Intake) -> None:
    """In the order in which they came, and each is told how many of its own were new."""
    told = asyncio.run(_while_storing(inbox, intake, ["a", "b"], [], ["c"]))
    assert told == [1, 2, 0, 1]
    assert inbox.stored == [["first"], ["a", "b", "c"]]


def test_one_that_is_refused_takes_nobody_with_it(inbox: SlowInbox, intake: Intake) -> None:
    """The others are stored, and it alone is told what is wrong."""
    told = asyncio.run(_while_storing(inbox, intake, ["a"], ["bad", "b"], ["c"]))
    assert [str(each) for each in told] == ["1", "1", "one of them is bad", "1"]
    assert inbox.stored == [["first"], ["a"], ["c"]]


def test_a_transaction_has_its_bounds(inbox: SlowInbox, intake: Intake) -> None:
    """Not more than two thousand events, unless one sender alone sends more."""
    sent = [[f"{n}.{m}" for m in range(1_000)] for n in range(3)]
    told = asyncio.run(_while_storing(inbox, intake, *sent))
    assert told == [1, 1_000, 1_000, 1_000]
    assert [len(each) for each in inbox.stored] == [1, 2_000, 1_000]


def test_a_sender_that_hangs_up_takes_nothing_back(inbox: SlowInbox, intake: Intake) -> None:
    """What it sent is stored, and those who wait beside it are answered."""

    async def hang_up() -> int:
        gone = asyncio.create_task(_send(intake, "first"))
        await asyncio.to_thread(inbox.began.wait, 10)
        gone.cancel()
        stays = asyncio.create_task(_send(intake, "a"))
        await asyncio.sleep(0)
        inbox.let.set()
        return await stays

    assert asyncio.run(hang_up()) == 1
    assert inbox.stored == [["first"], ["a"]]
