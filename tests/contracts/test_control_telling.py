"""What the control database tells: each fact once, in the transaction that makes it, on both databases."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import text

from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, LeaseLost
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.pauses import Pause, PauseScope
from penstock.ports.tracing import trace_parent_of
from penstock.publish.breaker import BreakerPolicy
from penstock.publish.dead_letters import LetterEvent
from penstock.publish.state import Intent, Move
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    NOW,
    REGISTRY,
    admit,
    at,
    claim,
    exception,
    fail,
    failure,
    finish,
    head_after,
    must_claim,
    pending,
    publish,
    start,
)
from tests.contracts.control_values import record as batch_record
from tests.contracts.event_values import told, types
from tests.contracts.test_control_approvals import decision
from tests.contracts.test_control_dead_letters import correction, publish_with, record


def act(name: str) -> AuditEntry:
    """What kim did."""
    return AuditEntry(at=NOW, actor="kim", act=name, subject="a", reason="it is moved")


def test_a_batch_is_told_of_from_landing_to_publishing(control_store: SqlControlStore) -> None:
    """A batch that lands and is published is two events about it; landing again is none."""
    batch = admit(control_store, "a", 1)
    publish(control_store)
    landed, published = told(control_store)
    assert (landed.type, published.type) == ("batch_landed", "batch_published")
    assert landed.subject == published.subject == batch
    assert landed.data["targets"] == ["registry"]
    assert published.data["intent"] == "publish"
    assert landed.event_id != published.event_id


def test_what_is_told_of_a_batch_is_in_its_trace(control_store: SqlControlStore) -> None:
    """In the one that it came with; of a batch that came with none, in the one that follows from its id."""
    traced = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    of = batch_record("a", 1)
    batch = replace(of, manifest=of.manifest.model_copy(update={"trace_parent": traced}))
    assert control_store.admit(batch, [pending(batch, trace_parent=traced)])
    publish(control_store)
    control_store.requeue(batch.manifest.batch_id, REGISTRY, now=NOW, intent=Intent.REPUBLISH)
    fail(control_store, must_claim(control_store))
    (state,) = control_store.list_states(batch=batch.manifest.batch_id)
    assert state.trace_parent == traced
    events = told(control_store)
    assert {event.trace_parent for event in events} == {traced}
    assert {"batch_landed", "batch_published", "batch_failed"} <= {event.type for event in events}
    other = admit(control_store, "b", 1)
    publish(control_store)
    assert {e.trace_parent for e in told(control_store) if e.subject == other} == {
        trace_parent_of(other)
    }


def test_a_worker_that_lost_its_lane_tells_nothing(control_store: SqlControlStore) -> None:
    """That its lease was lost is told once, by who took over; what is refused by the token leaves no event."""
    admit(control_store, "a", 1)
    stale = start(control_store, must_claim(control_store))
    fresh = must_claim(control_store, "w2", now=at(5))
    with pytest.raises(LeaseLost):
        finish(control_store, stale)
    assert types(control_store) == ["batch_landed", "lease_lost"]
    finish(control_store, fresh)
    assert types(control_store) == ["batch_landed", "lease_lost", "batch_published"]
    lost = told(control_store)[1]
    assert (lost.data["lost_by"], lost.data["taken_by"]) == ("w1", "w2")


def test_what_fails_is_told_with_its_letter(control_store: SqlControlStore) -> None:
    """A batch that is put off tells when it is due again, one that is given up tells why, without what is quoted."""
    admit(control_store, "a", 1)
    changes = {"failure_details": failure(), "retry_due_at": at(2)}
    control_store.advance(must_claim(control_store), Move.POSTPONE, now=NOW, changes=changes)
    quoted = failure("bad").model_copy(update={"error_message": "no entity 'secret name' of 12"})
    again = must_claim(control_store, now=at(3))
    control_store.advance(again, Move.FAIL, now=at(3), changes={"failure_details": quoted})
    _, postponed, failed = told(control_store)
    assert (postponed.type, postponed.data["error_code"]) == ("batch_postponed", "boom")
    assert postponed.data["retry_at"] == "2026-01-01T12:02:00Z"
    assert (failed.type, failed.data["message"]) == ("batch_failed", "no entity '...' of #")


def test_a_flood_of_letters_is_one_event_for_each_cause(control_store: SqlControlStore) -> None:
    """However many operations of a batch fail, there is one event for each cause, with its count."""
    bad = [exception(n) for n in range(1, 700)] + [exception(999, code="other")]
    batch = publish_with(control_store, bad)
    letters = [e for e in told(control_store) if e.type == "dead_letter_created"]
    assert sorted((e.data["letters"], e.data["code"]) for e in letters) == [
        (1, "other"),
        (699, "bad_value"),
    ]
    assert {e.data["batch_id"] for e in letters} == {batch}


def test_letters_of_a_retry_are_told_when_the_batch_settles(control_store: SqlControlStore) -> None:
    """A batch that recorded letters and was put off tells of them once, at its end."""
    admit(control_store, "a", 1)
    running = start(control_store, must_claim(control_store))
    control_store.start_chunk(running, 0, 1, now=NOW)
    control_store.finish_chunk(
        running, 0, applied=0, already_applied=0, exceptions=[exception(1)], now=NOW
    )
    changes = {"failure_details": failure(), "retry_due_at": NOW}
    control_store.advance(running, Move.POSTPONE, now=NOW, changes=changes)
    assert "dead_letter_created" not in types(control_store)
    finish(control_store, must_claim(control_store))
    assert types(control_store).count("dead_letter_created") == 1


def test_settled_letters_are_told_by_cause(control_store: SqlControlStore) -> None:
    """What somebody discards, and what a newer full batch decides anew, is told with its count."""
    publish_with(control_store, [exception(n) for n in range(1, 4)])
    letters = control_store.list_dead_letters()
    one = [letters[0].dead_letter_id]
    control_store.move_letters(one, LetterEvent.DISCARDED, now=at(1), actor="kim")
    publish_with(control_store, [], minute=2)
    settled = [e.data for e in told(control_store) if e.type == "dead_letter_settled"]
    said = [(e["outcome"], e["letters"], e["settled_by"]) for e in settled]
    assert said == [("discarded", 1, "kim"), ("superseded", 2, None)]


def test_letters_on_their_way_again_are_told_with_what_carries_them(
    control_store: SqlControlStore,
) -> None:
    """A correction tells of all that it carries as one event for each cause, and who asked; what is settled is not."""
    batch = publish_with(control_store, [exception(n) for n in range(700)], mode="delta")
    letters = [x.dead_letter_id for x in control_store.list_dead_letters(limit=1000)]
    control_store.move_letters(letters[:1], LetterEvent.DISCARDED, now=at(1), actor="kim")
    of = correction(control_store, 2, dead_letter_ids=tuple(letters))
    assert control_store.admit(of, [pending(of)])
    assert not control_store.admit(of, [pending(of)])
    (event,) = [e.data for e in told(control_store) if e.type == "dead_letter_requeued"]
    assert (event["letters"], event["batch_id"], event["mended"]) == (699, batch, False)
    assert (event["carried_by"], event["requeued_by"]) == (of.manifest.batch_id, "ada")


def test_what_was_mended_is_told_as_such(control_store: SqlControlStore) -> None:
    """A letter that goes with other data than it failed with says so; overtaken on its way, it is told of anew."""
    publish_with(control_store, [exception(1)], mode="delta")
    publish_with(control_store, [], minute=5, mode="delta")
    (letter,) = control_store.list_dead_letters()
    of = correction(control_store, 2, dead_letter_ids=(letter.dead_letter_id,), mended='{"n":2}')
    control_store.admit(of, [pending(of)])
    assert claim(control_store, now=at(6)) is None
    *_, requeued, landed, failed, created = told(control_store)
    assert (requeued.type, requeued.data["mended"]) == ("dead_letter_requeued", True)
    assert (landed.type, failed.type) == ("batch_landed", "batch_failed")
    assert (created.type, created.subject) == ("dead_letter_created", letter.fingerprint)


def test_a_batch_back_in_the_queue_is_told_with_its_letter(control_store: SqlControlStore) -> None:
    """Its letter goes with it: both say so at once, with who asked, and neither where the requeue is refused."""
    batch = admit(control_store, "a", 1)
    control_store.cancel(batch, REGISTRY, now=NOW, message="not now")
    record(control_store, batch, code="cancelled", batch_id=batch, target_id="registry")
    for _ in range(2):
        with suppress(IllegalMove):
            control_store.requeue(
                batch, REGISTRY, now=at(2), intent=Intent.PUBLISH, act=act("batch.requeue")
            )
    back, letter = told(control_store)[-2:]
    assert (back.type, back.subject, back.data["intent"]) == ("batch_requeued", batch, "publish")
    assert letter.type == "dead_letter_requeued"
    assert (letter.data["carried_by"], letter.data["letters"]) == (batch, 1)
    assert back.data["requeued_by"] == letter.data["requeued_by"] == "kim"


def test_what_was_never_a_batch_is_told_when_it_is_looked_at_again(
    control_store: SqlControlStore,
) -> None:
    """A letter without a batch goes on its way with none, and is told anew when it fails again."""
    letter = record(control_store, "batches/x/_manifest.json")
    ids = [letter.dead_letter_id]
    control_store.move_letters(ids, LetterEvent.REQUEUED, now=at(1), actor="kim")
    record(control_store, "batches/x/_manifest.json", 2)
    created, requeued, again = told(control_store)
    assert (requeued.type, requeued.data["carried_by"]) == ("dead_letter_requeued", None)
    assert created.type == again.type == "dead_letter_created"


def test_a_broken_manifest_is_told_once(control_store: SqlControlStore) -> None:
    """A letter that is recorded again while it is open tells nothing new."""
    for minute in (0, 1, 2):
        record(control_store, "batches/x/_manifest.json", minute, source_id="no slug!")
    (event,) = told(control_store)
    assert (event.type, event.tenant_id) == ("dead_letter_created", "default")


def test_holds_and_decisions_are_told(control_store: SqlControlStore) -> None:
    """A plan with held operations is told of once with its guards, and so is what somebody decides."""
    batch = admit(control_store, "a", 1)
    running = start(control_store, must_claim(control_store))
    held = [exception(n, outcome="held", guard="mass_delete") for n in (1, 2)]
    control_store.record_exceptions(running, held, now=NOW)
    head = head_after(control_store, running)
    control_store.complete(running, now=NOW, changes={}, head=head, ledger=[])
    control_store.decide_hold(decision(batch), now=NOW, act=act("hold.approve"))
    finish(control_store, must_claim(control_store, now=at(1)), now=at(1))
    kinds = types(control_store)
    assert kinds == [
        "batch_landed",
        "batch_published",
        "plan_held",
        "hold_decided",
        "batch_requeued",
        "batch_published",
    ]
    events = told(control_store)
    assert events[2].data["guards"] == {"mass_delete": 2}
    assert events[3].data["decided_by"] == "operator 0"
    assert events[4].data["requeued_by"] == "operator 0"
    assert events[4].data["intent"] == events[5].data["intent"] == "release"


def test_what_is_cancelled_or_overtaken_has_failed(control_store: SqlControlStore) -> None:
    """A batch that an operator takes out of the queue, and one that a newer one overtook, is told as failed."""
    first = admit(control_store, "a", 1)
    control_store.cancel(first, REGISTRY, now=NOW, message="not wanted")
    admit(control_store, "a", 5)
    publish(control_store)
    late = admit(control_store, "a", 3)
    assert claim(control_store) is None
    failed = [e for e in told(control_store) if e.type == "batch_failed"]
    said = [(e.subject, e.data["error_code"]) for e in failed]
    assert said == [(first, "cancelled"), (late, "superseded_by_newer")]


def test_publishing_again_is_told_again(control_store: SqlControlStore) -> None:
    """Each time that a batch is published is a fact of its own."""
    batch = admit(control_store, "a", 1)
    publish(control_store)
    control_store.requeue(batch, REGISTRY, now=NOW, intent=Intent.REPUBLISH)
    publish(control_store)
    assert types(control_store).count("batch_published") == 2


def test_a_breaker_tells_when_it_opens_and_closes(control_store: SqlControlStore) -> None:
    """Calls that leave a breaker as it is tell nothing; those who run the platform are told of the rest."""
    policy = BreakerPolicy(min_calls=2)
    calls = {"now": NOW, "policy": policy}
    control_store.record_calls(REGISTRY, successes=1, failures=0, **calls)
    control_store.record_calls(REGISTRY, successes=0, failures=3, **calls)
    control_store.record_calls(REGISTRY, successes=0, failures=3, **calls)
    control_store.reset_breaker(REGISTRY, now=NOW, act=act("breaker.reset"))
    control_store.reset_breaker(REGISTRY, now=NOW, act=act("breaker.reset"))
    opened, closed = told(control_store)
    assert (opened.type, closed.type) == ("breaker_opened", "breaker_closed")
    assert closed.data["closed_by"] == "kim"
    assert opened.tenant_id == "*"


def test_pauses_are_told_to_whom_they_concern(control_store: SqlControlStore) -> None:
    """A source's pause is its tenant's, a target's the platform's; pausing what is paused tells nothing."""
    spec = SourceSpec(source_id=SourceId("a"), tenant_id=TenantId("acme"), targets=(REGISTRY,))
    control_store.sync_sources([spec])
    for scope, name in ((PauseScope.SOURCE, "a"), (PauseScope.TARGET, "registry")):
        pause = Pause(scope=scope, scope_id=name, paused_at=NOW, paused_by="kim", reason="moved")
        for _ in range(2):
            control_store.pause(pause, act=act("pause"))
        control_store.resume(scope, name, act=act("resume"))
    said = [(e.type, e.tenant_id) for e in told(control_store)]
    assert said == [
        ("source_paused", "acme"),
        ("source_resumed", "acme"),
        ("target_paused", "*"),
        ("target_resumed", "*"),
    ]


def test_what_is_taken_back_is_not_told(control_store: SqlControlStore) -> None:
    """A transaction that fails after the fact leaves neither fact nor event."""
    admit(control_store, "a", 1)
    running = start(control_store, must_claim(control_store))
    with control_store.engine.begin() as connection:
        connection.execute(text("DROP TABLE audit_entry"))
    with pytest.raises(Exception, match="audit_entry"):
        control_store.pause(
            Pause(
                scope=PauseScope.SOURCE, scope_id="a", paused_at=NOW, paused_by="kim", reason="x"
            ),
            act=act("pause"),
        )
    assert control_store.list_pauses() == []
    assert types(control_store) == ["batch_landed"]
    fail(control_store, running)
    assert types(control_store)[-1] == "batch_failed"
