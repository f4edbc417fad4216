"""Queries on what could not be published as it is, and what can be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Operator, SightOf, Viewer, signed
from control_plane.service.routes.asking import (
    SLUG,
    LetterPath,
    Limit,
    NeededReason,
    OnlySource,
    OnlyTarget,
    source_of,
    target_of,
)
from control_plane.service.routes.sources import ACTED
from control_plane.web.bodies import Body, ReasonField
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.ports.control import OperationException
from penstock.ports.dead_letters import DeadLetter, LetterFilter, LetterGroup, LetterHistory
from penstock.publish.dead_letters import LetterStatus
from penstock.strict import Whole
from penstock.use_cases import dead_letters
from penstock.use_cases.dead_letters import MOST_PATCH_STEPS

router = APIRouter(tags=["Dead letters"], route_class=StrictRoute)
MOST_NAMED = 10_000
_HEX = "^[0-9a-f]{32}$"
Text = Annotated[str | None, Query(max_length=255)]
LetterIds = Annotated[
    list[Annotated[str, Field(pattern=_HEX)]],
    Field(max_length=MOST_NAMED, examples=[["5f0c2f3b7a9d4c1e8b6a4d2c0e1f3a5b"]]),
]


@dataclass(frozen=True)
class Chosen:
    """Which dead letters are meant, as a query has it."""

    sight: SightOf
    source: OnlySource = None
    target: OnlyTarget = None
    status: Annotated[LetterStatus | None, Query(description="Only those that are here.")] = None
    fingerprint: Text = None
    code: Text = None
    type_name: Annotated[str | None, Query(alias="type", max_length=127)] = None

    def filter(self) -> LetterFilter:
        """Return the filter, narrowed down to what is there for the caller."""
        only = source_of(self.source)
        if only is not None:
            self.sight.source(only)
        chosen = LetterFilter(
            source=only,
            target=target_of(self.target),
            status=self.status,
            fingerprint=self.fingerprint,
            code=self.code,
            type_name=self.type_name,
        )
        return self.sight.letters(chosen)


ChosenOf = Annotated[Chosen, Depends(Chosen)]


class LetterPage(Document):
    """Dead letters, newest first."""

    items: list[DeadLetter]
    next: str | None = Field(description="What `after` takes to go on; null at the end.")


class GroupList(Document):
    """Dead letters by cause, the newest cause first."""

    items: list[LetterGroup]


class LetterDocument(Document):
    """One dead letter with everything needed to decide about it."""

    letter: DeadLetter
    history: list[LetterHistory]
    attributes: Json | None = Field(description="As they would be tried next; null for deletes.")
    blocked: list[OperationException] = Field(description="The first of what it keeps back.")
    blocked_operations: int
    superseded: bool = Field(description="Whether the target has something newer of it.")


class RequeuedDocument(Document):
    """What came of trying dead letters again."""

    letters: int
    superseded: int = Field(description="Left out: something newer has decided about them.")
    corrections: list[Json] = Field(description="Manifests of what was landed, one for each lane.")
    batches: list[str] = Field(description="Whole batches that are back in the queue.")


class Fix(Body):
    """How one dead letter is mended."""

    patch: Annotated[
        list[dict[str, Any]],
        Field(
            max_length=MOST_PATCH_STEPS,
            description="A JSON patch (RFC 6902) of its attributes.",
            examples=[[{"op": "replace", "path": "/rows", "value": 3}]],
        ),
    ]
    reason: ReasonField = ""


class Requeue(Body):
    """Which dead letters are to be tried again: those named, or all open ones that the rest chooses."""

    dead_letter_ids: LetterIds = Field(default_factory=list)
    source: Annotated[str | None, Field(pattern=SLUG)] = None
    target: Annotated[str | None, Field(pattern=SLUG)] = None
    fingerprint: Annotated[str | None, Field(max_length=255)] = None
    code: Annotated[str | None, Field(max_length=255)] = None
    type: Annotated[str | None, Field(max_length=127)] = None
    limit: Whole = Field(default=MOST_NAMED, ge=1, le=MOST_NAMED)
    reason: ReasonField = ""


class Discard(Body):
    """Which dead letters are not wanted, and why."""

    dead_letter_ids: LetterIds
    reason: NeededReason


class DiscardedDocument(Document):
    """How many were discarded."""

    discarded: int


@router.get("/dead-letters", response_model=LetterPage, responses=problems(404))
def list_dead_letters(
    chosen: ChosenOf,
    _caller: Viewer,
    after: Annotated[str | None, Query(pattern=_HEX)] = None,
    limit: Limit = 100,
) -> Response:
    """List what could not be published as it is, newest first, and why."""
    sight = chosen.sight
    last = None if after is None else sight.letter(after).dead_letter_id
    found = dead_letters.list_letters(
        sight.platform, chosen=chosen.filter(), after=last, limit=limit
    )
    following = found[-1].dead_letter_id if len(found) == limit else None
    return json_response({"items": plain(found), "next": following})


@router.get("/dead-letters/groups", response_model=GroupList, responses=problems(404))
def list_dead_letter_groups(chosen: ChosenOf, _caller: Viewer, limit: Limit = 100) -> Response:
    """Count dead letters by cause, the newest cause first."""
    found = dead_letters.letter_groups(chosen.sight.platform, chosen=chosen.filter(), limit=limit)
    return json_response({"items": plain(found)})


@router.get("/dead-letters/{letter:hex32}", response_model=LetterDocument, responses=problems(404))
def read_dead_letter(letter: LetterPath, sight: SightOf, _caller: Viewer) -> Response:
    """Show one dead letter: data, failure, history, and what it keeps from being sent."""
    known = sight.letter(letter).dead_letter_id
    return json_response(plain(dead_letters.inspect_letter(sight.platform, known)))


@router.post("/dead-letters/{letter:hex32}/fix", response_model=RequeuedDocument, responses=ACTED)
def fix_dead_letter(letter: LetterPath, body: Fix, sight: SightOf, caller: Operator) -> Response:
    """Mend the attributes of one dead letter and try it again, with all that it blocked."""
    known, patch = sight.letter(letter).dead_letter_id, orjson.dumps(body.patch).decode()
    by = signed(caller, body.reason)
    return json_response(plain(dead_letters.fix_letter(sight.platform, known, patch, by=by)))


@router.post("/dead-letters/requeue", response_model=RequeuedDocument, responses=ACTED)
def requeue_dead_letters(body: Requeue, sight: SightOf, caller: Operator) -> Response:
    """Try dead letters again: those named, or all open ones of a fingerprint, code, type, source or target."""
    named = [sight.letter(each).dead_letter_id for each in body.dead_letter_ids]
    fields = (body.source, body.target, body.fingerprint, body.code, body.type)
    chosen = None
    if any(each is not None for each in fields):
        asked = Chosen(
            sight, body.source, body.target, None, body.fingerprint, body.code, body.type
        )
        chosen = asked.filter()
    done = dead_letters.requeue_letters(
        sight.platform,
        by=signed(caller, body.reason),
        dead_letter_ids=named,
        chosen=chosen,
        limit=body.limit,
    )
    return json_response(plain(done))


@router.post("/dead-letters/discard", response_model=DiscardedDocument, responses=ACTED)
def discard_dead_letters(body: Discard, sight: SightOf, caller: Operator) -> Response:
    """Decide that dead letters are not wanted; they are kept, with the reason."""
    named = [sight.letter(each).dead_letter_id for each in body.dead_letter_ids]
    by = signed(caller, body.reason)
    count = dead_letters.discard_letters(sight.platform, named, by=by)
    return json_response({"discarded": count})
