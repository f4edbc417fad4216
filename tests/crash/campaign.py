"""A campaign: one database and one target, killed step by step, each time compared with an undisturbed run.

For each step the world is put back to where it stood before, a worker is killed in it, and another one, later by its
clock, does what is left. Six kinds of kills:

==========  ======================================================================================================
port        at a named point before or after a call through a port
sql         at a named point before a statement of a transaction, or around its commit
random      by another process, at a random moment: inside calls of databases, files and the network
twice       at a random point, and the worker that recovers at another one
rivals      two workers at once, one of them at a random moment
revived     not killed but stopped at a point beyond its lease; another one does the work, and it goes on
==========  ======================================================================================================
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from penstock.identity.ids import TargetId
from tests.crash.observe import Seen, differences
from tests.crash.points import Points
from tests.crash.processes import Process, Said, Starter, WorkerFailed, fork, import_all
from tests.crash.scenario import FAULTS, SOURCE, STEPS, Step, definition
from tests.crash.worlds import KIND_OF_TARGET, Worlds, count_effects
from tests.fixtures.http_endpoint import Endpoint

_SHARE = 0.7
"""Of the time that a whole step takes, looking included: later there is often nobody left to kill."""
KINDS = ("port", "sql", "random", "twice", "rivals", "revived")


@dataclass(frozen=True)
class Plan:
    """How many kills of each kind, for each step."""

    every_name: bool
    """Whether each name of a point is taken once, in one of the steps, before any others."""
    port: int
    sql: int
    random: int
    twice: int
    rivals: int
    revived: int
    in_turn: bool = False
    """Only one for each step: of another kind in each step, and in each campaign."""


WHOLE = Plan(every_name=True, port=8, sql=8, random=5, twice=3, rivals=2, revived=4)
QUICK = Plan(every_name=False, port=4, sql=2, random=1, twice=2, rivals=1, revived=1)
SMALL = Plan(every_name=False, port=1, sql=1, random=1, twice=1, rivals=1, revived=1, in_turn=True)


@dataclass
class Kill:
    """One kill and what came of it."""

    database: str
    target: str
    step: str
    kind: str
    where: str
    killed: int = 0
    """How many processes were really killed, or stopped, and had not come to their end before."""
    differences: list[str] = field(default_factory=list)


@dataclass
class Undisturbed:
    """A step as it goes when nothing happens to it."""

    number: int
    step: Step
    points: list[str]
    duration_s: float
    seen: Seen
    follow: tuple[Step, ...]
    """What is done after the step before looking: where plans differ, what comes of them is compared."""


class Campaign:
    """Kills on one database and one target."""

    def __init__(
        self,
        *,
        database: str,
        target: str,
        folder: Path,
        endpoint: Endpoint,
        postgres: str | None,
        seed: int,
        steps: Sequence[Step] = STEPS,
        answers: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.steps = steps
        self.worlds = Worlds(database, TargetId(target), folder, endpoint, postgres)
        self.starter = Starter(self.worlds, answers or folder)
        self.random = random.Random(f"{seed} {database} {target}")
        self.undisturbed: list[Undisturbed] = []

    # The undisturbed run ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Run all steps undisturbed, keeping the world before each."""
        self.worlds.begin()
        fork(self._declare, self.worlds.folder / "declare.answer").wait()
        for number, step in enumerate(self.steps):
            self.worlds.keep(_before(number))
            if not step.harmed:
                self._through(self.starter.start(step, hours=0))
                continue
            follow: tuple[Step, ...] = ()
            if step.name.startswith("collect ") and "publish" not in step.name:
                follow = tuple(self.steps[number + 1 : number + 2])
            self.undisturbed.append(self._undisturbed(number, step, follow))
            self.worlds.restore(_before(number))
            self._misbehave()
            self._through(self.starter.start(step, hours=0))

    def _declare(self) -> Said:
        platform = self.worlds.open()
        platform.control.sync_sources([definition(1, self.worlds.target).spec])
        platform.targets[self.worlds.target].prepare()
        if self.worlds.target == "tables":
            with platform.targets[self.worlds.target].engine.begin() as connection:  # type: ignore[attr-defined]
                count_effects(connection)
        return Said([], None)

    def _undisturbed(self, number: int, step: Step, follow: tuple[Step, ...]) -> Undisturbed:
        self._misbehave()
        self._through(self.starter.start(step, hours=0))  # so that what is measured is not imports
        self.worlds.restore(_before(number))
        self._misbehave()
        start = time.monotonic()
        said = self._through(self.starter.start(step, hours=0, then=follow, look=True))
        duration_s = time.monotonic() - start
        assert said.seen is not None
        only = said
        if follow:
            self.worlds.restore(_before(number))
            self._misbehave()
            only = self._through(self.starter.start(step, hours=0))
        return Undisturbed(number, step, only.points, duration_s, said.seen, follow)

    def _through(self, process: Process) -> Said:
        said = process.wait()
        assert said is not None, "nobody kills this one"
        import_all(said.modules)
        return said

    def _misbehave(self) -> None:
        if self.worlds.target == "wiki":
            self.worlds.endpoint.misbehave(self.worlds.endpoint_world, *FAULTS)

    # Kills --------------------------------------------------------------------------------------------------

    def kills(self, plan: Plan, only: Collection[str] = ()) -> Iterator[Kill]:
        """Kill, recover and compare, again and again; in the steps of these names ``only``, if there are any."""
        for run in self.undisturbed:
            if only and run.step.name not in only:
                continue
            chosen = list(self._disturbances(run, plan))
            if plan.in_turn:
                turn = run.number + self.random.randrange(len(chosen))
                chosen = [chosen[turn % len(chosen)]]
            for kind, where, disturb in chosen:
                kill = Kill(
                    self.worlds.database,
                    KIND_OF_TARGET[self.worlds.target],
                    run.step.name,
                    kind,
                    where,
                )
                self.worlds.restore(_before(run.number))
                self._misbehave()
                try:
                    kill.killed = disturb()
                    recovered = self._through(
                        self.starter.start(run.step, hours=200, then=run.follow, look=True)
                    )
                    assert recovered.seen is not None
                    kill.differences = differences(run.seen, recovered.seen)
                except WorkerFailed as failed:
                    kill.differences = [f"a worker failed: {failed}"]
                yield kill

    def _disturbances(
        self, run: Undisturbed, plan: Plan
    ) -> Iterator[tuple[str, str, Callable[[], int]]]:
        ports = [p for p in run.points if not p.startswith("sql.")]
        sql = [p for p in run.points if p.startswith("sql.")]
        named = self._named[run.step.name] if plan.every_name else []
        others = self._some([p for p in ports if p not in named], plan.port)
        for point in [*named, *others, *self._some(sql, plan.sql)]:
            kind = "sql" if point.startswith("sql.") else "port"
            yield kind, point, lambda point=point: self._killed_at(run, point)  # type: ignore[misc]
        for _ in range(plan.random):
            delay_s = self.random.random() * run.duration_s * _SHARE
            yield "random", f"{delay_s:.3f} s", lambda d=delay_s: self._killed_after(run, d)  # type: ignore[misc]
        for _ in range(plan.twice):
            half = run.points[: len(run.points) // 2]
            first, second = self.random.choice(run.points), self.random.choice(half)
            yield "twice", f"{first}, {second}", lambda a=first, b=second: self._twice(run, a, b)  # type: ignore[misc]
        for _ in range(plan.rivals):
            delay_s = self.random.random() * run.duration_s
            yield "rivals", f"{delay_s:.3f} s", lambda d=delay_s: self._rivals(run, d)  # type: ignore[misc]
        for point in self._some(ports, plan.revived):
            yield "revived", point, lambda point=point: self._revived(run, point)  # type: ignore[misc]

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        """Every name of a point once, by the step in which it is taken."""
        places: dict[str, list[tuple[str, str]]] = {}
        for run in self.undisturbed:
            for point in run.points:
                if not point.startswith("sql."):
                    places.setdefault(point.partition("#")[0], []).append((run.step.name, point))
        chosen: dict[str, list[str]] = {run.step.name: [] for run in self.undisturbed}
        for same in places.values():
            step, point = self.random.choice(same)
            chosen[step].append(point)
        return chosen

    def _some(self, points: Sequence[str], most: int) -> list[str]:
        return self.random.sample(points, min(most, len(points)))

    def _killed_at(self, run: Undisturbed, point: str, hours: int = 0) -> int:
        return _was_killed(self.starter.start(run.step, hours=hours, points=Points(point)))

    def _killed_after(self, run: Undisturbed, delay_s: float) -> int:
        process = self.starter.start(run.step, hours=0)
        if not process.ends_within(delay_s):
            process.signal(signal.SIGKILL)
        return _was_killed(process)

    def _twice(self, run: Undisturbed, first: str, second: str) -> int:
        return self._killed_at(run, first) + self._killed_at(run, second, hours=100)

    def _rivals(self, run: Undisturbed, delay_s: float) -> int:
        """The one that is late takes the lane from the one that is in time, while that one is at work."""
        in_time = self.starter.start(run.step, hours=0)
        late = self.starter.start(run.step, hours=100)
        chosen, other = self.random.sample([in_time, late], 2)
        if not chosen.ends_within(delay_s):
            chosen.signal(signal.SIGKILL)
        other.wait()
        return _was_killed(chosen)

    def _revived(self, run: Undisturbed, point: str) -> int:
        stopped = self.starter.start(run.step, hours=0, points=Points(point, signal.SIGSTOP))
        if not stopped.stopped():
            stopped.wait()
            return 0
        self._through(self.starter.start(run.step, hours=100))
        stopped.signal(signal.SIGCONT)
        stopped.wait()
        return 1


def _was_killed(process: Process) -> int:
    return int(process.wait() is None)


def _before(number: int) -> str:
    return f"before {number}"


__all__ = ["KINDS", "QUICK", "SMALL", "SOURCE", "WHOLE", "Campaign", "Kill", "Plan"]
