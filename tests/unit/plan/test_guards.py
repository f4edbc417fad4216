"""Guards: which limits trip on what, whose limits hold, and that a broken guard is noticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.batch.guard_policy import GuardPolicy, Protected
from penstock.batch.rows import Kind
from penstock.plan import guards as module
from penstock.plan.guards import (
    CANARY,
    TypeCounts,
    TypeHistory,
    held_types,
    held_update_types,
    history_of,
    protected_verdict,
    protects,
    run_guards,
)

PERSON = (Kind.ENTITY, "person")
TEAM = (Kind.ENTITY, "team")


def tripped(policy: GuardPolicy, counts: TypeCounts, **options: Any) -> set[str]:
    """The guards that say no to one type's counts."""
    return {v.guard for v in run_guards(policy, {PERSON: counts}, **options) if not v.passed}


@pytest.mark.parametrize(
    ("limits", "counts", "expected"),
    [
        ({"max_deletes": 5}, {"known": 1000, "landed": 994, "inferred_deletes": 6}, "delete_limit"),
        ({"max_deletes": 5}, {"known": 1000, "landed": 3, "tombstoned": 6}, "delete_limit"),
        ({"max_updates": 5}, {"known": 1000, "landed": 1000, "updated": 6}, "update_limit"),
        (
            {"max_update_share": 0.1, "always_allowed_updates": 10},
            {"known": 1000, "landed": 1000, "updated": 101},
            "update_share",
        ),
        (
            {"max_delete_share": 1.0},
            {"known": 100, "landed": 49, "inferred_deletes": 51},
            "extract_floor",
        ),
    ],
)
def test_a_limit_trips_past_its_number(
    limits: dict[str, Any], counts: dict[str, int], expected: str
) -> None:
    """One more than allowed is held by the guard of that limit, and as many as allowed by none."""
    full = "tombstoned" not in counts
    assert tripped(GuardPolicy(**limits), TypeCounts(**counts), full=full) == {expected}
    (changed,) = {"inferred_deletes", "tombstoned", "updated"} & set(counts)
    fine = {**counts, changed: counts[changed] - 1, "landed": counts["landed"] + 1}
    assert tripped(GuardPolicy(**limits), TypeCounts(**fine), full=full) == set()


def test_a_type_may_have_limits_of_its_own() -> None:
    """What is said for one type holds for that type alone."""
    policy = GuardPolicy(types={"team": {"max_delete_share": 0.9, "min_extract_share": 0}})
    counts = TypeCounts(known=100, landed=40, inferred_deletes=60)
    assert set(held_types(run_guards(policy, {PERSON: counts, TEAM: counts}))) == {PERSON}


def test_a_limit_that_is_none_is_refused_by_name() -> None:
    """A misspelt limit of a type does not silently do nothing."""
    with pytest.raises(ValidationError, match="max_delete_shar is no limit"):
        GuardPolicy(types={"team": {"max_delete_shar": 0.9}})


def test_many_times_what_the_source_ever_did_is_held() -> None:
    """Once there is a history, deletes and updates far beyond it are held, and not before."""
    counts = TypeCounts(known=10_000, landed=10_000, inferred_deletes=2000, updated=6000)
    quiet = {PERSON: TypeHistory(batches=5, deletes=3, updates=40)}
    assert tripped(GuardPolicy(), counts, history=quiet) == {"delete_history", "update_history"}
    young = {PERSON: TypeHistory(batches=4, deletes=3, updates=40)}
    assert tripped(GuardPolicy(), counts, history=young) == set()
    lively = {PERSON: TypeHistory(batches=5, deletes=300, updates=900)}
    assert tripped(GuardPolicy(), counts, history=lively) == set()
    assert tripped(GuardPolicy(history_factor=None), counts, history=quiet) == set()


def test_history_is_the_most_of_any_batch() -> None:
    """Each batch counts once for each type that it had."""
    first = {PERSON: TypeCounts(known=0, landed=9, updated=4, tombstoned=1)}
    second = {PERSON: TypeCounts(known=0, landed=9, updated=2, tombstoned=3)}
    assert history_of([first, second, {}]) == {PERSON: TypeHistory(batches=2, deletes=3, updates=4)}


def test_updates_are_held_apart_from_deletes() -> None:
    """A guard of updates leaves the deletes of the type alone."""
    verdicts = run_guards(
        GuardPolicy(max_updates=1), {PERSON: TypeCounts(known=9, landed=9, updated=2)}
    )
    assert set(held_update_types(verdicts)) == {PERSON}
    assert held_types(verdicts) == {}


def test_every_guard_trips_on_its_canary_or_is_off() -> None:
    """With the defaults those that have a limit prove that they work, and the others say that they are off."""
    canaries = {v.guard: v.canary for v in run_guards(GuardPolicy(), {})}
    assert canaries == {
        "delete_limit": "off",
        "delete_share": "tripped",
        "delete_history": "tripped",
        "extract_floor": "tripped",
        "empty_extract": "tripped",
        "update_limit": "off",
        "update_share": "off",
        "update_history": "tripped",
    }


def test_a_broken_guard_holds_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that no longer trips on a disaster is noticed at once, and nothing is deleted until it is mended."""
    broken = tuple(
        guard
        if guard.name != "delete_share"
        else module._Guard(name="delete_share", over=lambda *_: None, fine="all is well")
        for guard in module._GUARDS
    )
    monkeypatch.setattr(module, "_GUARDS", broken)
    verdicts = run_guards(
        GuardPolicy(), {PERSON: TypeCounts(known=9, landed=8, inferred_deletes=1)}
    )
    assert verdicts[0].guard == CANARY
    assert not verdicts[0].passed
    assert set(held_types(verdicts)) == {PERSON}


def test_protection_is_by_type_key_and_attributes() -> None:
    """All that a rule says has to hold; any rule protects."""
    policy = GuardPolicy(
        protected=(
            Protected(entity_type="person", entity_key="crm/vip/*"),
            Protected(attributes={"tier": "gold"}),
        )
    )
    assert protects(policy, "person", "crm/vip/a/b", {})
    assert protects(policy, "team", "crm/t", {"tier": "gold"})
    assert not protects(policy, "team", "crm/vip/a", {"tier": "tin"})
    assert protected_verdict(policy, 0).canary == "tripped"
    assert not protected_verdict(policy, 3).passed


@given(
    known=st.integers(0, 2000),
    share=st.floats(0, 1),
    most=st.none() | st.integers(0, 50),
    allowed=st.integers(0, 50),
    data=st.data(),
)
def test_no_delete_passes_that_the_policy_would_hold(
    known: int, share: float, most: int | None, allowed: int, data: st.DataObject
) -> None:
    """Read naively, the policy never allows what the guards let through."""
    deletes = data.draw(st.integers(0, known))
    landed = data.draw(st.integers(known - deletes, 3000))
    policy = GuardPolicy(max_deletes=most, max_delete_share=share, always_allowed_deletes=allowed)
    counts = TypeCounts(known=known, landed=landed, inferred_deletes=deletes)
    held = PERSON in held_types(run_guards(policy, {PERSON: counts}))
    over_limit = most is not None and deletes > most
    over_share = deletes > allowed and deletes > share * known
    too_little = deletes > allowed and landed < 0.5 * known
    empty = landed == 0 and known > allowed and deletes > 0
    assert held == (over_limit or over_share or too_little or empty)
