"""Both targets against a dict that does what the promises say, one operation at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost
from penstock.identity.ids import SourceId
from penstock.ports.target import Applied, Target
from resources.control_db.engine import open_engine
from resources.control_db.schema import upgrade
from resources.targets.registry import open_registry
from resources.targets.sql_table import open_sql_table
from tests.unit.targets.chunks import CONTEXT, Change, chunk

KEYS = ("a", "b", "c", "d")
_numbers = count()

states = st.one_of(st.none(), st.integers(0, 2))
changes = st.tuples(states, states).filter(lambda pair: pair != (None, None))


@dataclass(frozen=True)
class Sent:
    """One chunk as it is sent: changes by key, from which snapshot it was planned, under which token."""

    changes: dict[str, tuple[int | None, int | None]]
    version: int
    token: int

    def operations(self) -> pa.Table:
        return chunk(
            [Change(key, _attributes(a), _attributes(b)) for key, (a, b) in self.changes.items()],
            version=self.version,
        )


def _attributes(state: int | None) -> dict[str, Any] | None:
    return None if state is None else {"n": state}


chunks = st.builds(
    Sent,
    changes=st.dictionaries(st.sampled_from(KEYS), changes, min_size=1),
    version=st.integers(0, 2),
    token=st.integers(1, 3),
)


@dataclass
class Model:
    """What a target holds of one source."""

    states: dict[str, int] = field(default_factory=dict)
    receipts: set[tuple[Any, ...]] = field(default_factory=set)
    token: int = 0

    def apply(self, sent: Sent) -> tuple[int, int, int] | None:
        """Return how many were applied, applied before and in conflict; None for a stale token."""
        if sent.token < self.token:
            return None
        self.token = sent.token
        counts = [0, 0, 0]
        for key, (before, after) in sent.changes.items():
            counts[self._apply(sent.version, key, before, after)] += 1
        return counts[0], counts[1], counts[2]

    def _apply(self, version: int, key: str, before: int | None, after: int | None) -> int:
        if (version, key, before, after) in self.receipts:
            return 1
        holds = self.states.get(key)
        if holds not in (before, after):
            return 2
        self.receipts.add((version, key, before, after))
        self.states.pop(key, None)
        if after is not None:
            self.states[key] = after
        return 0


def apply(target: Target, sent: Sent, source: SourceId) -> tuple[int, int, int] | None:
    context = replace(CONTEXT, source_id=source, fencing_token=sent.token)
    try:
        outcome = target.apply(sent.operations(), context)
    except LeaseLost:
        return None
    assert isinstance(outcome, Applied)
    return outcome.applied, outcome.already_applied, len(outcome.failures)


def held(target: Target, source: SourceId) -> dict[str, str]:
    keys = pa.table({"type_name": ["person"] * len(KEYS), "key": list(KEYS)})
    answer = target.read_back(source, Kind.ENTITY, keys)["attributes"].to_pylist()
    return {key: text for key, text in zip(KEYS, answer, strict=True) if text is not None}


OPENERS: dict[str, Callable[[Any], Target]] = {
    "registry": open_registry,
    "sql_table": lambda engine: open_sql_table(engine, "tables"),
}


@pytest.mark.parametrize("name", OPENERS)
def test_targets_do_what_the_model_does(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any chunks, right, wrong, repeated or stale, leave a target with what the model holds and the same counts."""
    folder: Path = tmp_path_factory.mktemp("model")
    url = f"sqlite:///{folder}/control.db"
    upgrade(url)
    engine = open_engine(url)
    target = OPENERS[name](engine)
    target.prepare()

    @settings(max_examples=60, deadline=None)
    @given(st.lists(chunks, max_size=8))
    def check(sequence: list[Sent]) -> None:
        source = SourceId(
            f"s{next(_numbers)}"
        )  # operation ids are unique over sources, as batches are
        offset = next(_numbers) * 10
        model = Model()
        for sent in (replace(s, version=s.version + offset) for s in sequence):
            assert apply(target, sent, source) == model.apply(sent)
            expected = {key: f'{{"n":{state}}}' for key, state in model.states.items()}
            assert held(target, source) == expected

    check()
    engine.dispose()
