"""Queries on the queue."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field

from control_plane import answers
from control_plane.answers import plain
from control_plane.service.calling import SightOf, Viewer
from control_plane.service.routes.asking import Limit
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.publish.queue import QueuePolicy
from penstock.use_cases.queries import queue_places

router = APIRouter(tags=["Queue"], route_class=StrictRoute)


class ScoreDocument(Document):
    """The parts of a score; ``total`` is their sum."""

    age: float
    importance: float
    complexity: float
    boost: float = Field(description="An operator's.")
    deadline: float
    rules: list[tuple[str, float]] = Field(
        description="Each boost rule that matches, by name, and its points."
    )
    total: float


class PlaceDocument(Document):
    """One waiting batch, its place, and how that came about."""

    place: int = Field(ge=1, description="1 is next, over all tenants.")
    batch_id: str
    target_id: str
    status: str
    enqueued_at: datetime
    score: ScoreDocument
    waits_for: str | None = Field(description="Why it cannot be claimed now.")


class QueueDocument(Document):
    """What waits, the weights behind it, and how much waits in all."""

    policy: QueuePolicy
    waiting: int
    queue: list[PlaceDocument]


@router.get("/queue", response_model=QueueDocument, responses=problems())
def read_queue(sight: SightOf, _caller: Viewer, limit: Limit = 100) -> Response:
    """List what waits to be published, in the order in which it will be claimed, each with its arithmetic."""
    places = [p for p in queue_places(sight.platform) if sight.has(p.state.source_id)]
    policy = sight.platform.queue_policy
    return json_response(plain(answers.queue(places[:limit], policy, waiting=len(places))))
