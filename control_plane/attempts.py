"""The history of a publish that failed, shown: each attempt, and what was decided then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.publish.retry import Tier

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.identity.ids import TargetId
    from penstock.ports.attempts import PublishAttempt

_CAME_ABOUT = {
    Tier.FIRST: "first",
    Tier.IMMEDIATE: "immediate",
    Tier.DELAYED: "delayed",
    Tier.SCHEDULED: "scheduled",
}


def answer(attempts: Mapping[TargetId, Sequence[PublishAttempt]]) -> dict[str, Any]:
    """Return attempts by target, as JSON shows them."""
    from control_plane.answers import plain

    return {
        target: [
            {
                **plain(each),
                "tier": _CAME_ABOUT[each.tier],
                "retry_tier": None if each.retry_tier is None else _CAME_ABOUT[each.retry_tier],
            }
            for each in found
        ]
        for target, found in attempts.items()
    }


def tables(
    attempts: Mapping[TargetId, Sequence[PublishAttempt]],
) -> Iterator[RenderableType]:
    """Yield a table of attempts for each target that has any."""
    from control_plane.tables import cell, table

    for target, found in attempts.items():
        if not found:
            continue
        columns = ("#", "failed at", "try", "step", "why", "then")
        made = table(f"attempts that failed, to {target}", *columns, numbers=("#",))
        for number, each in enumerate(found, start=1):
            made.add_row(
                cell(number),
                cell(f"{each.failed_at:%Y-%m-%d %H:%M:%S}"),
                cell(_CAME_ABOUT[each.tier]),
                cell(each.step),
                cell(f"{each.code}: {each.message}"),
                cell(_then(each)),
            )
        yield made


def _then(attempt: PublishAttempt) -> str:
    if attempt.retry_at is None or attempt.retry_tier is None:
        return "withdrawn" if attempt.code == "withdrawn" else "given up"
    return f"{_CAME_ABOUT[attempt.retry_tier]} at {attempt.retry_at:%Y-%m-%d %H:%M:%S}"
