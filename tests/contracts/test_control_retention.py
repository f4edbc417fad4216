"""Forgetting batches on SQLite and PostgreSQL: all that is recorded of one, or nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from penstock.errors import NotFound
from penstock.identity.ids import SourceId
from penstock.publish.state import Intent
from resources.control_db.store import SqlControlStore
from resources.control_db.tables import metadata
from tests.contracts.control_values import (
    NOW,
    REGISTRY,
    admit,
    at,
    exception,
    fail,
    head_after,
    must_claim,
    publish,
    start,
)

A = SourceId("a")
OUTLIVE = {"audit_entry", "dead_letter", "dead_letter_event"}


def nothing() -> None:
    """Delete no object."""


def published(store: SqlControlStore, minute: float) -> str:
    """Publish a batch that leaves something in most tables."""
    batch = admit(store, "a", minute)
    running = start(store, must_claim(store))
    store.start_chunk(running, 0, 1, now=NOW)
    store.finish_chunk(
        running,
        0,
        applied=1,
        already_applied=0,
        exceptions=[exception(1, outcome="held")],
        now=NOW,
    )
    store.complete(running, now=NOW, changes={}, head=head_after(store, running), ledger=[])
    return batch


def rows_of(store: SqlControlStore, batch: str) -> dict[str, int]:
    """Count the rows of each table that name a batch."""
    counted = {}
    with store.engine.connect() as connection:
        for table in metadata.sorted_tables:
            if "batch_id" in table.c and table.name not in {*OUTLIVE, "lane", "snapshot"}:
                query = select(func.count()).select_from(table).where(table.c.batch_id == batch)
                counted[table.name] = connection.execute(query).scalar_one()
    return counted


def versions(store: SqlControlStore) -> dict:
    return {(head.source_id, head.target_id): head.version for head in store.snapshot_heads()}


def test_nothing_that_names_a_batch_is_left(control_store: SqlControlStore) -> None:
    """Every table that has rows of the batch is emptied of them, and of no other batch's."""
    first, second = published(control_store, 1), published(control_store, 2)
    assert sum(rows_of(control_store, first).values()) > 3
    before = rows_of(control_store, second)
    called = []
    assert control_store.forget_batch(first, versions(control_store), lambda: called.append(1))  # type: ignore[arg-type]
    assert called == [1]
    assert set(rows_of(control_store, first).values()) == {0}
    assert rows_of(control_store, second) == before
    with pytest.raises(NotFound):
        control_store.get_batch(first)  # type: ignore[arg-type]
    assert [b.batch_id for b in control_store.kept_batches()] == [second]


def test_what_moved_since_is_not_forgotten(control_store: SqlControlStore) -> None:
    """A decision made by another snapshot, or about a batch that is on its way again, does not hold."""
    first = admit(control_store, "a", 1)
    publish(control_store)
    seen = versions(control_store)
    admit(control_store, "a", 2)
    publish(control_store)
    assert not control_store.forget_batch(first, seen, nothing)
    control_store.requeue(first, REGISTRY, now=at(3), intent=Intent.REPUBLISH)
    assert not control_store.forget_batch(first, versions(control_store), nothing)
    assert control_store.get_batch(first).manifest.batch_id == first


def test_an_open_letter_keeps_its_batch(control_store: SqlControlStore) -> None:
    """One that was recorded after the decision is seen under the lock."""
    batch = admit(control_store, "a", 1)
    fail(control_store, must_claim(control_store))
    assert control_store.batches_in_letters() == set()
    control_store.record_dead_letter(
        subject=batch,
        where="plan",
        source_id="a",
        code="bad",
        message="m",
        now=NOW,
        batch_id=batch,
        target_id=REGISTRY,
    )
    assert control_store.batches_in_letters() == {batch}
    assert not control_store.forget_batch(batch, versions(control_store), nothing)


def test_an_error_takes_all_back(control_store: SqlControlStore) -> None:
    """Where the objects cannot be deleted, the records stay."""
    batch = published(control_store, 1)
    before = rows_of(control_store, batch)

    def fails() -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        control_store.forget_batch(batch, versions(control_store), fails)  # type: ignore[arg-type]
    assert rows_of(control_store, batch) == before


def test_kept_batches_have_their_states(control_store: SqlControlStore) -> None:
    """Each batch comes once, with a state for each of its targets."""
    batch = admit(control_store, "a", 1, targets=("registry", "other"))
    (found,) = control_store.kept_batches()
    assert (found.batch_id, found.source_id, found.source_timestamp) == (batch, A, at(1))
    assert {state.target_id for state in found.states} == {"registry", "other"}
