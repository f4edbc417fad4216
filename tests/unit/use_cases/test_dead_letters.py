"""Dead letters: what is kept of them, how they are tried again, and what is refused with nothing changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity
from penstock.errors import (
    BadPatch,
    ChangedMeanwhile,
    IllegalMove,
    NotFound,
    NothingToDo,
    TooMany,
    Unsigned,
)
from penstock.ports.dead_letters import DeadLetter, LetterFilter
from penstock.publish.dead_letters import LetterEvent, LetterStatus
from penstock.publish.queue import SUPERSEDED
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.dead_letters import (
    discard_letters,
    fix_letter,
    inspect_letter,
    letter_groups,
    list_letters,
    requeue_letters,
)
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.operate import cancel
from penstock.use_cases.publish import publish_next
from tests.fixtures.memory import TARGET, Bench, knows, person

ADA = By(actor="ada", reason="mended at the source")
ROWS = [
    Entity(entity_type="team", entity_key="crm/t"),
    person("crm/t/a", v=1),
    person("crm/t/b", v=1),
    person("crm/c", v=1),
    knows("crm/c", "crm/t/a"),
]


def poisoned(bench: Bench, *keys: str) -> PublishState:
    """Publish a batch of which the target refuses some keys."""
    bench.target.poison |= set(keys)
    bench.land(ROWS)
    state = bench.publish().state
    assert state.status is PublishStatus.COMPLETE
    return state


def only_letter(bench: Bench, status: LetterStatus | None = LetterStatus.OPEN) -> DeadLetter:
    (letter,) = list_letters(bench.platform, chosen=LetterFilter(status=status))
    return letter


def test_a_letter_says_all_that_is_needed(bench: Bench) -> None:
    """What failed and why, the data, the history, and what it keeps from being sent."""
    state = poisoned(bench, "crm/t")
    assert (state.rejected, state.blocked) == (1, 3)
    details = inspect_letter(bench.platform, only_letter(bench).dead_letter_id)
    letter = details.letter
    assert (letter.code, letter.key, letter.action) == ("poison", "crm/t", "create")
    assert (letter.batch_id, letter.target_id) == (state.batch_id, TARGET)
    assert details.attributes == {}
    assert details.blocked_operations == 3
    assert {e.blocked_by for e in details.blocked} == {letter.operation_id}
    assert [h.event for h in details.history] == [LetterEvent.RECORDED]
    assert not details.superseded


def test_what_was_blocked_goes_on_once_its_culprit_does(bench: Bench) -> None:
    """Requeued, the entity and all that hung on it are published, and the first batch has no exception left."""
    state = poisoned(bench, "crm/t")
    bench.target.poison.clear()
    done = requeue_letters(
        bench.platform, by=ADA, dead_letter_ids=[only_letter(bench).dead_letter_id]
    )
    assert done.letters == 1
    (correction,) = done.corrections
    report = bench.publish()
    assert report.state.batch_id == correction.batch_id
    assert report.state.metrics.entities_created == 3
    assert all(row.balanced for row in report.ledger)
    assert len(bench.target.entities) == 4
    assert len(bench.target.relationships) == 1
    letter = only_letter(bench, None)
    assert (letter.status, letter.correction_batch_id) == (
        LetterStatus.RESOLVED,
        correction.batch_id,
    )
    after = bench.control.get_state(state.batch_id, TARGET)
    assert (after.exceptions, after.rejected, after.blocked) == (0, 0, 0)
    (act,) = bench.control.list_acts()
    assert (act.actor, act.act) == ("ada", "dead_letter.requeue")


def test_what_fails_again_is_open_again_with_its_history(bench: Bench) -> None:
    """It is the same letter, and says both times; the failure stands with the correction."""
    poisoned(bench, "crm/t/a")
    letter = only_letter(bench)
    requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letter.dead_letter_id])
    report = bench.publish()
    assert report.state.rejected == 1
    again = only_letter(bench)
    assert again.dead_letter_id == letter.dead_letter_id
    events = [h.event for h in bench.control.letter_history(letter.dead_letter_id)]
    assert events == [LetterEvent.RECORDED, LetterEvent.REQUEUED, LetterEvent.FAILED_AGAIN]
    bench.target.poison.clear()
    requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letter.dead_letter_id])
    bench.publish()
    assert only_letter(bench, None).status is LetterStatus.RESOLVED
    assert ("person", "crm/t/a") in bench.target.entities


def test_a_patch_is_tried_before_it_counts_and_then_published(bench: Bench) -> None:
    """The mended attributes reach the target, and the snapshot knows them."""
    poisoned(bench, "crm/t/a")
    bench.target.poison.clear()
    patch = json.dumps([{"op": "replace", "path": "/v", "value": 7}])
    fix_letter(bench.platform, only_letter(bench).dead_letter_id, patch, by=ADA)
    bench.publish()
    assert bench.target.entities["person", "crm/t/a"] == '{"v":7}'
    bench.land([person("crm/t/a", v=8)], mode=Mode.DELTA)
    assert bench.publish().state.exceptions == 0


def test_all_of_one_cause_are_tried_at_once(bench: Bench) -> None:
    """Failures of one kind share a fingerprint, and go in one correction."""
    poisoned(bench, "crm/t/a", "crm/t/b")
    (group,) = letter_groups(bench.platform)
    assert (group.letters, group.code, group.type_name) == (2, "poison", "person")
    bench.target.poison.clear()
    done = requeue_letters(
        bench.platform, by=ADA, chosen=LetterFilter(fingerprint=group.fingerprint)
    )
    assert (done.letters, len(done.corrections)) == (2, 1)
    bench.publish()
    assert len(bench.target.entities) == 4


def test_a_newer_full_batch_supersedes_letters(bench: Bench) -> None:
    """It has decided about everything: what it fails at is its own letter, the older is closed."""
    poisoned(bench, "crm/t/a")
    old = only_letter(bench)
    bench.land(ROWS)
    bench.publish()
    new = only_letter(bench)
    assert new.dead_letter_id != old.dead_letter_id
    older = bench.control.get_dead_letter(old.dead_letter_id)
    assert older.status is LetterStatus.SUPERSEDED
    with pytest.raises(IllegalMove, match="superseded"):
        requeue_letters(bench.platform, by=ADA, dead_letter_ids=[old.dead_letter_id])


def test_an_entity_that_a_delta_brought_since_is_not_overwritten(bench: Bench) -> None:
    """Named, the letter is refused; chosen by a filter, it is passed over and closed."""
    poisoned(bench, "crm/t/a")
    bench.target.poison.clear()
    letter = only_letter(bench)
    bench.land([person("crm/t/a", v=9)], mode=Mode.DELTA)
    bench.publish()
    with pytest.raises(IllegalMove, match="something newer"):
        requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letter.dead_letter_id])
    done = requeue_letters(bench.platform, by=ADA, chosen=LetterFilter(code="poison"))
    assert (done.letters, done.superseded) == (0, 1)
    assert bench.target.entities["person", "crm/t/a"] == '{"v":9}'


def test_a_discarded_letter_stays_discarded(bench: Bench) -> None:
    """It takes a reason, is kept with it, and cannot be requeued or discarded again."""
    poisoned(bench, "crm/t/a")
    letter = only_letter(bench)
    with pytest.raises(Unsigned):
        discard_letters(bench.platform, [letter.dead_letter_id], by=By(actor="ada"))
    assert discard_letters(bench.platform, [letter.dead_letter_id], by=ADA) == 1
    history = bench.control.letter_history(letter.dead_letter_id)
    assert (history[-1].event, history[-1].actor) == (LetterEvent.DISCARDED, "ada")
    before = bench.control.list_acts()
    for act in (
        lambda: requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letter.dead_letter_id]),
        lambda: discard_letters(bench.platform, [letter.dead_letter_id], by=ADA),
        lambda: fix_letter(bench.platform, letter.dead_letter_id, "[]", by=ADA),
    ):
        with pytest.raises(IllegalMove, match="is discarded"):
            act()
    assert bench.control.list_acts() == before


def test_each_act_leaves_one_entry(bench: Bench) -> None:
    """Who, what, to which letters and why; a single one by its id, several by their number."""
    poisoned(bench, "crm/t/a", "crm/t/b", "crm/c")
    letters = {x.key: x.dead_letter_id for x in list_letters(bench.platform)}
    discard_letters(bench.platform, [letters["crm/c"]] * 2, by=ADA)
    bench.target.poison.clear()
    fix_letter(bench.platform, letters["crm/t/a"], '[{"op":"add","path":"/x","value":1}]', by=ADA)
    requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letters["crm/t/b"]])
    acts = {act.act: act for act in bench.control.list_acts()}
    assert {name: act.subject for name, act in acts.items()} == {
        "dead_letter.discard": letters["crm/c"],
        "dead_letter.fix": letters["crm/t/a"],
        "dead_letter.requeue": letters["crm/t/b"],
    }
    assert {act.reason for act in acts.values()} == {"mended at the source"}
    with pytest.raises(NothingToDo, match="name the dead letters"):
        discard_letters(bench.platform, [], by=ADA)
    assert len(bench.control.list_acts()) == 3


@pytest.mark.parametrize("mend", [False, True])
def test_what_landed_counts_though_its_worker_died(
    bench: Bench, monkeypatch: Any, mend: bool
) -> None:
    """The next look admits it with the act and the letter; meanwhile nobody else can ask for the same."""
    poisoned(bench, "crm/t/a")
    bench.target.poison.clear()
    name = only_letter(bench).dead_letter_id

    def ask() -> None:
        if mend:
            fix_letter(bench.platform, name, '[{"op":"replace","path":"/v","value":7}]', by=ADA)
        else:
            requeue_letters(bench.platform, by=ADA, dead_letter_ids=[name])

    with monkeypatch.context() as dying:
        dying.setattr(bench.control, "admit", _dies)
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert only_letter(bench).dead_letter_id == name
    with pytest.raises(ChangedMeanwhile, match="on its way again already: ada asked for it"):
        ask()
    assert len(discover_batches(bench.platform, "").admitted) == 1
    letter = only_letter(bench, LetterStatus.REQUEUED)
    assert letter.data == ('{"v":7}' if mend else '{"v":1}')
    with pytest.raises(IllegalMove):
        ask()
    bench.publish()
    assert bench.target.entities["person", "crm/t/a"] == letter.data
    assert only_letter(bench, None).status is LetterStatus.RESOLVED
    assert [act.actor for act in bench.control.list_acts()] == ["ada"]


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_mended_letter_whose_correction_was_cancelled_keeps_what_was_written(
    bench: Bench,
) -> None:
    """It is open again with the mended data, which are what is tried next."""
    poisoned(bench, "crm/t/a")
    bench.target.poison.clear()
    name = only_letter(bench).dead_letter_id
    patch = '[{"op":"replace","path":"/v","value":7}]'
    (correction,) = fix_letter(bench.platform, name, patch, by=ADA).corrections
    cancel(bench.platform, correction.batch_id, TARGET, by=ADA)
    assert inspect_letter(bench.platform, name).attributes == {"v": 7}
    requeue_letters(bench.platform, by=ADA, dead_letter_ids=[name])
    bench.publish()
    assert bench.target.entities["person", "crm/t/a"] == '{"v":7}'


def test_a_correction_that_a_newer_batch_overtook_opens_its_letters_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landed, but not admitted before a newer batch was published, it fails, and no letter waits for it for ever."""
    poisoned(bench, "crm/t/a")
    name = only_letter(bench).dead_letter_id
    with monkeypatch.context() as dying:
        dying.setattr(bench.control, "admit", _dies)
        with pytest.raises(KeyboardInterrupt):
            requeue_letters(bench.platform, by=ADA, dead_letter_ids=[name])
    bench.land([person("crm/new", v=1)], mode=Mode.DELTA)
    assert bench.publish().state.status is PublishStatus.COMPLETE
    discover_batches(bench.platform, "")
    assert publish_next(bench.platform, "worker") is None
    letter = only_letter(bench)
    assert (letter.dead_letter_id, letter.status) == (name, LetterStatus.OPEN)
    last = bench.control.letter_history(name)[-1]
    assert (last.event, last.code) == (LetterEvent.FAILED_AGAIN, SUPERSEDED)


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("no json", "cannot be applied"),
        ("{}", "is a list"),
        ('[{"op": "replace", "path": "/nothing/here", "value": 1}]', "cannot be applied"),
        ('[{"op": "jump", "path": "/v"}]', "cannot be applied"),
        ('[{"op": "test", "path": "/v", "value": 5}]', "cannot be applied"),
        ('[{"op": "replace", "path": "", "value": [1]}]', "leaves list"),
        ('[{"op": "add", "path": "/x", "value": NaN}]', "NaN is not JSON"),
        (json.dumps([{"op": "add", "path": "/x", "value": 1}] * 1001), "at most"),
        (json.dumps([{"op": "add", "path": "/x", "value": "y" * 300_000}]), "over 262,144 bytes"),
    ],
)
def test_a_patch_that_breaks_a_rule_changes_nothing(bench: Bench, patch: str, said: str) -> None:
    """Malformed, inapplicable, too large, or leaving what no row may be: refused, and the letter is as it was."""
    poisoned(bench, "crm/t/a")
    letter = only_letter(bench)
    with pytest.raises(BadPatch, match=said):
        fix_letter(bench.platform, letter.dead_letter_id, patch, by=ADA)
    assert only_letter(bench) == letter
    assert bench.control.list_acts() == []
    waiting: Any = bench.control.explain_queue(
        now=bench.clock.now(), policy=bench.platform.queue_policy
    )
    assert waiting == []


def test_a_delete_cannot_be_patched(bench: Bench) -> None:
    """There is nothing to mend of what goes."""
    bench.land(ROWS)
    bench.publish()
    bench.target.poison.add("crm/c")
    bench.land([*ROWS[:3]])
    bench.publish()
    letters = {x.action: x for x in list_letters(bench.platform)}
    assert set(letters) == {"delete"}
    with pytest.raises(BadPatch, match="no attributes to patch"):
        fix_letter(bench.platform, letters["delete"].dead_letter_id, "[]", by=ADA)


def test_more_than_allowed_at_once_is_refused(bench: Bench) -> None:
    """The limit counts what was requeued within the last minute, and passes with time."""
    from dataclasses import replace

    poisoned(bench, "crm/t/a", "crm/t/b")
    slow = replace(bench.platform, requeues_per_minute=1)
    with pytest.raises(TooMany, match="more than the 1"):
        requeue_letters(slow, by=ADA, chosen=LetterFilter(code="poison"))
    first, second = list_letters(bench.platform)
    requeue_letters(slow, by=ADA, dead_letter_ids=[first.dead_letter_id])
    with pytest.raises(TooMany):
        requeue_letters(slow, by=ADA, dead_letter_ids=[second.dead_letter_id])
    bench.clock.sleep(61)
    bench.publish()
    requeue_letters(slow, by=ADA, dead_letter_ids=[second.dead_letter_id])


def test_a_batch_that_failed_is_requeued_whole(bench: Bench) -> None:
    """Its letter goes with it, and is resolved when it gets through."""
    bench.land(ROWS)
    manifest_of = bench.platform.targets
    del manifest_of[TARGET]  # type: ignore[attr-defined]
    assert bench.publish().state.status is PublishStatus.FAILED
    letter = only_letter(bench)
    assert letter.operation_id is None
    manifest_of[TARGET] = bench.target  # type: ignore[index]
    done = requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letter.dead_letter_id])
    assert len(done.batches) == 1
    assert only_letter(bench, None).status is LetterStatus.REQUEUED
    (act,) = bench.control.list_acts()
    assert (act.act, act.details["dead_letter_id"]) == ("batch.requeue", letter.dead_letter_id)
    with pytest.raises(IllegalMove):
        requeue_letters(bench.platform, by=ADA, dead_letter_ids=[letter.dead_letter_id])
    assert bench.publish().state.status is PublishStatus.COMPLETE
    assert only_letter(bench, None).status is LetterStatus.RESOLVED


def test_what_was_never_a_batch_is_looked_at_again(bench: Bench) -> None:
    """There is nothing to put in a queue: the letter is requeued, and who asked is kept."""
    now = bench.clock.now()
    bad = {"where": "batches/crm/x", "source_id": "crm", "code": "bad_manifest", "message": "no"}
    name = bench.control.record_dead_letter(subject="crm@x", now=now, **bad).dead_letter_id
    done = requeue_letters(bench.platform, by=ADA, dead_letter_ids=[name])
    assert (done.letters, done.batches) == (1, ())
    assert only_letter(bench, None).status is LetterStatus.REQUEUED
    (act,) = bench.control.list_acts()
    assert (act.act, act.subject, act.source_id) == ("dead_letter.requeue", name, "crm")


def test_what_is_not_there_is_an_error(bench: Bench) -> None:
    """An unknown id, or a choice of nothing, is said."""
    with pytest.raises(NotFound):
        inspect_letter(bench.platform, "0" * 32)
    with pytest.raises(NothingToDo):
        requeue_letters(bench.platform, by=ADA)
    with pytest.raises(NothingToDo):
        requeue_letters(bench.platform, by=ADA, chosen=LetterFilter(code="poison"))
