"""Keys from names."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from penstock.batch.qualified_name import facet, qualified_name, quoted, unnamed_facet, within
from penstock.identity.ids import container_of

hard = st.text(st.sampled_from("ab/%:.,-\0\n2FE \ud800\udc00é"), max_size=6)
names = st.lists(st.text() | hard, min_size=1, max_size=4)


@given(names, names)
@example([""], ["%-"])
@example(["a/b"], ["a", "b"])
@example(["."], ["%2E"])
@example(["a", ""], ["a"])
@example(["\ud800"], ["%ED%A0%80"])
def test_different_names_never_share_a_key(a: list[str], b: list[str]) -> None:
    """Two lists of names give the same key only if they are the same list."""
    assert (qualified_name(*a) == qualified_name(*b)) == (a == b)


@given(names, names, names)
def test_a_facet_never_takes_the_key_of_a_child(a: list[str], b: list[str], c: list[str]) -> None:
    """Whatever a child is called, no facet of its container has its key, nor has an unnamed one a named one's."""
    key = qualified_name(*a)
    keys = {within(key, *b), facet(key, "index", *c), unnamed_facet(key, "index", *c)}
    assert len(keys) == 3


@given(names, names)
def test_facets_are_told_apart_by_all_of_their_names(a: list[str], b: list[str]) -> None:
    """Facets share a key only if their names are the same, one by one."""
    assert (unnamed_facet("t", "index", *a) == unnamed_facet("t", "index", *b)) == (a == b)
    assert (facet("t", "index", *a) == facet("t", "index", *b)) == (a == b)


@given(names)
def test_the_container_of_a_key_is_the_key_without_its_last_name(listed: list[str]) -> None:
    """A name stays one segment, so that containers nest as names do."""
    key = qualified_name("root", *listed)
    assert container_of(key) == qualified_name("root", *listed[:-1])


@given(st.text() | hard)
def test_a_segment_can_be_stored_anywhere(name: str) -> None:
    """A quoted name is valid UTF-8 without control characters, and never empty or a relative path."""
    segment = quoted(name)
    segment.encode()
    assert segment not in {"", ".", ".."}
    assert "/" not in segment
    assert not any(ord(letter) < 32 for letter in segment)


def test_plain_names_stay_as_they_are() -> None:
    """Names of letters, digits and the usual marks can be read in the key as they are."""
    assert qualified_name("shop", "main", "Orders-2026 (new)") == "shop/main/Orders-2026 (new)"
    assert qualified_name("in/out", "50%") == "in%2Fout/50%25"
