"""What installed distributions require of each other, and whether they get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from resources.sources.distributions import Installed


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What one distribution requires."""

    edges: Mapping[str, dict[str, Any]]
    """The attributes of the edge to each installed distribution that it requires, by name."""
    unmet: Sequence[str]
    """Requirements that hold in this environment and are not satisfied, or are not readable."""


def requirements_of(each: Installed, by_name: Mapping[str, Installed]) -> Requirements:
    """Return what a distribution requires of those that are installed.

    A requirement counts if its marker holds for the running interpreter, or would with one of the
    distribution's extras; the latter is optional, and never unmet.
    """
    edges: dict[str, list[dict[str, Any]]] = {}
    unmet: list[str] = []
    for text in each.requires:
        try:
            requirement = Requirement(text)
            applies, extras = _applies(requirement, each.extras)
        except (InvalidRequirement, UndefinedEnvironmentName, InvalidVersion):
            unmet.append(text)
            continue
        other = by_name.get(canonicalize_name(requirement.name))
        satisfied = other is not None and _satisfies(other, requirement)
        if applies and not satisfied:
            unmet.append(text)
        if other is not None and (applies or extras):
            found = _edge(requirement, satisfied=satisfied, applies=applies, extras=extras)
            edges.setdefault(other.name, []).append(found)
    return Requirements(edges={name: _merged(found) for name, found in edges.items()}, unmet=unmet)


def _applies(requirement: Requirement, extras: Sequence[str]) -> tuple[bool, list[str]]:
    """Say whether a requirement holds in this environment, and which extras would make it hold."""
    marker = requirement.marker
    if marker is None:
        return True, []
    if marker.evaluate({"extra": ""}):
        return True, []
    return False, [extra for extra in extras if marker.evaluate({"extra": extra})]


def _satisfies(other: Installed, requirement: Requirement) -> bool:
    if not requirement.specifier:
        return True
    try:
        return other.version is not None and requirement.specifier.contains(
            other.version, prereleases=True
        )
    except InvalidVersion:
        return False


def _edge(
    requirement: Requirement, *, satisfied: bool, applies: bool, extras: list[str]
) -> dict[str, Any]:
    known: dict[str, Any] = {
        "specifier": str(requirement.specifier),
        "extras": sorted(requirement.extras),
        "marker": str(requirement.marker) if requirement.marker else None,
        "url": requirement.url and "given",
        "optional_for": extras,
    }
    shown = {name: value for name, value in known.items() if value}
    return {**shown, "satisfied": satisfied, "optional": not applies}


def _merged(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one edge for all requirements of one distribution on another."""
    return {
        "requirements": found,
        "optional": all(each["optional"] for each in found),
        "satisfied": all(each["satisfied"] for each in found if not each["optional"]),
    }
