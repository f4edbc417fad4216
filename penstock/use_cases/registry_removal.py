"""What goes with an entity that is deleted, and what keeps it from going."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.ports.registry import Held, Requirement, Unreferenced
from penstock.registry.events import StreamKind
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases.registry_refusals import is_referred_to
from penstock.use_cases.registry_rules import Rules
from penstock.use_cases.registry_view import MOST_REFERRERS, RegistryView


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """What a delete takes along, and what has to hold once it is done."""

    edges: tuple[Held, ...] = ()
    requires: tuple[Requirement, ...] = ()


def removal(view: RegistryView, rules: Rules, held: Held, *, cascade: bool) -> Removal | Problem:
    """Return what goes with an entity or relationship; refuse while something that stays refers to it."""
    stream = held.stream
    if stream.kind is not StreamKind.ENTITY:
        return Removal()
    ignoring = rules.ignoring(view, stream.type_name)
    referrers = view.referrers(stream, ignoring)
    edges = [each for each in referrers if each.kind is StreamKind.RELATIONSHIP]
    staying = [each for each in referrers if each not in edges] if cascade else referrers
    if staying:
        mend = "Change those first" if cascade else "Delete those first, or ask for a cascade"
        return is_referred_to(stream, staying, MOST_REFERRERS, mend)
    if len(edges) > MOST_REFERRERS:
        return Problem(
            kind=ProblemKind.TOO_MANY,
            detail=f"more than {MOST_REFERRERS:,} relationships begin or end at it: delete some of them first",
        )
    found = [each for each in view.get_many(edges) if each is not None]
    return Removal(edges=tuple(found), requires=(Unreferenced(stream=stream, ignoring=ignoring),))
