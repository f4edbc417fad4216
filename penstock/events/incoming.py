"""Events that others tell Penstock."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import AwareDatetime, Field, model_validator

from penstock.events.facts import Count, Direction, EventData, Message, Name, Slug


class ArchiveDiscovered(EventData):
    """There is something new to collect from a source."""

    TYPE: ClassVar[str] = "archive_discovered"
    DIRECTION: ClassVar[Direction] = Direction.IN
    SUBJECT: ClassVar[str] = "source_id"
    source_id: Slug
    archive: str = Field(min_length=1, max_length=2048)
    """Where it is: an address, a path, an object key."""
    discovered_at: AwareDatetime | None = None
    size_bytes: Count | None = None
    digest: str | None = Field(default=None, max_length=255)


class _OfCollection(EventData):
    """One task, or what a worker has in hand of a source."""

    DIRECTION: ClassVar[Direction] = Direction.IN
    SUBJECT: ClassVar[str] = "task_id"
    task_id: Name | None = None
    """The task that was assigned; without it, the collect task that is running of the source."""
    source_id: Slug | None = None
    fencing_token: Count | None = None
    """As the task was assigned with; a result under an older one is refused."""

    @property
    def subject(self) -> str:
        """The task, or else the source."""
        return str(self.task_id or self.source_id)

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.task_id is None and self.source_id is None:
            raise ValueError("give task_id, or source_id")
        return self


class CollectionCompleted(_OfCollection):
    """What was to be collected has been."""

    TYPE: ClassVar[str] = "collection_completed"
    batch_id: Name | None = None
    """The batch that came of it, where it is landed already."""
    archive: str | None = Field(default=None, max_length=2048)
    """Where it lies, where it is still to be transformed."""


class CollectionFailed(_OfCollection):
    """What was to be collected could not be."""

    TYPE: ClassVar[str] = "collection_failed"
    error_code: Name
    message: Message
    permanent: bool = False
    """Whether trying again is in vain."""
