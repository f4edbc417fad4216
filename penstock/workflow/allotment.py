"""Allotment: which of the tasks that are ready goes to which worker, and why the others wait.

Tasks are looked at one by one: first those that have been ready for longer than ``patience_s``, then those of kinds and
tenants that have less than they are guaranteed, then by score. Each goes to the least loaded of the workers that can
take it. Nothing waits for anything else: a task that nobody can take keeps no other back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from penstock.identity.ids import SourceId, TenantId
from penstock.workflow.priority import (
    ReadyTask,
    TaskScore,
    WorkflowPolicy,
    score_task,
    task_rank,
)
from penstock.workflow.status import WorkflowKind
from penstock.workflow.workers import (
    EVERY_TENANT,
    BreakerScope,
    Bulkhead,
    WorkBreaker,
    Worker,
    WorkerPolicy,
    WorkerStatus,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class InHand:
    """A task that a worker has at the moment."""

    task_id: str
    worker_id: str
    tenant_id: TenantId
    source_id: SourceId
    kind: WorkflowKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """All that an allotment is decided by, as of one moment."""

    ready: Sequence[ReadyTask]
    workers: Sequence[Worker]
    """All that are not gone."""
    in_hand: Sequence[InHand] = ()
    breakers: Mapping[tuple[BreakerScope, str], WorkBreaker] = field(default_factory=dict)
    """Of workers and sources whose tasks ever failed."""
    asking: Mapping[str, int] | None = None
    """Who is given something now, by worker id, and how many at most; None for everybody, up to their capacity."""
    ahead: Mapping[str, int] = field(default_factory=dict)
    """How many more than its capacity a worker may have, by worker id: they wait there for others to end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One task that is ready: its place, its worker, or why it has none."""

    place: int
    """1 is first."""
    task: ReadyTask
    score: TaskScore
    worker_id: str | None
    waits_for: str | None
    """None where it has a worker."""
    went_first: str | None = None
    """Why it has a better place than its score gives it."""


def can_run(worker: Worker, task: ReadyTask) -> bool:
    """Say whether a worker has what a task needs, and is of its tenant."""
    mine = worker.tenant_id in (EVERY_TENANT, task.tenant_id)
    able = {task.capability, f"{task.capability}:{task.source_id}"}
    return mine and not able.isdisjoint(worker.capabilities)


def allot(
    standing: Standing, policy: WorkerPolicy, priorities: WorkflowPolicy, now: datetime
) -> list[Place]:
    """Return the place of every task that is ready, with its worker or what it waits for.

    What is the same gives the same, in whatever order it is listed.
    """
    table = _Table(standing, policy, now)
    open_tasks = [(task, score_task(task, priorities, now)) for task in standing.ready]
    open_tasks.sort(key=lambda pair: task_rank(pair[1], pair[0]))
    places: list[Place] = []
    # Guarantees are counted anew after each task that is given, so the lists are walked by class.
    patient = timedelta(seconds=policy.patience_s)
    overdue = [pair for pair in open_tasks if _ready_for(pair[0], now) > patient]
    overdue.sort(key=lambda pair: (max(pair[0].ready_at, pair[0].due_at), pair[0].task_id))
    late = {task.task_id for task, _ in overdue}
    for task, score in overdue:
        why = f"it has been ready for more than {policy.patience_s:g} s"
        places.append(table.place(len(places) + 1, task, score, why))
    rest = [pair for pair in open_tasks if pair[0].task_id not in late]
    after: list[tuple[ReadyTask, TaskScore]] = []
    for task, score in rest:
        owed = table.owed(task)
        if owed and (given := table.place(len(places) + 1, task, score, owed)).worker_id:
            places.append(given)
        else:
            after.append((task, score))
    for task, score in after:
        places.append(table.place(len(places) + 1, task, score, None))
    return places


def _ready_for(task: ReadyTask, now: datetime) -> timedelta:
    return now - max(task.ready_at, task.due_at)


class _Table:
    """Counts what is in hand while tasks are given out."""

    def __init__(self, standing: Standing, policy: WorkerPolicy, now: datetime) -> None:
        self._policy, self._now, self._breakers = policy, now, standing.breakers
        self._workers = sorted(standing.workers, key=lambda worker: worker.worker_id)
        self._kinds = Counter(str(each.kind) for each in standing.in_hand)
        self._tenants = Counter(str(each.tenant_id) for each in standing.in_hand)
        self._sources = Counter(str(each.source_id) for each in standing.in_hand)
        self._loads = Counter(each.worker_id for each in standing.in_hand)
        self._left = {worker.worker_id: self._slots(worker, standing) for worker in self._workers}
        self._able: dict[tuple[str, str, str], list[Worker]] = {}

    def _slots(self, worker: Worker, standing: Standing) -> int:
        """Return how many tasks a worker may be given now."""
        ahead = min(standing.ahead.get(worker.worker_id, 0), worker.capacity)
        free = worker.capacity + ahead - self._loads[worker.worker_id]
        if worker.status is not WorkerStatus.ACTIVE or worker.is_silent(self._policy, self._now):
            return 0
        if standing.asking is not None:
            free = min(free, standing.asking.get(worker.worker_id, 0))
        return max(0, free)

    def owed(self, task: ReadyTask) -> str | None:
        """Say who has less than is guaranteed, so that its task goes before others, or None."""
        for what, name, running, bulkhead in self._bulkheads(task):
            if running < bulkhead.guaranteed:
                return f"{what} {name} has {running} of {bulkhead.guaranteed} tasks that it is guaranteed"
        return None

    def place(self, place: int, task: ReadyTask, score: TaskScore, why: str | None) -> Place:
        """Give a task to a worker if one can have it; say what it waits for if not."""
        waits_for = self._keeps_back(task)
        worker = None if waits_for else self._least_loaded(task)
        if worker is None:
            return Place(
                place=place,
                task=task,
                score=score,
                worker_id=None,
                waits_for=waits_for or self._lacks(task),
            )
        self._give(task, worker)
        return Place(
            place=place,
            task=task,
            score=score,
            worker_id=worker.worker_id,
            waits_for=None,
            went_first=why,
        )

    def _give(self, task: ReadyTask, worker: Worker) -> None:
        self._kinds[task.kind] += 1
        self._tenants[task.tenant_id] += 1
        self._sources[task.source_id] += 1
        self._loads[worker.worker_id] += 1
        self._left[worker.worker_id] -= 1

    def _bulkheads(self, task: ReadyTask) -> Iterable[tuple[str, str, int, Bulkhead]]:
        kind, tenant = str(task.kind), str(task.tenant_id)
        yield "kind", kind, self._kinds[kind], self._policy.kind(kind)
        yield "tenant", tenant, self._tenants[tenant], self._policy.tenant(tenant)

    def _keeps_back(self, task: ReadyTask) -> str | None:
        """Say what keeps a task from any worker, or None."""
        if task.due_at > self._now:
            return f"its time, {task.due_at:%Y-%m-%d %H:%M:%S} UTC"
        for what, name, running, bulkhead in self._bulkheads(task):
            if bulkhead.most is not None and running >= bulkhead.most:
                return f"one of the {running} tasks of {what} {name} in hand, which are as many as may be"
        source, running = str(task.source_id), self._sources[task.source_id]
        most = self._policy.most_per_source
        if most is not None and running >= most:
            return f"one of the {running} tasks of source {source} in hand, which are as many as may be"
        return self._shut(BreakerScope.SOURCE, source, running)

    def _shut(self, scope: BreakerScope, scope_id: str, running: int) -> str | None:
        breaker = self._breakers.get((scope, scope_id))
        return breaker.shuts(running, self._now) if breaker else None

    def _workers_for(self, task: ReadyTask) -> list[Worker]:
        key = (task.capability, str(task.source_id), str(task.tenant_id))
        if key not in self._able:
            self._able[key] = [worker for worker in self._workers if can_run(worker, task)]
        return self._able[key]

    def _least_loaded(self, task: ReadyTask) -> Worker | None:
        """Return the least loaded worker that can have a task; of equals the one that can do the least else."""
        free = [
            worker
            for worker in self._workers_for(task)
            if self._left[worker.worker_id] > 0
            and not self._shut(BreakerScope.WORKER, worker.worker_id, self._loads[worker.worker_id])
        ]
        return min(free, key=self._eagerness, default=None)

    def _eagerness(self, worker: Worker) -> tuple[float, int, str]:
        load = self._loads[worker.worker_id] / worker.capacity
        return (load, len(worker.capabilities), worker.worker_id)

    def _lacks(self, task: ReadyTask) -> str:
        """Say why no worker can have a task that nothing else keeps back."""
        able = self._workers_for(task)
        listening = [each for each in able if each.status is WorkerStatus.ACTIVE]
        if not listening:
            drained = f": {len(able)} drain" if able else ""
            return f"a worker of tenant {task.tenant_id} that can {task.capability}{drained}"
        for worker in listening:
            load = self._loads[worker.worker_id]
            shut = self._shut(BreakerScope.WORKER, worker.worker_id, load)
            if shut and load < worker.capacity:
                return shut
        taken = sum(self._loads[each.worker_id] for each in listening)
        slots = sum(each.capacity for each in listening)
        if taken < slots:
            return f"one of the {len(listening)} workers that can {task.capability} to ask for more"
        return (
            f"one of the {slots} slots of workers that can {task.capability}, which are all taken"
        )
