"""Circuit breakers on SQLite and PostgreSQL: shared by all workers, and counted one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from penstock.ports.audit_log import AuditEntry
from penstock.publish.breaker import BREAKER_OPEN, BreakerPolicy, BreakerState, BreakerStatus
from penstock.publish.state import Move
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, REGISTRY, admit, at, failure, must_claim

POLICY = BreakerPolicy(min_calls=4, failure_rate=0.5, open_s=30, window_s=60)


def test_a_breaker_that_was_never_called_is_closed(control_store: SqlControlStore) -> None:
    """Nothing is recorded by looking."""
    assert control_store.get_breaker(REGISTRY, now=NOW).status is BreakerStatus.CLOSED
    assert control_store.list_breakers() == []


def test_it_opens_is_kept_and_is_reset(control_store: SqlControlStore) -> None:
    """Failures open it, with the last error; it is read back as it was left, and an operator closes it."""
    opened = control_store.record_calls(
        REGISTRY, successes=1, failures=3, now=NOW, policy=POLICY, error="down\0"
    )
    assert opened.status is BreakerStatus.OPEN
    (kept,) = control_store.list_breakers()
    assert kept.open_until == at(0.5)
    assert kept.last_error == "down\ufffd"
    assert kept.status_at(at(1)) is BreakerStatus.HALF_OPEN
    assert control_store.reset_breaker(REGISTRY, now=at(1)) == (
        BreakerState.closed(REGISTRY, at(1)),
        0,
    )
    assert control_store.get_breaker(REGISTRY, now=at(1)).status is BreakerStatus.CLOSED


def test_calls_of_many_workers_all_count(control_store: SqlControlStore) -> None:
    """Workers that record at once lose no call of another."""
    policy = BreakerPolicy(min_calls=1000)

    def record(_number: int) -> None:
        control_store.record_calls(REGISTRY, successes=1, failures=1, now=NOW, policy=policy)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(40)))
    state = control_store.get_breaker(REGISTRY, now=NOW)
    assert (state.calls, state.failures) == (80, 40)


def test_a_reset_wakes_what_was_put_off(control_store: SqlControlStore) -> None:
    """What waits for the breaker is due at once, and nothing else is; the act is in the audit log with it."""
    for source, code, target in (
        ("a", BREAKER_OPEN, "registry"),
        ("b", "target_unavailable", "registry"),
        ("c", BREAKER_OPEN, "other"),
    ):
        admit(control_store, source, 1, targets=[target])
        details = {"retry_due_at": at(60), "failure_details": failure(code)}
        control_store.advance(must_claim(control_store), Move.POSTPONE, now=NOW, changes=details)
    control_store.record_calls(REGISTRY, successes=0, failures=9, now=NOW, policy=POLICY)
    act = AuditEntry(at=at(1), actor="ann", act="breaker.reset", subject=REGISTRY)
    _, woken = control_store.reset_breaker(REGISTRY, now=at(1), act=act)
    assert woken == 1
    due = {state.source_id: state.retry_due_at for state in control_store.list_states()}
    assert due == {"a": at(1), "b": at(60), "c": at(60)}
    assert control_store.list_acts() == [act]
