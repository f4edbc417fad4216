"""The key diff against what two dicts say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.batch.index import NOTHING, IndexFile
from penstock.diff.keys import diff_section
from tests.property.depth import examples
from tests.property.index_models import (
    Hash,
    Key,
    Model,
    edits,
    gathered,
    index_file,
    mapped_file,
    models,
)

WAYS = pytest.mark.parametrize(
    ("opened", "compiled"),
    [(index_file, False), (mapped_file, False), (mapped_file, True)],
    ids=["read", "mapped", "compiled"],
)
"""The NumPy merge over files that are read and that are mapped, and the compiled merge."""
Opened = Callable[[dict[str, Model]], IndexFile]


@st.composite
def sides(draw: st.DrawFn) -> tuple[Model, Model]:
    """Two models: unrelated ones, or one edited into the other."""
    before = draw(models)
    if draw(st.booleans()):
        return before, draw(models)
    after = dict(before)
    for key, value in draw(edits).items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return before, after


def located(model: Model) -> dict[Key, tuple[Hash, int]]:
    """Return each row with its position."""
    return {key: (model[key], row) for row, key in enumerate(sorted(model))}


@WAYS
@settings(max_examples=examples(150), deadline=None)
@given(pair=sides(), absent=st.booleans(), piece_rows=st.sampled_from([1, 3, 16, 16_384]))
def test_a_diff_is_what_two_dicts_say(
    opened: Opened,
    compiled: bool,
    pair: tuple[Model, Model],
    absent: bool,
    piece_rows: int,
) -> None:
    """Every change is found once, with both sides' digests and places, and the counts balance."""
    before, after = pair
    diff = diff_section(
        opened({"t": before}).sections["t"],
        opened({"t": after}).sections["t"],
        absent=absent,
        piece_rows=piece_rows,
        compiled=compiled,
    )
    found = gathered(list(diff))
    old, new = located(before), located(after)
    updated = {k for k in old.keys() & new.keys() if before[k] != after[k]}
    gone = old.keys() - new.keys()
    assert found["created"] == {k: new[k] for k in new.keys() - old.keys()}
    assert found["updated_before"] == {k: old[k] for k in updated}
    assert found["updated_after"] == {k: new[k] for k in updated}
    assert found["deleted"] == ({k: old[k] for k in gone} if absent else {})
    counts = diff.counts
    assert counts.created + counts.updated + counts.unchanged == len(after)
    assert counts.kept == (0 if absent else len(gone))
    assert counts.deleted == (len(gone) if absent else 0)


@WAYS
@settings(max_examples=examples(100), deadline=None)
@given(before=models, named=edits, piece_rows=st.sampled_from([1, 3, 16_384]))
def test_a_delta_batch_changes_what_it_names_and_nothing_else(
    opened: Opened,
    compiled: bool,
    before: Model,
    named: dict[Key, Hash | None],
    piece_rows: int,
) -> None:
    """Tombstones delete what is there; those of what is not there are counted as unchanged."""
    delta = {key: value or (0, 0) for key, value in named.items()}
    diff = diff_section(
        opened({"t": before}).sections["t"],
        opened({"t": delta}).sections["t"],
        absent=False,
        piece_rows=piece_rows,
        compiled=compiled,
    )
    found = gathered(list(diff))
    after = dict(before)
    for part in ("created", "updated_after"):
        after |= {key: row[0] for key, row in found[part].items()}
    for key in found["deleted"]:
        del after[key]
    expected = before | {k: v for k, v in named.items() if v}
    assert after == {k: v for k, v in expected.items() if k not in named or named[k]}
    assert found["deleted"].keys() == {k for k, v in named.items() if not v and k in before}
    assert diff.counts.unchanged == len(delta) - sum(
        map(len, (found["created"], found["updated_after"], found["deleted"]))
    )


@given(models)
def test_a_side_without_rows_is_everything_created_or_deleted(model: Model) -> None:
    """None stands for no rows on either side."""
    section = index_file({"t": model}).sections["t"]
    assert gathered(list(diff_section(None, section, absent=True)))["created"] == located(model)
    assert gathered(list(diff_section(section, None, absent=True)))["deleted"] == located(model)
    assert gathered(list(diff_section(section, None, absent=False)))["deleted"] == {}
    assert (section.totals == NOTHING) == (not model)
