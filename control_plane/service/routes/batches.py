"""Queries on batches, and commands on them on their way to a target."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane import answers, attempts
from control_plane.answers import plain
from control_plane.service.calling import Operator, SightOf, Viewer, signed
from control_plane.service.routes.asking import (
    BATCH,
    BatchPath,
    Limit,
    OnlySource,
    TargetField,
    ToTarget,
    ToTargetBecause,
    batch_of,
    source_of,
    target_of,
)
from control_plane.service.routes.sources import ACTED
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import PublishState
from penstock.strict import Flag, Number
from penstock.use_cases import operate
from penstock.use_cases.operate import Acted
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import attempts_of, batch_details, batch_overviews
from penstock.use_cases.rollback import rollback as roll_back

router = APIRouter(tags=["Batches"], route_class=StrictRoute)
EXCEPTIONS_SHOWN = 100
After = Annotated[
    str | None,
    Query(pattern=BATCH, description="Only those that follow: the `next` of the page before."),
]


class BatchLine(Document):
    """A batch, and where it is on its way to each target."""

    batch_id: str
    source_id: str
    source_timestamp: datetime
    mode: str
    entities: int
    relationships: int
    s3_path: str
    admitted_at: datetime
    states: dict[str, str]


class BatchPage(Document):
    """Batches, newest source timestamp first."""

    items: list[BatchLine]
    next: str | None = Field(description="What `after` takes to go on; null at the end.")


class TargetProgress(Document):
    """What publishing a batch to one target came to so far."""

    state: PublishState
    ledger: list[Json]
    exceptions: list[Json] = Field(description="The first of what was planned and not applied.")
    attempts: list[Json] = Field(description="That failed, oldest first.")


class BatchDocument(Document):
    """Everything recorded of one batch."""

    batch_id: str
    s3_path: str
    admitted_at: datetime
    manifest: Json
    targets: list[TargetProgress]


class ActedDocument(Document):
    """What came of an act on batches."""

    publish_states: list[PublishState] = Field(description="First the one that was named.")
    notes: list[str] = Field(description="What one has to know of what follows.")


class Boost(ToTarget):
    """How much sooner a batch is to go."""

    boost: Annotated[Number | None, Field(ge=-1e6, le=1e6, examples=[2.5])] = Field(
        default=None, description="In points; without it enough to go first."
    )


class RollbackOrder(ToTargetBecause):
    """Which batch's effect is to be taken back."""

    take: Annotated[list[str], Field(max_length=1000, examples=[["warehouse/sales/orders"]])] = (
        Field(default_factory=list, description="Keys to roll back in spite of a conflict.")
    )
    dry_run: Flag = False


class RollbackDocument(Document):
    """What a rollback does, or would do."""

    batch_id: str
    target_id: str
    restored: int
    removed: int
    conflicts: int
    taken: int
    listed: list[Json]
    correction: Json | None = Field(description="The manifest of the batch that was landed.")


@router.get("/batches", response_model=BatchPage, responses=problems(404))
def list_batches(
    sight: SightOf,
    _caller: Viewer,
    source: OnlySource = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """List batches, newest source timestamp first."""
    only = source_of(source)
    if only is not None:
        sight.source(only)
    place = None if after is None else batch_of(after)
    found = batch_overviews(
        sight.platform, source=only, sources=sight.sources, limit=limit + 1, after=place
    )
    last = found[limit - 1].record.manifest.batch_id if len(found) > limit else None
    shown = answers.batches(found[:limit])["batches"]
    return json_response(plain({"items": shown, "next": last}))


@router.get("/batches/{batch}", response_model=BatchDocument, responses=problems(404))
def read_batch(batch: BatchPath, sight: SightOf, _caller: Viewer) -> Response:
    """Show one batch: scopes, states, the ledger per target, and what was not applied."""
    known = sight.batch(batch_of(batch)).manifest.batch_id
    found = batch_details(sight.platform, known, exceptions=EXCEPTIONS_SHOWN)
    tried = attempts.answer(attempts_of(sight.platform, [each.state for each in found.targets]))
    document: dict[str, Any] = plain(answers.batch(found))
    for target in document["targets"]:
        target["attempts"] = tried[target["state"]["target_id"]]
    return json_response(document)


@router.post("/batches/{batch}/prioritise", response_model=ActedDocument, responses=ACTED)
def prioritise(batch: BatchPath, body: Boost, sight: SightOf, caller: Operator) -> Response:
    """Have a waiting batch claimed sooner: before all others, or by a boost of so many points."""
    by = signed(caller, body.reason)
    return _acted(
        sight,
        batch,
        body.target,
        lambda p, b, t: operate.prioritise(p, b, t, by=by, boost=body.boost),
    )


@router.post("/batches/{batch}/requeue", response_model=ActedDocument, responses=ACTED)
def requeue_batch(batch: BatchPath, body: ToTarget, sight: SightOf, caller: Operator) -> Response:
    """Put a FAILED batch back in the queue; its retries begin anew."""
    by = signed(caller, body.reason)
    return _acted(sight, batch, body.target, lambda p, b, t: operate.requeue(p, b, t, by=by))


@router.post("/batches/{batch}/republish", response_model=ActedDocument, responses=ACTED)
def republish_batch(batch: BatchPath, body: ToTarget, sight: SightOf, caller: Operator) -> Response:
    """Put a COMPLETE or FAILED batch back in the queue, to be planned and published again, even if newer ones were."""
    by = signed(caller, body.reason)
    return _acted(sight, batch, body.target, lambda p, b, t: operate.republish(p, b, t, by=by))


@router.post("/batches/{batch}/cancel", response_model=ActedDocument, responses=ACTED)
def cancel_batch(
    batch: BatchPath, body: ToTargetBecause, sight: SightOf, caller: Operator
) -> Response:
    """Take a waiting batch out of the queue."""
    by = signed(caller, body.reason)
    return _acted(sight, batch, body.target, lambda p, b, t: operate.cancel(p, b, t, by=by))


@router.post("/batches/{batch}/rollback", response_model=RollbackDocument, responses=ACTED)
def rollback_batch(
    batch: BatchPath, body: RollbackOrder, sight: SightOf, caller: Operator
) -> Response:
    """Land the inverse of what a batch did at a target; it is planned and guarded like any batch."""
    state = sight.state(batch_of(batch), target_of(body.target))
    found = roll_back(
        sight.platform,
        state.batch_id,
        state.target_id,
        by=caller.actor,
        reason=body.reason,
        take=body.take,
        dry_run=body.dry_run,
    )
    return json_response(plain(found))


def _acted(
    sight: SightOf,
    batch: str,
    target: TargetField,
    act: Callable[[Platform, BatchId, TargetId], Acted],
) -> Response:
    state = sight.state(batch_of(batch), target_of(target))
    acted = act(sight.platform, state.batch_id, state.target_id)
    return json_response(plain({"publish_states": acted.states, "notes": acted.notes}))
