"""The snapshot as a state machine: whatever lands, is republished or rolled back, snapshot, target and a dict agree.

Beside it the three laws of plans: applying a difference gives what it was made for, again it does nothing, and its
inverse gives what was there before.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode
from penstock.batch.rows import Kind
from penstock.errors import NothingToDo
from penstock.identity.canonical import value_of
from penstock.publish.state import PublishStatus
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.publish import republish
from penstock.use_cases.rollback import rollback
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import SOURCE, TARGET, Bench, knows, open_bench, person

ANYTHING = GuardPolicy(always_allowed_deletes=10**6, always_allowed_updates=10**6)
KEYS = [f"crm/{group}/{n}" for group in ("eu", "us") for n in range(4)]
people = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2), max_size=8)
Held = dict[str, int]


def held(bench: Bench) -> Held:
    """What the target holds, by key."""
    return {key: value_of(text)["v"] for (_, key), text in bench.target.entities.items()}


def known(bench: Bench) -> Held:
    """What the snapshot says that the target holds."""
    rows = KnownRows.open(bench.platform, SOURCE, TARGET)
    return {
        row["entity_key"]: value_of(row["attributes"])["v"]
        for type_name in rows.view.types(Kind.ENTITY)
        for _, _, table in rows.scan(Kind.ENTITY, type_name)
        for row in table.to_pylist()
    }


def publish(bench: Bench) -> Any:
    """Publish what is next, without guards, to its end."""
    report = bench.publish(guard_policy=ANYTHING)
    assert report.state.status is PublishStatus.COMPLETE, report.state.failure_details
    assert report.state.exceptions == 0
    assert all(row.balanced for row in report.ledger)
    return report


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=people, after=people, pairs=st.sets(st.sampled_from(KEYS), max_size=4))
def test_a_plan_its_repetition_and_its_inverse(before: Held, after: Held, pairs: set[str]) -> None:
    """Apply gives what is wanted, again changes nothing, the inverse gives what was, and apply gives it once more."""
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder), clock) as bench:
        bench.land([person(key, v=v) for key, v in before.items()])
        publish(bench)
        first = dict(bench.target.entities)
        ends = sorted(pairs & set(after))
        ties = [knows(ends[0], end) for end in ends[1:]]
        batch = bench.land([*(person(key, v=v) for key, v in after.items()), *ties]).batch_id
        publish(bench)
        second = (dict(bench.target.entities), dict(bench.target.relationships))
        assert held(bench) == after
        bench.land([*(person(key, v=v) for key, v in after.items()), *ties])
        assert publish(bench).operations == 0
        if second != (first, {}):
            assert rollback(bench.platform, batch, TARGET, by="ada").conflicts == 0
            publish(bench)
        assert (bench.target.entities, bench.target.relationships) == (first, {})
        republish(bench.platform, batch, TARGET)
        publish(bench)
        assert (bench.target.entities, bench.target.relationships) == second


class SnapshotMachine(RuleBasedStateMachine):
    """Batches of both modes, republishes and rollbacks in any order, against a dict."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.opened = open_bench(Path(self.folder.name), clock)
        self.bench = self.opened.__enter__()
        self.model: Held = {}
        self.batches: list[tuple[Any, Mode, Held, set[str]]] = []
        self.effects: dict[Any, dict[str, tuple[int | None, int | None]]] = {}

    def become(self, batch: Any, after: Held) -> None:
        """Take over what a batch has done."""
        keys = {*self.model, *after}
        changed = {k: (self.model.get(k), after.get(k)) for k in keys}
        self.effects[batch] = {k: sides for k, sides in changed.items() if sides[0] != sides[1]}
        self.model = after

    def wanted(self, mode: Mode, rows: Held, gone: set[str]) -> Held:
        if mode is Mode.FULL:
            return dict(rows)
        return {k: v for k, v in self.model.items() if k not in gone} | rows

    @rule(rows=people, full=st.booleans(), gone=st.sets(st.sampled_from(KEYS), max_size=4))
    def land(self, rows: Held, full: bool, gone: set[str]) -> None:
        mode = Mode.FULL if full else Mode.DELTA
        gone = set() if full else gone - set(rows)
        landed = [person(k, v=v) for k, v in rows.items()]
        landed += [person(k, deleted=True) for k in sorted(gone)]
        batch = self.bench.land(landed, mode=mode).batch_id
        publish(self.bench)
        self.batches.append((batch, mode, rows, gone))
        self.become(batch, self.wanted(mode, rows, gone))

    @precondition(lambda self: bool(getattr(self, "batches", None)))
    @rule(data=st.data())
    def republish(self, data: st.DataObject) -> None:
        batch, mode, rows, gone = data.draw(st.sampled_from(self.batches))
        republish(self.bench.platform, batch, TARGET)
        publish(self.bench)
        self.become(batch, self.wanted(mode, rows, gone))

    @precondition(lambda self: bool(getattr(self, "batches", None)))
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        batch, *_ = data.draw(st.sampled_from(self.batches))
        fits = {
            key: before
            for key, (before, after) in self.effects[batch].items()
            if self.model.get(key) == after
        }
        try:
            found = rollback(self.bench.platform, batch, TARGET, by="ada")
        except NothingToDo:
            assert fits == {}
            return
        assert found.conflicts == len(self.effects[batch]) - len(fits)
        publish(self.bench)
        for key, before in fits.items():
            if before is None:
                del self.model[key]
            else:
                self.model[key] = before

    @invariant()
    def all_agree(self) -> None:
        if getattr(self, "batches", None):
            assert held(self.bench) == self.model
            assert known(self.bench) == self.model

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            self.opened.__exit__(None, None, None)
            self.folder.cleanup()


SnapshotMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=10, deadline=None)
TestSnapshot = SnapshotMachine.TestCase
