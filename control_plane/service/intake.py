"""Taking events in: what several senders send at once is stored in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from control_plane.service.together import Together, one_by_one
from penstock.ports.clock import Clock
from penstock.ports.events import Inbox, Received

MOST_TOGETHER = 2_000
"""Events in one transaction, unless one sender alone sends more."""


def open_intake(inbox: Inbox, clock: Clock) -> Together[Received, int]:
    """Return where senders wait until what they sent is stored, and are told how much of it is new.

    What one sends is stored whole, or not at all; one whose events are refused takes no other with it.
    """

    def store(received: Sequence[Received]) -> Sequence[int]:
        return inbox.accept_each(received, now=clock.now())

    return Together(
        do=partial(one_by_one, store), size=lambda part: len(part.arrivals), most=MOST_TOGETHER
    )
