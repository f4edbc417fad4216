"""A chain of hashes over the log: whoever changes what was sealed is found out, down to the event.

A block takes the events that one step of the projection reads, in the order of commits. Its hash is over the previous
block's hash and the digest of each event's every column; ``leaves`` keeps those digests, so that a block that does not
hold can say which event it is. To trust the whole, keep the last block's hash somewhere else now and then: ``penstock
registry verify`` prints it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from penstock.identity.digest import framed
from penstock.ports.clock import Clock
from penstock.registry.events import Cursor
from resources.control_db.engine import Database
from resources.registry.log import rows_in
from resources.targets.registry_tables import registry_event, registry_seal

_TAG_EVENT, _TAG_BLOCK = b"e", b"b"
_LEAF_BYTES = 24
_FIRST = b"\0" * 32
_COLUMNS = tuple(column.name for column in registry_event.c)


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """The first place where the log is not what was sealed."""

    block: int
    position: int | None
    """Of the event that differs; None where the chain itself does."""
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a check of the chain came to."""

    blocks: int
    """That hold, before the first that does not."""
    events: int
    last_hash: bytes
    unsealed: int
    """Events after the last block."""
    broken: Broken | None = None


class Seal:
    """:class:`resources.registry.projections.LogProjection` that seals."""

    name = "seal"
    rebuildable = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def create(self, connection: Connection, generation: int) -> None:
        """Nothing to do: there is one chain, and its table is always there."""

    def drop(self, connection: Connection, generation: int) -> None:
        """Nothing to do: a chain is never dropped."""

    def prepare(self, events: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
        """Return the events."""
        return events

    def write(self, connection: Connection, _: int, prepared: Sequence[Row[Any]]) -> None:
        """Add a block to the chain."""
        table = registry_seal
        query = select(table.c.block, table.c.hash).order_by(table.c.block.desc()).limit(1)
        before = connection.execute(query).first()
        previous = bytes(before.hash) if before else _FIRST
        leaves = b"".join(map(_leaf, prepared))
        row = {
            "block": before.block + 1 if before else 1,
            "previous": previous,
            "hash": _hash(previous, leaves),
            "events": len(prepared),
            "last_transaction": prepared[-1].transaction_id,
            "last_position": prepared[-1].position,
            "leaves": leaves,
            "sealed_at": self._clock.now(),
        }
        connection.execute(insert(table), [row])


def _hash(previous: bytes, leaves: bytes) -> bytes:
    return hashlib.sha256(framed(_TAG_BLOCK, previous, leaves)).digest()


def _leaf(event: Row[Any]) -> bytes:
    """Return an event's position, and the digest of all that the log says of it."""
    parts = []
    for name, value in zip(_COLUMNS, event, strict=True):
        parts += [name.encode(), _encoded(value)]
    hashed = hashlib.sha256(framed(_TAG_EVENT, *parts)).digest()[:16]
    return struct.pack(">q", event.position) + hashed


def _encoded(value: Any) -> bytes:
    """Encode a value; no two values of a column have the same encoding."""
    match value:
        case None:
            return b""
        case bytes() | memoryview():
            return b"=" + bytes(value)
        case int() | str():
            return b"=" + str(value).encode()
        case _:
            return b"=" + str(value.isoformat()).encode()


class SealVerifier(Database):
    """Computes the chain again."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def verify(self, on_progress: Callable[[int], object] = lambda _: None) -> Verified:
        """Return how far the chain holds, and where it first does not."""
        previous, events, cursor = _FIRST, 0, Cursor()
        count = 0
        for block in self._blocks():
            if (broken := self._check(block, count + 1, previous, cursor)) is not None:
                return self._verified(count, events, previous, cursor, broken)
            count += 1
            previous, events = bytes(block.hash), events + block.events
            cursor = Cursor(transaction=block.last_transaction, position=block.last_position)
            on_progress(events)
        return self._verified(count, events, previous, cursor, None)

    def _verified(
        self, blocks: int, events: int, last: bytes, cursor: Cursor, broken: Broken | None
    ) -> Verified:
        unsealed = 0
        if broken is None:
            with self._reading() as connection:
                while rows := rows_in(connection, cursor, limit=10_000):
                    unsealed += len(rows)
                    cursor = _cursor(rows[-1])
        return Verified(
            blocks=blocks, events=events, last_hash=last, unsealed=unsealed, broken=broken
        )

    def _blocks(self) -> Iterator[Row[Any]]:
        table, number = registry_seal, 0
        while True:
            query = select(table).where(table.c.block > number).order_by(table.c.block).limit(100)
            with self._reading() as connection:
                blocks = connection.execute(query).all()
            if not blocks:
                return
            yield from blocks
            number = blocks[-1].block

    def _check(self, block: Row[Any], number: int, previous: bytes, after: Cursor) -> Broken | None:
        sealed = bytes(block.leaves)
        if block.block != number or bytes(block.previous) != previous:
            what = f"block {number} is missing, or does not follow from the one before"
            return Broken(block=number, position=None, what=what)
        if (
            bytes(block.hash) != _hash(previous, sealed)
            or len(sealed) != block.events * _LEAF_BYTES
        ):
            what = f"block {number} is not what its hash says"
            return Broken(block=number, position=None, what=what)
        with self._reading() as connection:
            rows = rows_in(connection, after, limit=block.events)
        found = [_leaf(row) for row in rows]
        kept = [sealed[at : at + _LEAF_BYTES] for at in range(0, len(sealed), _LEAF_BYTES)]
        for mine, theirs in zip_longest(kept, found):
            if mine != theirs:
                return _differs(number, mine, theirs)
        return None


def _differs(number: int, sealed: bytes | None, found: bytes | None) -> Broken:
    assert sealed is not None, "no more events are read than were sealed"
    position = struct.unpack(">q", sealed[:8])[0]
    there = None if found is None else struct.unpack(">q", found[:8])[0]
    if there == position:
        what = f"event {position} is not as it was sealed"
    elif there is None or there > position:
        what = f"event {position} was sealed and is not there"
    else:
        what = f"event {there} is there and was not when its neighbours were sealed"
        position = there
    return Broken(block=number, position=position, what=what)


def _cursor(row: Row[Any]) -> Cursor:
    return Cursor(transaction=row.transaction_id, position=row.position)
