"""Dead letters: what they are known by, and the moves that they can make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum

from penstock.errors import IllegalMove


class LetterStatus(StrEnum):
    """Where a dead letter is."""

    OPEN = "open"
    """Somebody has to look at it."""
    REQUEUED = "requeued"
    """It is on its way again: with its batch, or in a correction."""
    RESOLVED = "resolved"
    """What it was about has been published."""
    DISCARDED = "discarded"
    """Somebody decided that it is not wanted."""
    SUPERSEDED = "superseded"
    """A newer batch has decided about it: published it, or made a dead letter of its own."""


class LetterEvent(StrEnum):
    """What happens to a dead letter."""

    RECORDED = "recorded"
    FAILED_AGAIN = "failed_again"
    FIXED = "fixed"
    """Requeued with other data than it failed with."""
    REQUEUED = "requeued"
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"


_S, _E = LetterStatus, LetterEvent
LETTER_MOVES: Mapping[LetterStatus, Mapping[LetterEvent, LetterStatus]] = {
    _S.OPEN: {
        _E.FAILED_AGAIN: _S.OPEN,
        _E.FIXED: _S.REQUEUED,
        _E.REQUEUED: _S.REQUEUED,
        _E.RESOLVED: _S.RESOLVED,
        _E.DISCARDED: _S.DISCARDED,
        _E.SUPERSEDED: _S.SUPERSEDED,
    },
    _S.REQUEUED: {
        _E.FAILED_AGAIN: _S.OPEN,
        _E.RESOLVED: _S.RESOLVED,
        _E.SUPERSEDED: _S.SUPERSEDED,
    },
    _S.RESOLVED: {_E.FAILED_AGAIN: _S.OPEN},
    _S.DISCARDED: {_E.FAILED_AGAIN: _S.OPEN},
    _S.SUPERSEDED: {_E.FAILED_AGAIN: _S.OPEN},
}
"""Every legal move, by the status that it leaves."""


def next_letter_status(status: LetterStatus, event: LetterEvent) -> LetterStatus:
    """Return where ``event`` takes a dead letter; raises :class:`IllegalMove`, which names what is legal."""
    after = LETTER_MOVES[status].get(event)
    if after is None:
        legal = ", ".join(LETTER_MOVES[status])
        raise IllegalMove(
            f"a dead letter that is {status} cannot be {event}; from {status} it can be: {legal}"
        )
    return after


_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_HEX = re.compile(r"\b[0-9a-f]{8,}\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,._:T+-]*")
_SPACE = re.compile(r"\s+")


def normalised(message: str) -> str:
    """Return a message without what differs from one case to the next: quoted names, digests, numbers."""
    text = _QUOTED.sub("'...'", message[:2000])
    text = _HEX.sub("#", text)
    text = _NUMBER.sub("#", text)
    return _SPACE.sub(" ", text).strip()


def fingerprint(*, code: str, message: str, type_name: str | None, target: str | None) -> str:
    """Return what failures of one cause have in common, as 32 hex digits."""
    parts = [code, normalised(message), type_name or "", target or ""]
    framed = b"".join(
        len(data).to_bytes(4, "big") + data
        for data in (part.encode("utf-8", "surrogatepass") for part in parts)
    )
    return hashlib.blake2b(framed, digest_size=16).hexdigest()
