"""Dead letters on SQLite and PostgreSQL: what becomes one, how they are found, and the moves that they make."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from penstock.batch.manifest import Correction
from penstock.errors import IllegalMove, NotFound
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import BatchRecord, OperationException
from penstock.ports.dead_letters import DeadLetter, LetterFilter
from penstock.publish.dead_letters import LetterEvent, LetterStatus
from penstock.publish.state import Intent
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    REGISTRY,
    admit,
    at,
    exception,
    finish,
    head_after,
    must_claim,
    pending,
    start,
)
from tests.contracts.control_values import record as batch_record


def record(store: SqlControlStore, subject: str, minute: float = 0, **fields: Any) -> DeadLetter:
    """Record the letter of a batch, or of what should have been one."""
    values: dict[str, Any] = {
        "where": "plan",
        "source_id": "a",
        "code": "boom",
        "message": "the disk is full",
    }
    return store.record_dead_letter(subject=subject, now=at(minute), **{**values, **fields})


def publish_with(
    store: SqlControlStore,
    failed: Sequence[OperationException],
    *,
    source: str = "a",
    minute: float = 1,
    data: dict[str, str] | None = None,
    **admitted: Any,
) -> BatchId:
    """Publish a batch in one chunk, of which some operations failed."""
    batch = admit(store, source, minute, **admitted)
    running = start(store, must_claim(store, now=at(minute)), now=at(minute))
    store.start_chunk(running, 0, 10, now=at(minute))
    counts = {"applied": 10 - len(failed), "already_applied": 0}
    store.finish_chunk(running, 0, exceptions=failed, data=data, now=at(minute), **counts)
    head = head_after(store, running)
    store.complete(running, now=at(minute), changes={}, head=head, ledger=[])
    return batch


def statuses(store: SqlControlStore) -> dict[str | None, str]:
    """The status of each letter of an operation, by key."""
    return {letter.key: str(letter.status) for letter in store.list_dead_letters()}


def events(store: SqlControlStore, letter: DeadLetter) -> list[str]:
    """What happened to a letter, oldest first."""
    return [str(each.event) for each in store.letter_history(letter.dead_letter_id)]


class TestRecording:
    def test_an_operation_s_letter_says_what_is_needed(
        self, control_store: SqlControlStore
    ) -> None:
        """Names, cause, data and where the plan lies; its history begins with it."""
        batch = publish_with(
            control_store, [exception(1, action="update")], data={f"{1:032x}": '{"n":1}'}
        )
        (letter,) = control_store.list_dead_letters()
        assert (letter.kind, letter.type_name, letter.key) == ("entities", "table", "db/t1")
        assert (letter.subject, letter.where, letter.action) == (f"{1:032x}", "execute", "update")
        assert (letter.batch_id, letter.plan_digest, letter.data) == (batch, DIGEST, '{"n":1}')
        assert (letter.data_path, letter.details) == ("plans/p", {"outcome": "rejected"})
        assert control_store.get_dead_letter(letter.dead_letter_id) == letter
        (happened,) = control_store.letter_history(letter.dead_letter_id)
        assert (happened.event, happened.at, happened.code) == ("recorded", at(1), "bad_value")

    def test_long_data_lies_in_the_plan(self, control_store: SqlControlStore) -> None:
        """Attributes of more than 64 Ki characters are not copied; what no column keeps is replaced."""
        publish_with(
            control_store,
            [exception(1), exception(2, key="db/\0t2", message="a\0b")],
            data={f"{1:032x}": "x" * (64 * 1024 + 1), f"{2:032x}": "y" * (64 * 1024)},
        )
        letters = {each.operation_id: each for each in control_store.list_dead_letters()}
        assert letters[f"{1:032x}"].data is None
        kept = letters[f"{2:032x}"]
        assert (kept.data, kept.key, kept.message) == ("y" * (64 * 1024), "db/\ufffdt2", "a\ufffdb")

    def test_many_letters_of_one_chunk(self, control_store: SqlControlStore) -> None:
        """However many operations of a chunk fail, each has its letter and its history."""
        publish_with(control_store, [exception(n) for n in range(1203)])
        letters = control_store.list_dead_letters(limit=5000)
        assert len({letter.operation_id for letter in letters}) == 1203
        assert {len(control_store.letter_history(x.dead_letter_id)) for x in letters[::100]} == {1}

    def test_an_entity_has_one_open_letter_in_a_lane(self, control_store: SqlControlStore) -> None:
        """A later batch that fails at the same entity supersedes the older letter, and no other."""
        failed = [exception(1), exception(2), exception(3, kind="relationships", to_key="db/x")]
        publish_with(control_store, failed, mode="delta")
        publish_with(control_store, [exception(9, key="db/t1")], minute=2, mode="delta")
        publish_with(control_store, [exception(8, key="db/t2")], source="b", minute=3, mode="delta")
        letters = {each.operation_id: each for each in control_store.list_dead_letters()}
        found = {int(name or "", 16): str(each.status) for name, each in letters.items()}
        assert found == {1: "superseded", 2: "open", 3: "open", 9: "open", 8: "open"}
        assert events(control_store, letters[f"{1:032x}"]) == ["recorded", "superseded"]

    def test_a_full_batch_settles_what_older_ones_left(
        self, control_store: SqlControlStore
    ) -> None:
        """It has decided anew about everything of its lane; letters of other lanes stay open."""
        publish_with(control_store, [exception(1), exception(2)])
        publish_with(control_store, [exception(3)], source="b", minute=2)
        publish_with(control_store, [exception(4, key="db/t2")], minute=3)
        found = {int(x.operation_id or "", 16): x for x in control_store.list_dead_letters()}
        assert {n: str(x.status) for n, x in found.items()} == {
            1: "superseded",
            2: "superseded",
            3: "open",
            4: "open",
        }


class TestFinding:
    def test_letters_are_chosen(self, control_store: SqlControlStore) -> None:
        """Each field of a filter restricts, and all of them together."""
        batch = publish_with(control_store, [exception(1), exception(2, type_name="view")])
        publish_with(control_store, [exception(3, code="other")], source="b", minute=2)
        record(control_store, "s", target_id="warehouse")

        def chosen(**fields: Any) -> set[str]:
            letters = control_store.list_dead_letters(chosen=LetterFilter(**fields))
            return {letter.key or letter.subject for letter in letters}

        assert chosen() == {"db/t1", "db/t2", "db/t3", "s"}
        assert chosen(source=SourceId("a")) == {"db/t1", "db/t2", "s"}
        assert chosen(target=TargetId("warehouse")) == {"s"}
        assert chosen(batch=batch) == {"db/t1", "db/t2"}
        assert chosen(type_name="view") == {"db/t2"}
        assert chosen(code="other") == {"db/t3"}
        assert chosen(status=LetterStatus.DISCARDED) == set()
        assert chosen(source=SourceId("b"), type_name="view") == set()
        (first,) = control_store.list_dead_letters(chosen=LetterFilter(type_name="view"))
        assert chosen(fingerprint=first.fingerprint) == {"db/t2"}

    def test_pages_add_up(self, control_store: SqlControlStore) -> None:
        """Page after page gives each letter once, also where many were recorded at one moment."""
        publish_with(control_store, [exception(n) for n in range(25)])
        record(control_store, "earlier")
        record(control_store, "later", 9)
        seen: list[str] = []
        last = None
        while page := control_store.list_dead_letters(after=last, limit=4):
            seen += [letter.dead_letter_id for letter in page]
            last = page[-1]
        assert len(seen) == len(set(seen)) == 27
        assert seen == [x.dead_letter_id for x in control_store.list_dead_letters()]

    def test_groups_are_of_one_cause(self, control_store: SqlControlStore) -> None:
        """Keys, numbers and digests in a message make no other cause; type, target and code do. The newest is first."""
        said = [exception(n, message=f"'db/t{n}' is {n} characters too long") for n in range(3)]
        publish_with(control_store, [*said, exception(7, type_name="view")], minute=1)
        record(control_store, "s1", 5)
        newest, *others = control_store.letter_groups()
        assert (newest.code, newest.letters, newest.last_at) == ("boom", 1, at(5))
        assert {(g.type_name, g.letters) for g in others} == {("table", 3), ("view", 1)}
        one = LetterFilter(type_name="table")
        (group,) = control_store.letter_groups(chosen=one)
        assert (group.first_at, group.source_id, group.target_id) == (at(1), "a", REGISTRY)
        assert len(control_store.letter_groups(limit=2)) == 2

    def test_what_is_unknown_is_not_found(self, control_store: SqlControlStore) -> None:
        """Read or moved, the error names it; the history of nothing is empty."""
        with pytest.raises(NotFound, match="f" * 32):
            control_store.get_dead_letter("f" * 32)
        with pytest.raises(NotFound, match="f" * 32):
            control_store.move_letters(["f" * 32], LetterEvent.DISCARDED, now=NOW)
        assert control_store.letter_history("f" * 32) == []


class TestMoves:
    def test_all_move_or_none(self, control_store: SqlControlStore) -> None:
        """One that cannot make the move leaves the others where they were; the same name twice is one."""
        letters = [record(control_store, f"s{n}") for n in range(3)]
        ids = [letter.dead_letter_id for letter in letters]
        control_store.move_letters(ids[:1], LetterEvent.DISCARDED, now=at(1), message="no use")
        with pytest.raises(IllegalMove, match=ids[0]):
            control_store.move_letters(ids, LetterEvent.DISCARDED, now=at(2))
        with pytest.raises(NotFound):
            control_store.move_letters([ids[1], "f" * 32], LetterEvent.DISCARDED, now=at(2))
        assert [events(control_store, x) for x in letters[1:]] == [["recorded"]] * 2
        twice = [ids[1], ids[2], ids[1]]
        assert control_store.move_letters(twice, LetterEvent.REQUEUED, now=at(3), actor="ada") == 2
        (_, happened) = control_store.letter_history(ids[1])
        assert (happened.event, happened.actor, happened.at) == ("requeued", "ada", at(3))

    def test_many_letters_move_at_once(self, control_store: SqlControlStore) -> None:
        """More than one statement takes move in one transaction."""
        publish_with(control_store, [exception(n) for n in range(1203)])
        ids = [x.dead_letter_id for x in control_store.list_dead_letters(limit=5000)]
        assert control_store.move_letters(ids, LetterEvent.DISCARDED, now=at(2)) == 1203
        assert set(statuses(control_store).values()) == {"discarded"}

    def test_one_of_many_operators_wins(self, control_store: SqlControlStore) -> None:
        """However many discard a letter at once, one of them did, and the others are told."""
        letter = record(control_store, "s")

        def discard(number: int) -> bool:
            try:
                control_store.move_letters(
                    [letter.dead_letter_id], LetterEvent.DISCARDED, now=NOW, actor=f"o{number}"
                )
            except IllegalMove:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(discard, range(6))) == 1
        assert events(control_store, letter) == ["recorded", "discarded"]

    def test_what_fails_again_is_open_again(self, control_store: SqlControlStore) -> None:
        """A letter that was discarded opens when the same thing fails once more, and says both."""
        letter = record(control_store, "s")
        control_store.move_letters([letter.dead_letter_id], LetterEvent.DISCARDED, now=at(1))
        again = record(control_store, "s", 2)
        assert (again.dead_letter_id, again.status) == (letter.dead_letter_id, LetterStatus.OPEN)
        assert events(control_store, letter) == ["recorded", "discarded", "failed_again"]

    def test_a_batch_s_letter_is_resolved_with_its_batch(
        self, control_store: SqlControlStore
    ) -> None:
        """Requeued and published in the end, the batch's own letter is closed."""
        batch = admit(control_store, "a", 1)
        named = {"batch_id": batch, "target_id": REGISTRY}
        letter = record(control_store, batch, **named)
        elsewhere = record(control_store, batch, batch_id=batch, target_id="warehouse")
        ids = [letter.dead_letter_id]
        control_store.move_letters(ids, LetterEvent.REQUEUED, now=at(1), batch_id=batch)
        finish(control_store, must_claim(control_store, now=at(2)), now=at(2))
        assert control_store.get_dead_letter(ids[0]).status is LetterStatus.RESOLVED
        other = control_store.get_dead_letter(elsewhere.dead_letter_id)
        assert other.status is LetterStatus.OPEN

    def test_an_act_is_recorded_with_its_move(self, control_store: SqlControlStore) -> None:
        """Both or neither: what is refused leaves no act, and an act that nobody signed moves nothing."""
        letter = record(control_store, "s")
        ids, act = [letter.dead_letter_id], AuditEntry(at=NOW, actor="ada", act="x.y", subject="s")
        control_store.move_letters(ids, LetterEvent.DISCARDED, now=at(1), act=act)
        with pytest.raises(IllegalMove):
            control_store.move_letters(ids, LetterEvent.DISCARDED, now=at(1), act=act)
        other = record(control_store, "t").dead_letter_id
        unsigned: Any = replace(act, actor=None)
        with pytest.raises(IntegrityError):
            control_store.move_letters([other], LetterEvent.DISCARDED, now=at(1), act=unsigned)
        assert control_store.list_acts() == [act]
        assert control_store.get_dead_letter(other).status is LetterStatus.OPEN

    def test_a_batch_s_letter_goes_with_its_batch(self, control_store: SqlControlStore) -> None:
        """Whichever way the batch comes back into the queue, its letter is on its way; that of another is not."""
        batch = admit(control_store, "a", 1)
        control_store.cancel(batch, REGISTRY, now=NOW, message="not now")
        record(control_store, batch, code="cancelled", batch_id=batch, target_id="registry")
        record(control_store, "other", batch_id="a@other", target_id="registry")
        act = AuditEntry(at=at(2), actor="ada", act="batch.requeue", subject=batch, reason="now")
        control_store.requeue(batch, REGISTRY, now=at(2), intent=Intent.PUBLISH, act=act)
        found = {x.subject: x for x in control_store.list_dead_letters()}
        assert {name: str(x.status) for name, x in found.items()} == {
            batch: "requeued",
            "other": "open",
        }
        happened = control_store.letter_history(found[batch].dead_letter_id)[-1]
        assert (happened.actor, happened.message) == ("ada", "now")


def correction(store: SqlControlStore, minute: float, **fields: Any) -> BatchRecord:
    """A correction that ada asked for, as admitted."""
    corrects = Correction(
        kind="fix", batch_id="a@1", target_id=REGISTRY, requested_by="ada", reason="why", **fields
    )
    of = batch_record("a", minute, "delta")
    return replace(of, manifest=of.manifest.model_copy(update={"corrects": corrects}))


class TestCorrections:
    def test_admitting_one_sends_its_letters_on_their_way(
        self, control_store: SqlControlStore
    ) -> None:
        """With the act of who asked, in one transaction, once; what is closed, or of another lane, stays as it is."""
        publish_with(control_store, [exception(1), exception(2)], mode="delta")
        publish_with(control_store, [exception(3)], source="b", mode="delta")
        letters = {x.key: x.dead_letter_id for x in control_store.list_dead_letters()}
        control_store.move_letters([letters["db/t2"]], LetterEvent.DISCARDED, now=at(1))
        of = correction(control_store, 2, dead_letter_ids=tuple(letters.values()))
        assert control_store.admit(of, [pending(of)])
        assert not control_store.admit(of, [pending(of)])
        assert statuses(control_store) == {
            "db/t1": "requeued",
            "db/t2": "discarded",
            "db/t3": "open",
        }
        moved = control_store.get_dead_letter(letters["db/t1"])
        assert moved.correction_batch_id == of.manifest.batch_id
        happened = control_store.letter_history(moved.dead_letter_id)[-1]
        assert (happened.event, happened.actor, happened.message) == ("requeued", "ada", "why")
        (act,) = control_store.list_acts()
        assert (act.act, act.subject, act.at) == ("dead_letter.requeue", "3 dead letters", NOW)
        assert act.details["correction"] == of.manifest.batch_id
        assert act.details["dead_letter_ids"] == list(letters.values())

    def test_what_was_mended_is_tried_from_then_on(self, control_store: SqlControlStore) -> None:
        """What is tried next is what a person wrote; the plan keeps the original."""
        publish_with(control_store, [exception(1)], data={f"{1:032x}": "{}"}, mode="delta")
        (letter,) = control_store.list_dead_letters()
        of = correction(
            control_store, 2, dead_letter_ids=(letter.dead_letter_id,), mended='{"n":2}'
        )
        control_store.admit(of, [pending(of)])
        changed = control_store.get_dead_letter(letter.dead_letter_id)
        assert (changed.data, changed.data_path) == ('{"n":2}', letter.data_path)
        assert events(control_store, letter) == ["recorded", "fixed"]
        (act,) = control_store.list_acts(subject=letter.dead_letter_id)
        assert act.act == "dead_letter.fix"

    def test_one_that_failed_and_is_tried_again_takes_its_letters_along(
        self,
        control_store: SqlControlStore,
        corrected: tuple[BatchId, BatchId, DeadLetter],
    ) -> None:
        """Cancelled it opens them, requeued it carries them, and published it resolves them."""
        _, batch, letter = corrected
        control_store.cancel(batch, REGISTRY, now=at(3), message="not now")
        control_store.requeue(batch, REGISTRY, now=at(3), intent=Intent.PUBLISH)
        assert control_store.get_dead_letter(letter.dead_letter_id).status is LetterStatus.REQUEUED
        finish(control_store, must_claim(control_store, now=at(3)), now=at(3))
        assert control_store.get_dead_letter(letter.dead_letter_id).status is LetterStatus.RESOLVED

    @pytest.fixture
    def corrected(self, control_store: SqlControlStore) -> tuple[BatchId, BatchId, DeadLetter]:
        """A batch with a failed and a blocked operation, the correction of it, and the letter that is in that."""
        culprit = exception(1)
        blocked = exception(2, outcome="blocked", blocked_by=culprit.operation_id)
        batch = publish_with(control_store, [culprit, blocked, exception(3)], mode="delta")
        correction = admit(control_store, "a", 2, mode="delta")
        (letter,) = [x for x in control_store.list_dead_letters() if x.key == "db/t1"]
        ids = [letter.dead_letter_id]
        control_store.move_letters(ids, LetterEvent.REQUEUED, now=at(1), batch_id=correction)
        return batch, correction, letter

    def test_what_an_operation_blocks_is_listed(
        self,
        control_store: SqlControlStore,
        corrected: tuple[BatchId, BatchId, DeadLetter],
    ) -> None:
        """By the culprit's id, until something has made up for it."""
        batch, _, letter = corrected
        assert letter.operation_id is not None
        (blocked,) = control_store.blocked_exceptions(batch, REGISTRY, [letter.operation_id])
        assert blocked.key == "db/t2"
        assert control_store.blocked_exceptions(batch, REGISTRY, [f"{3:032x}"]) == []
        finish(control_store, must_claim(control_store, now=at(3)), now=at(3))
        assert control_store.blocked_exceptions(batch, REGISTRY, [letter.operation_id]) == []

    def test_a_published_correction_resolves_its_letters(
        self,
        control_store: SqlControlStore,
        corrected: tuple[BatchId, BatchId, DeadLetter],
    ) -> None:
        """With what they had blocked, the batch's counts go down; what was not in the correction stays open."""
        batch, correction, letter = corrected
        finish(control_store, must_claim(control_store, now=at(3)), now=at(3))
        assert statuses(control_store) == {"db/t1": "resolved", "db/t3": "open"}
        assert events(control_store, letter) == ["recorded", "requeued", "resolved"]
        state = control_store.get_state(batch, REGISTRY)
        assert (state.exceptions, state.blocked, state.rejected) == (1, 0, 1)
        resolved = control_store.get_dead_letter(letter.dead_letter_id)
        assert resolved.correction_batch_id == correction

    def test_what_fails_in_its_correction_is_the_same_letter(
        self,
        control_store: SqlControlStore,
        corrected: tuple[BatchId, BatchId, DeadLetter],
    ) -> None:
        """It opens again and says why this time; no second letter is made of the entity."""
        _, _, letter = corrected
        running = start(control_store, must_claim(control_store, now=at(3)), now=at(3))
        control_store.start_chunk(running, 0, 1, now=at(3))
        again = exception(7, key="db/t1", code="worse", message="another cause")
        control_store.finish_chunk(
            running, 0, applied=0, already_applied=0, exceptions=[again], now=at(3)
        )
        head = head_after(control_store, running)
        control_store.complete(running, now=at(3), changes={}, head=head, ledger=[])
        assert len(control_store.list_dead_letters()) == 2
        opened = control_store.get_dead_letter(letter.dead_letter_id)
        assert (opened.status, opened.code) == (LetterStatus.OPEN, "worse")
        assert opened.fingerprint != letter.fingerprint
        assert events(control_store, letter) == ["recorded", "requeued", "failed_again"]

    def test_a_cancelled_correction_opens_its_letters(
        self,
        control_store: SqlControlStore,
        corrected: tuple[BatchId, BatchId, DeadLetter],
    ) -> None:
        """What was on its way in it waits for a person again."""
        _, correction, letter = corrected
        control_store.cancel(correction, REGISTRY, now=at(3), message="not now")
        assert control_store.get_dead_letter(letter.dead_letter_id).status is LetterStatus.OPEN

    def test_a_repair_of_a_correction_tries_none_of_its_letters(
        self,
        control_store: SqlControlStore,
        corrected: tuple[BatchId, BatchId, DeadLetter],
    ) -> None:
        """What failed again in it stays open, whatever is repaired under its name."""
        _, correction, letter = corrected
        running = start(control_store, must_claim(control_store, now=at(3)), now=at(3))
        control_store.start_chunk(running, 0, 1, now=at(3))
        counts = {"applied": 0, "already_applied": 0}
        failed = [exception(7, key="db/t1")]
        control_store.finish_chunk(running, 0, exceptions=failed, now=at(3), **counts)
        head = head_after(control_store, running)
        control_store.complete(running, now=at(3), changes={}, head=head, ledger=[])
        control_store.requeue(correction, REGISTRY, now=at(4), intent=Intent.REPAIR)
        repairing = start(control_store, must_claim(control_store, now=at(4)), now=at(4))
        control_store.complete(repairing, now=at(4), changes={}, head=None, ledger=None)
        assert control_store.get_dead_letter(letter.dead_letter_id).status is LetterStatus.OPEN

    def test_a_repair_leaves_letters_alone(self, control_store: SqlControlStore) -> None:
        """A repair of the same batch supersedes none of the letters that the batch itself left."""
        batch = publish_with(control_store, [exception(1)])
        control_store.requeue(batch, REGISTRY, now=at(2), intent=Intent.REPAIR)
        running = start(control_store, must_claim(control_store, now=at(2)), now=at(2))
        control_store.complete(running, now=at(2), changes={}, head=None, ledger=None)
        assert statuses(control_store) == {"db/t1": "open"}


class TestAlerting:
    def test_what_nobody_was_told_of(self, control_store: SqlControlStore) -> None:
        """Groups wait until they were told of, then for as long as the silence lasts; closed letters are none."""
        record(control_store, "s1", 1)
        other = record(control_store, "s2", 2, code="other")
        first, second = control_store.unalerted_groups(silent_since=NOW)
        assert (first.code, second.code) == ("other", "boom")
        control_store.mark_alerted(second.fingerprint, until=second.last_at, now=at(3))
        control_store.move_letters([other.dead_letter_id], LetterEvent.DISCARDED, now=at(3))
        assert control_store.unalerted_groups(silent_since=NOW) == []
        record(control_store, "s3", 4)
        assert control_store.unalerted_groups(silent_since=at(2)) == []
        (late,) = control_store.unalerted_groups(silent_since=at(3))
        assert (late.code, late.letters, late.first_at) == ("boom", 1, at(4))

    def test_what_came_meanwhile_was_not_told_of(self, control_store: SqlControlStore) -> None:
        """A letter recorded while the message was on its way is in the next one."""
        record(control_store, "s1", 1)
        (group,) = control_store.unalerted_groups(silent_since=NOW)
        record(control_store, "s2", 2)
        control_store.mark_alerted(group.fingerprint, until=group.last_at, now=at(3))
        (late,) = control_store.unalerted_groups(silent_since=at(3))
        assert (late.letters, late.first_at) == (1, at(2))

    def test_requeues_are_counted(self, control_store: SqlControlStore) -> None:
        """Requeued and mended letters since a moment, each time once."""
        letters = [record(control_store, f"s{n}") for n in range(3)]
        ids = [letter.dead_letter_id for letter in letters]
        control_store.move_letters(ids[:2], LetterEvent.REQUEUED, now=at(1))
        control_store.move_letters(ids[2:], LetterEvent.FIXED, now=at(2))
        assert control_store.requeued_since(NOW) == 3
        assert control_store.requeued_since(at(1)) == 1
        assert control_store.requeued_since(at(2)) == 0
