"""Turns that begin on what Penstock itself tells, on both databases: each event once, none in a circle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.batch.manifest import Correction
from penstock.events.delivery import DeliveryPolicy
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.pauses import Pause, PauseScope
from penstock.ports.tracing import trace_parent_of
from penstock.publish.queue import QueuePolicy
from penstock.publish.state import Intent
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.deliver_events import remove_old_events
from penstock.use_cases.told_triggers import Following, needed_from, trigger_told
from penstock.use_cases.workflow_tasks import complete_task
from penstock.use_cases.workflow_triggers import trigger_event_driven
from penstock.use_cases.workflows import cancel_workflow, create_workflow, pause_workflow
from penstock.workflow.records import Workflow
from resources.control_db.destinations import SqlDestinations
from resources.control_db.loop_places import SqlLogPlace
from resources.control_db.outbox_log import SqlEventLog
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    NOW,
    POLICY,
    REGISTRY,
    at,
    finish,
    pending,
    record,
)
from tests.contracts.event_values import log_of, told
from tests.contracts.test_control_dead_letters import record as record_letter
from tests.contracts.workflow_values import ACME, BY, claim, coordination, create, spec, tasks_of
from tests.fixtures.clock import FixedClock

OTHER = TenantId("other")
COLLECT = {"steps": ["collect"]}


class Died(Exception):
    """Whoever followed the outbox was killed here."""


@dataclass
class Log:
    """An outbox that counts how often anything is asked of it, and in which something may happen before it is read."""

    inner: SqlEventLog
    asked: int = 0
    meanwhile: Callable[[], object] = lambda: None

    def end(self) -> OutboxCursor:
        """The place behind all that can be read now."""
        self.asked += 1
        return self.inner.end()

    def read(self, after: OutboxCursor, **how: Any) -> list[OutboxEvent]:
        """What comes after a place."""
        self.asked += 1
        self.meanwhile()
        return self.inner.read(after, **how)

    def place_before(self, moment: datetime) -> OutboxCursor:
        """The place before the first event that is not older than a moment."""
        return self.inner.place_before(moment)

    def remove(self, **what: Any) -> int:
        """Remove old events."""
        return self.inner.remove(**what)


class Lost(SqlLogPlace):
    """A place whose owner dies before it is stored."""

    def move(self, *, since: OutboxCursor, to: OutboxCursor) -> bool:
        """Die."""
        raise Died


class World:
    """An outbox that is followed, over batches, pauses and workflows."""

    def __init__(self, store: SqlControlStore, folder: Path, clock: FixedClock) -> None:
        self.store = store
        self.co: Coordination = coordination(store, folder, clock)
        self.clock = clock
        self.log = Log(log_of(store))
        self.following = Following(
            coordination=self.co, log=self.log, place=SqlLogPlace.named(store.engine, "test")
        )

    def waits(self, event_type: str, *, name: str = "w", **values: Any) -> str:
        """Make a workflow that waits for a type of event; its id."""
        event = {"type": event_type, **values.pop("event", {})}
        return create(
            self.co, name=name, kind="event_driven", event=event, **{**COLLECT, **values}
        ).workflow_id

    def look(self) -> bool:
        """Follow the outbox to its end, once all of it can be read."""
        told(self.store)
        return trigger_told(self.following)

    def turns(self, *workflows: str) -> list[int]:
        """How many turns each workflow has begun."""
        return [self.co.workflows.get_workflow(each).turns for each in workflows]

    def lands(
        self,
        source: str = "a",
        minute: float = 1,
        *,
        moment: datetime | None = None,
        corrects: Correction | None = None,
        tenant: TenantId = ACME,
        trace_parent: str | None = None,
    ) -> BatchId:
        """Admit a batch of a tenant; its id."""
        of = record(source, minute)
        changed: dict[str, Any] = {"tenant_id": tenant, "corrects": corrects}
        if moment is not None:
            changed["source_timestamp"] = moment
        if trace_parent is not None:
            changed["trace_parent"] = trace_parent
        of = replace(of, manifest=of.manifest.model_copy(update=changed))
        assert self.store.admit(of, [pending(of, tenant_id=tenant)])
        return of.manifest.batch_id

    def publishes(self, minute: float = 10) -> BatchId:
        """Publish what is next; its id."""
        claimed = self.store.claim("w1", now=at(minute), lease_s=60, policy=POLICY)
        assert claimed is not None
        return finish(self.store, claimed, now=at(minute)).batch_id

    def pauses(self, source: str = "a") -> None:
        """Pause a source, and let it go on."""
        act = AuditEntry(at=NOW, actor="kim", act="pause", subject=source)
        of = Pause(
            scope=PauseScope.SOURCE, scope_id=source, paused_at=NOW, paused_by="kim", reason="x"
        )
        self.store.pause(of, act=act)
        self.store.resume(PauseScope.SOURCE, source, act=act)


@pytest.fixture
def world(control_store: SqlControlStore, tmp_path: Path, clock: FixedClock) -> World:
    return World(control_store, tmp_path, clock)


def test_what_is_told_begins_a_turn_once(world: World) -> None:
    """A batch that is published begins one turn of who waits for its source; another's, or another tenant's, none."""
    mine = world.waits("batch_published", event={"source": "a", "only_its_source": True})
    other = world.waits("batch_published", event={"source": "b"})
    world.lands("a")
    world.look()
    assert world.turns(mine, other) == [0, 0]
    world.publishes()
    world.lands("x", tenant=OTHER)
    world.publishes()
    for _ in range(3):
        assert not world.look()
    assert world.turns(mine, other) == [1, 0]
    assert tasks_of(world.co, mine) == ["a collect ready"]
    (turn,) = world.co.workflows.list_turns(mine)
    assert (turn.trigger.event_type, turn.trigger.source_id) == ("batch_published", "a")


def test_what_was_told_before_a_workflow_was_made_is_none_of_its_business(world: World) -> None:
    """It begins with what is told from then on, whether it is the first that waits or others ended long ago."""
    world.lands("a", 1)
    told(world.store)
    first = world.waits("batch_landed")
    world.look()
    assert world.turns(first) == [0]
    world.lands("a", 2)
    world.look()
    assert world.turns(first) == [1]
    complete_task(world.co, claim(world.co, first, "a collect"))
    cancel_workflow(world.co, first, by=BY)
    world.lands("a", 3)
    told(world.store)
    second = world.waits("batch_landed")
    world.look()
    assert world.turns(first, second) == [1, 0]
    world.lands("b", 4)
    world.look()
    assert world.turns(first, second) == [1, 1]


def test_nobody_who_waits_costs_nothing(world: World) -> None:
    """While no workflow waits for what is told, the outbox is not asked for anything, however much is told."""
    world.waits("archive_discovered")
    for minute in range(1, 4):
        world.lands("a", minute)
        assert not world.look()
    assert world.log.asked == 0
    assert needed_from(world.following) is None
    ended = world.waits("batch_landed")
    world.look()
    assert world.log.asked > 0
    cancel_workflow(world.co, ended, by=BY)
    asked = world.log.asked
    world.look()
    assert world.log.asked == asked


@pytest.mark.parametrize("policy", ["queue", "drop"])
def test_who_dies_before_the_place_is_stored_has_changed_nothing_more(
    world: World, policy: str
) -> None:
    """What began, waits or was dropped is so once, however often the same events are gone through again."""
    made = world.waits("batch_landed", trigger_policy=policy)
    for minute in range(1, 4):
        world.lands("a", minute)
    told(world.store)
    dies = replace(world.following, place=Lost.named(world.store.engine, "test"))
    found: list[Workflow] = []
    for _ in range(2):
        with pytest.raises(Died):
            trigger_told(dies)
        found.append(world.co.workflows.get_workflow(made))
    world.look()
    found.append(world.co.workflows.get_workflow(made))
    assert found[0] == found[1] == found[2]
    waiting = (2, 0) if policy == "queue" else (0, 2)
    assert (len(found[0].queued_triggers), found[0].dropped_triggers) == waiting
    assert found[0].turns == 1


def test_two_servers_at_once_begin_a_turn_once(world: World) -> None:
    """One that stood still over a page that another has gone through since changes nothing with it."""
    made = world.waits("batch_landed", trigger_policy="drop")
    for minute in (1, 2):
        world.lands("a", minute)
    told(world.store)
    beside = replace(world.following, log=log_of(world.store))
    world.log.meanwhile = lambda: trigger_told(beside)
    world.look()
    world.log.meanwhile = lambda: None
    stored = world.co.workflows.get_workflow(made)
    assert (stored.turns, stored.dropped_triggers) == (1, 1)
    world.lands("a", 3)
    world.look()
    assert world.co.workflows.get_workflow(made).dropped_triggers == 2


def test_another_server_s_lease_is_respected(world: World) -> None:
    """While another is at it, this one reads nothing; with nothing new, it does not even ask for the lease."""
    made, asked = world.waits("batch_landed"), []
    told(world.store)

    def is_ours() -> bool:
        asked.append(world.clock.now())
        return False

    world.look()
    beside = replace(world.following, is_ours=is_ours)
    assert not trigger_told(beside)
    assert asked == []
    world.lands("a", 1)
    told(world.store)
    assert not trigger_told(beside)
    assert (len(asked), world.turns(made)) == (1, [0])


def test_a_workflow_made_during_a_look_misses_nothing(world: World) -> None:
    """What is told while others are looked after is left to the next look, which knows of the new one."""
    world.waits("batch_landed")
    world.lands("a", 1)
    told(world.store)
    made: list[str] = []

    def meanwhile() -> None:
        if not made:
            made.append(world.waits("batch_landed", name="late"))
            world.lands("a", 2)
            told(world.store)

    world.log.meanwhile = meanwhile
    # Both fill a page, the second of which is not to be skipped with it.
    trigger_told(replace(world.following, at_once=2))
    assert world.turns(*made) == [0]
    world.look()
    assert world.turns(*made) == [1]


def test_a_page_at_a_time_goes_in_order(world: World) -> None:
    """With more than fits one look, each says that there is more, and what waits is in the order of commits."""
    made = world.waits("batch_landed")
    batches = [world.lands("a", minute) for minute in range(1, 6)]
    told(world.store)
    small = replace(world.following, at_once=2)
    assert [trigger_told(small) for _ in range(4)] == [True, True, False, False]
    stored = world.co.workflows.get_workflow(made)
    assert [each.subject for each in stored.queued_triggers] == batches[1:]


def test_what_fires_during_a_pause_waits(world: World) -> None:
    """A paused workflow hears all the same, as of any other event."""
    made = world.waits("source_resumed", event={"source": "a"})
    pause_workflow(world.co, made, by=BY)
    world.pauses("a")
    world.pauses("b")
    world.look()
    stored = world.co.workflows.get_workflow(made)
    assert [each.event_type for each in stored.queued_triggers] == ["source_resumed"]


def _moment(world: World, workflow_id: str, source: str = "a") -> datetime:
    tasks = world.co.workflows.list_tasks(workflow_id)
    return next(t.moment for t in tasks if t.source_id == source and t.moment is not None)


@pytest.mark.parametrize("awaited", ["batch_landed", "batch_published"])
def test_no_workflow_sets_off_itself_or_another_that_would_set_it_off(
    world: World, awaited: str
) -> None:
    """The batches that two collect who wait for batches begin no turn of either, reported or not; anybody else's do."""
    both = [world.waits(awaited, name=name) for name in ("one", "other")]
    world.lands("a", -900)
    world.publishes()
    world.look()
    assert world.turns(*both) == [1, 1]
    world.clock.sleep(60)
    # At its task's moment: nobody has reported it yet.
    world.lands("a", moment=_moment(world, both[0]))
    # Under a moment of its own: only the report says whose it is.
    reported = ids.batch_id(SourceId("b"), at(7))
    complete_task(world.co, claim(world.co, both[1], "b collect"), batch_id=reported)
    assert world.lands("b", 7) == reported
    for _ in range(2):
        world.publishes()
    world.look()
    stored = [world.co.workflows.get_workflow(each) for each in both]
    assert [(each.turns, each.queued_triggers) for each in stored] == [(1, ()), (1, ())]
    world.lands("a", 20)
    world.publishes(20)
    world.look()
    assert all(world.co.workflows.get_workflow(each).queued_triggers for each in both)


def test_what_takes_back_a_workflow_s_batch_is_as_its_own(world: World) -> None:
    """A correction of the batch, and one of that, lands as the workflow's own; one of another's batch begins a turn."""
    made = world.waits("batch_landed")
    first = world.lands("b", 1)
    world.look()
    own = world.lands("a", moment=_moment(world, made))
    for number in (1, 2):
        back = Correction(
            kind="rollback", batch_id=own, target_id=REGISTRY, requested_by="penstock"
        )
        own = world.lands(
            "a", moment=_moment(world, made) + timedelta(microseconds=number), corrects=back
        )
    world.look()
    assert not world.co.workflows.get_workflow(made).queued_triggers
    fix = Correction(kind="fix", batch_id=first, target_id=REGISTRY, requested_by="kim")
    corrected = world.lands("b", 2, corrects=fix)
    world.look()
    queued = world.co.workflows.get_workflow(made).queued_triggers
    assert [each.subject for each in queued] == [corrected]


def test_a_batch_of_a_workflow_that_waits_for_none_begins_turns(world: World) -> None:
    """What an on-demand workflow collects, or one that waits for archives, is news to who waits for batches."""
    made = world.waits("batch_landed")
    for workflow in (create(world.co, **COLLECT), _archive_driven(world)):
        world.clock.sleep(1)
        world.lands("a", moment=_moment(world, workflow.workflow_id))
    world.look()
    stored = world.co.workflows.get_workflow(made)
    assert (stored.turns, len(stored.queued_triggers)) == (1, 1)


def _archive_driven(world: World) -> Workflow:
    event = {"type": "archive_discovered"}
    made = create(world.co, name="archives", kind="event_driven", event=event, **COLLECT)
    world.clock.sleep(1)
    trigger_event_driven(
        world.co,
        event_id="1",
        event_type="archive_discovered",
        subject="a",
        tenant=ACME,
        source="a",
    )
    return made


def test_the_end_of_another_workflow_begins_a_turn_and_that_of_its_own_none(world: World) -> None:
    """Of one on demand it does, by its id; of those that wait for ends themselves it does not, whoever waits for it."""
    made = create(world.co, **COLLECT).workflow_id
    both = [
        world.waits("workflow_completed", name="after", event={"subject": made}),
        world.waits("workflow_completed", name="any"),
    ]
    for name in ("a collect", "b collect"):
        complete_task(world.co, claim(world.co, made, name))
    world.look()
    assert world.turns(*both) == [1, 1]
    for name in ("a collect", "b collect"):
        complete_task(world.co, claim(world.co, both[0], name))
    world.look()
    assert world.turns(*both) == [1, 1]
    assert not world.co.workflows.get_workflow(both[1]).queued_triggers


def test_what_names_no_workflow_s_batch_for_sure_begins_nothing(world: World) -> None:
    """A letter of what never was a batch, and a batch that some newer one has overtaken, are left alone."""
    waiting = [world.waits(name) for name in ("dead_letter_created", "batch_failed")]
    record_letter(world.store, "batches/a/_manifest.json", source_id="a")
    record_letter(world.store, "s", batch_id="no batch", target_id="registry", source_id="a")
    world.lands("a", 5)
    world.publishes()
    world.lands("a", 3)
    policy = QueuePolicy(answer_within_s=None)
    assert world.store.claim("w1", now=at(11), lease_s=60, policy=policy) is None
    said = [event.type for event in told(world.store)]
    assert {"dead_letter_created", "batch_failed"} <= set(said)
    world.look()
    assert world.turns(*waiting) == [0, 0]
    cancelled = world.lands("a", 12)
    world.store.cancel(cancelled, REGISTRY, now=NOW, message="not wanted")
    world.look()
    assert world.turns(*waiting) == [0, 1]


def test_what_is_waited_for_is_not_removed(world: World) -> None:
    """Old events go once every workflow has heard them, and not before, even with no destination that needs them."""
    made = world.waits("batch_landed")
    world.lands("a", 1)
    told(world.store)
    removed = []
    for _ in range(2):
        removed.append(
            remove_old_events(
                world.log,
                SqlDestinations.from_engine(world.store.engine),
                DeliveryPolicy(),
                NOW + timedelta(days=20),
                needed_from=needed_from(world.following),
            )
        )
        world.look()
    assert world.turns(made) == [1]
    assert removed[1] > 0
    assert log_of(world.store).read(OutboxCursor(), limit=9, types=["batch_landed"]) == []


def test_of_two_followers_one_moves_the_place(control_store: SqlControlStore) -> None:
    """Whoever finds it elsewhere than where it began changes nothing; each name has its own place."""
    place = SqlLogPlace.named(control_store.engine, "one")
    start, middle = place.get(), OutboxCursor(transaction=3, position=7)
    assert start == OutboxCursor()
    moved: Sequence[bool] = [place.move(since=start, to=middle) for _ in range(2)]
    assert moved == [True, False]
    assert place.get() == middle
    assert SqlLogPlace.named(control_store.engine, "two").get() == start


def test_one_asked_for_twice_listens_from_the_first_time(world: World) -> None:
    """Made again with its key, a workflow is the one that is there, and still hears what was told since."""
    asked = spec(kind="event_driven", event={"type": "batch_landed"}, **COLLECT)
    key = {"tenant": ACME, "by": BY, "idempotency_key": "k"}
    first = create_workflow(world.co, asked, **key)  # type: ignore[arg-type]
    assert first.workflow.heard_to is not None
    world.lands("a", 1)
    again = create_workflow(world.co, asked, **key)  # type: ignore[arg-type]
    assert again.workflow == first.workflow
    world.look()
    assert world.turns(first.workflow.workflow_id) == [1]


def test_a_follow_up_is_news(world: World) -> None:
    """A batch that is published again, on an operator's word, begins a turn again."""
    made = world.waits("batch_published", trigger_policy="drop")
    batch = world.lands("a", 1)
    world.publishes()
    world.store.requeue(batch, REGISTRY, now=at(11), intent=Intent.REPUBLISH)
    world.publishes(12)
    world.look()
    stored = world.co.workflows.get_workflow(made)
    assert (stored.turns, stored.dropped_triggers) == (1, 1)


def test_a_turn_goes_on_in_the_trace_of_what_was_told(world: World) -> None:
    """In the one that a batch came with; in the one that follows from its id of a batch that came with none."""
    made = world.waits("batch_landed")
    traced = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    world.lands(trace_parent=traced)
    other = world.lands("b")
    world.look()
    workflow, turn = world.co.workflows.get_workflow(made), world.co.workflows.get_turn(made, 1)
    traces = [turn.trace_parent, *(each.trace_parent for each in workflow.queued_triggers)]
    assert traces == [traced, trace_parent_of(other)]
