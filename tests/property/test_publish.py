"""Whatever lands, in whatever order, the target ends up as the batches say, and every ledger balances."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness, Scope, ScopeMap
from penstock.publish.state import PublishStatus
from tests.fixtures.clock import FixedClock
from tests.fixtures.memory import complete_scopes, knows, open_bench, person
from tests.property.depth import examples

KEYS = [f"crm/{group}/{n}" for group in ("eu", "us") for n in range(4)]
ANYTHING = GuardPolicy(always_allowed_deletes=10**6)

people = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2), max_size=8)
edges = st.sets(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)), max_size=6)
completeness = st.sampled_from(list(Completeness))
full_batches = st.tuples(
    st.just(Mode.FULL),
    people,
    edges,
    st.fixed_dictionaries({"eu": completeness, "us": completeness}),
)
delta_batches = st.tuples(
    st.just(Mode.DELTA), people, st.just(set()), st.sets(st.sampled_from(KEYS))
)


def scopes_of(parts: dict[str, Completeness]) -> list[Scope]:
    people_scopes = [
        Scope(type_name="person", key_prefix=f"crm/{group}", completeness=completeness)
        for group, completeness in parts.items()
    ]
    return people_scopes + [s for s in complete_scopes() if s.type_name == "knows"]


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(full_batches, delta_batches), min_size=1, max_size=5))
def test_the_target_becomes_what_the_batches_say(batches: list) -> None:
    """Full batches replace their complete scopes, deltas upsert and delete; ends that do not exist are left out."""
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    entities: dict[str, int] = {}
    relationships: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder), clock) as bench:
        for mode, rows, pairs, more in batches:
            before = dict(entities)
            if mode is Mode.FULL:
                scopes = ScopeMap(scopes_of(more))
                gone = {
                    key
                    for key in set(before) - set(rows)
                    if scopes.complete_mask(Kind.ENTITY, "person", [key])[0]
                }
                entities = {k: v for k, v in before.items() if k not in gone} | rows
                relationships = {pair for pair in pairs if set(pair) <= set(entities)} | {
                    pair for pair in pairs if pair in relationships
                }
                still = {end for pair in relationships for end in pair}
                entities |= {key: before[key] for key in gone & still}
                landed = [person(k, v=v) for k, v in rows.items()]
                landed += [knows(*pair) for pair in sorted(pairs)]
                bench.land(landed, scopes=scopes_of(more))
            else:
                dead = more - set(rows)
                still = {end for pair in relationships for end in pair}
                entities = {k: v for k, v in before.items() if k not in dead - still} | rows
                landed = [person(k, v=v) for k, v in rows.items()]
                landed += [person(k, deleted=True) for k in sorted(dead)]
                bench.land(landed, mode=Mode.DELTA, scopes=[])
            report = bench.publish(guard_policy=ANYTHING)
            assert report.state.status is PublishStatus.COMPLETE, report.state.failure_details
            assert all(row.balanced for row in report.ledger)
            assert {key: text for (_, key), text in bench.target.entities.items()} == {
                key: f'{{"v":{v}}}' for key, v in entities.items()
            }
            assert {(a, b) for _, a, b in bench.target.relationships} == relationships
