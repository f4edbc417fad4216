"""Every event in the catalogue may be waited for by workflows, or there is a reason why not."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from penstock.events.catalogue import CATALOGUE, HEARD, TOLD
from penstock.workflow.awaited import AWAITED, NOT_AWAITED, TOLD_AWAITED, AwaitedType, Origin


def test_each_event_may_be_waited_for_or_says_why_not() -> None:
    """None is forgotten, none is both, and what is accepted is what is listed."""
    assert set(AWAITED) | set(NOT_AWAITED) == set(CATALOGUE)
    assert not set(AWAITED) & set(NOT_AWAITED)
    assert get_args(get_args(AwaitedType)[0]) == tuple(AWAITED)


def test_it_is_known_who_tells_of_what_is_waited_for() -> None:
    """What comes in is what the catalogue hears; all else is told, and can be read from the outbox."""
    assert {name for name, each in AWAITED.items() if each.comes_in} == set(HEARD)
    assert set(TOLD_AWAITED) <= set(TOLD)


@pytest.mark.parametrize("name", AWAITED)
def test_an_event_has_the_fields_that_it_is_judged_by(name: str) -> None:
    """Its source where it has one, the batch or the workflow that says who is behind it."""
    fields = CATALOGUE[name].model_fields
    if AWAITED[name].origin is Origin.TASK:
        assert "task_id" in fields
    else:
        assert ("source_id" in fields) is AWAITED[name].has_source
    if AWAITED[name].origin is Origin.BATCH:
        assert "batch_id" in fields
    if AWAITED[name].origin is Origin.WORKFLOW:
        assert CATALOGUE[name].SUBJECT == "workflow_id"


@pytest.mark.parametrize("name", NOT_AWAITED)
def test_what_may_not_be_waited_for_is_refused_with_what_may(name: str) -> None:
    """The error says why, and names every type that can be waited for."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(AwaitedType).validate_python(name)
    said = str(refused.value)
    assert NOT_AWAITED[name] in said
    assert all(other in said for other in AWAITED)
