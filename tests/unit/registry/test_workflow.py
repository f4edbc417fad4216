"""Attestation."""

from __future__ import annotations

import itertools

import pytest

from penstock.registry.events import EventAction
from penstock.registry.workflow import (
    NoSuchStep,
    Review,
    Reviewed,
    ReviewStep,
    after_step,
    legal_steps,
    may_decide,
)

STATES = [None, *Review]


@pytest.mark.parametrize(
    ("review", "step", "then"),
    [
        (None, ReviewStep.PROPOSE, Review.PROPOSED),
        (Review.REJECTED, ReviewStep.PROPOSE, Review.PROPOSED),
        (Review.PROPOSED, ReviewStep.ATTEST, Review.ATTESTED),
        (Review.PROPOSED, ReviewStep.REJECT, Review.REJECTED),
    ],
)
def test_the_steps_that_there_are(review: Review | None, step: ReviewStep, then: Review) -> None:
    """Proposed comes from nothing or rejected, and attested and rejected come from proposed."""
    assert after_step(review, step) == Reviewed(review=then)


def test_every_other_step_of_a_person_names_the_legal_ones() -> None:
    """The function is total, and a step that does not lead on answers with those that do."""
    led = 0
    for review, step in itertools.product(STATES, ReviewStep):
        match after_step(review, step):
            case Reviewed():
                led += 1
            case NoSuchStep(legal=legal):
                assert step not in legal
                assert legal == legal_steps(review)
    assert led == 4 + len(STATES)


@pytest.mark.parametrize("review", STATES)
def test_a_change_takes_back_whatever_was_decided(review: Review | None) -> None:
    """What was vouched for is no more once the attributes are others."""
    assert after_step(review, ReviewStep.CHANGE) == Reviewed(review=None)


def test_who_proposes_does_not_attest() -> None:
    """With four eyes, the proposer may reject and propose but not attest; without, anybody may."""
    assert not may_decide(ReviewStep.ATTEST, actor="ann", proposer="ann", four_eyes=True)
    assert may_decide(ReviewStep.ATTEST, actor="bob", proposer="ann", four_eyes=True)
    assert may_decide(ReviewStep.ATTEST, actor="ann", proposer="ann", four_eyes=False)
    assert may_decide(ReviewStep.REJECT, actor="ann", proposer="ann", four_eyes=True)


def test_each_step_has_an_event() -> None:
    """A step of a person is recorded under its own name, a change of attributes as an update."""
    assert ReviewStep.ATTEST.action is EventAction.ATTEST
    assert ReviewStep.CHANGE.action is EventAction.UPDATE
