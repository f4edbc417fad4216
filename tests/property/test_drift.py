"""Whatever people and accidents do to a target, the fields of the source end as it says, and those of people stay."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.ownership import Owner
from penstock.batch.rows import Kind
from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId
from penstock.ports.drift import DriftStatus
from penstock.use_cases.drift_audit import audit_all
from resources.targets.sql_table import open_sql_table
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import SOURCE, TARGET, Bench, open_bench, person
from tests.property.depth import examples

KEYS = [f"crm/{n}" for n in range(4)]
ANYTHING = GuardPolicy(always_allowed_deletes=10**6, always_allowed_updates=10**6)
keys = st.sampled_from(KEYS)
steps = st.one_of(
    st.tuples(st.just("land"), st.dictionaries(keys, st.integers(0, 2), max_size=4)),
    st.tuples(st.just("note"), keys),
    st.tuples(st.just("late"), keys),
    st.tuples(st.just("spoil"), keys),
    st.tuples(st.just("drop"), keys),
    st.tuples(st.just("repair"), st.none()),
)


class World:
    """A source, its target, and what people wrote there."""

    def __init__(self, bench: Bench, engine: Engine) -> None:
        self.bench, self.engine = bench, engine
        self.said = dict.fromkeys(KEYS, 0)
        self.notes: dict[str, str] = {}
        self.pending: set[str] = set()
        target = bench.platform.targets[TARGET]
        self.read_back = target.read_back
        target.read_back = self.looked  # type: ignore[method-assign]

    def looked(self, source: SourceId, kind: Kind, names: pa.Table) -> pa.Table:
        """Read rows back, and have somebody write into those that a late note waits for."""
        answer = self.read_back(source, kind, names)
        for key in sorted(self.pending & set(names["key"].to_pylist())):
            self.pending.discard(key)
            self.note(key)
        return answer

    def late(self, key: str) -> None:
        """Write a note right after the platform's next look at a row."""
        self.pending.add(key)

    def land(self, changes: dict[str, int]) -> None:
        self.said |= changes
        self.bench.land(
            [person(key, v=v, notes=f"source {v}") for key, v in sorted(self.said.items())]
        )
        self.bench.publish()

    def note(self, key: str) -> None:
        if (row := self.held(key)) is not None:
            self.notes[key] = f"human {len(self.notes)} {row['v']}"
            self.write(key, {**row, "notes": self.notes[key]})

    def spoil(self, key: str) -> None:
        if (row := self.held(key)) is not None:
            self.write(key, {**row, "v": 99})

    def drop(self, key: str) -> None:
        self.notes.pop(key, None)
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM penstock_entities WHERE key = :key"), {"key": key})

    def repair(self, _nothing: None = None) -> None:
        self.bench.clock.sleep(1000)
        audit_all(self.bench.platform, period_s=1000, repair=True)
        if self.bench.control.list_drift(status=DriftStatus.OPEN):
            self.bench.publish()

    def write(self, key: str, row: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                text("UPDATE penstock_entities SET attributes = :text WHERE key = :key"),
                {"key": key, "text": json.dumps(row, sort_keys=True, separators=(",", ":"))},
            )

    def held(self, key: str) -> dict[str, Any] | None:
        names = pa.table(
            {"type_name": ["person"], "key": [key], "to_key": pa.nulls(1, pa.string())}
        )
        found = self.read_back(SOURCE, Kind.ENTITY, names)["attributes"][0].as_py()
        return None if found is None else dict(json.loads(found))


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=8))
def test_each_field_converges_to_its_owner(given_steps: list[tuple[str, Any]]) -> None:
    """In any order of batches, edits, accidents, audits and repairs: nobody's note is lost, and drift ends."""
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder), clock) as bench:
        target = open_sql_table(f"sqlite:///{folder}/down.db", TARGET)
        bench.platform = replace(bench.platform, targets={TARGET: target}, guard_policy=ANYTHING)
        ownership = {"person": {"notes": Owner.HUMAN}}
        spec = SourceSpec(source_id=SOURCE, targets=(TARGET,), ownership=ownership)
        bench.control.sync_sources([spec])
        world = World(bench, target.engine)
        world.land({})
        for act, value in given_steps:
            getattr(world, act)(value)
            for key, note in world.notes.items():
                assert (world.held(key) or {})["notes"] == note
        # An update of a row that had been dropped was a conflict: once it is there again, the next batch makes it.
        world.repair()
        world.land({})
        world.repair()
        for key, v in world.said.items():
            wanted = {"v": v, "notes": world.notes.get(key, f"source {v}")}
            assert world.held(key) == wanted
        assert bench.control.list_drift(status=DriftStatus.OPEN) == []
        target.engine.dispose()
