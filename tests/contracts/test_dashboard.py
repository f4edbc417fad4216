"""What the dashboard asks the control database, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from penstock.batch.source import SourceSpec
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.approvals import Approval, ApprovalStatus, Decision
from penstock.ports.attempts import PublishAttempt
from penstock.ports.dashboard import DashboardViews
from penstock.ports.dead_letters import LetterFilter
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.dead_letters import LetterEvent, LetterStatus
from penstock.publish.retry import Tier
from penstock.publish.state import Move, PublishMetrics, PublishStatus
from resources.control_db.dashboard import SqlDashboard
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    REGISTRY,
    admit,
    at,
    exception,
    failure,
    finish,
    head_after,
    must_claim,
    record,
    start,
)

A, B = TenantId("a"), TenantId("b")
EVERYTHING = LetterFilter()


@pytest.fixture
def views(control_store: SqlControlStore) -> DashboardViews:
    return SqlDashboard.from_engine(control_store.engine)


def _publish(
    store: SqlControlStore, source: str, minute: float, *, took_min: float, **changes: int
) -> BatchId:
    """Publish a batch of tenant ``a``, so long after its admission, which was at NOW."""
    batch = admit(store, source, minute, tenant_id=A)
    claimed = must_claim(store, now=NOW)
    changed = {"entities_created": 5, "execution_time_ms": 40, **changes}
    finish(store, claimed, now=at(took_min), metrics=PublishMetrics(**changed))
    return batch


def test_what_is_on_its_way_is_counted_by_tenant(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """What waits and what is in hand is counted, what is COMPLETE is not, and another tenant's is not there."""
    _publish(control_store, "x", 0, took_min=1)
    admit(control_store, "x", 1, tenant_id=A)
    admit(control_store, "y", 1, tenant_id=B)
    must_claim(control_store)
    everything = views.counts(None)
    assert (everything[PublishStatus.PENDING], everything[PublishStatus.PLANNING]) == (1, 1)
    assert sum(views.counts(A).values()) == sum(views.counts(B).values()) == 1
    assert PublishStatus.COMPLETE not in everything


def test_what_is_in_hand_is_shown_with_its_progress(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """Chunks that have ended count, those that were begun do not; whose lease has ended has no worker."""
    admit(control_store, "x", 0, tenant_id=A)
    running = start(control_store, must_claim(control_store))
    control_store.start_chunk(running, 0, 4, now=NOW)
    control_store.finish_chunk(running, 0, applied=4, already_applied=0, exceptions=[], now=NOW)
    control_store.start_chunk(running, 1, 3, now=NOW)
    (moving,) = views.moving(A, now=NOW, limit=5)
    assert (moving.state.status, moving.worker_id, moving.done) == (
        PublishStatus.EXECUTING,
        "w1",
        4,
    )
    (left,) = views.moving(None, now=at(60), limit=5, batch=running.state.batch_id)
    assert left.worker_id is None
    assert views.moving(B, now=NOW, limit=5) == []


def test_holds_are_shown_while_somebody_can_decide(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """A hold is there until it is rejected, or a newer full batch has planned it again."""
    first = _with_hold(control_store, 0)
    assert [state.batch_id for state in views.live_holds(A, limit=5)] == [first]
    assert views.live_holds(B, limit=5) == []
    second = _with_hold(control_store, 1)
    assert [state.batch_id for state in views.live_holds(None, limit=5)] == [second]
    rejected = Approval(
        approval_id="1" * 32,
        batch_id=second,
        target_id=REGISTRY,
        source_id=SourceId("x"),
        plan_digest=DIGEST,
        decision=Decision.REJECT,
        approver="ada",
        reason="no",
        decided_at=NOW,
        expires_at=None,
        status=ApprovalStatus.REJECTED,
        settled_at=NOW,
    )
    control_store.decide_hold(rejected, now=NOW)
    assert views.live_holds(None, limit=5) == []


def _with_hold(store: SqlControlStore, minute: float) -> BatchId:
    batch = admit(store, "x", minute, tenant_id=A)
    claimed = must_claim(store, now=NOW)
    running = start(store, claimed)
    held = exception(1, outcome="held", code="held_by_guard", guard="deletes")
    store.record_exceptions(running, [held], now=NOW)
    state = store.complete(running, now=NOW, changes={}, head=head_after(store, claimed), ledger=[])
    assert state.held == 1
    return batch


def test_stretches_count_what_ended_and_how_long_it_took(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """By stretch of time: published, failed, operations, and percentiles that were measured; no stretch for nothing."""
    for minute, took in enumerate((1, 2, 3, 4, 100)):
        _publish(control_store, "x", minute, took_min=took)
    admit(control_store, "x", 9, tenant_id=A)
    lost = must_claim(control_store, now=at(100))
    control_store.advance(lost, Move.FAIL, now=at(101), changes={"failure_details": failure()})
    found = views.stretches(A, since=NOW, until=at(120), step_s=3600)
    assert [(s.begins_at, s.published, s.failed, s.operations) for s in found] == [
        (NOW, 4, 0, 20),
        (at(60), 1, 1, 5),
    ]
    assert (found[0].p50_s, found[0].p90_s) == (120.0, 240.0)
    assert found[1].p50_s == 6000.0
    assert views.stretches(B, since=NOW, until=at(120), step_s=3600) == []
    assert views.stretches(A, since=NOW, until=at(60), step_s=3600) == found[:1]


def test_sources_have_a_record(control_store: SqlControlStore, views: DashboardViews) -> None:
    """Published, failed and tried again, with percentiles of the latency; a batch tried twice counts once."""
    for minute in range(10):
        _publish(control_store, "x", minute, took_min=minute + 1)
    batch = admit(control_store, "y", 0, tenant_id=B)
    claimed = must_claim(control_store)
    for n in (1, 2):
        tried = PublishAttempt(
            tier=Tier.FIRST,
            worker_id="w1",
            enqueued_at=NOW,
            started_at=NOW,
            failed_at=at(n),
            step="execute",
            code="boom",
            message="no",
            retry_at=at(n),
        )
        changes = {"failure_details": failure(), "retry_due_at": at(n)}
        control_store.advance(claimed, Move.POSTPONE, now=at(n), changes=changes, attempt=tried)
        claimed = must_claim(control_store, now=at(n))
    metrics = PublishMetrics(entities_updated=7, relationships_deleted=1)
    finish(control_store, claimed, now=at(5), metrics=metrics)
    x, y = views.source_records(None, since=NOW)
    assert (x.source_id, x.published, x.failed, x.retried, x.operations) == ("x", 10, 0, 0, 50)
    assert (x.p50_s, x.p90_s, x.p99_s) == (300.0, 540.0, 600.0)
    assert (y.published, y.retried, y.operations, y.p50_s) == (1, 1, 8, 300.0)
    assert [r.source_id for r in views.source_records(B, since=NOW)] == ["y"]
    assert views.source_records(A, source=SourceId("y"), since=NOW) == []
    (one,) = views.weighed(B, since=NOW, limit=9)
    assert (one.batch_id, one.operations) == (batch, 8)
    assert len(views.weighed(None, source=SourceId("x"), since=NOW, limit=3)) == 3


def test_states_go_on_where_a_page_ended(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """Newest first, two targets of a batch apart, nothing twice and nothing left out."""
    for minute in range(3):
        admit(control_store, "x", minute, tenant_id=A, targets=("one", "two"))
    seen, after = [], None
    while page := views.states_page(A, limit=4, after=after):
        seen += [(state.source_timestamp, state.target_id) for state in page]
        after = (page[-1].source_timestamp, page[-1].batch_id, page[-1].target_id)
    assert seen == [(at(m), t) for m in (2, 1, 0) for t in ("one", "two")]
    assert views.states_page(B, limit=4) == []
    assert views.states_page(A, source=SourceId("y"), limit=4) == []
    assert views.states_page(A, statuses=[PublishStatus.FAILED], limit=4) == []


def test_dead_letters_are_their_tenants(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """Of a tenant's batch, or of what claims to be of its source; others' are neither listed nor counted."""
    spec = SourceSpec(source_id=SourceId("y"), targets=(TargetId("registry"),), tenant_id=B)
    control_store.sync_sources([spec])
    batch = _of_tenant(control_store, "x", A)
    letters = {}
    for n, (tenant, fields) in enumerate(
        [
            (A, {"source_id": "x", "batch_id": batch}),
            (B, {"source_id": "y"}),
            (None, {"source_id": "?"}),
        ]
    ):
        letters[tenant] = control_store.record_dead_letter(
            subject=f"s{n}", where="landing", code="bad_row", message="a row", now=at(n), **fields
        )
    for tenant in (A, B):
        mine = views.letters_page(tenant, EVERYTHING, limit=9)
        assert [each.dead_letter_id for each in mine] == [letters[tenant].dead_letter_id]
        (group,) = views.letter_groups(tenant, EVERYTHING, limit=9)
        assert group.letters == 1
        assert [t for t, each in letters.items() if views.owns_letter(tenant, each)] == [tenant]
    first, *_ = everything = views.letters_page(None, EVERYTHING, limit=9)
    assert len(everything) == 3
    assert views.letters_page(None, EVERYTHING, after=first, limit=9) == everything[1:]
    (group,) = views.letter_groups(None, LetterFilter(status=LetterStatus.OPEN), limit=9)
    assert group.letters == 3


def _of_tenant(store: SqlControlStore, source: str, tenant: TenantId) -> BatchId:
    admitted = record(source, 0)
    manifest = admitted.manifest.model_copy(update={"tenant_id": tenant})
    assert store.admit(replace(admitted, manifest=manifest), [])
    return manifest.batch_id


def test_the_pulse_beats_when_something_happens(
    control_store: SqlControlStore, views: DashboardViews
) -> None:
    """What changes the queue, a chunk, a letter, a breaker or a pause changes a mark; looking changes none."""
    before = views.pulse(None)

    def changed() -> set[str]:
        nonlocal before
        was, before = before, views.pulse(None)
        assert views.pulse(None) == before
        return {topic for topic in before if before[topic] != was[topic]}

    admit(control_store, "x", 0, tenant_id=A)
    assert changed() == {"queue"}
    assert views.pulse(B) == views.pulse(TenantId("c"))
    running = start(control_store, must_claim(control_store))
    assert changed() == {"queue"}
    control_store.start_chunk(running, 0, 4, now=NOW)
    assert changed() == set()
    control_store.finish_chunk(running, 0, applied=4, already_applied=0, exceptions=[], now=NOW)
    assert changed() == {"progress"}
    letter = control_store.record_dead_letter(
        subject="s", where="w", source_id="x", code="bad_row", message="m", now=NOW
    )
    assert changed() == {"letters"}
    paused = Pause(
        scope=PauseScope.SOURCE, scope_id="x", paused_at=NOW, paused_by="ada", reason="why"
    )
    control_store.pause(paused)
    assert changed() == {"targets"}
    control_store.move_letters([letter.dead_letter_id], LetterEvent.DISCARDED, now=at(1))
    assert "letters" in changed()


def test_what_operators_look_at_all_the_time_has_an_index(
    new_control_url: Callable[[str], str],
) -> None:
    """Holds and open letters are found without going through all that ever was."""
    store = SqlControlStore(new_control_url("sqlite"))
    asked: list[tuple[str, Any]] = []
    event.listen(
        store.engine, "before_cursor_execute", lambda *said: asked.append((said[2], said[3]))
    )
    views = SqlDashboard.from_engine(store.engine)
    views.live_holds(A, limit=5)
    views.letters_page(None, LetterFilter(status=LetterStatus.OPEN), limit=5)
    plans = []
    with store.engine.connect() as connection:
        for sql, values in asked:
            if sql.startswith("SELECT"):
                found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
                plans.append(" ".join(row[-1] for row in found))
    assert len(plans) == 2
    assert "ix_publish_state_held" in plans[0]
    assert "ix_dead_letter_status_recorded_at" in plans[1]
    store.close()
