"""What follows the log: each projection gets its events once and in order, whatever is killed when.

A projection's place in the log is moved in the transaction that writes its tables, from where it was read to where it
was read up to; a step that finds it moved by somebody else takes itself back. A lock keeps two runners of one
projection from both doing the work: on PostgreSQL an advisory lock of the session, which a killed process lets go of,
on SQLite a lease.

A rebuild fills tables of another generation beside the live ones, from the beginning of the log, and takes over in one
transaction once it is no longer behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy import Connection, Engine, Row, delete, func, insert, or_, select, text, update

from penstock.errors import NotFound, PenstockError
from penstock.ports.clock import Clock
from penstock.ports.registry import LogSignal
from penstock.registry.events import Cursor
from resources.control_db.engine import Database, insert_if_new
from resources.registry.log import Waiter, rows_in
from resources.targets.registry_tables import registry_projection

AT_ONCE = 5_000
"""Events of one step: as many share a transaction, and what they write is sorted together."""
LEASE_S = 15.0
_LOCK_CLASS = 1380275031


class NotRebuildable(PenstockError):
    """A projection whose past cannot be made again."""

    code = "not_rebuildable"


class LogProjection(Protocol):
    """Tables that follow the log."""

    @property
    def name(self) -> str:
        """Names it in the tracking table."""
        ...

    @property
    def rebuildable(self) -> bool:
        """Whether its tables follow from the log alone."""
        ...

    def create(self, connection: Connection, generation: int) -> None:
        """Make the tables of a generation."""
        ...

    def drop(self, connection: Connection, generation: int) -> None:
        """Drop the tables of a generation."""
        ...

    def prepare(self, events: Sequence[Row[Any]]) -> Any:
        """Work out what rows of the log come to, without the database."""
        ...

    def write(self, connection: Connection, generation: int, prepared: Any, /) -> None:
        """Write what was prepared."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking:
    """How far a generation of a projection has come."""

    name: str
    generation: int
    live: bool
    cursor: Cursor
    events: int
    """How many it has projected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuilt:
    """A rebuild took over."""

    generation: int
    events: int


class ProjectionRunner(Database):
    """Keeps projections up to date."""

    def __init__(
        self,
        engine: Engine,
        projections: Sequence[LogProjection],
        clock: Clock,
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self.engine = engine
        self._projections = {projection.name: projection for projection in projections}
        self._clock = clock
        self._at_once = at_once
        self._worker = uuid4().hex
        self._postgres = engine.dialect.name == "postgresql"

    @property
    def names(self) -> list[str]:
        """The projections that it runs."""
        return list(self._projections)

    def tracking(self) -> list[Tracking]:
        """Return every generation of every projection that was ever begun, by name."""
        table = registry_projection
        query = select(table).order_by(table.c.name, table.c.generation)
        with self._reading() as connection:
            return [_tracking_of(row) for row in connection.execute(query)]

    # Following ----------------------------------------------------------------------------------------------

    def step(self, name: str, generation: int | None = None) -> int | None:
        """Project the next events; say how many there were, or None where somebody else is at it.

        Without a generation it is the live one, which is made if there is none.
        """
        projection = self._named(name)
        if generation is None:
            generation = self._live(projection)
        with (
            self.engine.connect() as connection,
            self._alone(connection, name, generation) as alone,
        ):
            return self._step(connection, projection, generation) if alone else None

    def _step(
        self, connection: Connection, projection: LogProjection, generation: int
    ) -> int | None:
        with _transaction(connection, reading=True):
            before = _find(connection, projection.name, generation)
            events = rows_in(connection, before.cursor, limit=self._at_once) if before else []
        if before is None:
            return None
        if not events:
            return 0
        prepared = projection.prepare(events)
        last = Cursor(transaction=events[-1].transaction_id, position=events[-1].position)
        with _transaction(connection) as transaction:
            if not self._move(connection, before, last, len(events)):
                transaction.rollback()
                return None
            projection.write(connection, generation, prepared)
        return len(events)

    def _move(self, connection: Connection, before: Tracking, to: Cursor, events: int) -> bool:
        table = registry_projection
        statement = (
            update(table)
            .where(
                table.c.name == before.name,
                table.c.generation == before.generation,
                table.c.transaction_id == before.cursor.transaction,
                table.c.position == before.cursor.position,
            )
            .values(
                transaction_id=to.transaction,
                position=to.position,
                events=table.c.events + events,
                updated_at=self._clock.now(),
            )
        )
        return connection.execute(statement).rowcount == 1

    def catch_up(self, name: str, generation: int | None = None) -> int:
        """Project all that can be read now; return how many events that was, 0 if somebody else is at it."""
        count = 0
        while events := self.step(name, generation):
            count += events
        return count

    def run(
        self, stop: threading.Event, *, poll_s: float = 1.0, signal: LogSignal | None = None
    ) -> None:
        """Keep all projections up to date until told to stop, which takes ``poll_s`` at most."""
        with Waiter(self.engine, signal) as waiter:
            while not stop.is_set():
                for name in self._projections:
                    while not stop.is_set() and self.step(name) == self._at_once:
                        pass
                # Where somebody else is at one of them, there is nothing to hurry for.
                furthest = max((each.cursor for each in self.tracking()), default=Cursor())
                waiter.wait(furthest, timeout_s=poll_s)
        self.release()

    # Rebuilding ---------------------------------------------------------------------------------------------

    def rebuild(
        self, name: str, *, on_progress: Callable[[int], object] = lambda _: None
    ) -> Rebuilt:
        """Fill new tables from the beginning of the log and have them take over; readers notice nothing.

        A rebuild that was interrupted is begun anew. Raises :class:`NotRebuildable` where there is no making
        the past again.
        """
        projection = self._named(name)
        if not projection.rebuildable:
            raise NotRebuildable(
                f"projection {name!r} says what the log was when it was written: made again it would say "
                "whatever the log is now. Check it with `penstock registry verify`"
            )
        self._live(projection)
        generation = self._begin(projection)
        done = 0
        while not self._switch(projection, generation):
            while events := self.step(name, generation):
                done += events
                on_progress(done)
        return Rebuilt(generation=generation, events=done)

    def _begin(self, projection: LogProjection) -> int:
        table = registry_projection
        with self._writing() as connection:
            self._lock_name(connection, projection.name)
            mine = table.c.name == projection.name
            # Never a number again: whoever was interrupted may not be dead.
            generation = (
                connection.scalar(select(func.max(table.c.generation)).where(mine)) or 0
            ) + 1
            query = select(table.c.generation).where(mine, table.c.status == "building")
            for abandoned in connection.scalars(query).all():
                projection.drop(connection, abandoned)
            connection.execute(delete(table).where(mine, table.c.status == "building"))
            projection.create(connection, generation)
            connection.execute(insert(table), [self._new(projection.name, generation, "building")])
        return generation

    def _switch(self, projection: LogProjection, generation: int) -> bool:
        """Make a generation the live one if it has come as far as the live one."""
        table = registry_projection
        with self._writing() as connection:
            self._lock_name(connection, projection.name)
            mine = select(table).where(table.c.name == projection.name)
            if self._postgres:
                mine = mine.with_for_update()
            found = [_tracking_of(row) for row in connection.execute(mine)]
            new = next((each for each in found if each.generation == generation), None)
            if new is None:
                raise NotFound(
                    f"generation {generation} of projection {projection.name!r} is gone: somebody else has begun "
                    "another rebuild since"
                )
            old = [each for each in found if each.live]
            if any(each.cursor > new.cursor for each in old):
                return False
            for each in old:
                projection.drop(connection, each.generation)
                connection.execute(delete(table).where(*_is(projection.name, each.generation)))
            live = update(table).where(*_is(projection.name, generation)).values(status="live")
            connection.execute(live)
        return True

    # Locks and rows -----------------------------------------------------------------------------------------

    def _named(self, name: str) -> LogProjection:
        if name not in self._projections:
            raise NotFound(
                f"there is no projection {name!r}: choose one of {', '.join(self.names)}"
            )
        return self._projections[name]

    def _live(self, projection: LogProjection) -> int:
        """Return the live generation; the first one is made here."""
        with self._reading() as connection:
            generation = live_generation(connection, projection.name)
        if generation is not None:
            return generation
        with self._writing() as connection:
            self._lock_name(connection, projection.name)
            generation = live_generation(connection, projection.name)
            if generation is None:
                generation = 1
                projection.create(connection, generation)
                row = self._new(projection.name, generation, "live")
                insert_if_new(connection, registry_projection, row)
        return generation

    def _new(self, name: str, generation: int, status: str) -> dict[str, Any]:
        return {
            "name": name,
            "generation": generation,
            "status": status,
            "transaction_id": 0,
            "position": 0,
            "events": 0,
            "updated_at": self._clock.now(),
        }

    def _lock_name(self, connection: Connection, name: str) -> None:
        if self._postgres:
            lock = text("SELECT pg_advisory_xact_lock(:class, hashtext(:name))")
            connection.execute(lock, {"class": _LOCK_CLASS, "name": name})

    @contextmanager
    def _alone(self, connection: Connection, name: str, generation: int) -> Iterator[bool]:
        """Hold the lock of a generation, if nobody else does."""
        if not self._postgres:
            yield self._lease(connection, name, generation)
            return
        values = {"class": _LOCK_CLASS, "name": f"{name}/{generation}"}
        with _transaction(connection):
            taken = connection.scalar(
                text("SELECT pg_try_advisory_lock(:class, hashtext(:name))"), values
            )
        try:
            yield bool(taken)
        finally:
            if taken:
                with _transaction(connection):
                    connection.execute(
                        text("SELECT pg_advisory_unlock(:class, hashtext(:name))"), values
                    )

    def _lease(self, connection: Connection, name: str, generation: int) -> bool:
        """Take or renew the lease of a generation; a killed runner's ends by itself."""
        table, now = registry_projection, self._clock.now()
        with _transaction(connection, reading=True):
            row = connection.execute(select(table).where(*_is(name, generation))).first()
        half = now + timedelta(seconds=LEASE_S / 2)
        if row is not None and row.worker == self._worker and row.leased_until > half:
            return True
        free = or_(
            table.c.worker.is_(None),
            table.c.worker == self._worker,
            table.c.leased_until < now,
        )
        statement = (
            update(table)
            .where(*_is(name, generation), free)
            .values(worker=self._worker, leased_until=now + timedelta(seconds=LEASE_S))
        )
        with _transaction(connection):
            return connection.execute(statement).rowcount == 1

    def release(self) -> None:
        """Give leases back, for others to go on at once."""
        table = registry_projection
        with self._writing() as connection:
            mine = update(table).where(table.c.worker == self._worker)
            connection.execute(mine.values(worker=None, leased_until=None))


@contextmanager
def _transaction(connection: Connection, *, reading: bool = False) -> Iterator[Any]:
    """Run a block in one transaction of a connection that is used for several, one after another."""
    connection.execution_options(penstock_reading=reading)
    with connection.begin() as transaction:
        yield transaction


def _is(name: str, generation: int) -> tuple[Any, Any]:
    table = registry_projection
    return table.c.name == name, table.c.generation == generation


def _find(connection: Connection, name: str, generation: int) -> Tracking | None:
    row = connection.execute(select(registry_projection).where(*_is(name, generation))).first()
    return None if row is None else _tracking_of(row)


def _tracking_of(row: Row[Any]) -> Tracking:
    return Tracking(
        name=row.name,
        generation=row.generation,
        live=row.status == "live",
        cursor=Cursor(transaction=row.transaction_id, position=row.position),
        events=row.events,
    )


def live_generation(connection: Connection, name: str) -> int | None:
    """Return the generation of a projection that readers use."""
    found = live_tracking(connection, name)
    return None if found is None else found.generation


def live_tracking(connection: Connection, name: str) -> Tracking | None:
    """Return how far the generation of a projection that readers use has come."""
    table = registry_projection
    query = select(table).where(table.c.name == name, table.c.status == "live")
    row = connection.execute(query).first()
    return None if row is None else _tracking_of(row)
