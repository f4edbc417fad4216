"""What every event's data has in common: a frozen JSON object that knows its type and its subject."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from penstock.events.envelope import NewEvent
from penstock.identity.ids import TenantId

PLATFORM_TENANT = TenantId("*")
"""Whose an event is that concerns all tenants: only those who run the platform are told."""
MESSAGE_CHARACTERS = 500
"""Longer messages are cut: an event says what happened, the record behind it says everything."""

Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Message = Annotated[str, Field(max_length=MESSAGE_CHARACTERS)]
Count = Annotated[int, Field(ge=0)]


class Direction(StrEnum):
    """Who tells whom."""

    OUT = "out"
    """Penstock tells others."""
    IN = "in"
    """Others tell Penstock."""
    BOTH = "both"


class EventData(BaseModel):
    """The data of one type of event."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str]
    DIRECTION: ClassVar[Direction] = Direction.OUT
    SUBJECT: ClassVar[str]
    """The field that names what it is about."""

    @property
    def subject(self) -> str:
        """What it is about; events of one subject are told and handled in order."""
        return str(getattr(self, self.SUBJECT))

    def as_event(
        self,
        *,
        tenant_id: TenantId,
        time: datetime,
        fact: Sequence[str | int] = (),
        trace_parent: str | None = None,
    ) -> NewEvent:
        """Return it as it goes into the outbox.

        ``fact`` is what makes the fact the one it is, beside its type: told again, it is the same event.
        """
        return NewEvent(
            type=self.TYPE,
            subject=self.subject,
            tenant_id=tenant_id,
            time=time,
            data=self.as_json(),
            event_id=fact_id(self.TYPE, *fact) if fact else None,
            trace_parent=trace_parent,
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return self.model_dump(mode="json")


def fact_id(event_type: str, *fact: str | int) -> str:
    """Return the id of the event of a type that tells of one fact, as 32 hex digits."""
    parts = [event_type, *(str(part) for part in fact)]
    framed = b"".join(
        len(data).to_bytes(4, "big") + data
        for data in (part.encode("utf-8", "surrogatepass") for part in parts)
    )
    return hashlib.blake2b(framed, digest_size=16).hexdigest()


def shortened(message: str) -> str:
    """Return a message as an event may carry it."""
    return message[:MESSAGE_CHARACTERS]
