"""Patches of attributes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.registry.patches import MOST_OPERATIONS, json_patched, merge_patched, same_json
from penstock.registry.problems import Problem, ProblemKind

BEFORE = {"a": 1, "b": [1, 2], "c": {"d": True}}


def refused(patched: object) -> list[tuple[str, str, str]]:
    assert isinstance(patched, Problem)
    assert patched.kind is ProblemKind.PATCH_FAILED
    return [(error.path, error.rule, error.message) for error in patched.errors]


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_standard_says(
    before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    """The examples of RFC 7396 that are about objects come out as it lists them."""
    assert merge_patched(before, patch) == after


def test_a_merge_patch_leaves_what_it_was_given_alone() -> None:
    """Neither attributes nor patch are changed by patching."""
    before, patch = {"a": {"b": 1}}, {"a": {"c": {"d": None, "e": 2}}}
    assert merge_patched(before, patch) == {"a": {"b": 1, "c": {"e": 2}}}
    assert (before, patch) == ({"a": {"b": 1}}, {"a": {"c": {"d": None, "e": 2}}})


@pytest.mark.parametrize("patch", [[], "text", 3, None])
def test_a_merge_patch_of_attributes_is_an_object(patch: object) -> None:
    """Anything else would take the attributes' place, and is refused with its type."""
    assert refused(merge_patched(BEFORE, patch))[0][1] == "type"


def test_a_merge_patch_may_not_be_nested_without_end() -> None:
    """A patch deeper than attributes may be is refused before anything recurses into it."""
    deep: Any = {}
    for _ in range(5_000):
        deep = {"a": deep}
    assert refused(merge_patched({}, deep))[0][1] == "maxDepth"


def test_operations_are_applied_in_order() -> None:
    """Each operation sees what those before it have left, and what was given is as it was."""
    patched = json_patched(
        BEFORE,
        [
            {"op": "test", "path": "/c/d", "value": True},
            {"op": "add", "path": "/b/-", "value": 3},
            {"op": "move", "from": "/a", "path": "/c/e"},
            {"op": "copy", "from": "/b", "path": "/f"},
            {"op": "remove", "path": "/b/0"},
            {"op": "replace", "path": "/c/d", "value": None},
        ],
    )
    assert patched == {"b": [2, 3], "c": {"d": None, "e": 1}, "f": [1, 2, 3]}
    assert BEFORE == {"a": 1, "b": [1, 2], "c": {"d": True}}


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"op": "remove", "path": "/zz"}, "operation 1 (remove /zz): "),
        ({"op": "replace", "path": "/b/9", "value": 1}, "operation 1 (replace /b/9): "),
        ({"op": "add", "path": "/b/01", "value": 1}, "operation 1 (add /b/01): "),
        ({"op": "add", "path": "/b/-1", "value": 1}, "operation 1 (add /b/-1): "),
        ({"op": "add", "path": "/a/x", "value": 1}, "operation 1 (add /a/x): "),
        ({"op": "move", "from": "/c", "path": "/c/d"}, "operation 1 (move /c/d): "),
        ({"op": "copy", "from": "/q", "path": "/r"}, "operation 1 (copy /r): "),
        ({"op": "test", "path": "/a", "value": True}, "the value there is 1, not True"),
        ({"op": "remove", "path": ""}, "operation 1 (remove the whole): "),
    ],
)
def test_what_cannot_be_applied_names_the_operation_and_its_path(
    operation: dict[str, Any], said: str
) -> None:
    """The first operation that fails is named by place, kind and path."""
    operations = [{"op": "test", "path": "/a", "value": 1.0}, operation]
    ((path, _, message),) = refused(json_patched(BEFORE, operations))
    assert path == "/1"
    assert said in message


def test_everything_that_is_badly_written_is_said_at_once() -> None:
    """Operations that are not well-formed are all listed, each with a pointer to what is wrong."""
    operations = [
        {"op": "add", "path": "/x"},
        {"op": "paint", "path": "/x"},
        {"op": "copy", "path": "x", "from": 3},
        "no operation",
        {"op": ["add"], "path": "/x"},
        {"op": "add", "path": "/a~2", "value": 1},
    ]
    paths = [path for path, _, _ in refused(json_patched(BEFORE, operations))]
    assert paths == ["/0", "/1/op", "/2/path", "/2/from", "/3", "/4/op", "/5/path"]


@pytest.mark.parametrize("operations", [{}, "[]", None, 3])
def test_a_json_patch_is_an_array(operations: object) -> None:
    """What is no array of operations is refused with its type."""
    assert refused(json_patched(BEFORE, operations))[0][1] == "type"


def test_a_patch_has_so_many_operations_at_most() -> None:
    """One operation over the limit refuses the patch before any is applied."""
    step = {"op": "add", "path": "/x", "value": 1}
    assert isinstance(json_patched({}, [step] * MOST_OPERATIONS), dict)
    assert refused(json_patched({}, [step] * (MOST_OPERATIONS + 1)))[0][1] == "maxItems"


def test_copies_cannot_grow_a_value_without_end() -> None:
    """Each of these copies doubles the whole, and they are stopped by the bytes that they add."""
    doubling = [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(60)]
    ((_, rule, message),) = refused(json_patched({"text": "x" * 1000}, doubling))
    assert rule == "maxLength"
    assert "bytes" in message


def test_copies_cannot_nest_a_value_without_end() -> None:
    """Each of these copies goes one deeper, and what they leave is refused."""
    deepening = [{"op": "copy", "from": "/a", "path": "/a/a"}] * 400
    assert refused(json_patched({"a": {}}, deepening))[0][1] == "maxDepth"


def test_what_is_left_is_an_object() -> None:
    """A patch may replace all of the attributes, but only by an object."""
    replace = {"op": "replace", "path": "", "value": {"new": 1}}
    assert json_patched(BEFORE, [replace]) == {"new": 1}
    assert refused(json_patched(BEFORE, [{**replace, "value": [1]}]))[0][1] == "type"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "~/"]), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "~/"]), JSON, max_size=3)
STEPS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
        "path": st.sampled_from(["", "/a", "/b", "/a/0", "/a/-", "/a/b", "/~0~1", "/b/a/0", "x"]),
        "from": st.sampled_from(["", "/a", "/b", "/a/0", "/a/-", "/a/b"]),
        "value": JSON,
    }
)


@given(before=OBJECTS, operations=st.lists(STEPS, max_size=5))
def test_any_patch_is_applied_or_refused(
    before: dict[str, Any], operations: list[dict[str, Any]]
) -> None:
    """No patch raises: it leaves an object, or a problem that names an operation."""
    patched = json_patched(before, operations)
    assert isinstance(patched, dict) or (isinstance(patched, Problem) and patched.errors)


@given(before=OBJECTS, after=OBJECTS)
def test_a_merge_patch_that_says_all_brings_all(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Removing every old name and then merging the new ones leaves the new ones, without nulls inside objects."""
    cleared = merge_patched(before, dict.fromkeys(before))
    assert cleared == {}
    assert merge_patched({}, after) == without_nulls(after)


def without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}


def test_values_are_compared_as_json_means_them() -> None:
    """True is not 1, 1 is 1.0, names have no order and items have one."""
    assert same_json({"a": [1, {"b": None}], "c": 2}, {"c": 2.0, "a": [1, {"b": None}]})
    assert not same_json([True], [1])
    assert not same_json([1, 2], [2, 1])
    assert not same_json({"a": None}, {})
    assert not same_json(0, False)
