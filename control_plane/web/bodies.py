"""What bodies of both servers have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LONGEST_REASON = 1000
ReasonField = Annotated[str, Field(max_length=LONGEST_REASON, examples=["moved to finance"])]


def no_text(value: Any) -> Any:
    """Refuse what pydantic would read as a number by its looks."""
    if isinstance(value, str | bool):
        raise ValueError("a number is written without quotes")
    return value


Whole = Annotated[int, BeforeValidator(no_text)]
Flag = Annotated[bool, Field(strict=True)]


class Body(BaseModel):
    """What is said of every body: what nobody knows is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Why(Body):
    """Why something is done."""

    reason: ReasonField = ""
