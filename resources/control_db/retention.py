"""Forgetting batches in the control database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sqlalchemy import Connection, and_, delete, or_, select

from penstock.batch.manifest import Mode
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.control import SnapshotHead
from penstock.publish.dead_letters import LetterStatus
from penstock.publish.retention import KeptBatch
from penstock.publish.state import SETTLED, PublishState
from resources.control_db.engine import Database
from resources.control_db.rows import STATE_COLUMNS, state_of
from resources.control_db.tables import (
    approval,
    dead_letter,
    execution_chunk,
    lane,
    operation_exception,
    plan_execution,
    publish_attempt,
    publish_ledger,
    publish_state,
    snapshot,
)
from resources.control_db.tables import batch as batches

_OF_A_BATCH = (
    operation_exception,
    execution_chunk,
    plan_execution,
    publish_attempt,
    publish_ledger,
    approval,
    publish_state,
    batches,
)
"""What is recorded of a batch, children first. Audit entries and closed dead letters outlive it."""


class SqlRetention(Database):
    """:class:`penstock.ports.retention.Retention` in SQL."""

    def kept_batches(self) -> Iterator[KeptBatch]:
        """Yield every batch, with its publish states, by source."""
        columns = [
            batches.c[name]
            for name in ("batch_id", "source_id", "source_timestamp", "mode", "admitted_at")
        ]
        with self._reading() as connection:
            states: dict[str, list[PublishState]] = {}
            for row in connection.execute(select(*STATE_COLUMNS)):
                states.setdefault(row.batch_id, []).append(state_of(row))
            query = select(*columns).order_by(batches.c.source_id, batches.c.batch_id)
            found = [dict(row) for row in connection.execute(query).mappings()]
        for each in found:
            yield KeptBatch(
                batch_id=BatchId(each["batch_id"]),
                source_id=SourceId(each["source_id"]),
                source_timestamp=each["source_timestamp"],
                mode=Mode(each["mode"]),
                admitted_at=each["admitted_at"],
                states=tuple(states.get(each["batch_id"], ())),
            )

    def snapshot_heads(self) -> list[SnapshotHead]:
        """Return the current snapshot of every lane."""
        with self._reading() as connection:
            rows = connection.execute(select(snapshot)).mappings()
            return [SnapshotHead(**row) for row in rows]

    def batches_in_letters(self) -> set[BatchId]:
        """Return the batches that dead letters name that are open or on their way again."""
        live = [str(LetterStatus.OPEN), str(LetterStatus.REQUEUED)]
        columns = (dead_letter.c.batch_id, dead_letter.c.correction_batch_id)
        query = select(*columns).where(dead_letter.c.status.in_(live)).distinct()
        with self._reading() as connection:
            return {BatchId(name) for row in connection.execute(query) for name in row if name}

    def batches_half_executed(self) -> set[BatchId]:
        """Return the batches of executions that were begun and have not ended."""
        query = select(plan_execution.c.batch_id).where(plan_execution.c.finished_at.is_(None))
        with self._reading() as connection:
            return {BatchId(name) for name in connection.execute(query).scalars()}

    def forget_batch(
        self,
        batch: BatchId,
        versions: Mapping[tuple[SourceId, TargetId], int],
        erase: Callable[[], None],
    ) -> bool:
        """Delete all that is recorded of a settled batch, and let ``erase`` delete its objects, in one transaction."""
        source = ids.split_batch_id(batch)[0]
        with self._writing() as connection:
            if not _is_as_it_was(connection, batch, source, versions):
                return False
            for table in _OF_A_BATCH:
                connection.execute(delete(table).where(table.c.batch_id == batch))
            erase()
        return True


def _is_as_it_was(
    connection: Connection,
    batch: BatchId,
    source: SourceId,
    versions: Mapping[tuple[SourceId, TargetId], int],
) -> bool:
    """Lock the source's lanes, and say whether a decision about one of its batches still holds."""
    of_source = select(lane.c.target_id, lane.c.batch_id).where(lane.c.source_id == source)
    connection.execute(of_source.order_by(lane.c.target_id).with_for_update()).all()
    unsettled = select(publish_state.c.target_id).where(
        publish_state.c.batch_id == batch,
        publish_state.c.status.not_in([str(status) for status in SETTLED]),
    )
    if connection.execute(unsettled.limit(1)).first() is not None:
        return False
    named = select(dead_letter.c.dead_letter_id).where(
        and_(
            or_(dead_letter.c.batch_id == batch, dead_letter.c.correction_batch_id == batch),
            dead_letter.c.status.in_([str(LetterStatus.OPEN), str(LetterStatus.REQUEUED)]),
        )
    )
    if connection.execute(named.limit(1)).first() is not None:
        return False
    heads = select(snapshot.c.target_id, snapshot.c.version).where(snapshot.c.source_id == source)
    now = {(source, TargetId(row.target_id)): row.version for row in connection.execute(heads)}
    return now == {key: n for key, n in versions.items() if key[0] == source}
