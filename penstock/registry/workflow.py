"""Attestation: somebody puts an entity forward, and somebody else vouches for it or turns it down.

::

    (none) --propose--> proposed --attest--> attested
      ^  ^                 |  \\--reject---> rejected --propose--> proposed
      |  +----change-------+
      +-------change---------- attested, rejected

A change of the attributes takes whatever was decided back: what was vouched for is no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.registry.events import EventAction


class Review(StrEnum):
    """Where an entity stands; None is not yet put forward."""

    PROPOSED = "proposed"
    ATTESTED = "attested"
    REJECTED = "rejected"


class ReviewStep(StrEnum):
    """What may happen to it."""

    PROPOSE = "propose"
    ATTEST = "attest"
    REJECT = "reject"
    CHANGE = "change"
    """The attributes are others now."""

    @property
    def action(self) -> EventAction:
        """The action of the event that records the step."""
        return EventAction.UPDATE if self is ReviewStep.CHANGE else EventAction(self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviewed:
    """Where an entity stands after a step."""

    review: Review | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NoSuchStep:
    """A step that does not lead on from where an entity stands."""

    review: Review | None
    legal: tuple[ReviewStep, ...]


_NEXT: dict[tuple[Review | None, ReviewStep], Review] = {
    (None, ReviewStep.PROPOSE): Review.PROPOSED,
    (Review.REJECTED, ReviewStep.PROPOSE): Review.PROPOSED,
    (Review.PROPOSED, ReviewStep.ATTEST): Review.ATTESTED,
    (Review.PROPOSED, ReviewStep.REJECT): Review.REJECTED,
}


def after_step(review: Review | None, step: ReviewStep) -> Reviewed | NoSuchStep:
    """Return where an entity stands after a step, or which steps there are instead."""
    if step is ReviewStep.CHANGE:
        return Reviewed(review=None)
    if (then := _NEXT.get((review, step))) is not None:
        return Reviewed(review=then)
    return NoSuchStep(review=review, legal=legal_steps(review))


def legal_steps(review: Review | None) -> tuple[ReviewStep, ...]:
    """Return the steps that a person may take from here."""
    return tuple(step for (at, step) in _NEXT if at == review)


def may_decide(step: ReviewStep, *, actor: str, proposer: str | None, four_eyes: bool) -> bool:
    """Say whether an actor may take a step: who puts an entity forward does not vouch for it too."""
    return not (four_eyes and step is ReviewStep.ATTEST and actor == proposer)
