"""Retention as the control database does it: what is needed, and forgetting what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.publish.retention import KeptBatch

if TYPE_CHECKING:
    from penstock.ports.control import SnapshotHead


class Retention(Protocol):
    """What may age out of the control database."""

    def kept_batches(self) -> Iterator[KeptBatch]:
        """Yield every batch, with its publish states, by source."""
        ...

    def snapshot_heads(self) -> list[SnapshotHead]:
        """Return the current snapshot of every lane."""
        ...

    def batches_in_letters(self) -> set[BatchId]:
        """Return the batches that dead letters name that are open or on their way again."""
        ...

    def batches_half_executed(self) -> set[BatchId]:
        """Return the batches of executions that were begun and have not ended."""
        ...

    def forget_batch(
        self,
        batch: BatchId,
        versions: Mapping[tuple[SourceId, TargetId], int],
        erase: Callable[[], None],
    ) -> bool:
        """Delete all that is recorded of a settled batch, and let ``erase`` delete its objects, in one transaction.

        ``versions`` are the snapshots that the decision was made by; where one of the batch's source has moved since,
        or the batch is on its way again, nothing is done and the answer is False. An error of ``erase`` takes all
        back.
        """
        ...
