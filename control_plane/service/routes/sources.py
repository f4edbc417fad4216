"""Queries on sources, and their pauses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from control_plane import answers
from control_plane.answers import plain
from control_plane.service.calling import Operator, SightOf, Viewer, signed
from control_plane.service.routes.asking import Because, SourcePath
from control_plane.web.bodies import Why
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.identity import ids
from penstock.ports.pauses import Pause, PauseScope
from penstock.use_cases import operate
from penstock.use_cases.queries import source_overviews

router = APIRouter(tags=["Sources"], route_class=StrictRoute)
ACTED = problems(404, 409, 413, 422)


class SourceDocument(Document):
    """A declared source, and how it stands."""

    source_id: str
    tenant_id: str
    importance: float
    complexity: float
    cadence_s: int | None
    sla_s: int | None
    targets: list[str]
    description: str
    guard_policy: dict[str, Any] | None
    ownership: dict[str, Any]
    newest_batch: str | None
    newest_states: dict[str, str]
    waiting: int
    paused: PauseDocument | None


class PauseDocument(Document):
    """Who has paused it, since when, and why."""

    scope: PauseScope
    scope_id: str
    paused_at: datetime
    paused_by: str
    reason: str


class SourceList(Document):
    """Sources, by id."""

    items: list[SourceDocument]


class PauseList(Document):
    """What is paused."""

    items: list[PauseDocument]


@router.get("/sources", response_model=SourceList, responses=problems())
def list_sources(sight: SightOf, _caller: Viewer) -> Response:
    """List the declared sources, each with its newest batch."""
    return json_response({"items": _sources(sight, None)})


@router.get("/sources/{source}", response_model=SourceDocument, responses=problems(404))
def read_source(source: SourcePath, sight: SightOf, _caller: Viewer) -> Response:
    """Show one source."""
    (found,) = _sources(sight, source)
    return json_response(found)


@router.get("/pauses", response_model=PauseList, responses=problems())
def list_pauses(sight: SightOf, _caller: Viewer) -> Response:
    """List what is paused, by whom and why."""
    return json_response({"items": [plain(pause) for pause in pauses(sight)]})


@router.post("/sources/{source}/pause", response_model=PauseDocument, responses=ACTED)
def pause_source(source: SourcePath, body: Because, sight: SightOf, caller: Operator) -> Response:
    """Have nothing more claimed of a source; what is in hand ends."""
    known, by = sight.source(ids.source_id(source)), signed(caller, body.reason)
    return json_response(plain(operate.pause_source(sight.platform, known, by=by)))


@router.post("/sources/{source}/resume", response_model=PauseList, responses=ACTED)
def resume_source(source: SourcePath, body: Why, sight: SightOf, caller: Operator) -> Response:
    """Have a paused source go on; answers with what is still paused."""
    known, by = sight.source(ids.source_id(source)), signed(caller, body.reason)
    operate.resume(sight.platform, PauseScope.SOURCE, known, by=by)
    return json_response({"items": [plain(pause) for pause in pauses(sight)]})


def pauses(sight: SightOf) -> list[Pause]:
    """Return the pauses of what the caller sees."""
    targets = set(sight.targets())
    return [
        pause
        for pause in sight.platform.control.list_pauses()
        if (
            sight.has(pause.scope_id)
            if pause.scope is PauseScope.SOURCE
            else pause.scope_id in targets
        )
    ]


def _sources(sight: SightOf, only: str | None) -> list[dict[str, Any]]:
    chosen = sight.sources if only is None else {sight.source(ids.source_id(only))}
    paused = {p.scope_id: plain(p) for p in pauses(sight) if p.scope is PauseScope.SOURCE}
    found = answers.sources(source_overviews(sight.platform, sources=chosen))["sources"]
    return [plain({**each, "paused": paused.get(each["source_id"])}) for each in found]
