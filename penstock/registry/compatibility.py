"""Whether a new version of a schema keeps what its compatibility mode promises to those who hold data, or read it.

===================== ======================================================== ==============================
mode                  promise                                                  checked against
===================== ======================================================== ==============================
NONE                  nothing                                                  nothing
BACKWARD              data of the earlier version are valid under the new one  the version that it replaces
FORWARD               data of the new version are valid under the earlier one  the version that it replaces
FULL                  both                                                     the version that it replaces
BACKWARD_TRANSITIVE   as BACKWARD                                              every earlier version
FORWARD_TRANSITIVE    as FORWARD                                               every earlier version
FULL_TRANSITIVE       as FULL                                                  every earlier version
===================== ======================================================== ==============================

A promise is kept only if it can be proven, by :mod:`~penstock.registry.subsets`, from the normal forms, so that what is
closed counts as closed. What cannot be proven is refused and says so, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from penstock.registry.content_model import NormalSchema, normal_form
from penstock.registry.doubts import Doubt, Words
from penstock.registry.schema_references import Referent, Resolve, nothing
from penstock.registry.subsets import doubts


class Compatibility(StrEnum):
    """What a new version of a schema promises."""

    NONE = "none"
    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"
    BACKWARD_TRANSITIVE = "backward_transitive"
    FORWARD_TRANSITIVE = "forward_transitive"
    FULL_TRANSITIVE = "full_transitive"

    @property
    def backward(self) -> bool:
        """Whether earlier data have to stay valid."""
        return self.value.startswith(("backward", "full"))

    @property
    def forward(self) -> bool:
        """Whether new data have to be valid for those who know an earlier version."""
        return self.value.startswith(("forward", "full"))

    @property
    def transitive(self) -> bool:
        """Whether the promise is to every earlier version."""
        return self.value.endswith("transitive")


@dataclass(frozen=True, kw_only=True, slots=True)
class Incompatibility:
    """One place where a promise is broken, or cannot be shown to be kept."""

    path: str
    """JSON pointer into the values that are concerned, with ``*`` for any name or item; ``""`` for the whole."""
    rule: str
    """The keyword, or ``cannot be proven``."""
    message: str
    remedy: str
    against_version: int
    direction: Compatibility
    """BACKWARD: earlier data would not be valid any more. FORWARD: new data would not be for earlier readers."""


def check(
    mode: Compatibility,
    new: Referent,
    earlier_versions: Sequence[Referent],
    resolve: Resolve = nothing,
) -> list[Incompatibility]:
    """Return every place where ``new`` breaks what ``mode`` promises; empty if the promise is proven.

    ``earlier_versions`` are in the order of their numbers, and the last is the one that ``new`` replaces.
    """
    against = list(earlier_versions) if mode.transitive else list(earlier_versions[-1:])
    if not (mode.backward or mode.forward):
        return []
    new_form = _normal(new, resolve)
    found: list[Incompatibility] = []
    for earlier in reversed(against):
        earlier_form = _normal(earlier, resolve)
        if mode.backward:
            words = Words(narrow=f"version {earlier.version}", wide=f"version {new.version}")
            found += _named(doubts(earlier_form, new_form, words), earlier, Compatibility.BACKWARD)
        if mode.forward:
            words = Words(
                narrow=f"version {new.version}",
                wide=f"version {earlier.version}",
                wide_is_new=False,
            )
            found += _named(doubts(new_form, earlier_form, words), earlier, Compatibility.FORWARD)
    return found


def compatible(
    mode: Compatibility, new: Mapping[str, Any], earlier: Mapping[str, Any]
) -> list[Incompatibility]:
    """Compare two documents that refer to no other schema; see :func:`check`."""
    first, second = (
        Referent(schema_id="schema", version=n, document=document)
        for n, document in enumerate((earlier, new), 1)
    )
    return check(mode, second, [first])


def _normal(version: Referent, resolve: Resolve) -> NormalSchema:
    return normal_form(
        version.document,
        resolve,
        pins=version.pins,
        itself=(version.schema_id, version.version),
    )


def _named(
    found: Sequence[Doubt], earlier: Referent, direction: Compatibility
) -> list[Incompatibility]:
    return [
        Incompatibility(
            path=each.path,
            rule=each.rule,
            message=each.message,
            remedy=each.remedy,
            against_version=earlier.version,
            direction=direction,
        )
        for each in found
    ]
