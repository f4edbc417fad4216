"""The dead-letter queue: look at what failed, mend it, try it again, or let it be.

What is tried again goes as a correction: a batch of its own with the rows of the letters and of all that they
blocked, so that what was blocked goes on by itself. Where a newer batch has decided about an entity, its letter is
superseded.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jsonpatch import JsonPatch, JsonPatchException
from jsonpointer import JsonPointerException

from penstock.batch.manifest import Correction, Manifest, Mode
from penstock.batch.rows import SCHEMAS, Kind
from penstock.batch.validate import check_rows
from penstock.errors import BadPatch, IllegalMove, NothingToDo, PenstockError, TooMany
from penstock.identity.canonical import canonical_text, value_of
from penstock.identity.digest import DIGEST_BYTES
from penstock.identity.ids import BatchId, SourceId, TargetId, split_batch_id
from penstock.plan.document import PlanDocument
from penstock.plan.operations import Action
from penstock.ports.audit_log import MOST_NAMED
from penstock.ports.control import OperationException
from penstock.ports.dead_letters import DeadLetter, LetterFilter, LetterGroup, LetterHistory
from penstock.publish.dead_letters import LetterEvent, LetterStatus, next_letter_status
from penstock.publish.state import Intent, PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.batch_writer import KindRows
from penstock.use_cases.corrections import land_correction, plan_correction
from penstock.use_cases.fitting import fits_snapshot
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.platform import Platform
from penstock.use_cases.stored_plans import open_plan, plan_chunks

MOST_PATCH_BYTES = 256 * 1024
MOST_PATCH_STEPS = 1000
_SHOWN = 100
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class LetterDetails:
    """One dead letter with everything needed to decide about it."""

    letter: DeadLetter
    history: tuple[LetterHistory, ...]
    attributes: Mapping[str, Any] | None
    """As they would be tried next; None for deletes and for batches."""
    blocked: tuple[OperationException, ...]
    """The first of what it keeps from being sent."""
    blocked_operations: int
    superseded: bool
    """Whether the target has something newer of this entity."""


@dataclass(frozen=True, kw_only=True)
class Requeued:
    """What came of requeueing dead letters."""

    letters: int
    """On their way again."""
    superseded: int
    """Left out, because something newer has decided about them."""
    corrections: tuple[Manifest, ...]
    """One for each source and target."""
    batches: tuple[BatchId, ...]
    """Whole batches that are back in the queue."""


def list_letters(
    platform: Platform,
    *,
    chosen: LetterFilter | None = None,
    after: str | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """Return dead letters, newest first; ``after`` is the id of the last of the page before."""
    last = None if after is None else platform.control.get_dead_letter(after)
    return platform.control.list_dead_letters(chosen=chosen, after=last, limit=limit)


def letter_groups(
    platform: Platform, *, chosen: LetterFilter | None = None, limit: int = 100
) -> list[LetterGroup]:
    """Return dead letters by what they have in common, the newest group first."""
    return platform.control.letter_groups(chosen=chosen, limit=limit)


def inspect_letter(platform: Platform, dead_letter_id: str) -> LetterDetails:
    """Return one dead letter with its history, its data and what it blocks; raises ``NotFound``."""
    letter = platform.control.get_dead_letter(dead_letter_id)
    blocked: list[OperationException] = []
    attributes, superseded = None, letter.status is LetterStatus.SUPERSEDED
    if letter.operation_id is not None:
        blocked = _blocked(platform, [letter])
        attributes = _attributes(platform, letter)
        superseded = superseded or not _Lane.of(platform, letter).fitting([letter])
    return LetterDetails(
        letter=letter,
        history=tuple(platform.control.letter_history(dead_letter_id)),
        attributes=attributes,
        blocked=tuple(blocked[:_SHOWN]),
        blocked_operations=len(blocked),
        superseded=superseded,
    )


def discard_letters(platform: Platform, dead_letter_ids: Sequence[str], *, by: By) -> int:
    """Decide that dead letters are not wanted; returns how many. Raises ``IllegalMove`` unless all are open."""
    reason = by.why("discard a dead letter")
    now, ids = platform.clock.now(), list(dict.fromkeys(dead_letter_ids))
    if not ids:
        raise NothingToDo("name the dead letters to discard")
    act = by.entry(
        "dead_letter.discard",
        ids[0] if len(ids) == 1 else f"{len(ids):,} dead letters",
        now=now,
        details={"dead_letter_ids": ids[:MOST_NAMED]},
    )
    return platform.control.move_letters(
        ids, LetterEvent.DISCARDED, now=now, actor=by.actor, message=reason, act=act
    )


def fix_letter(platform: Platform, dead_letter_id: str, patch: str, *, by: By) -> Requeued:
    """Mend what one operation was to bring, by a JSON patch (RFC 6902), and try it again.

    The patched attributes are checked like any row and tried against the current snapshot by a dry run: only what
    that accepts counts. Raises ``BadPatch`` otherwise, with nothing changed.
    """
    letter = platform.control.get_dead_letter(dead_letter_id)
    next_letter_status(letter.status, LetterEvent.FIXED)
    if letter.operation_id is None or letter.action == Action.DELETE:
        raise BadPatch(
            f"dead letter {dead_letter_id} has no attributes to patch: requeue or discard it"
        )
    before = _attributes(platform, letter) or {}
    text = _patched(before, patch)
    _check_row(letter, text)
    mended = replace(letter, data=text)
    lane = _Lane.of(platform, letter)
    _refuse_outdated(letter, lane.fitting([letter]))
    planned = lane.simulate([mended], by)
    _check_planned(planned, letter)
    _check_rate(platform, 1)
    manifest = lane.land([mended], by, mended=text)
    return Requeued(letters=1, superseded=0, corrections=(manifest,), batches=())


def requeue_letters(
    platform: Platform,
    *,
    by: By,
    dead_letter_ids: Sequence[str] = (),
    chosen: LetterFilter | None = None,
    limit: int = 10_000,
) -> Requeued:
    """Try dead letters again: those named, or all open ones that a filter chooses.

    Named ones that are superseded or not open are refused, all or none; chosen ones are passed over and counted.
    Raises ``TooMany`` beyond what may be requeued in a minute, ``NothingToDo`` if there is none.
    """
    if not dead_letter_ids and chosen is None:
        raise NothingToDo(
            "name dead letters, a fingerprint or a filter: all of them at once is no choice"
        )
    named = [platform.control.get_dead_letter(each) for each in dict.fromkeys(dead_letter_ids)]
    for letter in named:
        next_letter_status(letter.status, LetterEvent.REQUEUED)
    letters = named
    if chosen is not None:
        opened = replace(chosen, status=LetterStatus.OPEN)
        letters = platform.control.list_dead_letters(chosen=opened, limit=limit)
    if not letters:
        raise NothingToDo(
            "no open dead letter is meant: `penstock dead-letters` lists what there is"
        )
    _check_rate(platform, len(letters))
    return _requeue(platform, letters, by, strict=bool(named))


def _requeue(
    platform: Platform, letters: Sequence[DeadLetter], by: By, *, strict: bool
) -> Requeued:
    operations = [letter for letter in letters if letter.operation_id is not None]
    lanes: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in operations:
        lanes.setdefault((str(letter.source_id), str(letter.target_id)), []).append(letter)
    going: list[tuple[_Lane, list[DeadLetter]]] = []
    outdated: list[DeadLetter] = []
    for mine in lanes.values():
        lane = _Lane.of(platform, mine[0])
        fit = set(lane.fitting(mine))
        if strict:
            for letter in mine:
                _refuse_outdated(letter, fit)
        outdated += [letter for letter in mine if letter.dead_letter_id not in fit]
        if chosen := [letter for letter in mine if letter.dead_letter_id in fit]:
            going.append((lane, chosen))
    batches = _requeue_batches(platform, [x for x in letters if x.operation_id is None], by)
    manifests, sent = [], []
    for lane, chosen in going:
        manifests.append(lane.land(chosen, by))
        sent += chosen
    if outdated:
        platform.control.move_letters(
            [letter.dead_letter_id for letter in outdated],
            LetterEvent.SUPERSEDED,
            now=platform.clock.now(),
            actor=by.actor,
            message="the target has something newer of this entity",
        )
    return Requeued(
        letters=len(sent) + len(letters) - len(operations),
        superseded=len(outdated),
        corrections=tuple(manifests),
        batches=tuple(batches),
    )


def _requeue_batches(platform: Platform, letters: Sequence[DeadLetter], by: By) -> list[BatchId]:
    """Put FAILED batches back in the queue; what was never admitted is looked at again by the next relist."""
    requeued = []
    for letter in letters:
        if letter.batch_id is not None and letter.target_id is not None:
            batch, target = BatchId(letter.batch_id), TargetId(letter.target_id)
            requeued.append(batch)
            if _requeue_batch(platform, batch, target, letter, by):
                continue
        now, name = platform.clock.now(), letter.dead_letter_id
        source = None if letter.source_id is None else SourceId(letter.source_id)
        act = by.entry("dead_letter.requeue", name, now=now, source=source)
        said = {"actor": by.actor, "message": by.reason}
        platform.control.move_letters([name], LetterEvent.REQUEUED, now=now, act=act, **said)
    return requeued


def _requeue_batch(
    platform: Platform, batch: BatchId, target: TargetId, letter: DeadLetter, by: By
) -> bool:
    """Put a batch back in the queue, with its letter, if it is FAILED."""
    state = platform.control.get_state(batch, target)
    if state.status is not PublishStatus.FAILED:
        return False
    now = platform.clock.now()
    details = {"target_id": target, "dead_letter_id": letter.dead_letter_id}
    act = by.entry("batch.requeue", batch, now=now, source=state.source_id, details=details)
    platform.control.requeue(batch, target, now=now, intent=Intent.PUBLISH, act=act)
    return True


@dataclass(frozen=True)
class _Lane:
    """One source and target, with what its target is known to hold now."""

    platform: Platform
    source: SourceId
    target: TargetId
    known: KnownRows

    @classmethod
    def of(cls, platform: Platform, letter: DeadLetter) -> _Lane:
        source, target = SourceId(str(letter.source_id)), TargetId(str(letter.target_id))
        return cls(platform, source, target, KnownRows.open(platform, source, target))

    def fitting(self, letters: Sequence[DeadLetter]) -> list[str]:
        """Return the ids of the letters whose entity is still as it was when they were planned."""
        by_operation = {letter.operation_id: letter.dead_letter_id for letter in letters}
        fit: list[str] = []
        for operations in self._operations(letters):
            mask = fits_snapshot(self.known.view, operations)
            ids = operations.filter(pa.array(mask))["operation_id"].to_pylist()
            fit += [by_operation[name.hex()] for name in ids if name.hex() in by_operation]
        return fit

    def simulate(self, letters: Sequence[DeadLetter], by: By) -> PlanDocument:
        """Plan the correction without landing it."""
        return plan_correction(
            self.platform,
            source=self.source,
            corrects=self._correction(letters, by),
            rows=self._rows(letters),
            view=self.known.view,
            relationship_types=self._relationship_types(letters),
        )

    def land(self, letters: Sequence[DeadLetter], by: By, *, mended: str | None = None) -> Manifest:
        """Land the correction that brings some letters' rows, and those of what they blocked."""
        return land_correction(
            self.platform,
            source=self.source,
            corrects=self._correction(letters, by, mended),
            rows=self._rows(letters),
            view=self.known.view,
            relationship_types=self._relationship_types(letters),
        )

    def _correction(
        self, letters: Sequence[DeadLetter], by: By, mended: str | None = None
    ) -> Correction:
        return Correction(
            kind="fix",
            batch_id=str(max(str(letter.batch_id) for letter in letters)),
            target_id=self.target,
            requested_by=by.actor,
            reason=by.reason or "",
            dead_letter_ids=tuple(sorted(letter.dead_letter_id for letter in letters)),
            mended=mended,
        )

    def _relationship_types(self, letters: Sequence[DeadLetter]) -> list[Any]:
        found: dict[str, Any] = {}
        for batch in sorted({str(letter.batch_id) for letter in letters}):
            manifest = self.platform.control.get_batch(BatchId(batch)).manifest
            found |= {each.name: each for each in manifest.relationship_types}
        return list(found.values())

    def _rows(self, letters: Sequence[DeadLetter]) -> Iterator[KindRows]:
        mended = {x.operation_id: x.data for x in letters if x.data is not None}
        blocked = {e.operation_id for e in _blocked(self.platform, letters)}
        wanted = blocked | {str(letter.operation_id) for letter in letters}
        seen: set[tuple[str, ...]] = set()
        for operations in self._operations(letters, wanted):
            fits = operations.filter(pa.array(fits_snapshot(self.known.view, operations)))
            for kind in Kind:
                rows = fits.filter(pc.equal(fits["kind"], kind.value)).to_pylist()
                fresh = [row for row in rows if _name(row) not in seen]
                seen |= {_name(row) for row in fresh}
                if fresh:
                    yield kind, _table(kind, fresh, mended)

    def _operations(
        self, letters: Sequence[DeadLetter], wanted: set[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the planned operations of letters, newest plan first; an entity's newest is the one that counts."""
        ids = wanted or {str(letter.operation_id) for letter in letters}
        values = pa.array([bytes.fromhex(x) for x in sorted(ids)], pa.binary(DIGEST_BYTES))
        plans = {(x.data_path, x.plan_digest): str(x.batch_id) for x in letters}
        newest = sorted(plans, key=lambda p: split_batch_id(plans[p])[1], reverse=True)
        for path, plan_digest in newest:
            assert path is not None
            plan = open_plan(self.platform.objects, path, expected_digest=plan_digest)
            for chunk in plan_chunks(self.platform.objects, plan):
                found = chunk.filter(pc.is_in(chunk["operation_id"], value_set=values))
                if len(found):
                    yield found


def _name(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (row["kind"], row["type_name"], row["key"], row["to_key"] or "")


def _table(
    kind: Kind, operations: Sequence[Mapping[str, Any]], mended: Mapping[str | None, str | None]
) -> pa.Table:
    """Return operations as rows of a batch; a delete is a tombstone."""
    rows = []
    for operation in operations:
        gone = operation["action"] == Action.DELETE
        text = mended.get(operation["operation_id"].hex()) or operation["attributes"]
        values = [operation["type_name"], operation["key"]]
        values += [operation["to_key"]] if kind is Kind.RELATIONSHIP else []
        rows.append([*values, None if gone else text, gone])
    names = SCHEMAS[kind].names
    return pa.table(
        {name: [row[n] for row in rows] for n, name in enumerate(names)}, schema=SCHEMAS[kind]
    )


def _blocked(platform: Platform, letters: Sequence[DeadLetter]) -> list[OperationException]:
    by_batch: dict[tuple[str, str], list[str]] = {}
    for letter in letters:
        key = (str(letter.batch_id), str(letter.target_id))
        by_batch.setdefault(key, []).append(str(letter.operation_id))
    return [
        exception
        for (batch, target), ids in by_batch.items()
        for exception in platform.control.blocked_exceptions(batch, target, ids)
    ]


def _attributes(platform: Platform, letter: DeadLetter) -> Mapping[str, Any] | None:
    """Return what would be tried next: as mended, as kept, or as it lies in the plan."""
    if letter.action == Action.DELETE:
        return None
    text = letter.data
    if text is None:
        for chunk in _Lane.of(platform, letter)._operations([letter]):
            text = chunk["attributes"][0].as_py()
    return None if text is None else value_of(text)


def _patched(before: Mapping[str, Any], patch: str) -> str:
    """Apply a JSON patch and return the canonical text of what comes of it, or raise ``BadPatch``."""
    if len(patch.encode()) > MOST_PATCH_BYTES:
        raise BadPatch(f"the patch is over {MOST_PATCH_BYTES:,} bytes: send what changes alone")
    try:
        steps = json.loads(patch, parse_constant=_no_constant)
        if not isinstance(steps, list) or len(steps) > MOST_PATCH_STEPS:
            raise BadPatch(
                f"a JSON patch is a list of at most {MOST_PATCH_STEPS:,} steps (RFC 6902)"
            )
        after = JsonPatch(steps).apply(dict(before))
    except (
        JsonPatchException,
        JsonPointerException,
        ValueError,
        TypeError,
        RecursionError,
    ) as error:
        raise BadPatch(f"the patch cannot be applied: {error}") from error
    if not isinstance(after, dict):
        raise BadPatch(f"the patch leaves {type(after).__name__}, and attributes are an object")
    try:
        return canonical_text(after).decode()
    except PenstockError as error:
        raise BadPatch(f"what the patch leaves cannot be stored: {error}") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _check_row(letter: DeadLetter, text: str) -> None:
    kind = Kind(str(letter.kind))
    row = {
        "type_name": letter.type_name,
        "key": letter.key,
        "to_key": letter.to_key,
        "action": letter.action,
        "attributes": text,
        "operation_id": bytes(DIGEST_BYTES),
    }
    try:
        check_rows(kind, _table(kind, [row], {}), Mode.DELTA, lambda _n: "the patched row")
    except PenstockError as error:
        raise BadPatch(str(error)) from error


def _check_planned(planned: PlanDocument, letter: DeadLetter) -> None:
    refused = sum(row.dead_lettered for row in planned.ledger)
    if refused:
        raise BadPatch(
            f"planned against the current snapshot, {refused} of the operations of dead letter {letter.dead_letter_id} "
            "would be refused: mend what they refer to first"
        )
    mine = [r for r in planned.ledger if (r.kind, r.type_name) == (letter.kind, letter.type_name)]
    if not sum(row.created + row.updated + row.held for row in mine):
        raise BadPatch(
            "the patch leaves what the target holds already: discard the dead letter instead"
        )


def _refuse_outdated(letter: DeadLetter, fitting: Collection[str]) -> None:
    if letter.dead_letter_id not in fitting:
        raise IllegalMove(
            f"dead letter {letter.dead_letter_id} is superseded: the target has something newer of {letter.key!r}. "
            "Discard it"
        )


def _check_rate(platform: Platform, letters: int) -> None:
    most = platform.requeues_per_minute
    lately = platform.control.requeued_since(platform.clock.now() - _MINUTE)
    if lately + letters > most:
        raise TooMany(
            f"{letters:,} dead letters on top of {lately:,} within the last minute are more than the {most:,} that "
            "may be requeued in one: choose fewer (--limit), or wait"
        )
