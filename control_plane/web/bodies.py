"""What bodies of both servers have in common."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic_core import PydanticCustomError

LONGEST_REASON = 1000
ReasonField = Annotated[str, Field(max_length=LONGEST_REASON, examples=["moved to finance"])]


_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _written_out(value: Any) -> Any:
    """Refuse what pydantic would read as seconds since 1970."""
    if not isinstance(value, str) or not _DATED.match(value):
        raise PydanticCustomError("datetime_type", "a moment is written as 2026-11-20T19:24:14Z")
    return value


def _in_time(moment: datetime) -> datetime:
    """Return a moment in UTC; at the ends of the calendar an offset leads out of it."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("no calendar has this moment") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_time)]
"""A moment with its offset, as RFC 3339 has it; it is given on in UTC."""


class Body(BaseModel):
    """What is said of every body: what nobody knows is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Why(Body):
    """Why something is done."""

    reason: ReasonField = ""
