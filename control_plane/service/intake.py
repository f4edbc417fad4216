"""Taking events in: what several senders have sent while one transaction was under way is stored together in the next.

Nobody waits for others to come: who comes alone is served alone, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from anyio import to_thread

from penstock.ports.clock import Clock
from penstock.ports.events import Arrival, Inbox, Received

_MOST_TOGETHER = 2_000
"""Events in one transaction, unless one sender alone sends more."""


@dataclass(eq=False)
class _Waiting:
    """What one sender has sent."""

    received: Received
    answer: asyncio.Future[int]


@dataclass(kw_only=True)
class Intake:
    """Where senders wait until what they sent is stored. It is used from one event loop."""

    inbox: Inbox
    clock: Clock
    _waiting: list[_Waiting] = field(default_factory=list)
    _storing: asyncio.Task[None] | None = None

    async def accept(self, arrivals: Sequence[Arrival], *, received_from: str) -> int:
        """Store what is new, and return how many that is; what one sends is stored whole, or not at all."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(Received(arrivals, received_from), loop.create_future())
        self._waiting.append(waiting)
        if self._storing is None or self._storing.done():
            self._storing = loop.create_task(self._store())
        return await waiting.answer

    async def _store(self) -> None:
        while self._waiting:
            together = self._next()
            try:
                # A sender that hangs up takes nothing back.
                answers = await to_thread.run_sync(self._store_together, together)
            except asyncio.CancelledError:
                for each in (*together, *self._waiting):
                    each.answer.cancel()
                self._waiting.clear()
                raise
            for each, answer in zip(together, answers, strict=True):
                _answer(each.answer, answer)

    def _next(self) -> list[_Waiting]:
        together = [self._waiting.pop(0)]
        events = len(together[0].received.arrivals)
        while self._waiting:
            events += len(self._waiting[0].received.arrivals)
            if events > _MOST_TOGETHER:
                break
            together.append(self._waiting.pop(0))
        return together

    def _store_together(self, together: Sequence[_Waiting]) -> list[int | Exception]:
        received = [each.received for each in together]
        try:
            return [*self.inbox.accept_each(received, now=self.clock.now())]
        except Exception as error:  # noqa: BLE001  whatever it is, it is told to whoever sent it
            if len(together) == 1:
                return [error]
        # One sender's events may be what the others' were refused for.
        return [answer for each in together for answer in self._store_together([each])]


def _answer(future: asyncio.Future[int], answer: int | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
