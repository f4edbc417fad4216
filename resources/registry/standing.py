"""How far projections have come, and how far they are behind the log."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from resources.registry.log import later
from resources.registry.projections import ProjectionRunner
from resources.targets.registry_tables import registry_event


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One generation of a projection."""

    name: str
    generation: int
    status: str
    """``live``, ``building``, or ``none`` for one that has never been run."""
    events: int
    behind: int
    """Events in the log that it has not been given yet."""


def standings(runner: ProjectionRunner) -> list[Standing]:
    """Return where every projection of a runner stands, by name."""
    tracked = runner.tracking()
    found = []
    with runner.engine.connect().execution_options(penstock_reading=True) as connection:
        count = select(func.count()).select_from(registry_event)
        for name in runner.names:
            mine = [tracking for tracking in tracked if tracking.name == name]
            found += [
                Standing(
                    name=name,
                    generation=tracking.generation,
                    status="live" if tracking.live else "building",
                    events=tracking.events,
                    behind=connection.scalar(count.where(later(tracking.cursor))) or 0,
                )
                for tracking in mine
            ]
            if not mine:
                whole = connection.scalar(count) or 0
                found.append(
                    Standing(name=name, generation=0, status="none", events=0, behind=whole)
                )
    return found
