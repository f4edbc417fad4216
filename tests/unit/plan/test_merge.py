"""Merging three ways: what people own stays as they left it, what the source owns ends as it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.ownership import Owner
from penstock.plan.merge import merge_three

FIELDS = ("name", "notes", "tag")
OWNERS = {"notes": Owner.HUMAN, "tag": Owner.OTHER}
sides = st.dictionaries(
    st.sampled_from(FIELDS), st.one_of(st.integers(0, 2), st.booleans(), st.just(1.0)), max_size=3
)


def kinds(value: object) -> tuple[object, object]:
    """Tell 1, 1.0 and true apart."""
    return type(value), value


@given(base=sides, theirs=sides, ours=sides)
def test_each_field_goes_to_its_owner(base: dict, theirs: dict, ours: dict) -> None:
    """A changed field of people or others stays; everything else is what the source says."""
    merged = merge_three(base, theirs, ours, OWNERS).attributes
    for name in FIELDS:
        changed = kinds(theirs.get(name)) != kinds(base.get(name)) or (name in theirs) != (
            name in base
        )
        expected = theirs if changed and name in OWNERS else ours
        assert (name in merged) == (name in expected)
        assert kinds(merged.get(name)) == kinds(expected.get(name))


@given(base=sides, ours=sides)
def test_what_nobody_touched_follows_the_source(base: dict, ours: dict) -> None:
    """Where the target holds what was published, the merge is what the source says."""
    merge = merge_three(base, base, ours, OWNERS)
    assert merge.attributes == ours
    assert (merge.kept, merge.conflicts, merge.restored) == ((), (), ())


@given(base=sides, theirs=sides, ours=sides)
def test_merging_again_changes_nothing(base: dict, theirs: dict, ours: dict) -> None:
    """Once merged, the same three sides give the same."""
    once = merge_three(base, theirs, ours, OWNERS).attributes
    assert merge_three(base, once, ours, OWNERS).attributes == once


def test_a_field_that_both_changed_is_a_conflict() -> None:
    """It stays as people have it, and is listed."""
    merge = merge_three({"notes": 1}, {"notes": 2}, {"notes": 3}, OWNERS)
    assert (merge.attributes, merge.kept, merge.conflicts) == ({"notes": 2}, ("notes",), ("notes",))
