"""What the workers of the harness do: the life of one source, in steps that may each be done again.

A step is what an interrupted process would do when it is started anew. Some rows are there for trouble: a key that no
target keeps and what depends on it, relationships to nothing that comes only later, deletes that a guard holds, deltas,
rows that the target loses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode, RelationshipType
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.source import Extract, SourceDefinition, SourceSpec
from penstock.errors import (
    BadPatch,
    ChangedMeanwhile,
    IllegalMove,
    LaneBusy,
    NothingToDo,
    TargetUnreachable,
)
from penstock.identity.ids import BatchId, SourceId, TargetId, batch_id
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.dead_letters import DeadLetter, LetterFilter
from penstock.publish.dead_letters import LetterStatus
from penstock.publish.state import PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.dead_letters import fix_letter, requeue_letters
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.drift_audit import audit_lane, repair_lane
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.platform import Platform
from penstock.use_cases.publish import PublishOptions, publish_next
from penstock.use_cases.rollback import rollback

if TYPE_CHECKING:
    from tests.crash.worlds import Worlds

SOURCE = SourceId("crm")
START = datetime(2026, 1, 1, tzinfo=UTC)
TYPES = ("database", "table", "column")
GUARDS = GuardPolicy(max_delete_share=0.1, always_allowed_deletes=2, min_extract_share=0)
FAULTS = (
    "429",
    "timeout_after_applying",
    "half_closed_after_applying",
    "503",
    "timeout_before_applying",
    "500",
    "half_closed_before_applying",
)
"""What the HTTP endpoint does to the first calls of each publish step."""
_SETTLED = {PublishStatus.COMPLETE, PublishStatus.FAILED}
_TURNS = 1000
"""More than all retries of a batch take."""
_LOOKS = 30
"""A listing may lag behind."""
_IDLE_S = 3700.0
"""By how much the clock of a worker with nothing to do moves on: beyond every lease and most delays."""


class StepClock:
    """A clock that moves a millisecond with each look, and past every sleep at once."""

    def __init__(self, start: datetime) -> None:
        self.moment = start

    def now(self) -> datetime:
        """Return the present."""
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def monotonic_s(self) -> float:
        """Return seconds since some moment."""
        return self.now().timestamp()

    def sleep(self, delay_s: float) -> None:
        """Move on."""
        self.moment += timedelta(seconds=delay_s)


# Rows -------------------------------------------------------------------------------------------------------


def _entities(number: int) -> Iterator[Entity]:
    for database in range(2):
        yield _entity("database", f"crm/d{database}", size=number)
        for table in range(3):
            yield _entity("table", f"crm/d{database}/t{table}", n=table)
            yield from _columns(number, database, table)
    yield _entity("table", "crm/d0/bad\0", n=0)
    yield _entity("column", "crm/d0/bad\0/c0", n=0)
    if number >= 2:
        yield _entity("table", "crm/d1/new", n=number)
        yield _entity("column", "crm/d1/new/c0", n=1)


def _columns(number: int, database: int, table: int) -> Iterator[Entity]:
    for column in range(3):
        gone = (number >= 2 and (table, column) == (2, 2) and database == 1) or (
            number >= 3 and column == 1
        )
        if not gone:
            version = number if column == 0 else 0
            yield _entity("column", f"crm/d{database}/t{table}/c{column}", v=version)


def _relationships(number: int) -> Iterator[Relationship]:
    for table in range(3 if number == 1 else 2):
        yield _reads(f"crm/d0/t{table}", f"crm/d1/t{table}")
    yield _reads("crm/d0/t0", "crm/nowhere")
    yield _reads("crm/d1/t0", "crm/nowhere")


def _delta() -> Iterator[Entity | Relationship]:
    yield _entity("column", "crm/d1/new/c0", n=2)
    yield _entity("column", "crm/d1/new/c1", n=1)
    yield _entity("table", "crm/d0/t0", n=9)
    yield _reads("crm/d0/t1", "crm/d1/new")
    yield Entity(entity_type="column", entity_key="crm/d0/t2/c2", attributes={}, deleted=True)


def _late() -> Iterator[Entity | Relationship]:
    yield _entity("database", "crm/nowhere", size=0)


DELTAS = {4: _delta, 5: _late}


def _entity(entity_type: str, key: str, **attributes: int) -> Entity:
    return Entity(entity_type=entity_type, entity_key=key, attributes=attributes)


def _reads(start: str, end: str) -> Relationship:
    return Relationship(relationship_type="reads", from_key=start, to_key=end, attributes={})


def definition(number: int, target: TargetId) -> SourceDefinition:
    """Return the source as it is for one batch."""

    def extract(extract: Extract) -> Iterator[Entity | Relationship]:
        if number in DELTAS:
            yield from DELTAS[number]()
            return
        with extract.scopes_of(
            [*((Kind.ENTITY, name) for name in TYPES), (Kind.RELATIONSHIP, "reads")]
        ):
            yield from _entities(number)
            yield from _relationships(number)

    return SourceDefinition(
        spec=SourceSpec(source_id=SOURCE, targets=(target,)),
        extractor=extract,
        mode=Mode.DELTA if number in DELTAS else Mode.FULL,
        relationship_types=(RelationshipType(name="reads"),),
    )


def timestamp(number: int) -> datetime:
    """Return the source timestamp of a batch."""
    return START + timedelta(hours=number)


def batch(number: int) -> BatchId:
    """Return a batch's id."""
    return batch_id(SOURCE, timestamp(number))


# Steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worker:
    """One process at work."""

    platform: Platform
    name: str
    worlds: Worlds

    @property
    def target(self) -> TargetId:
        """The target of this world."""
        return self.worlds.target


@dataclass(frozen=True)
class Step:
    """One step; ``same_plans`` says whether doing it again, after a kill, leads to the very same plans.

    Nobody is killed in one that is not ``harmed``: what it does cannot be done again.
    """

    name: str
    run: Callable[[Worker], None]
    same_plans: bool = True
    harmed: bool = True


def drain(worker: Worker) -> None:
    """Publish until nothing is left, waiting for what is due later or held by a worker that died."""
    options = PublishOptions(jitter=lambda: 0.0)
    for _ in range(_TURNS):
        if publish_next(worker.platform, worker.name, options=options) is not None:
            continue
        states = worker.platform.control.list_states()
        if all(state.status in _SETTLED for state in states):
            return
        worker.platform.clock.sleep(_IDLE_S)
    raise AssertionError("there is work left, and no worker gets it")


def _collect(number: int) -> Callable[[Worker], None]:
    def run(worker: Worker) -> None:
        source = definition(number, worker.target)
        extract_source(worker.platform, source, timestamp(number))
        land_batch(worker.platform, source, timestamp(number))
        cursor = ""
        for _ in range(_LOOKS):
            cursor = discover_batches(worker.platform, cursor).cursor
            if worker.platform.control.known_batches([batch(number)]):
                return
        raise AssertionError(f"batch {number} has landed and is not found")

    return run


def _collect_and_publish(number: int) -> Callable[[Worker], None]:
    collect = _collect(number)

    def run(worker: Worker) -> None:
        collect(worker)
        drain(worker)

    return run


def _release(worker: Worker) -> None:
    """Approve what a guard holds of batch 3, and publish it."""
    control, now = worker.platform.control, worker.platform.clock.now()
    (state,) = control.list_states(batch=batch(3))
    if not control.list_approvals(batch=state.batch_id):
        assert state.plan_digest is not None
        approval = Approval(
            approval_id=UUID(int=3).hex,
            batch_id=state.batch_id,
            target_id=state.target_id,
            source_id=state.source_id,
            plan_digest=state.plan_digest,
            decision=Decision.APPROVE,
            approver="ada",
            reason="they are gone",
            decided_at=now,
            expires_at=None,
            status=ApprovalStatus.ACTIVE,
        )
        with suppress(IllegalMove):  # somebody else has, a moment ago
            control.decide_hold(approval, now=now)
    drain(worker)


def _roll_back(worker: Worker) -> None:
    """Roll batch 4 back, whoever else has asked for it, and publish the correction."""
    with suppress(ChangedMeanwhile, LaneBusy, NothingToDo):  # somebody else has, a moment ago
        rollback(worker.platform, batch(4), worker.target, by="ada", reason="too early")
    discover_batches(worker.platform, "")
    drain(worker)


def _lose(worker: Worker) -> None:
    """Bring what relationships were refused for, and change the target behind everybody's back."""
    _collect_and_publish(5)(worker)
    worker.worlds.lose_rows()


def _open_letters(worker: Worker, key: str) -> list[DeadLetter]:
    """Return all open letters if that of a relationship from a key is among them: it is settled only once."""
    chosen = LetterFilter(status=LetterStatus.OPEN)
    found = worker.platform.control.list_dead_letters(chosen=chosen)
    return found if any((x.type_name, x.key) == ("reads", key) for x in found) else []


def _fix(worker: Worker) -> None:
    """Mend the relationship from ``crm/d0/t0`` whose end is there by now, and publish the correction."""
    for letter in _open_letters(worker, "crm/d0/t0"):
        if letter.key == "crm/d0/t0":
            with suppress(*_OVERTAKEN):
                fix_letter(worker.platform, letter.dead_letter_id, _PATCH, by=_ADA)
    discover_batches(worker.platform, "")
    drain(worker)


def _requeue(worker: Worker) -> None:
    """Requeue what is left, of which one gets through and one fails again with what it blocks."""
    if letters := [x.dead_letter_id for x in _open_letters(worker, "crm/d1/t0")]:
        with suppress(*_OVERTAKEN):
            requeue_letters(worker.platform, by=_ADA, dead_letter_ids=letters)
    discover_batches(worker.platform, "")
    drain(worker)


def _repair(worker: Worker) -> None:
    """Read the whole target back, and repair what was lost."""
    with suppress(*_OVERTAKEN):
        _audit(worker)
        repair_lane(worker.platform, SOURCE, worker.target, by=_ADA)
    drain(worker)


def _audit(worker: Worker) -> None:
    """Look at everything, again where a busy machine makes the target late."""
    for _ in range(_TURNS):
        with suppress(TargetUnreachable):
            audit_lane(worker.platform, SOURCE, worker.target, period_s=1.0, everything=True)
            return
    raise AssertionError("the target never answers")


_ADA = By(actor="ada", reason="it is there by now")
_PATCH = '[{"op": "add", "path": "/mended", "value": 1}]'
_OVERTAKEN = (BadPatch, ChangedMeanwhile, IllegalMove, LaneBusy)
"""Somebody else has asked for it, a moment ago."""
STEPS = (
    Step("collect and publish 1", _collect_and_publish(1), same_plans=False),
    Step("collect 2", _collect(2), same_plans=False),
    Step("publish 2", drain),
    Step("collect 3", _collect(3), same_plans=False),
    Step("publish 3", drain),
    Step("release 3", _release),
    Step("collect and publish 4", _collect_and_publish(4), same_plans=False),
    Step("roll back 4", _roll_back, same_plans=False),
    Step("collect and publish 5, and lose rows", _lose, same_plans=False, harmed=False),
    Step("fix a letter", _fix, same_plans=False),
    Step("requeue letters", _requeue, same_plans=False),
    Step("repair drift", _repair),
)
