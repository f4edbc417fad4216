"""Many workers on one control database: no batch twice, every lane in order, no dead worker in the way."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from threading import Barrier

import pytest

from penstock.errors import LeaseLost
from penstock.identity.ids import BatchId, SourceId
from penstock.ports.control import Claim
from penstock.publish.state import Move, PublishStatus
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    NOW,
    REGISTRY,
    admit,
    at,
    batch_id,
    claim,
    failure,
    finish,
    must_claim,
    start,
)

LANES, BATCHES, WORKERS = 4, 8, 5


def drain(url: str, worker: str) -> list[BatchId]:
    """Publish until nothing is left to publish; return what was claimed, in order."""
    store = SqlControlStore(url)
    open_statuses = [s for s in PublishStatus if s is not PublishStatus.COMPLETE]
    claimed: list[BatchId] = []
    while store.list_states(statuses=open_statuses, limit=1):
        mine = claim(store, worker)
        if mine is not None:
            claimed.append(mine.state.batch_id)
            finish(store, mine)
    store.close()
    return claimed


def _executor(kind: str) -> Executor:
    if kind == "threads":
        return ThreadPoolExecutor(WORKERS)
    return ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_every_batch_is_claimed_once_and_lanes_keep_their_order(
    control_store: SqlControlStore, control_url: str, kind: str
) -> None:
    """Workers that claim at once share the queue without a batch twice or a lane out of order."""
    for minute in reversed(range(BATCHES)):
        for number in range(LANES):
            admit(control_store, f"s{number}", minute)
    with _executor(kind) as pool:
        workers = [pool.submit(drain, control_url, f"w{n}") for n in range(WORKERS)]
        claimed = [batch for worker in workers for batch in worker.result(120)]
    expected = {batch_id(f"s{n}", minute) for n in range(LANES) for minute in range(BATCHES)}
    assert Counter(claimed) == Counter(expected)
    for number in range(LANES):
        source = SourceId(f"s{number}")
        head = control_store.snapshot_head(source, REGISTRY)
        # A batch out of its order would have been superseded, and its lane a version short.
        assert head is not None
        assert (head.version, head.source_timestamp) == (BATCHES, at(BATCHES - 1))


def test_one_of_many_takes_over_an_abandoned_batch(
    control_store: SqlControlStore, control_url: str
) -> None:
    """When a lease has run out, exactly one of those who come at once gets the batch."""
    admit(control_store, "a", 1)
    abandoned = must_claim(control_store, "dead")
    barrier = Barrier(WORKERS)

    def race(number: int) -> Claim | None:
        store = SqlControlStore(control_url)
        barrier.wait(30)
        taken = claim(store, f"w{number}", now=at(5))
        store.close()
        return taken

    with ThreadPoolExecutor(WORKERS) as pool:
        taken = [result for result in pool.map(race, range(WORKERS)) if result]
    assert len(taken) == 1
    assert taken[0].state.batch_id == abandoned.state.batch_id
    assert taken[0].fencing_token == abandoned.fencing_token + 1


def test_one_of_many_gets_a_new_batch(control_store: SqlControlStore, control_url: str) -> None:
    """A lane that has never been claimed has one winner too."""
    barrier = Barrier(WORKERS)
    admit(control_store, "a", 1)

    def race(number: int) -> Claim | None:
        store = SqlControlStore(control_url)
        barrier.wait(30)
        taken = claim(store, f"w{number}")
        store.close()
        return taken

    with ThreadPoolExecutor(WORKERS) as pool:
        taken = [result for result in pool.map(race, range(WORKERS)) if result]
    assert [t.fencing_token for t in taken] == [1]


def test_admitting_the_same_batch_at_once_admits_it_once(
    control_store: SqlControlStore, control_url: str
) -> None:
    """Two sensors that see one manifest admit one batch, whatever the order of their targets."""
    from tests.contracts.control_values import pending, record

    barrier = Barrier(WORKERS)
    batch = record("a", 1)
    states = [pending(batch, target) for target in ("registry", "warehouse", "feed")]

    def race(number: int) -> bool:
        store = SqlControlStore(control_url)
        barrier.wait(30)
        first = store.admit(batch, states[number % 3 :] + states[: number % 3])
        store.close()
        return first

    with ThreadPoolExecutor(WORKERS) as pool:
        admitted = list(pool.map(race, range(WORKERS)))
    assert sum(admitted) == 1
    assert len(control_store.list_states()) == 3


def test_of_a_takeover_and_a_completion_at_once_one_wins(
    control_store: SqlControlStore, control_url: str
) -> None:
    """Either the late worker completes and nothing is taken over, or it loses its lease."""
    for minute in range(6):
        admit(control_store, "a", minute)
        running = start(control_store, must_claim(control_store, "late", now=at(minute * 10)))
        barrier = Barrier(2)
        now = at(minute * 10 + 5)

        def complete(running: Claim = running, barrier: Barrier = barrier) -> bool:
            from tests.contracts.control_values import head_after

            store = SqlControlStore(control_url)
            head = head_after(store, running)
            barrier.wait(30)
            try:
                store.complete(running, now=NOW, changes={}, head=head, ledger=[])
            except LeaseLost:
                return False
            finally:
                store.close()
            return True

        with ThreadPoolExecutor(1) as pool:
            completed = pool.submit(complete)
            barrier.wait(30)
            taken = claim(control_store, "new", now=now)
        assert completed.result() == (taken is None)
        if taken is not None:
            details = {"failure_details": failure()}
            control_store.advance(taken, Move.FAIL, now=now, changes=details)
