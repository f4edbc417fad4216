"""Recording and settling dead letters, in the transactions of what they are about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, func, literal, or_, select, update

from penstock.ports.attempts import PublishAttempt
from penstock.ports.audit_log import AuditEntry
from penstock.ports.control import BatchRecord, OperationException
from penstock.ports.dead_letters import DeadLetter
from penstock.publish.dead_letters import LETTER_MOVES, LetterEvent, LetterStatus, fingerprint
from penstock.publish.queue import SUPERSEDED
from penstock.publish.state import PublishState
from resources.control_db.engine import insert_new
from resources.control_db.letters_told import tell_requeued, tell_settled
from resources.control_db.rows import storable_json, storable_text
from resources.control_db.tables import (
    dead_letter,
    dead_letter_event,
    operation_exception,
    publish_state,
)

LETTER_OUTCOMES = frozenset({"refused", "rejected", "conflict", "lost"})
"""Outcomes of an operation that no retry mends."""
MAX_DATA_CHARACTERS = 64 * 1024
"""Longer attributes are not copied: they lie in the plan."""
_PAGE = 500
REQUEUING = frozenset({LetterEvent.REQUEUED, LetterEvent.FIXED})
"""Moves that put dead letters on their way again; who makes one tells of it."""
_SETTLING = frozenset({LetterEvent.RESOLVED, LetterEvent.DISCARDED, LetterEvent.SUPERSEDED})
_LETTER_FIELDS = tuple(field.name for field in fields(DeadLetter))
_T = TypeVar("_T")


def move(
    connection: Connection,
    condition: ColumnElement[bool],
    event: LetterEvent,
    now: datetime,
    *,
    actor: str | None = None,
    code: str | None = None,
    message: str | None = None,
    batch_id: str | None = None,
) -> int:
    """Make one move of all dead letters that meet a condition and can make it, record it of each; return how many."""
    table, events = dead_letter.c, dead_letter_event
    before = [str(status) for status, moves in LETTER_MOVES.items() if event in moves]
    (after,) = {str(moves[event]) for moves in LETTER_MOVES.values() if event in moves}
    movable = and_(condition, table.status.in_(before))
    last = select(func.coalesce(func.max(events.c.number), 0) + 1)
    number = last.where(events.c.dead_letter_id == table.dead_letter_id).scalar_subquery()
    values = {
        "at": now,
        "event": str(event),
        "actor": storable_text(actor),
        "code": code,
        "message": storable_text(message),
        "batch_id": batch_id,
    }
    constants = (literal(value, events.c[name].type) for name, value in values.items())
    happened = select(table.dead_letter_id, number, *constants).where(movable)
    names = ["dead_letter_id", "number", *values]
    insert = events.insert().from_select(names, happened)
    moving = connection.execute(insert.execution_options(preserve_rowcount=True)).rowcount
    if not moving:
        return 0
    if event in _SETTLING:
        tell_settled(connection, movable, event, now, actor)
    changed: dict[str, Any] = {"status": after, "updated_at": now}
    if event in REQUEUING:
        changed["correction_batch_id"] = batch_id
    connection.execute(update(dead_letter).where(movable).values(**changed))
    return int(moving)


def record_batch_letter(
    connection: Connection, state: PublishState, attempt: PublishAttempt
) -> None:
    """Make a dead letter of a batch, in the transaction that gives it up."""
    letter = batch_letter(
        subject=state.batch_id,
        where=attempt.step,
        source_id=state.source_id,
        code=attempt.code,
        message=attempt.message,
        now=attempt.failed_at,
        details={"target_id": state.target_id, "intent": str(state.intent)},
        batch_id=state.batch_id,
        target_id=state.target_id,
        data_path=state.s3_path,
    )
    record_letters(connection, [letter], attempt.failed_at)
    reopen_corrected(connection, state, attempt.failed_at)


def carry_letters(connection: Connection, record: BatchRecord) -> None:
    """Have the dead letters of a correction on their way again, in the transaction that admits it.

    Of one that was mended, what is tried from now on is what was written; the original stays where ``data_path`` says.
    """
    corrects, table = record.manifest.corrects, dead_letter.c
    assert corrects is not None
    batch = record.manifest.batch_id
    event = LetterEvent.REQUEUED if corrects.mended is None else LetterEvent.FIXED
    for page in pages(corrects.dead_letter_ids):
        mine = and_(
            table.dead_letter_id.in_(page),
            table.source_id == record.manifest.source_id,
            table.target_id == corrects.target_id,
            table.status == str(LetterStatus.OPEN),
        )
        if corrects.mended is not None:
            values = {"data": storable_text(corrects.mended)}
            connection.execute(update(dead_letter).where(mine).values(**values))
        said = {"actor": corrects.requested_by, "message": corrects.reason or None}
        move(connection, mine, event, record.admitted_at, batch_id=batch, **said)
    # Once for all pages, so that a cause is one event however many letters it has.
    tell_requeued(
        connection,
        and_(table.correction_batch_id == batch, table.status == str(LetterStatus.REQUEUED)),
        record.admitted_at,
        carried_by=batch,
        actor=corrects.requested_by,
        mended=corrects.mended is not None,
    )


def requeue_letters_of(
    connection: Connection, state: PublishState, act: AuditEntry | None, now: datetime
) -> None:
    """Have dead letters on their way again in the transaction that puts a batch back in the queue.

    They are the batch's own and, of a correction, those that it carried when it failed.
    """
    table = dead_letter.c
    own = and_(table.batch_id == state.batch_id, table.operation_id.is_(None))
    mine = and_(
        or_(own, table.correction_batch_id == state.batch_id),
        table.target_id == state.target_id,
        table.status == str(LetterStatus.OPEN),
    )
    said = {"actor": act.actor, "message": act.reason} if act else {}
    tell_requeued(
        connection, mine, now, carried_by=state.batch_id, actor=act.actor if act else None
    )
    move(connection, mine, LetterEvent.REQUEUED, now, batch_id=state.batch_id, **said)


def reopen_corrected(connection: Connection, state: PublishState, now: datetime) -> None:
    """Open again what was requeued in a correction that came to nothing."""
    mine = and_(
        dead_letter.c.correction_batch_id == state.batch_id,
        dead_letter.c.status == str(LetterStatus.REQUEUED),
    )
    move(connection, mine, LetterEvent.FAILED_AGAIN, now, batch_id=state.batch_id)


def reopen_overtaken(connection: Connection, overtaken: ColumnElement[bool], now: datetime) -> int:
    """Open again what was requeued in corrections of which a newer batch gets ahead, before those fail."""
    table = dead_letter.c
    batches = select(publish_state.c.batch_id).where(overtaken)
    mine = and_(table.correction_batch_id.in_(batches), table.status == str(LetterStatus.REQUEUED))
    return move(connection, mine, LetterEvent.FAILED_AGAIN, now, code=SUPERSEDED)


def record_operation_letters(
    connection: Connection,
    state: PublishState,
    exceptions: Sequence[OperationException],
    data: Mapping[str, str],
    now: datetime,
) -> None:
    """Make dead letters of the operations of a chunk that no retry mends, in the transaction that records the chunk.

    The same operation again has failed again. An older open letter of the same entity in the lane is superseded: there
    is one open letter for an entity.
    """
    bad = [exception for exception in exceptions if exception.outcome in LETTER_OUTCOMES]
    for page in pages(bad):
        fresh = _not_reopened(connection, state, page, now)
        _supersede_same_entities(connection, state, fresh, now)
        record_letters(
            connection, [_letter(state, e, data.get(e.operation_id), now) for e in fresh], now
        )


def _not_reopened(
    connection: Connection,
    state: PublishState,
    exceptions: Sequence[OperationException],
    now: datetime,
) -> list[OperationException]:
    """Open again the letters that failed in the correction they were requeued in; return what is new."""
    table = dead_letter.c
    columns = (table.dead_letter_id, table.kind, table.type_name, table.key, table.to_key)
    query = select(*columns).where(
        table.correction_batch_id == state.batch_id,
        table.target_id == state.target_id,
        table.status == str(LetterStatus.REQUEUED),
    )
    requeued = {tuple(row[1:]): row[0] for row in connection.execute(query)}
    fresh = []
    for e in exceptions:
        letter = requeued.get((e.kind, e.type_name, storable_text(e.key), storable_text(e.to_key)))
        if letter is None:
            fresh.append(e)
            continue
        mine = table.dead_letter_id == letter
        said = {"code": e.code, "message": storable_text(e.message)}
        move(connection, mine, LetterEvent.FAILED_AGAIN, now, batch_id=state.batch_id, **said)
        cause = fingerprint(
            code=e.code, message=e.message, type_name=e.type_name, target=state.target_id
        )
        connection.execute(update(dead_letter).where(mine).values(**said, fingerprint=cause))
    return fresh


def supersede_others(connection: Connection, state: PublishState, now: datetime) -> None:
    """Settle what other batches of a lane left open, once a full batch has been published: it has decided anew."""
    table = dead_letter.c
    planned_before = and_(table.operation_id.is_not(None), table.plan_digest != state.plan_digest)
    others = and_(
        table.source_id == state.source_id,
        table.target_id == state.target_id,
        or_(table.batch_id != state.batch_id, planned_before),
        table.status == str(LetterStatus.OPEN),
    )
    said = f"batch {state.batch_id} was published since, and decided about it anew"
    move(connection, others, LetterEvent.SUPERSEDED, now, message=said, batch_id=state.batch_id)


def resolve_corrected(connection: Connection, state: PublishState, now: datetime) -> None:
    """Resolve what was requeued in a batch that has been published; what failed again in it is open already."""
    table = dead_letter.c
    mine = and_(
        or_(
            table.correction_batch_id == state.batch_id,
            and_(table.batch_id == state.batch_id, table.operation_id.is_(None)),
        ),
        table.target_id == state.target_id,
        table.status.in_([str(LetterStatus.REQUEUED), str(LetterStatus.OPEN)]),
    )
    requeued = and_(
        mine, or_(table.status == str(LetterStatus.REQUEUED), table.operation_id.is_(None))
    )
    _settle_corrected(connection, state)
    move(connection, requeued, LetterEvent.RESOLVED, now, batch_id=state.batch_id)


def _settle_corrected(connection: Connection, state: PublishState) -> None:
    """Settle, at the batches that they are of, what was requeued in a correction, with all that it had blocked.

    What failed again, or is blocked again, stands with the correction from now on.
    """
    letters, exceptions = dead_letter.c, operation_exception
    carried = select(letters.batch_id, letters.operation_id).where(
        letters.correction_batch_id == state.batch_id,
        letters.target_id == state.target_id,
        letters.operation_id.is_not(None),
    )
    ids: dict[str, list[str]] = {}
    for batch, operation in connection.execute(carried):
        ids.setdefault(batch, []).append(operation)
    for batch, operations in ids.items():
        for page in pages(operations):
            mine = and_(
                exceptions.c.batch_id == batch,
                exceptions.c.target_id == state.target_id,
                exceptions.c.settled_by.is_(None),
                or_(exceptions.c.operation_id.in_(page), exceptions.c.blocked_by.in_(page)),
            )
            connection.execute(update(exceptions).where(mine).values(settled_by=state.batch_id))
        _recount(connection, batch, state.target_id)


def _recount(connection: Connection, batch: str, target: str) -> None:
    """Count anew what a COMPLETE batch left out."""
    states, exceptions = publish_state, operation_exception.c
    mine = and_(states.c.batch_id == batch, states.c.target_id == target)
    row = connection.execute(select(states.c.plan_digest, states.c.base_plan_digest).where(mine))
    digests = [digest for digest in row.one() if digest is not None]
    query = (
        select(exceptions.outcome, func.count())
        .where(
            exceptions.batch_id == batch,
            exceptions.target_id == target,
            exceptions.plan_digest.in_(digests),
            exceptions.settled_by.is_(None),
        )
        .group_by(exceptions.outcome)
    )
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    counts = {"held": found.pop("held", 0), "blocked": found.pop("blocked", 0)}
    counts["rejected"] = sum(found.values())
    values = {**counts, "exceptions": sum(counts.values())}
    connection.execute(update(states).where(mine).values(**values))


def batch_letter(
    *,
    subject: str,
    where: str,
    source_id: str | None,
    code: str,
    message: str,
    now: datetime,
    details: Mapping[str, Any] | None,
    batch_id: str | None,
    target_id: str | None,
    data_path: str | None,
) -> DeadLetter:
    """Return the dead letter of a batch, or of what should have been one."""
    return DeadLetter(
        dead_letter_id=_id_of(subject, code if target_id is None else f"{code}@{target_id}"),
        subject=storable_text(subject) or "",
        where=storable_text(where) or "",
        source_id=storable_text(source_id),
        code=code,
        message=storable_text(message) or "",
        details=storable_json(dict(details or {})),
        recorded_at=now,
        fingerprint=fingerprint(code=code, message=message, type_name=None, target=target_id),
        batch_id=batch_id,
        target_id=target_id,
        data_path=storable_text(data_path),
        updated_at=now,
    )


def _letter(
    state: PublishState, exception: OperationException, data: str | None, now: datetime
) -> DeadLetter:
    short = data if data is not None and len(data) <= MAX_DATA_CHARACTERS else None
    return DeadLetter(
        dead_letter_id=_id_of(f"{state.batch_id}@{state.target_id}", exception.operation_id),
        subject=exception.operation_id,
        where="execute" if exception.outcome != "refused" else "plan",
        source_id=state.source_id,
        code=exception.code,
        message=storable_text(exception.message) or "",
        details={"outcome": exception.outcome},
        recorded_at=now,
        fingerprint=fingerprint(
            code=exception.code,
            message=exception.message,
            type_name=exception.type_name,
            target=state.target_id,
        ),
        batch_id=state.batch_id,
        target_id=state.target_id,
        plan_digest=state.plan_digest,
        operation_id=exception.operation_id,
        kind=exception.kind,
        type_name=exception.type_name,
        key=storable_text(exception.key),
        to_key=storable_text(exception.to_key),
        action=exception.action,
        data=storable_text(short),
        data_path=state.execution_plan_path,
        updated_at=now,
    )


def record_letters(connection: Connection, letters: Sequence[DeadLetter], now: datetime) -> None:
    """Add dead letters; one that is there already has failed again."""
    ids = [letter.dead_letter_id for letter in letters]
    known = select(dead_letter.c.dead_letter_id).where(dead_letter.c.dead_letter_id.in_(ids))
    there = set(connection.execute(known).scalars())
    if there:
        again = dead_letter.c.dead_letter_id.in_(there)
        move(connection, again, LetterEvent.FAILED_AGAIN, now)
    fresh = [letter for letter in letters if letter.dead_letter_id not in there]
    insert_new(connection, dead_letter, [_row_of(letter) for letter in fresh])
    recorded = [
        {
            "dead_letter_id": letter.dead_letter_id,
            "number": 1,
            "at": now,
            "event": str(LetterEvent.RECORDED),
            "code": letter.code,
            "message": letter.message,
            "batch_id": letter.batch_id,
        }
        for letter in fresh
    ]
    insert_new(connection, dead_letter_event, recorded)


def _row_of(letter: DeadLetter) -> dict[str, object]:
    # Not by asdict: it copies deeply, which costs as much as everything else that is done for a letter.
    row = {name: getattr(letter, name) for name in _LETTER_FIELDS}
    return {**row, "status": str(letter.status)}


def _supersede_same_entities(
    connection: Connection,
    state: PublishState,
    exceptions: Sequence[OperationException],
    now: datetime,
) -> None:
    table = dead_letter.c
    wanted = {
        (e.kind, e.type_name, storable_text(e.key), storable_text(e.to_key)) for e in exceptions
    }
    names = select(
        table.dead_letter_id, table.kind, table.type_name, table.key, table.to_key
    ).where(
        table.source_id == state.source_id,
        table.target_id == state.target_id,
        table.status == str(LetterStatus.OPEN),
        table.operation_id.not_in([e.operation_id for e in exceptions]),
        table.key.in_([key for _, _, key, _ in wanted]),
    )
    same = [row[0] for row in connection.execute(names) if tuple(row[1:]) in wanted]
    if same:
        older = table.dead_letter_id.in_(same)
        move(connection, older, LetterEvent.SUPERSEDED, now, batch_id=state.batch_id)


def pages(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut a long list into pieces that one statement takes."""
    for start in range(0, len(items), _PAGE):
        yield items[start : start + _PAGE]


def _id_of(subject: str, code: str) -> str:
    text = f"{len(code)}:{code}{subject}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
