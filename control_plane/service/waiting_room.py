"""Where workers wait for tasks: one claim for all that wait, each time there may be something for them.

A worker that asks over HTTP is answered as soon as there is a task for it, or with none when its time is up. Who waits
at the same time is compared by load. A server that dies forgets who waited: they ask again, another one maybe.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from penstock.ports.work import Grant
from penstock.use_cases.work import Workshop, claim_tasks

LOOK_S = 0.5
"""How often to look without being told, for tasks whose time comes by itself."""
AGAIN_S = 0.02
"""How soon to look again where something was being changed; and the least time between two looks."""
_CHECK_S = 1.0


@dataclass(eq=False)
class _Ask:
    """One worker that waits."""

    worker_id: str
    most: int
    ahead: int
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Sequence[Grant]]


@dataclass
class WaitingRoom:
    """The workers that wait at this server."""

    workshop: Workshop
    _asks: list[_Ask] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _notice: threading.Event = field(default_factory=threading.Event)

    async def ask(
        self,
        worker_id: str,
        most: int,
        *,
        wait_s: float,
        ahead: int = 0,
        is_gone: Callable[[], Awaitable[bool]],
    ) -> Sequence[Grant]:
        """Return tasks for a worker, at most so many, as soon as there are any; none after ``wait_s``.

        ``ahead`` is how many more than its capacity it may have.
        ``is_gone`` says whether whoever asks has hung up: nothing is given to one who does not listen.
        """
        loop = asyncio.get_running_loop()
        ask = _Ask(
            worker_id=worker_id, most=most, ahead=ahead, loop=loop, answer=loop.create_future()
        )
        with self._lock:
            self._asks.append(ask)
        self._notice.set()
        ends_at_s = loop.time() + wait_s
        try:
            while True:
                left_s = max(0.0, ends_at_s - loop.time())
                done, _ = await asyncio.wait([ask.answer], timeout=min(_CHECK_S, left_s))
                if done:
                    return ask.answer.result()
                if (loop.time() >= ends_at_s or await is_gone()) and self._withdraw(ask):
                    return ()
        finally:
            self._withdraw(ask)

    def dismiss(self, worker_id: str) -> None:
        """Answer a worker that waits with nothing: it is given no more."""
        with self._lock:
            dismissed = [ask for ask in self._asks if ask.worker_id == worker_id]
            self._asks = [ask for ask in self._asks if ask.worker_id != worker_id]
        for ask in dismissed:
            ask.loop.call_soon_threadsafe(_answer, ask.answer, ())

    def notice(self) -> None:
        """Have the next look be at once: something was committed."""
        self._notice.set()

    def look(self) -> bool:
        """Give what there is to those who wait, once something may have changed; called again and again."""
        told = self._notice.wait(LOOK_S)
        self._notice.clear()
        asking, ahead = self._asking()
        if not asking:
            return True
        granted = claim_tasks(self.workshop, asking, ahead=ahead)
        for worker_id in {grant.worker_id for grant in granted.grants}:
            self._deliver(worker_id, granted.grants)
        if granted.look_again:
            self._notice.set()
        if told or granted.look_again:
            threading.Event().wait(AGAIN_S)
        return True

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._lock:
            return len(self._asks)

    def _asking(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many each asks for, and how many more than its capacity it may have."""
        counts: Counter[str] = Counter()
        ahead: dict[str, int] = {}
        with self._lock:
            for ask in self._asks:
                counts[ask.worker_id] += ask.most
                ahead[ask.worker_id] = max(ask.ahead, ahead.get(ask.worker_id, 0))
        return dict(counts), ahead

    def _withdraw(self, ask: _Ask) -> bool:
        """Stop asking; False where it was answered already."""
        with self._lock:
            if ask in self._asks:
                self._asks.remove(ask)
                return True
        return False

    def _deliver(self, worker_id: str, grants: Sequence[Grant]) -> None:
        """Hand a worker what it was given, spread over its asks."""
        mine = [grant for grant in grants if grant.worker_id == worker_id]
        with self._lock:
            asks = [ask for ask in self._asks if ask.worker_id == worker_id]
            shares: list[tuple[_Ask, list[Grant]]] = []
            for ask in asks:
                share, mine = mine[: ask.most], mine[ask.most :]
                if share:
                    self._asks.remove(ask)
                    shares.append((ask, share))
        for ask, share in shares:
            ask.loop.call_soon_threadsafe(_answer, ask.answer, share)


def _answer(answer: asyncio.Future[Sequence[Grant]], grants: Sequence[Grant]) -> None:
    if not answer.done():
        answer.set_result(grants)
