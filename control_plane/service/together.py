"""Doing together what several ask for at once: who comes while a page is under way is in the next.

Nobody waits for others to come: who comes alone is served alone, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from anyio import to_thread

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Waiting(Generic[Item, Answer]):
    """What one has asked for."""

    item: Item
    answer: asyncio.Future[Answer]


@dataclass(kw_only=True)
class Together(Generic[Item, Answer]):
    """Where those wait who ask for the same kind of thing. It is used from one event loop."""

    do: Callable[[Sequence[Item]], Sequence[Answer | Exception]]
    """Does a page of them, in a thread, and returns the answer or the error of each; what it raises is told to all."""
    size: Callable[[Item], int] = lambda _item: 1
    most: int
    """What a page amounts to, at most, unless one item alone is larger."""
    _waiting: list[_Waiting[Item, Answer]] = field(default_factory=list)
    _doing: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Return the answer to one item, or raise its error. Whoever hangs up meanwhile takes nothing back."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, Answer] = _Waiting(item, loop.create_future())
        self._waiting.append(waiting)
        if self._doing is None or self._doing.done():
            self._doing = loop.create_task(self._work())
        return await waiting.answer

    async def _work(self) -> None:
        while self._waiting:
            page = self._next()
            try:
                answers = await to_thread.run_sync(self._done, [each.item for each in page])
            except asyncio.CancelledError:
                for each in (*page, *self._waiting):
                    each.answer.cancel()
                self._waiting.clear()
                raise
            for each, answer in zip(page, answers, strict=True):
                _tell(each.answer, answer)

    def _done(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            return self.do(items)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told to those who asked
            return [error] * len(items)

    def _next(self) -> list[_Waiting[Item, Answer]]:
        page = [self._waiting.pop(0)]
        amount = self.size(page[0].item)
        while self._waiting:
            amount += self.size(self._waiting[0].item)
            if amount > self.most:
                break
            page.append(self._waiting.pop(0))
        return page


def _tell(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def one_by_one(
    do: Callable[[Sequence[Item]], Sequence[Answer]], items: Sequence[Item]
) -> Sequence[Answer | Exception]:
    """Do a page all together; where that is refused, each alone, since one may be what the others are refused for."""
    try:
        return do(items)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told to whoever it is about
        if len(items) == 1:
            return [error]
    return [answer for item in items for answer in one_by_one(do, [item])]
