"""Refusals that several use cases of the registry share, in one wording."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.ports.registry import Held
from penstock.registry.events import RecordedEvent, StreamId
from penstock.registry.identifiers import address, named
from penstock.registry.problems import Problem, ProblemKind

MOST_NAMED = 100
"""How many references a refusal lists."""
_SHOWN = 5


def is_missing(stream: StreamId) -> Problem:
    """There is nothing of this name, and there never was."""
    return Problem(kind=ProblemKind.NOT_FOUND, detail=f"there is no {named(stream)}")


def is_gone(last: RecordedEvent) -> Problem:
    """There was something of this name; ``last`` is its last event."""
    at = last.recorded_at.isoformat()
    return Problem(
        kind=ProblemKind.NOT_FOUND,
        detail=f"{named(last.stream)} was deleted by {last.actor} at {at} (version {last.version}): it can be restored",
        more={"deleted_at": at, "deleted_by": last.actor, "version": last.version},
    )


def is_there_already(held: Held) -> Problem:
    """What should be made is there."""
    return Problem(
        kind=ProblemKind.ALREADY_EXISTS,
        detail=f"{named(held.stream)} is there already, at version {held.version}: replace or patch it",
        more={"version": held.version, "version_tag": held.version_tag.hex()},
    )


def not_at_version(stream: StreamId, held: Held | None) -> Problem:
    """The caller has seen another version than there is."""
    if held is None:
        return Problem(
            kind=ProblemKind.VERSION_MISMATCH,
            detail=f"{named(stream)} is not there, so it is at no version: look at its history",
        )
    return Problem(
        kind=ProblemKind.VERSION_MISMATCH,
        detail=f"{named(stream)} has changed since: {held.updated_by} made version {held.version} at "
        f"{held.updated_at.isoformat()}. Read it again, and apply the change to that",
        more={"version": held.version, "version_tag": held.version_tag.hex()},
    )


def version_is_missing(held: Held) -> Problem:
    """The caller has to say which version is meant."""
    return Problem(
        kind=ProblemKind.VERSION_REQUIRED,
        detail=f"say which version of {named(held.stream)} is meant: read it, and send its version tag (If-Match)",
        more={"version": held.version, "version_tag": held.version_tag.hex()},
    )


def is_referred_to(
    stream: StreamId, referrers: Sequence[StreamId], most: int, mend: str
) -> Problem:
    """Others refer to what should go; ``most`` is how many were looked for. They are listed in one order, always."""
    referrers = sorted(
        referrers, key=lambda s: (s.kind, s.type_name, s.key, s.to_key or "", s.source_id)
    )
    shown = ", ".join(named(each) for each in referrers[:_SHOWN])
    count = f"more than {most:,}" if len(referrers) > most else f"{len(referrers):,}"
    more = ", ..." if len(referrers) > _SHOWN else ""
    return Problem(
        kind=ProblemKind.REFERENCED,
        detail=f"{count} refer to {named(stream)}: {shown}{more}. {mend}",
        more={"references": [address(each) for each in referrers[:MOST_NAMED]]},
    )


def is_contended(stream: StreamId, attempts: int) -> Problem:
    """Others were faster each time."""
    return Problem(
        kind=ProblemKind.CONTENDED,
        detail=f"others changed {named(stream)}, or what it rests on, each of {attempts} times that this was tried: "
        "try again in a moment",
    )
