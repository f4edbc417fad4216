"""Queries on targets, their breakers and pauses, and commands on them for those who run the platform."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Operator, SightOf, Viewer, for_all, signed
from control_plane.service.routes.asking import Because, TargetPath
from control_plane.service.routes.sources import ACTED, PauseDocument, PauseList, pauses
from control_plane.web.bodies import Why
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.identity import ids
from penstock.ports.pauses import PauseScope
from penstock.publish.breaker import BreakerStatus
from penstock.use_cases import operate
from penstock.use_cases.breakers import breaker_overviews, reset_breaker

router = APIRouter(tags=["Targets"], route_class=StrictRoute)


class BreakerDocument(Document):
    """A target's circuit breaker as it is now."""

    target_id: str
    status: BreakerStatus
    calls: int = Field(description="In the present window.")
    failures: int
    open_until: datetime | None
    times_opened: int = Field(description="In a row, without a success in between.")
    last_error: str | None = Field(description="For those who run the platform; null for others.")


class TargetDocument(BreakerDocument):
    """A target, and how it stands."""

    paused: PauseDocument | None


class TargetList(Document):
    """Targets, by id."""

    items: list[TargetDocument]


class BreakerResetDocument(Document):
    """A breaker that was closed by hand."""

    breaker: BreakerDocument
    woken: int = Field(description="Batches that waited for it and are due now.")


@router.get("/targets", response_model=TargetList, responses=problems())
def list_targets(sight: SightOf, _caller: Viewer) -> Response:
    """List the targets, each with its circuit breaker and its pause."""
    paused = {p.scope_id: plain(p) for p in pauses(sight) if p.scope is PauseScope.TARGET}
    known = set(sight.targets())
    found: list[Json] = []
    for breaker in breaker_overviews(sight.platform):
        if sight.sources is None or breaker.target_id in known:
            found.append({**plain(breaker), "paused": paused.get(breaker.target_id)})
            # What a shared target says may name another tenant's things.
            found[-1]["last_error"] = None if sight.sources is not None else breaker.last_error
    return json_response({"items": found})


@router.post("/targets/{target}/pause", response_model=PauseDocument, responses=ACTED)
def pause_target(target: TargetPath, body: Because, sight: SightOf, caller: Operator) -> Response:
    """Have nothing more claimed for a target; what is in hand ends."""
    for_all(caller)
    by = signed(caller, body.reason)
    return json_response(plain(operate.pause_target(sight.platform, ids.target_id(target), by=by)))


@router.post("/targets/{target}/resume", response_model=PauseList, responses=ACTED)
def resume_target(target: TargetPath, body: Why, sight: SightOf, caller: Operator) -> Response:
    """Have a paused target go on; answers with what is still paused."""
    for_all(caller)
    by = signed(caller, body.reason)
    operate.resume(sight.platform, PauseScope.TARGET, ids.target_id(target), by=by)
    return json_response({"items": [plain(pause) for pause in pauses(sight)]})


@router.post(
    "/targets/{target}/reset-breaker", response_model=BreakerResetDocument, responses=ACTED
)
def reset_target_breaker(
    target: TargetPath, body: Why, sight: SightOf, caller: Operator
) -> Response:
    """Close a target's circuit breaker now; what waits for it is due at once."""
    for_all(caller)
    done = reset_breaker(sight.platform, ids.target_id(target), by=signed(caller, body.reason))
    return json_response(plain(done))
