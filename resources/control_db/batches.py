"""Admitted batches in the control database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, and_, or_, select

from penstock.batch.manifest import Correction, Manifest
from penstock.errors import NotFound, PenstockError
from penstock.identity.ids import BatchId, SourceId, split_batch_id
from penstock.ports.audit_log import MOST_NAMED, AuditEntry
from penstock.ports.control import BatchRecord
from penstock.publish.state import PublishState
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_if_new, insert_new
from resources.control_db.letter_records import carry_letters
from resources.control_db.rows import state_columns
from resources.control_db.tables import batch as batches
from resources.control_db.tables import dead_letter, lane, publish_state
from resources.control_db.telling import tell_landed

_PAGE = 500
"""Ids asked for at once: well below what either database takes as parameters."""


class SqlBatches(Database):
    """:class:`penstock.ports.control.Batches` in SQL."""

    def admit(self, record: BatchRecord, states: Sequence[PublishState]) -> bool:
        """Record a batch and its PENDING publish states in one transaction; False if it is known.

        Whoever admits a correction, the act of who asked for it is recorded with it, and its dead letters are on their
        way. Raises ``PenstockError`` if a state is of another batch or source.
        """
        manifest = record.manifest
        _refuse_strangers(manifest, states)
        mode = str(manifest.mode)
        with self._writing() as connection:
            if not insert_if_new(connection, batches, _row_of(record)):
                return False
            # Lanes by id, so that two batches admitted at once cannot deadlock.
            targets = sorted({state.target_id for state in states})
            of_source = {"source_id": manifest.source_id, "fencing_token": 0}
            insert_new(connection, lane, [{**of_source, "target_id": target} for target in targets])
            if states:
                rows = [{**state_columns(state), "mode": mode} for state in states]
                connection.execute(publish_state.insert(), rows)
            if manifest.corrects is not None:
                carry_letters(connection, record)
                if (act := _act_behind(record, manifest.corrects)) is not None:
                    add_act(connection, act)
            tell_landed(connection, record, states)
        return True

    def get_batch(self, batch: BatchId) -> BatchRecord:
        """Return an admitted batch, or raise ``NotFound``."""
        query = select(batches).where(batches.c.batch_id == batch)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(
                f"no batch {batch!r} has been admitted: `penstock batches` lists those that have"
            )
        return _record_of(row)

    def known_batches(self, batches: Sequence[BatchId]) -> set[BatchId]:
        """Return those of ``batches`` that have been admitted or dead-lettered."""
        known: set[BatchId] = set()
        with self._reading() as connection:
            for start in range(0, len(batches), _PAGE):
                page = batches[start : start + _PAGE]
                admitted = select(_BATCH_ID).where(_BATCH_ID.in_(page))
                known.update(connection.scalars(admitted))
                # A requeued letter is looked at again.
                letters = select(dead_letter.c.subject).where(
                    dead_letter.c.subject.in_(page), dead_letter.c.status != "requeued"
                )
                known.update(connection.scalars(letters))
        return known

    def list_batches(
        self,
        *,
        source: SourceId | None = None,
        sources: Collection[SourceId] | None = None,
        limit: int = 100,
        after: BatchId | None = None,
    ) -> list[BatchRecord]:
        """Return batches, newest source timestamp first, and of one moment by id, from Z on."""
        newest_first = (batches.c.source_timestamp.desc(), batches.c.batch_id.desc())
        query = select(batches).order_by(*newest_first).limit(limit)
        if source is not None:
            query = query.where(batches.c.source_id == source)
        if sources is not None:
            query = query.where(batches.c.source_id.in_(sorted(sources)))
        if after is not None:
            made, own_id = batches.c.source_timestamp, batches.c.batch_id
            _, at = split_batch_id(after)
            query = query.where(or_(made < at, and_(made == at, own_id < after)))
        with self._reading() as connection:
            return [_record_of(row) for row in connection.execute(query)]


_BATCH_ID = batches.c.batch_id


def _act_behind(record: BatchRecord, corrects: Correction) -> AuditEntry | None:
    """Return who asked for what, of a correction; None of one that carries no dead letter."""
    details: dict[str, Any] = {
        "target_id": corrects.target_id,
        "correction": record.manifest.batch_id,
    }
    act, subject = "batch.rollback", corrects.batch_id
    if corrects.kind == "fix":
        ids = corrects.dead_letter_ids
        if not ids:
            return None
        act = "dead_letter.requeue" if corrects.mended is None else "dead_letter.fix"
        subject = ids[0] if len(ids) == 1 else f"{len(ids):,} dead letters"
        details["dead_letter_ids"] = list(ids[:MOST_NAMED])
    return AuditEntry(
        at=record.admitted_at,
        actor=corrects.requested_by,
        act=act,
        subject=subject,
        source_id=record.manifest.source_id,
        reason=corrects.reason or None,
        details=details,
    )


def _refuse_strangers(manifest: Manifest, states: Sequence[PublishState]) -> None:
    for state in states:
        if state.batch_id != manifest.batch_id or state.source_id != manifest.source_id:
            raise PenstockError(
                f"a publish state of batch {state.batch_id!r} was given for batch "
                f"{manifest.batch_id!r}: admit each batch with its own states"
            )


def _row_of(record: BatchRecord) -> dict[str, Any]:
    manifest = record.manifest
    return {
        "batch_id": manifest.batch_id,
        "source_id": manifest.source_id,
        "tenant_id": manifest.tenant_id,
        "source_timestamp": manifest.source_timestamp,
        "mode": str(manifest.mode),
        "s3_path": record.s3_path,
        "admitted_at": record.admitted_at,
        "manifest": manifest.model_dump_json(),
        "rows": manifest.entities.rows + manifest.relationships.rows,
    }


def _record_of(row: Row[Any]) -> BatchRecord:
    manifest = Manifest.model_validate_json(row.manifest)
    return BatchRecord(manifest=manifest, s3_path=row.s3_path, admitted_at=row.admitted_at)
