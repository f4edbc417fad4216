"""Queries on what guards hold, and the decisions about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Operator, SightOf, Viewer, signed
from control_plane.service.routes.asking import (
    BatchPath,
    Limit,
    OnlySource,
    OnlyTarget,
    ToTargetBecause,
    batch_of,
    source_of,
    target_of,
)
from control_plane.service.routes.sources import ACTED
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.plan.guards import Hold
from penstock.ports.approvals import Approval
from penstock.publish.state import PublishState
from penstock.strict import Number
from penstock.use_cases import holds

router = APIRouter(tags=["Holds"], route_class=StrictRoute)
Digest = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{8,32}$",
        description="Of the plan that was looked at, or its first digits: a decision is about that plan alone.",
        examples=["5f0c2f3b7a9d4c1e8b6a4d2c0e1f3a5b"],
    ),
]


class HoldDocument(Document):
    """A batch that guards hold something of."""

    state: PublishState
    plan_digest: str
    holds: list[Hold]
    superseded_by: str | None = Field(description="A newer full batch that planned it again.")
    decisions: list[Approval] = Field(description="On this plan, newest first.")


class HoldList(Document):
    """Batches with something held, newest source timestamp first."""

    items: list[HoldDocument]


class Rejection(ToTargetBecause):
    """What is not wanted, and why."""

    plan_digest: Digest


class ApprovalOrder(Rejection):
    """What is released, why, and for how long that counts."""

    expires_in_s: Number = Field(
        default=holds.DEFAULT_EXPIRY_S, gt=0, le=holds.LONGEST_EXPIRY_S, description="Seconds."
    )


@router.get("/holds", response_model=HoldList, responses=problems(404))
def list_holds(
    sight: SightOf,
    _caller: Viewer,
    source: OnlySource = None,
    every: Annotated[bool, Query(alias="all", description="Those decided about, too.")] = False,
    limit: Limit = 100,
) -> Response:
    """List what guards hold and nobody has decided about."""
    only = source_of(source)
    if only is not None:
        sight.source(only)
    found = holds.list_holds(
        sight.platform, source=only, sources=sight.sources, live_only=not every, limit=limit
    )
    return json_response({"items": plain(found)})


@router.get("/holds/{batch}", response_model=HoldDocument, responses=problems(404, 409))
def read_hold(
    batch: BatchPath, sight: SightOf, _caller: Viewer, target: OnlyTarget = None
) -> Response:
    """Show what is held of a batch, with what stands behind it and what was decided."""
    state = sight.state(batch_of(batch), target_of(target))
    return json_response(plain(holds.show_hold(sight.platform, state)))


@router.post("/holds/{batch}/approve", response_model=Approval, responses=ACTED)
def approve_hold(
    batch: BatchPath, body: ApprovalOrder, sight: SightOf, caller: Operator
) -> Response:
    """Release what guards hold of a batch's plan; the batch goes back in the queue to execute just that."""
    state = sight.state(batch_of(batch), target_of(body.target))
    decided = holds.approve_hold(
        sight.platform,
        state.batch_id,
        state.target_id,
        body.plan_digest,
        by=signed(caller, body.reason),
        expires_in_s=body.expires_in_s,
    )
    return json_response(plain(decided))


@router.post("/holds/{batch}/reject", response_model=Approval, responses=ACTED)
def reject_hold(batch: BatchPath, body: Rejection, sight: SightOf, caller: Operator) -> Response:
    """Decide that what guards hold of a batch's plan is not wanted; a later full batch plans it again."""
    state = sight.state(batch_of(batch), target_of(body.target))
    decided = holds.reject_hold(
        sight.platform,
        state.batch_id,
        state.target_id,
        body.plan_digest,
        by=signed(caller, body.reason),
    )
    return json_response(plain(decided))
