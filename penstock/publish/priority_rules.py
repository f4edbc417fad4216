"""Rules that say what goes sooner: boosts and deadlines for what they match, as they stand in configuration.

The publish queue and the allotment of tasks both score by them, so that a rule means the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from penstock.strict import Number

MOST_POINTS = 1e6
"""Of any weight and rule: beyond it sums of points lose what is small in them, and at last are infinite."""
MOST_WITHIN_S = 366 * 86_400.0
Points = Annotated[Number, Field(ge=-MOST_POINTS, le=MOST_POINTS)]
Weight = Annotated[Number, Field(ge=0, le=MOST_POINTS)]
Stretch = Annotated[Number, Field(ge=1e-3, le=1e9)]
"""Seconds that others are divided by."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _known_zone(name: str) -> str:
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}: write one as Europe/Berlin") from None
    return name


@dataclass(frozen=True, kw_only=True, slots=True)
class Matter:
    """What rules are held against: one batch or one task that waits."""

    tenant: str
    source: str
    kind: str
    """Of a task its workflow's kind, of a batch its intent."""
    now: datetime


class Rule(BaseModel):
    """Whom a rule is for. All that is given has to hold; an empty rule is for everything."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """Shown wherever its effect is explained."""
    tenants: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    """Ids; one that ends with ``*`` is for all that begin so."""
    kinds: frozenset[str] | None = None
    days: frozenset[Day] | None = None
    """Days of the week, in ``zone``; a window that runs past midnight belongs to the day that it began on."""
    begins: time | None = None
    """Time of day, in ``zone``; with ``ends``."""
    ends: time | None = None
    """At which it is over. Before ``begins`` it is that of the next day."""
    zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.begins is None) != (self.ends is None):
            raise ValueError("begins and ends belong together: give both, or neither")
        if self.begins is not None and self.begins == self.ends:
            raise ValueError("begins and ends are the same: leave both out for the whole day")
        if any(moment is not None and moment.tzinfo for moment in (self.begins, self.ends)):
            raise ValueError(
                "begins and ends have no offset of their own: zone says where they are"
            )
        return self

    def matches(self, matter: Matter) -> bool:
        """Say whether it is for something, now."""
        return (
            (self.tenants is None or matter.tenant in self.tenants)
            and (self.kinds is None or matter.kind in self.kinds)
            and self._is_of_source(matter.source)
            and self._is_time(matter.now)
        )

    def _is_of_source(self, source: str) -> bool:
        if self.sources is None or source in self.sources:
            return True
        return any(s.endswith("*") and source.startswith(s[:-1]) for s in self.sources)

    def _is_time(self, now: datetime) -> bool:
        if self.days is None and self.begins is None:
            return True
        local = now.astimezone(_zone(self.zone))
        day = local
        if self.begins is not None and self.ends is not None:
            at, over_night = local.time(), self.ends < self.begins
            if over_night and at < self.ends:
                day = local - timedelta(days=1)
            elif not (self.begins <= at and (over_night or at < self.ends)):
                return False
        return self.days is None or DAYS[day.weekday()] in self.days


class BoostRule(Rule):
    """Points for what it matches; fewer than none for what may wait."""

    points: Points


class DeadlineRule(Rule):
    """By when what it matches should be done."""

    within_s: Number = Field(gt=0, le=MOST_WITHIN_S)
    """From when it began to wait; of a batch, from its source timestamp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A deadline, and who set it."""

    at: datetime
    why: str


def boosts(rules: Iterable[BoostRule], matter: Matter) -> tuple[tuple[str, float], ...]:
    """Return the name and the points of every rule that matches; their points add up."""
    return tuple((rule.name, rule.points) for rule in rules if rule.matches(matter))


def earliest(
    rules: Iterable[DeadlineRule], matter: Matter, since: datetime, *, own: Sequence[Due] = ()
) -> Due | None:
    """Return the earliest of a thing's own deadlines and of those that rules set, or None."""
    ruled = [
        Due(at=since + timedelta(seconds=rule.within_s), why=f"rule {rule.name}")
        for rule in rules
        if rule.matches(matter)
    ]
    return min([*own, *ruled], key=lambda due: due.at, default=None)


def closeness(due: Due | None, horizon_s: float, now: datetime) -> float:
    """Return 0 while a deadline is further off than the horizon, rising evenly to 1 as it passes."""
    if due is None:
        return 0.0
    left_s = (due.at - now).total_seconds()
    return min(1.0, max(0.0, 1.0 - left_s / horizon_s))
