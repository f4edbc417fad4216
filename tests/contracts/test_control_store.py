"""Every control store keeps sources, batches, publish states, progress and dead letters to the same words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from penstock.batch.rows import Kind
from penstock.batch.source import SourceSpec
from penstock.errors import IllegalMove, LeaseLost, NotFound, PenstockError, UndeclaredSource
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.ledger import LedgerRow
from penstock.publish.state import Intent, Move, PublishMetrics, PublishStatus
from resources.control_db.store import SqlControlStore
from resources.control_db.tables import source as sources
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    POLICY,
    REGISTRY,
    admit,
    at,
    batch_id,
    claim,
    exception,
    fail,
    failure,
    finish,
    head_after,
    must_claim,
    pending,
    publish,
    record,
    start,
)


class TestSources:
    def test_declarations_come_back_as_they_were_given(
        self, control_store: SqlControlStore
    ) -> None:
        """What was declared is what is read."""
        spec = SourceSpec(
            source_id=SourceId("crm"),
            importance=0.75,
            complexity=0.25,
            cadence_s=900,
            sla_s=3600,
            targets=(REGISTRY, TargetId("warehouse")),
            description="Customers, all of them: ä ß",
        )
        control_store.sync_sources([spec])
        assert control_store.get_source(SourceId("crm")) == spec

    def test_what_is_no_longer_declared_is_not_listed(self, control_store: SqlControlStore) -> None:
        """A source that left the code is undeclared, and declared again when it comes back."""
        a, b = SourceSpec(source_id=SourceId("a")), SourceSpec(source_id=SourceId("b"))
        control_store.sync_sources([b, a])
        control_store.sync_sources([b])
        assert control_store.list_sources() == [b]
        with pytest.raises(UndeclaredSource, match="'a' is no longer declared"):
            control_store.get_source(SourceId("a"))
        control_store.sync_sources([b, a])
        assert control_store.list_sources() == [a, b]

    def test_an_unknown_source_is_an_error_that_says_what_to_do(
        self, control_store: SqlControlStore
    ) -> None:
        """The error names the source and the file to declare it in."""
        with pytest.raises(UndeclaredSource, match=r"'nope' was never .* platform_assets/sources"):
            control_store.get_source(SourceId("nope"))

    def test_declaring_the_same_again_writes_nothing(self, control_store: SqlControlStore) -> None:
        """A code location that loads while a worker is in the middle of a write does not wait for it."""
        spec = SourceSpec(source_id=SourceId("a"))
        control_store.sync_sources([spec])
        with control_store.engine.begin() as writing:
            writing.execute(sources.update().values(description="uncommitted"))
            control_store.sync_sources([spec])

    def test_declaring_nothing_undeclares_everything(self, control_store: SqlControlStore) -> None:
        """An empty declaration is one."""
        control_store.sync_sources([SourceSpec(source_id=SourceId("a"))])
        control_store.sync_sources([])
        assert control_store.list_sources() == []


class TestBatches:
    def test_an_admitted_batch_comes_back_whole(self, control_store: SqlControlStore) -> None:
        """Manifest, path and moment are kept."""
        batch = record("a", 1, "delta")
        assert control_store.admit(batch, [pending(batch)])
        assert control_store.get_batch(batch.manifest.batch_id) == batch

    def test_the_same_batch_again_changes_nothing(self, control_store: SqlControlStore) -> None:
        """Admitting is idempotent: the second time says False and touches no state."""
        batch = record("a", 1)
        assert control_store.admit(batch, [pending(batch)])
        must_claim(control_store)
        assert not control_store.admit(batch, [pending(batch), pending(batch, "other")])
        states = control_store.list_states()
        assert [(s.target_id, s.status) for s in states] == [("registry", PublishStatus.PLANNING)]

    def test_a_batch_has_a_state_for_each_target(self, control_store: SqlControlStore) -> None:
        """Targets are published to independently of each other."""
        batch = admit(control_store, "a", 1, targets=["registry", "warehouse"])
        first, second = must_claim(control_store), must_claim(control_store, "w2")
        assert {first.state.batch_id, second.state.batch_id} == {batch}
        assert {first.state.target_id, second.state.target_id} == {"registry", "warehouse"}

    def test_a_state_of_another_batch_is_refused(self, control_store: SqlControlStore) -> None:
        """Nothing is stored when a state does not belong to the batch."""
        batch, other = record("a", 1), record("a", 2)
        with pytest.raises(PenstockError, match="admit each batch with its own states"):
            control_store.admit(batch, [pending(other)])
        assert control_store.known_batches([batch.manifest.batch_id]) == set()

    def test_an_unknown_batch_is_an_error_that_names_it(
        self, control_store: SqlControlStore
    ) -> None:
        """The error names the batch and the command that lists those there are."""
        with pytest.raises(NotFound, match="no batch 'a@never' has been admitted"):
            control_store.get_batch(BatchId("a@never"))

    def test_known_are_the_admitted_and_the_dead_lettered(
        self, control_store: SqlControlStore
    ) -> None:
        """Discovery asks about thousands at once and learns which need no second look."""
        admitted = admit(control_store, "a", 1)
        dead = batch_id("a", 2)
        control_store.record_dead_letter(
            subject=dead, where="k", source_id="a", code="c", message="m", now=NOW
        )
        asked = [batch_id("a", minute) for minute in range(1, 1200)]
        assert control_store.known_batches(asked) == {admitted, dead}
        assert control_store.known_batches([]) == set()

    def test_batches_are_listed_newest_first_by_the_page(
        self, control_store: SqlControlStore
    ) -> None:
        """``after`` and ``limit`` page back through time, for one source or all; none of one moment is skipped."""
        for source, minute in (("a", 1), ("b", 2), ("a", 3), ("b", 3), ("a", 4)):
            admit(control_store, source, minute)

        def minutes(**options: object) -> list[BatchId]:
            return [r.manifest.batch_id for r in control_store.list_batches(**options)]  # type: ignore[arg-type]

        assert minutes(limit=2) == [batch_id("a", 4), batch_id("b", 3)]
        rest = [batch_id("a", 3), batch_id("b", 2), batch_id("a", 1)]
        assert minutes(after=batch_id("b", 3)) == rest
        assert minutes(after=batch_id("nobody", 2)) == rest[1:]
        a = SourceId("a")
        assert minutes(source=a, after=batch_id("a", 4)) == [batch_id("a", 3), batch_id("a", 1)]


class TestMoments:
    def test_moments_come_back_in_utc(self, control_store: SqlControlStore) -> None:
        """A moment given in any zone is the same moment, to the microsecond, in UTC."""
        moment = datetime(2026, 7, 1, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=5.5)))
        batch = admit(control_store, "a", 1, enqueued_at=moment)
        read = control_store.get_state(batch, REGISTRY).enqueued_at
        assert read == moment
        assert read.tzinfo is UTC

    def test_a_naive_moment_is_refused(self, control_store: SqlControlStore) -> None:
        """Nobody can say which moment a datetime without a zone is."""
        naive = datetime(2026, 1, 1)  # noqa: DTZ001
        with pytest.raises(PenstockError, match="has no time zone: pass an aware datetime"):
            control_store.record_dead_letter(
                subject="s", where="k", source_id="a", code="c", message="m", now=naive
            )


class TestStates:
    def test_a_batch_goes_all_the_way(self, control_store: SqlControlStore) -> None:
        """From PENDING to COMPLETE, each step is recorded with its moment and its numbers."""
        batch = admit(control_store, "a", 1)
        claimed = must_claim(control_store, now=at(1))
        assert claimed.state.status is PublishStatus.PLANNING
        metrics = PublishMetrics(entities_created=3, relationships_deleted=2, execution_time_ms=7)
        state = finish(control_store, claimed, now=at(2), metrics=metrics, exceptions=1)
        assert state == control_store.get_state(batch, REGISTRY)
        assert state.status is PublishStatus.COMPLETE
        assert (state.publish_start_timestamp, state.publish_end_timestamp) == (at(1), at(2))
        assert (state.metrics, state.exceptions, state.plan_digest) == (metrics, 1, DIGEST)

    def test_failure_details_are_kept_whole(self, control_store: SqlControlStore) -> None:
        """Why a batch failed can be read back, whatever bytes the reason holds."""
        batch = admit(control_store, "a", 1)
        details = failure().model_copy(
            update={"error_message": "bad \0 and \ud800", "stack_trace": "x" * 100_000}
        )
        changes = {"failure_details": details}
        control_store.advance(must_claim(control_store), Move.FAIL, now=NOW, changes=changes)
        read = control_store.get_state(batch, REGISTRY)
        assert read.status is PublishStatus.FAILED
        assert read.failure_details is not None
        assert read.failure_details.error_message.startswith("bad \ufffd and ")
        assert read.failure_details.stack_trace == details.stack_trace

    def test_an_illegal_move_changes_nothing(self, control_store: SqlControlStore) -> None:
        """The error says what is legal, and state and lease stay as they were."""
        admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        with pytest.raises(IllegalMove, match="PLANNING cannot start; from PLANNING it can: plann"):
            control_store.advance(claimed, Move.START, now=NOW)
        assert control_store.get_state(claimed.state.batch_id, REGISTRY) == claimed.state
        start(control_store, claimed)

    def test_success_goes_through_complete(self, control_store: SqlControlStore) -> None:
        """A batch cannot be COMPLETE without its snapshot."""
        admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        with pytest.raises(PenstockError, match=r"call complete\(\)"):
            control_store.advance(running, Move.SUCCEED, now=NOW)

    def test_an_unknown_state_is_an_error_that_names_both_ids(
        self, control_store: SqlControlStore
    ) -> None:
        """The error names batch and target."""
        with pytest.raises(NotFound, match="batch 'a@x' is not on its way to target 'registry'"):
            control_store.get_state(BatchId("a@x"), REGISTRY)

    def test_states_are_listed_newest_first_and_filtered(
        self, control_store: SqlControlStore
    ) -> None:
        """Every filter narrows the list, and together they narrow it further."""
        a1 = admit(control_store, "a", 1, targets=["registry", "warehouse"])
        b2 = admit(control_store, "b", 2)
        a3 = admit(control_store, "a", 3)
        finish(control_store, must_claim(control_store, only=[(a1, REGISTRY)]))

        def listed(**options: object) -> list[tuple[str, str]]:
            states = control_store.list_states(**options)  # type: ignore[arg-type]
            return [(state.batch_id, state.target_id) for state in states]

        everything = [(a3, "registry"), (b2, "registry"), (a1, "registry"), (a1, "warehouse")]
        assert listed() == everything
        assert listed(limit=2) == everything[:2]
        assert listed(batch=a1) == everything[2:]
        assert listed(source=SourceId("a"), target=REGISTRY) == [everything[0], everything[2]]
        assert listed(statuses=[PublishStatus.COMPLETE]) == [(a1, "registry")]
        waiting = [PublishStatus.PENDING, PublishStatus.RETRYING]
        assert listed(source=SourceId("a"), statuses=waiting) == [everything[0], everything[3]]

    @pytest.mark.parametrize("republish", [True, False])
    def test_an_operator_can_requeue_what_is_settled(
        self, control_store: SqlControlStore, republish: bool
    ) -> None:
        """A COMPLETE batch goes back as new, and is claimed again."""
        admit(control_store, "a", 1)
        batch = publish(control_store)
        state = control_store.requeue(
            batch, REGISTRY, now=at(5), intent=Intent.REPUBLISH if republish else Intent.PUBLISH
        )
        assert state == control_store.get_state(batch, REGISTRY)
        assert (state.status, state.enqueued_at) == (PublishStatus.PENDING, at(5))
        assert (state.republish, state.plan_digest, state.metrics) == (
            republish,
            None,
            PublishMetrics(),
        )
        assert publish(control_store) == batch

    def test_what_is_not_settled_cannot_be_requeued(self, control_store: SqlControlStore) -> None:
        """A batch that a worker has in hand is left to its worker."""
        batch = admit(control_store, "a", 1)
        must_claim(control_store)
        with pytest.raises(IllegalMove, match=r"PLANNING .* only one that is COMPLETE or FAILED"):
            control_store.requeue(batch, REGISTRY, now=NOW, intent=Intent.PUBLISH)
        with pytest.raises(NotFound):
            control_store.requeue(
                BatchId("a@2020-01-01T00-00-00.000000Z"), REGISTRY, now=NOW, intent=Intent.PUBLISH
            )


class TestSnapshots:
    def test_there_is_none_before_the_first_publish(self, control_store: SqlControlStore) -> None:
        """A lane begins with no snapshot."""
        assert control_store.snapshot_head(SourceId("a"), REGISTRY) is None

    def test_it_advances_with_the_batch(self, control_store: SqlControlStore) -> None:
        """State, snapshot and ledger are of one transaction."""
        admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        rows = [
            LedgerRow(kind=Kind.RELATIONSHIP, type_name="has", extracted=1, created=1),
            LedgerRow(kind=Kind.ENTITY, type_name="table", extracted=5, filtered=2, unchanged=5),
        ]
        expected = head_after(control_store, claimed)
        state = finish(control_store, claimed, ledger=rows)
        assert control_store.snapshot_head(SourceId("a"), REGISTRY) == expected
        assert control_store.get_ledger(state.batch_id, REGISTRY) == rows[::-1]

    def test_a_version_that_does_not_follow_loses_the_lease(
        self, control_store: SqlControlStore
    ) -> None:
        """Two plans from one snapshot cannot both succeed, and nothing of the second is stored."""
        admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        head = replace(head_after(control_store, running), version=2)
        ledger = [LedgerRow(kind=Kind.ENTITY, type_name="t")]
        with pytest.raises(LeaseLost, match=r"version 2 .* does not follow version 0"):
            control_store.complete(running, now=NOW, changes={}, head=head, ledger=ledger)
        batch = running.state.batch_id
        assert control_store.get_state(batch, REGISTRY).status is PublishStatus.EXECUTING
        assert control_store.snapshot_head(SourceId("a"), REGISTRY) is None
        assert control_store.get_ledger(batch, REGISTRY) == []

    def test_it_never_goes_back_in_source_time(self, control_store: SqlControlStore) -> None:
        """Even a republish of an older batch keeps the newest source timestamp."""
        old = admit(control_store, "a", 1)
        publish(control_store)
        admit(control_store, "a", 2)
        publish(control_store)
        control_store.requeue(old, REGISTRY, now=NOW, intent=Intent.REPUBLISH)
        running = start(control_store, must_claim(control_store))
        head = replace(head_after(control_store, running), source_timestamp=at(1))
        with pytest.raises(PenstockError, match="cannot go back from source timestamp"):
            control_store.complete(running, now=NOW, changes={}, head=head, ledger=[])

    def test_a_snapshot_of_another_lane_is_refused(self, control_store: SqlControlStore) -> None:
        """A mix-up of lanes is caught before it is stored."""
        admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        head = replace(head_after(control_store, running), target_id=TargetId("other"))
        with pytest.raises(PenstockError, match="lane a -> other"):
            control_store.complete(running, now=NOW, changes={}, head=head, ledger=[])

    def test_publishing_again_replaces_the_ledger(self, control_store: SqlControlStore) -> None:
        """The ledger is of the last time that the batch was published."""
        batch = admit(control_store, "a", 1)
        rows = [LedgerRow(kind=Kind.ENTITY, type_name=t) for t in ("t", "u")]
        finish(control_store, must_claim(control_store), ledger=rows)
        control_store.requeue(batch, REGISTRY, now=NOW, intent=Intent.REPUBLISH)
        finish(control_store, must_claim(control_store), ledger=rows[1:])
        assert control_store.get_ledger(batch, REGISTRY) == rows[1:]

    def test_the_ledger_of_an_unknown_batch_is_an_error(
        self, control_store: SqlControlStore
    ) -> None:
        """No ledger and no such batch are different answers."""
        with pytest.raises(NotFound):
            control_store.get_ledger(BatchId("a@x"), REGISTRY)


class TestExecutions:
    def test_intent_comes_before_outcome(self, control_store: SqlControlStore) -> None:
        """Between the two a chunk has no end, which tells a successor what to read back."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        control_store.start_chunk(running, 0, 10, now=at(1))
        (chunk,) = control_store.chunks(DIGEST, batch, REGISTRY).values()
        assert (chunk.operations, chunk.started_at, chunk.finished_at) == (10, at(1), None)
        control_store.finish_chunk(
            running,
            0,
            applied=7,
            already_applied=1,
            exceptions=[exception(1), exception(2)],
            now=at(2),
        )
        (chunk,) = control_store.chunks(DIGEST, batch, REGISTRY).values()
        assert (chunk.applied, chunk.already_applied, chunk.failed) == (7, 1, 2)
        assert chunk.finished_at == at(2)
        assert control_store.list_exceptions(batch, REGISTRY) == [exception(1), exception(2)]

    def test_recording_again_changes_nothing(self, control_store: SqlControlStore) -> None:
        """A successor may repeat every record of its predecessor; what was recorded first stays."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        for minute in (1, 2):
            control_store.start_chunk(running, 3, 10, now=at(minute))
            control_store.finish_chunk(
                running,
                3,
                applied=10 - minute,
                already_applied=0,
                exceptions=[exception(minute)],
                now=at(minute),
            )
            control_store.record_exceptions(running, [exception(9)], now=at(minute))
        chunk = control_store.chunks(DIGEST, batch, REGISTRY)[3]
        assert (chunk.applied, chunk.started_at, chunk.finished_at) == (9, at(1), at(1))
        assert control_store.list_exceptions(batch, REGISTRY) == [exception(1), exception(9)]

    def test_a_chunk_that_was_never_started_cannot_finish(
        self, control_store: SqlControlStore
    ) -> None:
        """An outcome without an intent is a defect of the caller."""
        admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        with pytest.raises(NotFound, match=r"chunk 4 .* start_chunk\(\)"):
            control_store.finish_chunk(
                running, 4, applied=1, already_applied=0, exceptions=[], now=NOW
            )

    def test_progress_needs_a_plan(self, control_store: SqlControlStore) -> None:
        """Progress belongs to a plan, so there is none before it is planned."""
        admit(control_store, "a", 1)
        claimed = must_claim(control_store)
        with pytest.raises(PenstockError, match=r"has no plan .* Move.PLANNED"):
            control_store.start_chunk(claimed, 0, 1, now=NOW)

    def test_progress_and_exceptions_are_of_the_present_plan(
        self, control_store: SqlControlStore
    ) -> None:
        """A second plan of the same batch begins with a clean sheet."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        control_store.start_chunk(running, 0, 1, now=NOW)
        control_store.record_exceptions(running, [exception(1)], now=NOW)
        fail(control_store, running)
        control_store.requeue(batch, REGISTRY, now=NOW, intent=Intent.PUBLISH)
        again = control_store.advance(
            must_claim(control_store), Move.PLANNED, now=NOW, changes={"plan_digest": "a" * 32}
        )
        assert control_store.chunks("a" * 32, batch, REGISTRY) == {}
        assert control_store.list_exceptions(batch, REGISTRY) == []
        control_store.record_exceptions(again, [exception(2)], now=NOW)
        assert control_store.list_exceptions(batch, REGISTRY) == [exception(2)]

    def test_thousands_of_exceptions_are_one_record(self, control_store: SqlControlStore) -> None:
        """They are listed by operation id, as far as the limit says."""
        batch = admit(control_store, "a", 1)
        running = start(control_store, must_claim(control_store))
        many = [exception(n, kind="relationships", to_key="db/ß") for n in range(12_000)]
        control_store.record_exceptions(running, iter(reversed(many)), now=NOW)
        assert control_store.list_exceptions(batch, REGISTRY, limit=5) == many[:5]
        assert len(control_store.list_exceptions(batch, REGISTRY, limit=100_000)) == 12_000


class TestDeadLetters:
    def test_the_same_subject_and_code_is_the_same_letter(
        self, control_store: SqlControlStore
    ) -> None:
        """A sensor that meets a broken object at every tick records it once."""
        details = {"bytes": 3, "nested": {"text": "a\0b", "list": [1, None, "x"]}}

        def letter(minute: float, code: str = "bad_manifest") -> str:
            return control_store.record_dead_letter(
                subject="batches/a/x/_manifest.json",
                where="batches/a/x/_manifest.json",
                source_id="a",
                code=code,
                message="field mode: missing",
                now=at(minute),
                details=details,
            ).dead_letter_id

        first, again, other = letter(1), letter(2), letter(3, "bad_file")
        assert first == again != other
        newest, oldest = control_store.list_dead_letters()
        assert (newest.dead_letter_id, oldest.dead_letter_id) == (other, first)
        assert oldest.recorded_at == at(1)
        assert oldest.details == {
            "bytes": 3,
            "nested": {"text": "a\ufffdb", "list": [1, None, "x"]},
        }

    def test_letters_are_listed_by_source(self, control_store: SqlControlStore) -> None:
        """One source's letters, or the newest of all; some belong to none."""
        for minute, source in ((1, "a"), (2, None), (3, "a"), (4, "b")):
            control_store.record_dead_letter(
                subject=f"s{minute}",
                where="w",
                source_id=source,
                code="c",
                message="m",
                now=at(minute),
            )
        mine = control_store.list_dead_letters(source=SourceId("a"))
        assert [letter.subject for letter in mine] == ["s3", "s1"]
        assert [x.subject for x in control_store.list_dead_letters(limit=2)] == ["s4", "s3"]


def test_a_store_never_shows_its_password() -> None:
    """Neither its repr nor an error about its URL holds the password."""
    store = SqlControlStore("postgresql://me:s3cret@nowhere.invalid/db")
    assert "s3cret" not in repr(store)
    assert "me:***@nowhere.invalid/db" in repr(store)
    for url in ("mysql://me:s3cret@host/db", "::s3cret::"):
        with pytest.raises(PenstockError) as raised:
            SqlControlStore(url)
        assert "s3cret" not in str(raised.value)


def test_a_store_can_stand_on_a_given_engine(control_store: SqlControlStore) -> None:
    """An engine that others use too serves a store as well."""
    batch = admit(control_store, "a", 1)
    other = SqlControlStore.from_engine(control_store.engine)
    assert must_claim(other).state.batch_id == batch
    assert claim(control_store) is None
    assert other.explain_queue(now=NOW, policy=POLICY) == []
