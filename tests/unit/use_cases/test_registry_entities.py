"""Commands on entities, against the model of the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from penstock.ports.registry import Append, Appended
from penstock.registry.commands import (
    Command,
    Create,
    Delete,
    Deprecate,
    JsonPatch,
    MergePatch,
    Reinstate,
    Replace,
    Restore,
    RollBack,
    TakeStep,
)
from penstock.registry.events import EventAction, NewEvent
from penstock.registry.problems import Problem, ProblemKind
from penstock.registry.workflow import ReviewStep
from penstock.use_cases.registry_platform import BatchResult, Done, RegistryPolicy
from tests.fixtures.registry_memory import MemoryRegistryStore
from tests.fixtures.registry_world import (
    ANN,
    BOB,
    OTHER,
    RegistryWorld,
    edge,
    entity,
)

A = entity("a")


@pytest.fixture
def world() -> RegistryWorld:
    return RegistryWorld()


def test_an_entity_is_created_once(world: RegistryWorld) -> None:
    """The first create leaves version 1 with its author, and a second is refused and says so."""
    held = world.create(A, {"rows": 1})
    assert (held.state, held.version, held.status, held.review) == ({"rows": 1}, 1, "active", None)
    assert (held.updated_by, held.schema_version) == (ANN, None)
    again = world.refused(Create(stream=A, attributes={}), ProblemKind.ALREADY_EXISTS)
    assert again.more["version_tag"] == held.version_tag.hex()


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (lambda tag: Replace(stream=A, attributes={"b": 2}, expected=tag), {"b": 2}),
        (lambda tag: MergePatch(stream=A, patch={"b": 2, "a": None}, expected=tag), {"b": 2}),
        (
            lambda tag: JsonPatch(
                stream=A,
                operations=[{"op": "add", "path": "/b", "value": 2}],
                expected=tag,
            ),
            {"a": 1, "b": 2},
        ),
    ],
)
def test_attributes_change_under_the_version_that_was_read(
    world: RegistryWorld, change: Any, after: dict[str, Any]
) -> None:
    """Replacing and both kinds of patch want the version; a stale one is refused with the present one named."""
    first = world.create(A, {"a": 1})
    nameless = world.refused(change(None), ProblemKind.VERSION_REQUIRED)
    assert nameless.status == 428
    second = world.done(change(first.version_tag))
    assert (second.state, second.version) == (after, 2)
    assert second.version_tag != first.version_tag
    stale = world.refused(change(first.version_tag), ProblemKind.VERSION_MISMATCH)
    assert stale.status == 412
    assert stale.more == {"version": 2, "version_tag": second.version_tag.hex()}


def test_a_policy_may_want_no_versions() -> None:
    """With a policy that asks for none, a patch without a version is applied to whatever there is."""
    world = RegistryWorld(policy=RegistryPolicy(version_required=frozenset()))
    world.create(A, {"a": 1})
    assert world.done(MergePatch(stream=A, patch={"b": 2})).state == {"a": 1, "b": 2}


def test_replace_may_create(world: RegistryWorld) -> None:
    """A replace of what is not there is refused unless it may create."""
    world.refused(Replace(stream=A, attributes={}), ProblemKind.NOT_FOUND)
    assert world.done(Replace(stream=A, attributes={"a": 1}, or_create=True)).version == 1
    there = Replace(stream=A, attributes={"a": 2}, or_create=True)
    world.refused(there, ProblemKind.VERSION_REQUIRED)
    gone = replace(there, stream=entity("b"), expected=b"x" * 16)
    world.refused(gone, ProblemKind.VERSION_MISMATCH)


def test_a_change_that_changes_nothing_leaves_no_event(world: RegistryWorld) -> None:
    """Setting attributes to what they are answers with what is there, at the version that it had."""
    held = world.create(A, {"a": 1.0})
    before = world.written()
    answer = world.run(Replace(stream=A, attributes={"a": 1.0}, expected=held.version_tag))
    assert isinstance(answer, Done)
    assert (answer.held, answer.operation_id) == (held, None)
    assert world.written() == before


def test_values_that_were_published_keep_their_types_through_a_patch(world: RegistryWorld) -> None:
    """A date that a source published stays a date when another attribute is patched, and when all is sent back."""
    published(world, {"on": date(2026, 1, 2), "n": 1})
    held = world.platform.store.get(A)
    assert held is not None
    patched = world.done(MergePatch(stream=A, patch={"n": 2}, expected=held.version_tag))
    assert patched.state == {"on": date(2026, 1, 2), "n": 2}
    sent = {"on": "2026-01-02", "n": 3}
    whole = world.done(Replace(stream=A, attributes=sent, expected=patched.version_tag))
    assert whole.state["on"] == date(2026, 1, 2)


def published(world: RegistryWorld, state: dict[str, Any]) -> None:
    event = NewEvent(
        stream=A,
        action=EventAction.CREATE,
        state=state,
        operation_id=b"p" * 16,
        actor="batch:crm",
    )
    answer = world.store.append([Append(event=event, expected=None)], now=world.clock.moment)
    assert isinstance(answer, Appended)


@pytest.mark.parametrize("attributes", [{"a": "\ud800"}, {"a": {1, 2}}, [1], "text"])
def test_what_no_store_could_keep_is_refused(world: RegistryWorld, attributes: Any) -> None:
    """Attributes outside the value model are refused with what is wrong."""
    problem = world.refused(Create(stream=A, attributes=attributes), ProblemKind.INVALID_REQUEST)
    assert problem.errors[0].rule == "value-model"


def test_a_patch_that_cannot_be_applied_is_refused(world: RegistryWorld) -> None:
    """The problem of a patch is the command's, and nothing is written."""
    held = world.create(A, {"a": 1})
    remove = [{"op": "remove", "path": "/zz"}]
    command = JsonPatch(stream=A, operations=remove, expected=held.version_tag)
    assert "/zz" in world.refused(command, ProblemKind.PATCH_FAILED).detail


# Delete, restore, roll back -----------------------------------------------------------------------------------


def test_what_is_deleted_can_be_restored_as_it_was(world: RegistryWorld) -> None:
    """A delete leaves history; reading it says who and when, and restore brings attributes and status back."""
    world.create(A, {"a": 1})
    world.done(Deprecate(stream=A, reason="old"))
    assert world.delete(A).held is None
    gone = world.refused(Delete(stream=A), ProblemKind.NOT_FOUND)
    assert gone.more["deleted_by"] == ANN
    back = world.done(Restore(stream=A), by=BOB)
    assert (back.state, back.status, back.version, back.updated_by) == (
        {"a": 1},
        "deprecated",
        4,
        BOB,
    )
    world.refused(Restore(stream=A), ProblemKind.ALREADY_EXISTS)
    world.refused(Restore(stream=entity("never")), ProblemKind.NOT_FOUND)


def test_a_deleted_entity_may_be_created_anew(world: RegistryWorld) -> None:
    """Its versions count on, and its history has both lives."""
    world.create(A, {"a": 1})
    world.delete(A)
    assert world.create(A, {"a": 2}).version == 3


def test_one_entity_is_rolled_back_to_an_earlier_version(world: RegistryWorld) -> None:
    """It has the attributes of that version again, in a new version; a deleted one comes back so."""
    first = world.create(A, {"a": 1})
    second = world.done(Replace(stream=A, attributes={"a": 2}, expected=first.version_tag))
    stale = RollBack(stream=A, version=1, expected=first.version_tag)
    world.refused(stale, ProblemKind.VERSION_MISMATCH)
    back = world.done(RollBack(stream=A, version=1, expected=second.version_tag))
    assert (back.state, back.version) == ({"a": 1}, 3)
    world.delete(A)
    assert world.done(RollBack(stream=A, version=2)).state == {"a": 2}
    last = world.store.history(A)[-1]
    assert (last.action, last.data) == (EventAction.RESTORE, {"rolled_back_to": 2})


def test_a_roll_back_wants_a_version_with_attributes(world: RegistryWorld) -> None:
    """Versions that there are not, and those that were deletions, are refused."""
    world.create(A, {"a": 1})
    world.delete(A)
    world.create(A, {"a": 2})
    for version in (0, -1, 4):
        problem = world.refused(RollBack(stream=A, version=version), ProblemKind.NOT_FOUND)
        assert "it has 1 to 3" in problem.detail
    world.refused(RollBack(stream=A, version=2), ProblemKind.ILLEGAL_STEP)
    world.refused(RollBack(stream=entity("never"), version=1), ProblemKind.NOT_FOUND)


# Status and review --------------------------------------------------------------------------------------------


def test_an_entity_is_deprecated_and_reinstated(world: RegistryWorld) -> None:
    """The status changes and the attributes do not; to set it as it is changes nothing."""
    world.create(A, {"a": 1})
    deprecated = world.done(Deprecate(stream=A, reason="use b"))
    assert (deprecated.status, deprecated.state, deprecated.version) == ("deprecated", {"a": 1}, 2)
    assert world.done(Deprecate(stream=A)).version == 2
    changed = MergePatch(stream=A, patch={"a": 2}, expected=deprecated.version_tag)
    assert world.done(changed).status == "deprecated"
    assert world.done(Reinstate(stream=A)).status == "active"
    event = world.store.history(A)[1]
    assert (event.data, event.status) == ({"reason": "use b"}, "deprecated")


def step(name: str, reason: str = "") -> TakeStep:
    return TakeStep(stream=A, step=ReviewStep(name), reason=reason)


def test_one_puts_forward_and_another_attests(world: RegistryWorld) -> None:
    """Who and when stand on the entity, and the proposer may not attest."""
    world.create(A, {"a": 1})
    proposed = world.done(step("propose"))
    assert (proposed.review, proposed.reviewed_by) == ("proposed", ANN)
    forbidden = world.refused(step("attest"), ProblemKind.FORBIDDEN)
    assert forbidden.status == 403
    attested = world.done(step("attest", "looked at it"), by=BOB)
    assert (attested.review, attested.reviewed_by) == ("attested", BOB)
    assert attested.reviewed_at == world.clock.moment
    assert world.store.history(A)[-1].data["reason"] == "looked at it"


def test_a_policy_may_let_the_proposer_attest() -> None:
    """Without four eyes, one person may do both."""
    world = RegistryWorld(policy=RegistryPolicy(four_eyes=False))
    world.create(A)
    world.done(step("propose"))
    assert world.done(step("attest")).review == "attested"


def test_steps_that_there_are_not_are_refused_with_those_that_there_are(
    world: RegistryWorld,
) -> None:
    """Each state names its legal steps."""
    world.create(A)
    early = world.refused(step("attest"), ProblemKind.ILLEGAL_STEP)
    assert early.more["legal"] == ["propose"]
    world.done(step("propose"))
    world.done(step("reject", "no"), by=BOB)
    assert world.refused(step("reject"), ProblemKind.ILLEGAL_STEP).more["legal"] == ["propose"]
    world.refused(step("change"), ProblemKind.ILLEGAL_STEP)
    world.done(step("propose"))
    assert world.done(step("attest"), by=BOB).review == "attested"
    assert world.refused(step("propose"), ProblemKind.ILLEGAL_STEP).more["legal"] == []


def test_a_change_of_attributes_takes_an_attestation_back(world: RegistryWorld) -> None:
    """Deprecating keeps it; other attributes do not."""
    world.create(A, {"a": 1})
    world.done(step("propose"))
    world.done(step("attest"), by=BOB)
    kept = world.done(Deprecate(stream=A))
    assert (kept.review, kept.reviewed_by) == ("attested", BOB)
    changed = world.done(MergePatch(stream=A, patch={"a": 2}, expected=kept.version_tag))
    assert (changed.review, changed.reviewed_by, changed.reviewed_at) == (None, None, None)


def test_relationships_are_neither_deprecated_nor_attested(world: RegistryWorld) -> None:
    """Commands that are about entities refuse anything else."""
    for command in (
        Deprecate(stream=edge("a", "b")),
        replace(step("propose"), stream=edge("a", "b")),
    ):
        world.refused(command, ProblemKind.INVALID_REQUEST)


# Tenants and requests -----------------------------------------------------------------------------------------


def test_one_tenant_sees_nothing_of_another(world: RegistryWorld) -> None:
    """A command on a stream of another tenant finds nothing there, whatever there is."""
    world.create(A, {"a": 1})
    for command in (Create(stream=A, attributes={}), Delete(stream=A), Restore(stream=A)):
        answer = world.run(command, tenant=OTHER)
        assert isinstance(answer, Problem)
        assert answer.kind is ProblemKind.NOT_FOUND
    theirs = replace(A, tenant_id=OTHER)
    answer = world.run(Create(stream=theirs, attributes={"b": 1}), tenant=OTHER)
    assert isinstance(answer, Done)
    held = world.store.get(A)
    assert held is not None
    assert held.state == {"a": 1}


def test_an_act_has_an_actor_and_a_short_reason(world: RegistryWorld) -> None:
    """Nobody, a control character, a long reason and a long key are all said at once."""
    command = Create(stream=A, attributes={}, reason="x" * 2001)
    answer = world.run(command, by="a\nb", key="k" * 256)
    assert isinstance(answer, Problem)
    assert [each.path for each in answer.errors] == ["/actor", "/idempotency_key", "/reason"]
    assert isinstance(world.run(Create(stream=A, attributes={}), by=" "), Problem)


# Idempotency --------------------------------------------------------------------------------------------------


def test_a_command_under_a_key_is_carried_out_once(world: RegistryWorld) -> None:
    """A repetition answers what the first time left, even after others have changed it."""
    first = world.run(Create(stream=A, attributes={"a": 1}), key="k")
    assert isinstance(first, Done)
    assert first.held is not None
    world.done(Replace(stream=A, attributes={"a": 2}, expected=first.held.version_tag))
    before = world.written()
    again = world.run(Create(stream=A, attributes={"a": 1}), key="k")
    assert isinstance(again, Done)
    assert again == replace(first, repeated=True)
    assert world.written() == before


def test_a_repeated_step_answers_with_who_and_when(world: RegistryWorld) -> None:
    """Review, reviewer and moment are those of the first time, and so is the status that was there."""
    world.create(A)
    world.done(Deprecate(stream=A))
    first = world.run(step("propose"), key="k")
    world.done(Reinstate(stream=A))
    again = world.run(step("propose"), key="k")
    assert isinstance(first, Done)
    assert again == replace(first, repeated=True)


def test_a_repeated_delete_answers_again(world: RegistryWorld) -> None:
    """What is gone stays gone for its repetition, though it is there anew."""
    world.create(A)
    assert isinstance(world.run(Delete(stream=A), key="k"), Done)
    world.create(A)
    again = world.run(Delete(stream=A), key="k")
    assert isinstance(again, Done)
    assert (again.held, again.repeated) == (None, True)
    assert world.store.get(A) is not None


@pytest.mark.parametrize(
    "other",
    [
        Create(stream=A, attributes={"a": 2}),
        Create(stream=entity("b"), attributes={"a": 1}),
        Replace(stream=A, attributes={"a": 1}, or_create=True),
    ],
)
def test_a_key_is_for_one_command(world: RegistryWorld, other: Command) -> None:
    """The same key with other attributes, another stream or another command is refused."""
    world.run(Create(stream=A, attributes={"a": 1}), key="k")
    refused = world.refused(other, ProblemKind.KEY_REUSED, key="k")
    assert refused.status == 422
    assert isinstance(world.run(Create(stream=entity("c"), attributes={}), key="l"), Done)


def test_a_refused_command_may_be_mended_under_its_key(world: RegistryWorld) -> None:
    """A refusal leaves nothing behind, not even its key."""
    world.refused(Replace(stream=A, attributes={}), ProblemKind.NOT_FOUND, key="k")
    assert world.done(Create(stream=A, attributes={}), key="k").version == 1


def test_under_a_key_even_no_change_leaves_a_receipt(world: RegistryWorld) -> None:
    """A repetition has to be known again, so a command under a key that changes nothing is an event too."""
    held = world.create(A, {"a": 1})
    command = Replace(stream=A, attributes={"a": 1}, expected=held.version_tag)
    first, again = world.run(command, key="k"), world.run(command, key="k")
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert (first.repeated, again.repeated, again.held) == (False, True, first.held)


def test_keys_are_a_tenants_own(world: RegistryWorld) -> None:
    """Two tenants may use the same key for different commands."""
    world.run(Create(stream=A, attributes={"a": 1}), key="k")
    theirs = Create(stream=replace(A, tenant_id=OTHER), attributes={"b": 1})
    answer = world.run(theirs, key="k", tenant=OTHER)
    assert isinstance(answer, Done)
    assert not answer.repeated


# Batches ------------------------------------------------------------------------------------------------------


def test_an_atomic_batch_is_all_or_nothing(world: RegistryWorld) -> None:
    """One bad command keeps all others back; each says what is wrong with it, or that nothing is."""
    world.create(A)
    before = world.written()
    answer = world.batch(
        Create(stream=entity("b"), attributes={}),
        Create(stream=A, attributes={}),
        Delete(stream=entity("zz")),
        atomic=True,
    )
    assert isinstance(answer, BatchResult)
    kinds = [item.kind for item in answer.items if isinstance(item, Problem)]
    assert kinds == [ProblemKind.NOT_DONE, ProblemKind.ALREADY_EXISTS, ProblemKind.NOT_FOUND]
    assert (answer.done, world.written()) == (0, before)


def test_commands_of_an_atomic_batch_see_each_other(world: RegistryWorld) -> None:
    """A relationship may join what the same batch creates, before or after it, and all is one append."""
    answer = world.batch(
        Create(stream=edge("a", "b"), attributes={}),
        Create(stream=A, attributes={}),
        Create(stream=entity("b"), attributes={}),
        atomic=True,
    )
    assert isinstance(answer, BatchResult)
    assert answer.done == 3
    answer = world.batch(Delete(stream=A), Delete(stream=edge("a", "b")), atomic=True)
    assert isinstance(answer, BatchResult)
    assert answer.done == 2


def test_a_stream_is_the_subject_of_one_command_of_an_atomic_batch(world: RegistryWorld) -> None:
    """Two commands on one entity are refused, since the second could not say which version it means."""
    create = Create(stream=A, attributes={})
    answer = world.batch(create, Deprecate(stream=A), atomic=True)
    assert isinstance(answer, BatchResult)
    last = answer.items[1]
    assert isinstance(last, Problem)
    assert "two commands of this batch" in last.detail


def test_each_by_itself_goes_as_far_as_it_goes(world: RegistryWorld) -> None:
    """Without atomicity the good are carried out, in order, and the bad are refused beside them."""
    answer = world.batch(
        Create(stream=A, attributes={}),
        Create(stream=A, attributes={}),
        Deprecate(stream=A),
        atomic=False,
    )
    assert isinstance(answer, BatchResult)
    assert [isinstance(item, Done) for item in answer.items] == [True, False, True]


@pytest.mark.parametrize("atomic", [True, False])
def test_a_batch_under_a_key_is_carried_out_once(world: RegistryWorld, atomic: bool) -> None:
    """Every command answers as the first time, and a changed command under the key is refused."""
    commands = [Create(stream=entity(str(n)), attributes={"n": n}) for n in range(3)]
    first = world.batch(*commands, atomic=atomic, key="k")
    before = world.written()
    again = world.batch(*commands, atomic=atomic, key="k")
    assert isinstance(first, BatchResult)
    assert isinstance(again, BatchResult)
    assert again.items == tuple(
        replace(i, repeated=True) for i in first.items if isinstance(i, Done)
    )
    assert world.written() == before
    other = world.batch(*commands[:2], Delete(stream=A), atomic=atomic, key="k")
    last = other if isinstance(other, Problem) else other.items[-1]
    assert isinstance(last, Problem)
    assert last.kind is ProblemKind.KEY_REUSED


def test_a_batch_has_so_many_commands_at_most(world: RegistryWorld) -> None:
    """One over the limit refuses the batch as a whole; none at all is an empty answer."""
    commands = [Create(stream=entity(str(n)), attributes={}) for n in range(1_001)]
    refused = world.batch(*commands, atomic=False)
    assert isinstance(refused, Problem)
    assert refused.status == 413
    answer = world.batch(*commands[:1_000], atomic=True)
    assert isinstance(answer, BatchResult)
    assert answer.done == 1_000
    for atomic in (True, False):
        assert world.batch(atomic=atomic) == BatchResult(items=())


# Rivals -------------------------------------------------------------------------------------------------------


class Rival(MemoryRegistryStore):
    """A store in which somebody else is faster, so many times."""

    meddling: list[Any]

    def append(self, appends: Any, **how: Any) -> Any:
        if self.meddling:
            self.meddling.pop(0)()
        return super().append(appends, **how)


def rivalled(times: int) -> RegistryWorld:
    store = Rival()
    store.meddling = []
    world = RegistryWorld(store=store)
    world.create(A, {"n": 0})

    def meddle(n: int) -> Any:
        def act() -> None:
            event = NewEvent(
                stream=A,
                action=EventAction.UPDATE,
                state={"n": n},
                operation_id=bytes([n + 1]) * 16,
                actor=BOB,
            )
            MemoryRegistryStore.append(
                store, [Append(event=event, expected=None)], now=world.clock.moment
            )

        return act

    store.meddling = [meddle(n) for n in range(times)]
    return world


def test_a_command_without_a_version_is_decided_anew_when_others_are_faster() -> None:
    """It takes hold of what the others left."""
    world = rivalled(3)
    held = world.done(Deprecate(stream=A))
    assert (held.state, held.status, held.version) == ({"n": 2}, "deprecated", 5)


def test_a_command_with_a_version_is_refused_when_others_are_faster() -> None:
    """What it was meant for is no more, and it says so."""
    world = rivalled(1)
    held = world.store.get(A)
    assert held is not None
    patch = MergePatch(stream=A, patch={"x": 1}, expected=held.version_tag)
    answer = world.run(patch)
    assert isinstance(answer, Problem)
    assert answer.kind is ProblemKind.VERSION_MISMATCH


def test_a_command_gives_up_on_an_endless_race() -> None:
    """After so many attempts it says that it should be tried again."""
    answer = rivalled(8).run(Deprecate(stream=A))
    assert isinstance(answer, Problem)
    assert (answer.kind, answer.status) == (ProblemKind.CONTENDED, 503)
