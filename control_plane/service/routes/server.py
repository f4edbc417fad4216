"""Queries on this server itself."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import LoopsOf, Viewer
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Moment
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems

router = APIRouter(tags=["Server"], route_class=StrictRoute)


class LoopDocument(Document):
    """How a loop fares in this server."""

    name: str
    runs: int = Field(description="That ended well.")
    failures: int
    failures_in_a_row: int
    last_run_at: Moment | None
    last_error: str | None
    last_failed_at: Moment | None
    busy_s: float = Field(description="How long the last run took.")
    late_s: float = Field(description="How long after it was due the last run began.")


class LoopList(Document):
    """The loops of this server."""

    loops: list[LoopDocument]


@router.get("/loops", response_model=LoopList, responses=problems())
def list_loops(loops: LoopsOf, _caller: Viewer) -> Response:
    """List what this server does by itself, and how it fares."""
    return json_response({"loops": plain(loops.states())})
